//! The file that a recording is written to, and which one that may be.
//!
//! A recording that another process is writing is never touched, nor one that belongs to the same run of programs
//! ([`super::kinship`]): the recording then goes to `PATH.<pid>`, and if that is taken to `PATH.<pid>.<n>`. A finished
//! recording of an unrelated earlier run is replaced by a new file. Anything else at the path is left alone: it is
//! somebody's data.

use alloc_trace_format::{FILE_HEADER_BYTES, FileHeader};

use super::kinship::{Kin, Seen};
use super::options::Path;
use super::sys::{self, Errno};

/// A file opened for a recording: empty, locked, readable and writable by its owner only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination {
    pub(super) fd: i32,
    pub(super) path: Path,
    /// When the recording that stays at the path that was asked for began, in nanoseconds since the Unix epoch; 0
    /// where that is not known, `None` where there is none.
    pub(super) run_began_ns: Option<u64>,
}

/// Why a recording is not written to a path.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// There is a recording that must stay, which began then ([`Destination::run_began_ns`]).
    Stays {
        began_ns: u64,
        sure: bool,
    },
    /// A symbolic link leads from there to nothing.
    Link,
    Failed(Errno),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

impl Destination {
    /// Opens the file for a recording of this process at `path`, or beside it. `run_began_ns` is when the first
    /// recording of this run of programs began, as far as that is known.
    ///
    /// Where the file lies beside the path for a reason that is not sure, or that nobody may think of, that is said.
    ///
    /// # Errors
    ///
    /// `EEXIST` where there is something that is no recording, `EWOULDBLOCK` where all names are taken.
    pub(super) fn open(path: &Path, run_began_ns: Option<u64>) -> Result<Self, Errno> {
        let refusal = match Self::open_at(path, run_began_ns) {
            Ok(fd) => return Ok(Self { fd, path: *path, run_began_ns }),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(refusal) => refusal,
        };
        let (stays_since, reason) = match refusal {
            Refusal::Stays { began_ns, sure: true } => (Some(began_ns), None),
            Refusal::Stays { began_ns, sure: false } => (
                Some(began_ns),
                Some(b" stays, as it may be of this run; recording to ".as_slice()),
            ),
            _ => (None, Some(b" is a link to nothing; recording to ".as_slice())),
        };
        // The first of the run is the earlier one.
        let run_began_ns = run_began_ns.or(stays_since);
        let opened = Self::open_beside(path, run_began_ns)?;
        if let Some(reason) = reason {
            sys::complain(&[path.as_bytes(), reason, opened.path.as_bytes()]);
        }
        Ok(opened)
    }

    fn open_beside(path: &Path, run_began_ns: Option<u64>) -> Result<Self, Errno> {
        let mut beside = *path;
        if !(beside.push(b".") && beside.push_number(sys::pid())) {
            return Err(libc::ENAMETOOLONG);
        }
        let unnumbered = beside.as_bytes().len();
        for number in 0..1000 {
            if number > 0 {
                beside.truncate(unnumbered);
                if !(beside.push(b".") && beside.push_number(number)) {
                    return Err(libc::ENAMETOOLONG);
                }
            }
            match Self::open_at(&beside, run_began_ns) {
                Ok(fd) => return Ok(Self { fd, path: beside, run_began_ns }),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Stays { .. } | Refusal::Link) => {}
            }
        }
        Err(libc::EWOULDBLOCK)
    }

    /// Answers the descriptor.
    fn open_at(path: &Path, run_began_ns: Option<u64>) -> Result<i32, Refusal> {
        // Another process may put a file there in between; each attempt begins anew.
        for _ in 0..16 {
            match sys::open(path.as_c_str(), libc::O_RDWR, 0) {
                Err(libc::ENOENT) => {}
                Err(error) => return Err(error.into()),
                Ok(fd) => {
                    let replaceable = examine(fd, run_began_ns, path.has_pid());
                    if replaceable.is_ok() {
                        // Unlinked while the lock is held, so that nobody else decides likewise.
                        let removed = sys::unlink(path.as_c_str());
                        sys::close(fd);
                        removed?;
                    } else {
                        sys::close(fd);
                        replaceable?;
                    }
                }
            }
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
            match sys::open(path.as_c_str(), flags, 0o600) {
                Err(libc::EEXIST) => {
                    if sys::read_link(path.as_c_str(), &mut [0]).is_some() {
                        return Err(Refusal::Link);
                    }
                }
                Err(error) => return Err(error.into()),
                Ok(fd) => {
                    // A file system without locks: the names still keep processes apart.
                    let _ = sys::lock(fd);
                    let moved = sys::move_high(fd);
                    if moved.is_err() {
                        let _ = sys::unlink(path.as_c_str());
                    }
                    return Ok(moved?);
                }
            }
        }
        Err(Refusal::Stays { began_ns: 0, sure: true })
    }
}

/// Whether the file is a finished recording of an unrelated earlier run, or empty.
fn examine(fd: i32, run_began_ns: Option<u64>, has_pid: bool) -> Result<(), Refusal> {
    let identity = sys::identity(fd)?;
    if !identity.is_regular {
        return Err(libc::EEXIST.into());
    }
    let locked = sys::lock(fd);
    let mut bytes = [0; 128];
    const _: () = assert!(FILE_HEADER_BYTES >= 128);
    let length = sys::read(fd, &mut bytes)?;
    let header = FileHeader::decode(bytes.get(..length).unwrap_or_default());
    match locked {
        Err(libc::EWOULDBLOCK) => {
            // Where there is no header yet nothing is known of it.
            let began_ns = header.map_or(0, |header| header.start_realtime_ns);
            return Err(Refusal::Stays { began_ns, sure: true });
        }
        locked => locked?,
    }
    if length == 0 {
        return Ok(());
    }
    let Ok(header) = header else { return Err(libc::EEXIST.into()) };
    let began_ns = header.start_realtime_ns;
    // Another process of this run had the same id.
    if run_began_ns.is_some_and(|run| began_ns >= run) {
        return Err(Refusal::Stays { began_ns, sure: true });
    }
    let seen = Seen {
        pid: header.pid,
        start_ticks: header.process_start_ticks,
        written_ns: identity.modified_ns,
    };
    match seen.relation() {
        Kin::Own => Err(Refusal::Stays { began_ns, sure: true }),
        Kin::Perhaps => Err(Refusal::Stays { began_ns, sure: false }),
        // A path that has the process's id is meant to be another one for each process.
        Kin::None if has_pid && header.pid == sys::pid() => {
            Err(Refusal::Stays { began_ns, sure: false })
        }
        Kin::None => Ok(()),
    }
}
