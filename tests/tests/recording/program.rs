//! Programs under test: found or built, and run with a timeout.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Longer than anything here takes on a busy machine: what takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The scenarios over the heap of `alloc-core`.
pub(crate) const OVER_CORE: &str = env!("CARGO_BIN_EXE_over_core");
/// The scenarios over the system's heap.
pub(crate) const OVER_SYSTEM: &str = env!("CARGO_BIN_EXE_over_system");
/// The scenarios over a heap that signal handlers may ask, and that gives a freed block to whichever
/// thread asks next.
pub(crate) const OVER_POOL: &str = env!("CARGO_BIN_EXE_over_pool");
/// All programs that hold the scenarios.
pub(crate) const SCENARIOS: [&str; 3] = [OVER_CORE, OVER_SYSTEM, OVER_POOL];

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) pid: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The program, which must have succeeded and said nothing on standard error.
    #[track_caller]
    pub(crate) fn quiet(self) -> Self {
        assert_eq!(self.stderr, "", "{}", self.status);
        self.success()
    }

    /// The program, which must have succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.stderr);
        self
    }

    /// The numbers that the program said.
    #[track_caller]
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.stdout.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }

    /// How many lines of standard error are the recorder's.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("alloc-trace: ")).collect()
    }
}

/// A scenario of `program`, recorded by nobody.
pub(crate) fn scenario(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("ALLOC_TRACE").env_remove("RUST_BACKTRACE");
    command.env_remove("RUST_LOG");
    command
}

/// A scenario of `program` that the environment has recorded to `file`, every backtrace compared
/// with a full unwind.
pub(crate) fn checked(program: impl AsRef<OsStr>, arguments: &[&str], file: &Path) -> Command {
    recorded(program, arguments, file, ",check")
}

/// A scenario of `program` that the environment has recorded to `file`.
pub(crate) fn recorded(
    program: impl AsRef<OsStr>,
    arguments: &[&str],
    file: &Path,
    options: &str,
) -> Command {
    let mut command = scenario(program, arguments);
    let file = file.to_str().expect("text");
    assert!(!file.contains([',', '\\', '{']), "{file}: to be escaped");
    command.env("ALLOC_TRACE", format!("{file}{options}"));
    command
}

/// Runs a program to its end. One that hangs is killed, and fails the test.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Finished {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let pid = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (say, hear) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let stderr = thread::spawn(move || read(stderr));
        let stdout = read(stdout);
        let stderr = stderr.join().expect("no panic");
        let status = child.wait().expect("its end");
        let _ = say.send(Finished { status, pid, stdout, stderr });
    });
    match hear.recv_timeout(PATIENCE) {
        Ok(finished) => {
            waiter.join().expect("no panic");
            finished
        }
        Err(error) => {
            assert_eq!(error, RecvTimeoutError::Timeout);
            kill(pid);
            let said = hear.recv_timeout(PATIENCE);
            panic!("{command:?} hangs; it had said: {said:#?}");
        }
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    pipe.expect("a pipe").read_to_end(&mut bytes).expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Kills a process that has not been waited for.
pub(crate) fn kill(pid: u32) {
    // SAFETY: the call touches no memory; the process is a child that nobody has waited for.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

/// Kills a child when it has run for too long, unless this is dropped before.
pub(crate) struct Watchdog(Option<(mpsc::Sender<()>, thread::JoinHandle<bool>)>);

impl Watchdog {
    pub(crate) fn of(child: &Child) -> Self {
        let pid = child.id();
        let (done, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            let hangs = wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if hangs {
                kill(pid);
            }
            hangs
        });
        Self(Some((done, thread)))
    }

    /// The child is about to be waited for: whether it hung.
    pub(crate) fn barked(mut self) -> bool {
        let (done, thread) = self.0.take().expect("taken once");
        drop(done);
        thread.join().expect("no panic")
    }
}

/// The profile that this test was built with.
fn own_profile() -> &'static OsStr {
    let profile = Path::new(OVER_SYSTEM).parent().and_then(Path::file_name).expect("a directory");
    if profile == "debug" { OsStr::new("dev") } else { profile }
}

/// The `alloc-trace` command, built as this test was.
pub(crate) fn alloc_trace() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| build("alloc-trace-cli", "alloc-trace", own_profile(), &[]));
    let mut command = Command::new(path);
    command.env_remove("ALLOC_TRACE");
    command
}

/// The program `call_trees`, optimised and without frame pointers.
pub(crate) fn optimised_call_trees() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let options = ["--no-default-features"];
    BUILT.get_or_init(|| build("tests", "call_trees", OsStr::new("release"), &options))
}

/// The program `merge_order`, optimised.
pub(crate) fn optimised_merge_order() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let options = ["--no-default-features"];
    BUILT.get_or_init(|| build("tests", "merge_order", OsStr::new("release"), &options))
}

/// The library `plugin`, built as this test was.
pub(crate) fn plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let profile = own_profile();
    BUILT.get_or_init(|| build_target("tests", "--example", "plugin", profile, &[]))
}

/// Builds a program of another package, or in another way, and answers where Cargo says it is.
fn build(package: &str, binary: &str, profile: &OsStr, options: &[&str]) -> PathBuf {
    build_target(package, "--bin", binary, profile, options)
}

/// Builds a target of the `kind` that is named, and answers where Cargo says its file is.
///
/// Cargo holds its lock on the target directory only while it builds, so a test may call it. What it
/// needs may not have been fetched yet; without a network that must not matter where it has.
fn build_target(
    package: &str,
    kind: &str,
    name: &str,
    profile: &OsStr,
    options: &[&str],
) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let attempt = |offline: &[&str]| {
        let mut command = Command::new(&cargo);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.args(["build", "--locked", "--quiet", "--message-format=json-render-diagnostics"]);
        command.args(["--package", package, kind, name, "--profile"]).arg(profile);
        command.args(options).args(offline).env_remove("ALLOC_TRACE");
        command.output().expect("cargo runs")
    };
    let mut output = attempt(&["--offline"]);
    if !output.status.success() {
        output = attempt(&[]);
    }
    let messages = String::from_utf8(output.stdout).expect("text");
    let path = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["filenames"][0].as_str().map(PathBuf::from));
    let errors = String::from_utf8_lossy(&output.stderr);
    path.filter(|_| output.status.success()).unwrap_or_else(|| panic!("{name}: {errors}"))
}
