//! The unmodified programs that are run, and what each is given to do.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use peers::child::{self, Cost};
use peers::random::Random;

use crate::redis;

/// How much a program is given to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// About half a second to a second.
    Timed,
    /// Little, since instructions are counted one by one.
    Counted,
}

/// A program and its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// What tables call it.
    pub(crate) name: &'static str,
    run: fn(&Place<'_>) -> io::Result<Ran>,
}

/// Where and how a program runs.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// A folder for what it needs and writes.
    pub(crate) folder: &'a Path,
    /// How much it does.
    pub(crate) scale: Scale,
    /// The library that is preloaded.
    pub(crate) library: Option<&'a Path>,
    /// A command that the program is run by, such as valgrind.
    pub(crate) under: &'a [String],
}

/// What came of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    /// What it cost.
    pub(crate) cost: Cost,
    /// A number for what it answered: the same with every library.
    pub(crate) checksum: u64,
}

/// All of them.
pub(crate) const ALL: [Program; 9] = [
    Program { name: "python3", run: python },
    Program { name: "python3, PYTHONMALLOC=malloc", run: python_without_pools },
    Program { name: "sqlite3", run: sqlite },
    Program { name: "g++", run: compiler },
    Program { name: "redis-server", run: redis::run },
    Program { name: "ghostscript", run: ghostscript },
    Program { name: "perl", run: perl },
    Program { name: "git log -p", run: git_log },
    Program { name: "git pack-objects", run: git_pack },
];

/// No run takes nearly as long, slowed down by valgrind or not.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

impl Program {
    /// Runs it.
    pub(crate) fn run(&self, place: &Place<'_>) -> io::Result<Ran> {
        (self.run)(place).map_err(|error| io::Error::other(format!("{}: {error}", self.name)))
    }
}

impl Place<'_> {
    /// One of two numbers, by the scale.
    pub(crate) fn pick(&self, timed: u32, counted: u32) -> String {
        match self.scale {
            Scale::Timed => timed,
            Scale::Counted => counted,
        }
        .to_string()
    }

    /// A command for a program, with the library preloaded.
    pub(crate) fn command(&self, program: &str) -> io::Result<Command> {
        let program = executable(program)?;
        let mut command = match self.under {
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            [] => Command::new(program),
        };
        if let Some(library) = self.library {
            command.env("LD_PRELOAD", library);
        }
        command.stdin(Stdio::null());
        command.env("LC_ALL", "C").env("PYTHONHASHSEED", "0").env("PERL_HASH_SEED", "0");
        Ok(command)
    }

    /// Runs a command whose answer is on its standard output.
    fn answer(&self, command: &mut Command) -> io::Result<Ran> {
        let output = self.folder.join("output");
        command.stdout(File::create(&output)?);
        self.answer_in(command, &output)
    }

    /// Runs a command whose answer is a file.
    fn answer_in(&self, command: &mut Command, file: &Path) -> io::Result<Ran> {
        let cost = child::run(command.stderr(Stdio::null()), LIMIT)?;
        Ok(Ran { cost, checksum: child::checksum(file)? })
    }
}

/// The program of a name that is searched for in `PATH`. A shim that is a script would be measured
/// with the shell that runs it, so scripts are passed over.
pub(crate) fn executable(name: &str) -> io::Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| {
            let mut magic = [0; 4];
            let file = File::open(path);
            file.is_ok_and(|mut file| io::Read::read_exact(&mut file, &mut magic).is_ok())
                && magic == *b"\x7fELF"
        })
        .ok_or_else(|| io::Error::other(format!("{name} is not installed")))
}

/// A file of this package that a program reads.
fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

fn python(place: &Place<'_>) -> io::Result<Ran> {
    let mut command = place.command("python3")?;
    place.answer(command.arg(given("objects.py")).arg(place.pick(25_000, 1_500)))
}

fn python_without_pools(place: &Place<'_>) -> io::Result<Ran> {
    let mut command = place.command("python3")?;
    command.env("PYTHONMALLOC", "malloc");
    place.answer(command.arg(given("objects.py")).arg(place.pick(25_000, 1_500)))
}

fn sqlite(place: &Place<'_>) -> io::Result<Ran> {
    let mut command = place.command("sqlite3")?;
    let count = format!(".parameter set :count {}", place.pick(200_000, 8_000));
    let script = format!(".read {}", given("tables.sql").display());
    place.answer(command.args(["-bail", ":memory:", ".parameter init", &count, &script]))
}

fn compiler(place: &Place<'_>) -> io::Result<Ran> {
    let object = place.folder.join("templates.o");
    let mut command = place.command("g++")?;
    command.arg(format!("-DLEVELS={}", place.pick(12, 2)));
    command.args(["-O0", "-c"]).arg(given("templates.cpp")).arg("-o").arg(&object);
    place.answer_in(&mut command, &object)
}

fn ghostscript(place: &Place<'_>) -> io::Result<Ran> {
    let pages = place.folder.join("pages.ppm");
    let mut command = place.command("gs")?;
    command.args(["-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=ppmraw", "-r36"]);
    command.arg(format!("-sOutputFile={}", pages.display()));
    command.args(["-c", &format!("/count {} def", place.pick(3_000, 60)), "-f"]);
    place.answer_in(command.arg(given("page.ps")), &pages)
}

fn perl(place: &Place<'_>) -> io::Result<Ran> {
    let mut command = place.command("perl")?;
    place.answer(command.arg(given("words.pl")).arg(place.pick(90_000, 4_000)))
}

fn git_log(place: &Place<'_>) -> io::Result<Ran> {
    let repository = repository(place.folder)?;
    let mut command = place.command("git")?;
    command.arg("-C").arg(repository).args(["log", "-p", "-M", "--stat", "--no-color"]);
    place.answer(command.args(["-n", &place.pick(1_500, 60), "main"]))
}

/// On one thread: on more, what is a delta of what depends on which thread comes first.
fn git_pack(place: &Place<'_>) -> io::Result<Ran> {
    let repository = repository(place.folder)?;
    let revisions = place.folder.join("revisions");
    fs::write(&revisions, format!("main~{}..main\n", place.pick(1_200, 60)))?;
    let mut command = place.command("git")?;
    command.arg("-C").arg(repository).args(["pack-objects", "--revs", "--stdout", "-q"]);
    command.args(["--threads=1", "--no-reuse-delta", "--no-reuse-object", "--window=20"]);
    command.stdin(File::open(revisions)?);
    place.answer(&mut command)
}

/// A repository with a history of 1,600 commits, made when it is first asked for.
fn repository(folder: &Path) -> io::Result<PathBuf> {
    let repository = folder.join("repository");
    if repository.join("complete").exists() {
        return Ok(repository);
    }
    if repository.exists() {
        fs::remove_dir_all(&repository)?;
    }
    let history = folder.join("history");
    write_history(&mut BufWriter::new(File::create(&history)?))?;
    let git = executable("git")?;
    let status = Command::new(&git).args(["init", "-q", "--bare"]).arg(&repository).status()?;
    let mut import = Command::new(git);
    import.arg("-C").arg(&repository).args(["fast-import", "--quiet"]).stdin(File::open(history)?);
    if !status.success() || !import.status()?.success() {
        return Err(io::Error::other("the repository could not be made"));
    }
    File::create(repository.join("complete"))?;
    Ok(repository)
}

/// Writes a stream for `git fast-import`: 40 files of about 200 lines, two of which change a little
/// with each commit.
fn write_history(out: &mut impl Write) -> io::Result<()> {
    let mut random = Random::new(3);
    let line = |random: &mut Random| {
        let words: Vec<_> = (0..3 + random.below(8)).map(|_| random.below(4096)).collect();
        words.iter().map(|word| format!("word{word:x} ")).collect::<String>() + "\n"
    };
    let mut files: Vec<Vec<String>> =
        (0..40).map(|_| (0..200).map(|_| line(&mut random)).collect()).collect();
    for commit in 0..1_600 {
        writeln!(out, "commit refs/heads/main")?;
        writeln!(out, "committer A <a@example.org> {} +0000", 1_600_000_000 + commit * 60)?;
        let message = format!("Change number {commit}\n");
        writeln!(out, "data {}\n{message}", message.len())?;
        let changed = if commit == 0 { (0..40).collect() } else { vec![random.below(40); 2] };
        for file in changed {
            for _ in 0..4 {
                let at = random.below(files[file].len());
                files[file][at] = line(&mut random);
            }
            let text = files[file].concat();
            writeln!(out, "M 100644 inline folder{}/file{file}.txt", file % 5)?;
            writeln!(out, "data {}\n{text}", text.len())?;
        }
    }
    Ok(())
}
