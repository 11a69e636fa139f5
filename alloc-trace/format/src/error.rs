//! What can be wrong with a recording, always with the file and the offset.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::block::Codec;

/// Why a recording could not be read.
///
/// Truncated and corrupt are different answers: a truncated file ends before what it promises, a
/// corrupt one contradicts itself. The messages name the file and what is wrong with it; what to do about it
/// depends on the program that reads.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refused an operation on the file.
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted, as a verb phrase: `open`, `read 64 bytes at offset 8128`.
        attempt: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The path names something other than a regular file.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file does not begin with the magic number of a recording.
    NotARecording {
        /// The file.
        path: PathBuf,
    },
    /// The file is a recording of a version that this reader does not know.
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version that the file states.
        found: u16,
    },
    /// The file has chunks that are packed in a way that this reader does not know.
    UnsupportedCodec {
        /// The file.
        path: PathBuf,
        /// The number of the codec.
        found: u8,
    },
    /// The file ends inside its header, so that nothing in it can be read.
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length of the file.
        offset: u64,
        /// What should have stood there.
        expected: &'static str,
    },
    /// The header contradicts itself.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What should have stood there.
        expected: &'static str,
    },
}

impl ReadError {
    pub(crate) fn io(path: &Path, attempt: impl Into<String>, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), attempt: attempt.into(), source }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, attempt, .. } => write!(f, "{}: cannot {attempt}", path.display()),
            Self::NotAFile { path } => write!(f, "{}: not a regular file", path.display()),
            Self::NotARecording { path } => write!(
                f,
                "{}: not an alloc-trace recording (no magic number at offset 0)",
                path.display()
            ),
            Self::UnsupportedVersion { path, found } => write!(
                f,
                "{}: made by another version of alloc-trace (format {found}, this one reads up to {})",
                path.display(),
                crate::FORMAT_VERSION
            ),
            Self::UnsupportedCodec { path, found } => write!(
                f,
                "{}: made by another version of alloc-trace (codec {found}, this one reads {})",
                path.display(),
                Codec::COLUMNS
            ),
            Self::Truncated { path, offset, expected } => write!(
                f,
                "{}: truncated at offset {offset}: expected {expected}, without which nothing can be read",
                path.display()
            ),
            Self::Corrupt { path, offset, expected } => write!(
                f,
                "{}: corrupt at offset {offset}: expected {expected}, without which nothing can be read",
                path.display()
            ),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why the records of one chunk could not be decoded further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordError {
    /// Where in the chunk's payload the record that could not be decoded begins, in bytes.
    pub offset: u64,
    /// What should have stood there.
    pub expected: &'static str,
    /// Whether the payload merely ends inside the record.
    pub truncated: bool,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.truncated { "truncated" } else { "corrupt" };
        write!(f, "{what} record at payload offset {}: expected {}", self.offset, self.expected)
    }
}

impl Error for RecordError {}
