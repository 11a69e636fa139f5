//! What can go wrong in an analysis.

use std::error::Error;
use std::fmt;

use alloc_trace_format::ReadError;

/// Why an analysis has no result.
///
/// Damage in a recording is none: what can be read is analysed, and what was passed over is listed
/// in the result.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnalysisError {
    /// The recording could not be read.
    Read(ReadError),
    /// A filter names a marker that the program never set.
    NoSuchMarker {
        /// The text that was asked for.
        text: String,
        /// The texts that there are.
        markers: Vec<String>,
    },
}

impl fmt::Display for AnalysisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::NoSuchMarker { text, markers } if markers.is_empty() => write!(
                f,
                "no time and no marker: `{text}`; the recording has no markers, so give a time, as \
                 in 1.5s or 200ms, or `peak`"
            ),
            Self::NoSuchMarker { text, markers } => write!(
                f,
                "no time and no marker: `{text}`; the recording's markers are: {}",
                markers.join(", ")
            ),
        }
    }
}

impl Error for AnalysisError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The message is the read error's own, so the chain goes on behind it.
            Self::Read(error) => error.source(),
            Self::NoSuchMarker { .. } => None,
        }
    }
}

impl From<ReadError> for AnalysisError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
