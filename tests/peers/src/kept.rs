//! Results in a file, to which each run adds.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a file holds; nothing, where there is none yet.
///
/// # Errors
///
/// If it cannot be read, or holds something else.
pub fn load<T: DeserializeOwned + Default>(file: &Path) -> io::Result<T> {
    match fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error),
    }
}

/// Replaces a file's content; whoever ends this in the middle leaves the old results.
///
/// # Errors
///
/// If it cannot be written.
pub fn store(file: &Path, results: &impl Serialize) -> io::Result<()> {
    let fresh = file.with_extension("json.tmp");
    fs::write(&fresh, serde_json::to_vec_pretty(results)?)?;
    fs::rename(fresh, file)
}
