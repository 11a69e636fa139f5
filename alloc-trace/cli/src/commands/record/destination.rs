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
#[derive(Debug, Clone)]
pub(super) struct Destination {
    /// As the user gave it.
    shown: PathBuf,
    /// Absolute: the program may change its directory before it records. It can have a [`PID`].
    path: PathBuf,
    before: Option<Identity>,
    /// Whether the path has the number of the process that records.
    numbered: bool,
    /// In nanoseconds since the Unix epoch: recordings that began earlier are not of this run.
    examined_at_ns: u64,
}

/// What stands for the number of the process that records.
const PID: &str = "{pid}";

/// What tells the file of one recording from that of another at the same path.
///
/// The inode alone does not: a file system gives a removed file's to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    header: Option<FileHeader>,
}

impl Destination {
    /// Makes sure that a recording can be written there, and leaves nothing behind.
    pub(super) fn examine(shown: &Path) -> Result<Self, CommandError> {
        let refused = |error| CommandError::write(shown, error);
        let template = std::path::absolute(shown).map_err(refused)?;
        // The program's number is not known yet: that such a file can be made is tried with ours.
        let path = with_pid(&template, std::process::id());
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
        let numbered = has_pid(&template);
        Ok(Self { shown: shown.to_owned(), path: template, before, numbered, examined_at_ns })
    }

    /// The same once the number of the process that records is known.
    pub(super) fn of_process(&self, pid: u32) -> Self {
        if !self.numbered {
            return self.clone();
        }
        Self {
            shown: with_pid(&self.shown, pid),
            path: with_pid(&self.path, pid),
            // Whatever is there and began since is new.
            before: None,
            numbered: true,
            examined_at_ns: self.examined_at_ns,
        }
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
        let header = *Recording::open(&self.path)?.header();
        // Another process of this number may have left one.
        let old = self.numbered && header.start_realtime_ns < self.examined_at_ns;
        Ok((!old).then_some(header))
    }
}

impl Destination {
    /// The recordings that processes further down made beside it, as `FILE.PID` or `FILE.PID.N`, and
    /// where the `template` that this was made of has a number in it, those with other numbers.
    pub(super) fn recordings_beside(&self, template: &Self) -> Vec<PathBuf> {
        let Some(own) = self.path.file_name() else { return Vec::new() };
        let Some(directory) = self.path.parent() else { return Vec::new() };
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let template = template.path.file_name().and_then(OsStr::to_str);
        let parts = template.and_then(|name| name.split_once(PID));
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| {
                let other = entry.ok()?.file_name();
                let of_template = || is_of_template(other.as_bytes(), parts?).then_some(());
                if other == own
                    || (!is_beside(other.as_bytes(), own.as_bytes()) && of_template().is_none())
                {
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

/// Whether a name is another one with numbers behind it.
fn is_beside(other: &[u8], own: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let rest = other.strip_prefix(own).and_then(|rest| rest.strip_prefix(b"."));
    rest.is_some_and(|rest| rest.split(|&byte| byte == b'.').all(is_number))
}

/// Whether a name begins and goes on as a template does before and after its number.
fn is_of_template(other: &[u8], (before, after): (&str, &str)) -> bool {
    let Some(rest) = other.strip_prefix(before.as_bytes()) else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let behind = rest.get(digits..).unwrap_or_default();
    digits > 0 && (behind == after.as_bytes() || is_beside(behind, after.as_bytes()))
}

fn has_pid(path: &Path) -> bool {
    path.as_os_str().as_bytes().windows(PID.len()).any(|part| part == PID.as_bytes())
}

/// A path with a process's number in it, in place of every [`PID`].
fn with_pid(path: &Path, pid: u32) -> PathBuf {
    let mut rest = path.as_os_str().as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(PID.as_bytes()) {
            Some(behind) => {
                out.extend_from_slice(pid.to_string().as_bytes());
                rest = behind;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
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
/// a backslash before it, so that the file gets the name that was asked for; but for [`PID`], which is
/// the recorder's to fill in.
pub(super) fn environment_value<'a>(
    path: &Path,
    options: impl Iterator<Item = &'a str>,
) -> OsString {
    let mut value = Vec::new();
    let mut rest = path.as_os_str().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let is_pid = rest.starts_with(PID.as_bytes());
        if matches!(byte, b',' | b'\\' | b'{') && !is_pid {
            value.push(b'\\');
        }
        value.push(byte);
        rest = after;
    }
    for option in options {
        value.push(b',');
        value.extend_from_slice(option.as_bytes());
    }
    OsString::from_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_backslashes_of_the_path_are_escaped() {
        let value = |path| environment_value(Path::new(path), std::iter::empty());
        assert_eq!(value("/a/b.trace"), "/a/b.trace");
        assert_eq!(value("/a{b}"), r"/a\{b}");
        assert_eq!(value("/a{pid}.{p"), r"/a{pid}.\{p");
    }

    #[test]
    fn the_number_of_a_process_is_put_into_its_path() {
        assert_eq!(with_pid(Path::new("/a.{pid}.b{pid}"), 7), Path::new("/a.7.b7"));
        assert!(has_pid(Path::new("/a{pid}")) && !has_pid(Path::new("/a{pid")));
        let parts = ("a.", ".trace");
        for (name, is) in [("a.12.trace", true), ("a.12.trace.3", true), ("a.trace", false)] {
            assert_eq!(is_of_template(name.as_bytes(), parts), is, "{name}");
        }
    }

    #[test]
    fn options_stand_behind_the_path() {
        let value = |path, options: &[&'static str]| {
            environment_value(Path::new(path), options.iter().copied())
        };
        assert_eq!(value(r"/a,b\c", &["stacks=off"]), r"/a\,b\\c,stacks=off");
        assert_eq!(value("/a", &["ring", "limit=1G"]), "/a,ring,limit=1G");
    }
}
