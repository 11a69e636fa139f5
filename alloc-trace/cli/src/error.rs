//! Why a command failed, and how that is told.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alloc_trace_analysis::{AnalysisError, ReadError};

use crate::message;
use crate::units::count;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// A recording could not be read.
    Analysis(AnalysisError),
    /// The output could not be written.
    Write {
        /// The file; `-` for standard output.
        path: PathBuf,
        source: io::Error,
    },
    /// The recorded program could not be run.
    Run {
        program: String,
        /// What may be the matter, where that can be seen.
        hint: Option<String>,
        source: io::Error,
    },
    /// Anything else that the operating system refused.
    Io { attempt: &'static str, source: io::Error },
    /// The output would replace a recording.
    WouldReplaceRecording {
        /// The recording.
        path: PathBuf,
    },
    /// There are more blocks than the format's viewer bears.
    TooManyBlocks {
        /// The most that were allowed.
        max: u64,
    },
    /// There is none of what is to be shown.
    Nothing(&'static str),
    /// The arguments contradict each other, or name what there is not.
    Usage(String),
}

impl CommandError {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// Whether whoever was to read our output is gone.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What was written of a verdict: that its reader is gone does not change the verdict.
    pub(crate) fn unless_closed(written: Result<(), Self>) -> Result<(), Self> {
        written.or_else(|error| if error.is_closed_pipe() { Ok(()) } else { Err(error) })
    }

    /// As a shell would put it: 127 for a program that is not there, 126 for one that cannot be run.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Run { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Run { .. } => 126,
            Self::Usage(_)
            | Self::WouldReplaceRecording { .. }
            | Self::Analysis(AnalysisError::NoSuchMarker { .. }) => 2,
            Self::Analysis(_)
            | Self::Write { .. }
            | Self::Io { .. }
            | Self::Nothing(_)
            | Self::TooManyBlocks { .. } => 1,
        })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Analysis(error) => error.fmt(f),
            Self::Write { path, .. } if path.as_os_str() == "-" => {
                f.write_str("cannot write to standard output")
            }
            Self::Write { path, .. } => write!(f, "{}: cannot write", path.display()),
            Self::Run { program, .. } => write!(f, "{program}: cannot be run"),
            Self::Io { attempt, .. } => write!(f, "cannot {attempt}"),
            Self::Nothing(what) => write!(
                f,
                "there is nothing to show: no {what}; pick another --measure, or less narrow filters"
            ),
            Self::WouldReplaceRecording { path } => write!(
                f,
                "{}: is a recording, which is not replaced: write to another file, or remove it first",
                path.display()
            ),
            Self::TooManyBlocks { max } => write!(
                f,
                "more than {} blocks, each of which the Firefox Profiler keeps in memory: pick fewer, \
                 as with --from and --to, --site or --size 4096.., or give a higher --max-blocks, or \
                 take --format perfetto, which is no larger for more",
                count(*max)
            ),
            Self::Usage(message) => f.write_str(message),
        }
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Analysis(error) => error.source(),
            Self::Write { source, .. } | Self::Run { source, .. } | Self::Io { source, .. } => {
                Some(source)
            }
            Self::Usage(_)
            | Self::Nothing(_)
            | Self::WouldReplaceRecording { .. }
            | Self::TooManyBlocks { .. } => None,
        }
    }
}

impl From<AnalysisError> for CommandError {
    fn from(error: AnalysisError) -> Self {
        Self::Analysis(error)
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        Self::Analysis(error.into())
    }
}

/// Prints an error and what caused it on standard error.
pub(crate) fn print(error: &CommandError) {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    if let Some(hint) = hint(error) {
        line.push_str("; ");
        line.push_str(hint);
    }
    message::print(&line);
}

/// What to do about an error.
fn hint(error: &CommandError) -> Option<&str> {
    let error = match error {
        CommandError::Run { hint, .. } => return hint.as_deref(),
        CommandError::Analysis(AnalysisError::Read(error)) => error,
        _ => return None,
    };
    match error {
        ReadError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => None,
        ReadError::Io { .. } | ReadError::NotAFile { .. } | ReadError::NotARecording { .. } => {
            Some(
                "name the file that `alloc-trace record -o FILE` made, or a program with ALLOC_TRACE=FILE",
            )
        }
        ReadError::UnsupportedVersion { .. } | ReadError::UnsupportedCodec { .. } => {
            Some("record again, or read it with that version")
        }
        ReadError::Truncated { .. } | ReadError::Corrupt { .. } => Some("record again"),
        _ => None,
    }
}
