//! Where a recording goes: made sure of before the program runs, looked at afterwards.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloc_trace_format::{FileHeader, ReadError, Recording};

use crate::error::CommandError;

/// The path of a recording that is going to be made.
#[derive(Debug)]
pub(super) struct Destination {
    /// As the user gave it.
    shown: PathBuf,
    /// Absolute: the program may change its directory before it records.
    path: PathBuf,
    before: Option<Identity>,
    /// In nanoseconds since the Unix epoch: recordings that began earlier are not of this run.
    examined_at_ns: u64,
}

/// What tells the file of one recording from that of another at the same path.
///
/// The inode alone does not: a file system gives a removed file's to the next one.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    header: Option<FileHeader>,
}

impl Destination {
    /// Makes sure that a recording can be written there, and leaves nothing behind.
    pub(super) fn examine(shown: &Path) -> Result<Self, CommandError> {
        let refused = |error| CommandError::write(shown, error);
        let path = std::path::absolute(shown).map_err(refused)?;
        let before = Identity::of(&path);
        let existing_bytes = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(refused(io::ErrorKind::IsADirectory.into()));
            }
            Ok(metadata) if !metadata.is_file() => {
                let message = "not a regular file; a recording is written through a memory map";
                return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, message)));
            }
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(refused(error)),
        };
        if let Some(bytes) = existing_bytes {
            OpenOptions::new().write(true).open(&path).map_err(refused)?;
            // An empty file is what `mktemp` makes; anything else is somebody's data.
            if bytes > 0 && before.as_ref().is_some_and(|before| before.header.is_none()) {
                let message = "there is a file that is no recording; remove it first";
                return Err(refused(io::Error::new(io::ErrorKind::AlreadyExists, message)));
            }
        } else {
            let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            created.map_err(refused)?;
            fs::remove_file(&path).map_err(refused)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let examined_at_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { shown: shown.to_owned(), path, before, examined_at_ns })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// The header of the recording that was made since; `None` where none was.
    pub(super) fn new_recording(&self) -> Result<Option<FileHeader>, ReadError> {
        let after = Identity::of(&self.path);
        if after.is_none() || after == self.before {
            return Ok(None);
        }
        Recording::open(&self.path).map(|recording| Some(*recording.header()))
    }
}

impl Destination {
    /// The recordings that processes further down made beside it, as `FILE.PID` or `FILE.PID.N`.
    pub(super) fn recordings_beside(&self) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Vec::new();
        };
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| {
                let other = entry.ok()?.file_name();
                let rest = other.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
                let is_number =
                    |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
                if !rest.split(|&byte| byte == b'.').all(is_number) {
                    return None;
                }
                let recording = Recording::open(&directory.join(&other)).ok()?;
                let new = recording.header().start_realtime_ns >= self.examined_at_ns;
                new.then(|| self.shown.with_file_name(other))
            })
            .collect();
        found.sort();
        found
    }
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let header = Recording::open(path).ok().map(|recording| FileHeader {
            // The closing reading is not part of who it is.
            end: None,
            ..*recording.header()
        });
        Some(Self { device: metadata.dev(), inode: metadata.ino(), header })
    }
}

/// What the recorder reads: `PATH[,key=value…]`. A comma, a backslash or a brace in the path has
/// a backslash before it: the file gets the name that was asked for.
pub(super) fn environment_value(path: &Path, stacks: bool) -> OsString {
    let mut value = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\' | b'{') {
            value.push(b'\\');
        }
        value.push(byte);
    }
    if !stacks {
        value.extend_from_slice(OsStr::new(",stacks=off").as_bytes());
    }
    OsString::from_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_backslashes_of_the_path_are_escaped() {
        let value = |path, stacks| environment_value(Path::new(path), stacks);
        assert_eq!(value("/a/b.trace", true), "/a/b.trace");
        assert_eq!(value("/a{pid}", true), r"/a\{pid}");
        assert_eq!(value(r"/a,b\c", false), r"/a\,b\\c,stacks=off");
    }
}
