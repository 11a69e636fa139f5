//! Whether debuginfod servers can be asked.

use std::env;

use crate::error::CommandError;

/// The program of elfutils that asks them.
const PROGRAM: &str = "debuginfod-find";
/// The servers.
const SERVERS: &str = "DEBUGINFOD_URLS";

/// Makes sure that there is somebody to ask, and somebody to do it.
pub(crate) fn look() -> Result<(), CommandError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file());
    let named = env::var_os(SERVERS).is_some_and(|servers| !servers.is_empty());
    let why = match (installed, named) {
        (true, true) => return Ok(()),
        (false, _) => format!(
            "--debuginfod runs `{PROGRAM}`, which is not installed: it comes with elfutils, in many \
             systems as the package `debuginfod`"
        ),
        (true, false) => format!(
            "--debuginfod asks the servers that the variable {SERVERS} names, and it is not set: as in \
             {SERVERS}=https://debuginfod.elfutils.org"
        ),
    };
    Err(CommandError::Usage(why))
}
