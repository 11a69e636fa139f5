//! Opening the recordings that are named on the command line.

use std::path::Path;

use alloc_trace_analysis::Recording;

use crate::error::CommandError;

/// Opens a recording.
pub(crate) fn recording(path: &Path) -> Result<Recording, CommandError> {
    if path.as_os_str() == "-" {
        // The call tree is read before the events, and chunks in the order of their times, not of
        // their places.
        let why = "a recording is read twice, and not from front to back, which standard input cannot \
                   be: save it to a file first, or read a file called - as ./-";
        return Err(CommandError::Usage(why.into()));
    }
    Ok(Recording::open(path)?)
}
