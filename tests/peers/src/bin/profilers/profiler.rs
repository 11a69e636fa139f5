//! The profilers that are compared, and how a program is run by each.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A profiler, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profiler {
    /// What tables call it.
    pub(crate) name: &'static str,
    /// The feature of the build of `traced` that is run; none for the plain one.
    pub(crate) feature: Option<&'static str>,
    how: How,
    /// Whether it costs microseconds an event, and gets a tenth of the work.
    pub(crate) slow: bool,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// The program as it is.
    Plain,
    /// Our recorder, with these options.
    Ours(&'static str),
    /// A program that runs the program; it must be installed.
    Under { program: &'static str, arguments: &'static [&'static str] },
    /// A library that is preloaded, which a variable names.
    Preloaded { variable: &'static str, output: &'static str },
}

/// What the others' costs are over.
pub(crate) const UNTRACED: &str = "untraced";

/// Ours.
pub(crate) const OFF: &str = "alloc-trace, off";
/// Ours.
pub(crate) const WITHOUT: &str = "alloc-trace, stacks=off";
/// Ours.
pub(crate) const WITH: &str = "alloc-trace";

/// All of them; `FILE` stands for where the recording goes.
pub(crate) const ALL: [Profiler; 9] = [
    Profiler { name: UNTRACED, feature: None, how: How::Plain, slow: false },
    Profiler { name: OFF, feature: Some("trace"), how: How::Plain, slow: false },
    Profiler { name: WITHOUT, feature: Some("trace"), how: How::Ours(",stacks=off"), slow: false },
    Profiler { name: WITH, feature: Some("trace"), how: How::Ours(""), slow: false },
    Profiler {
        name: "heaptrack",
        feature: None,
        how: How::Under { program: "heaptrack", arguments: &["--output", "FILE"] },
        slow: true,
    },
    Profiler {
        name: "heaptrack --raw",
        feature: None,
        how: How::Under { program: "heaptrack", arguments: &["--raw", "--output", "FILE"] },
        slow: false,
    },
    Profiler {
        name: "bytehound",
        feature: None,
        how: How::Preloaded { variable: "BYTEHOUND", output: "MEMORY_PROFILER_OUTPUT" },
        slow: false,
    },
    Profiler { name: "dhat-rs", feature: Some("dhat-rs"), how: How::Plain, slow: true },
    Profiler {
        name: "valgrind DHAT",
        feature: None,
        how: How::Under {
            program: "valgrind",
            arguments: &["-q", "--tool=dhat", "--dhat-out-file=FILE"],
        },
        slow: true,
    },
];

/// The feature of the build that counts events.
pub(crate) const COUNTING: &str = "count";

/// Where a build of `traced` lies.
pub(crate) fn built(feature: Option<&str>) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/traced");
    folder.join(feature.unwrap_or("plain"))
}

impl Profiler {
    /// Why it cannot be run here; none if it can.
    pub(crate) fn missing(&self) -> Option<String> {
        match self.how {
            How::Plain | How::Ours(_) => None,
            How::Under { program, .. } => {
                let folders = std::env::var_os("PATH").unwrap_or_default();
                let there = std::env::split_paths(&folders).any(|it| it.join(program).is_file());
                (!there).then(|| format!("{program} is not installed"))
            }
            How::Preloaded { variable, .. } => {
                std::env::var_os(variable).is_none().then(|| format!("{variable} names no library"))
            }
        }
    }

    /// The command that runs the program under it. The recording goes into a folder, which is empty.
    pub(crate) fn command(&self, folder: &Path) -> Command {
        let program = built(self.feature);
        let file = folder.join("recording");
        let mut command = match self.how {
            How::Under { program: by, arguments } => {
                let mut command = Command::new(by);
                command.args(
                    arguments
                        .iter()
                        .map(|argument| argument.replace("FILE", &file.to_string_lossy())),
                );
                command.arg(program);
                command
            }
            _ => Command::new(program),
        };
        match self.how {
            How::Ours(options) => {
                let mut value = OsString::from(&file);
                value.push(options);
                command.env("ALLOC_TRACE", value);
            }
            How::Preloaded { variable, output } => {
                command.env("LD_PRELOAD", std::env::var_os(variable).unwrap_or_default());
                command.env(output, &file);
            }
            How::Plain | How::Under { .. } => {}
        }
        command.current_dir(folder);
        command
    }

    /// Whether it is ours and records.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.how, How::Ours(_))
    }

    /// The version, as far as it tells one.
    pub(crate) fn version(&self) -> Option<String> {
        let How::Under { program, .. } = self.how else { return None };
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.lines().next()?.trim().to_owned())
    }
}

/// What all files in a folder take on disk: a recording gives its window back when it ends.
pub(crate) fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
