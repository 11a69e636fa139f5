//! The file that a recording is written to, and which one that may be.
//!
//! A recording that another process is writing is never touched, nor one that was made by an
//! ancestor or by this process's earlier image: the recording then goes to `PATH.<pid>`, and if that
//! is taken to `PATH.<pid>.<n>`. A finished recording of an unrelated earlier run is replaced by a
//! new file. Anything else at the path is left alone: it is somebody's data.

use alloc_trace_format::{FILE_HEADER_BYTES, FileHeader};

use super::options::{Path, decimal};
use super::sys::{self, Errno};

/// A file opened for a recording: empty, locked, readable and writable by its owner only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination {
    pub(super) fd: i32,
    pub(super) path: Path,
}

impl Destination {
    /// Opens the file for a recording of this process at `path`, or beside it.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        match Self::open_at(path) {
            Err(libc::EWOULDBLOCK) => {}
            result => return result,
        }
        let mut beside = *path;
        if !(beside.push(b".") && beside.push_number(sys::pid())) {
            return Err(libc::ENAMETOOLONG);
        }
        let mut result = Self::open_at(&beside);
        for number in 1..1000 {
            if !matches!(result, Err(libc::EWOULDBLOCK)) {
                break;
            }
            let mut numbered = beside;
            if !(numbered.push(b".") && numbered.push_number(number)) {
                return Err(libc::ENAMETOOLONG);
            }
            result = Self::open_at(&numbered);
        }
        result
    }

    /// `EWOULDBLOCK` where the path is taken by a recording that must stay, `EEXIST` where it is
    /// taken by something else.
    fn open_at(path: &Path) -> Result<Self, Errno> {
        // Another process may put a file there in between; each attempt begins anew.
        for _ in 0..16 {
            match sys::open(path.as_c_str(), libc::O_RDWR, 0) {
                Err(libc::ENOENT) => {}
                Err(error) => return Err(error),
                Ok(fd) => {
                    let replaceable = examine(fd);
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
                Err(libc::EEXIST) => {}
                Err(error) => return Err(error),
                Ok(fd) => {
                    // A file system without locks: the names still keep processes apart.
                    let _ = sys::lock(fd);
                    return match sys::move_high(fd) {
                        Ok(fd) => Ok(Self { fd, path: *path }),
                        Err(error) => {
                            let _ = sys::unlink(path.as_c_str());
                            Err(error)
                        }
                    };
                }
            }
        }
        Err(libc::EWOULDBLOCK)
    }
}

/// Whether the file is an unrelated process's finished recording, or empty.
fn examine(fd: i32) -> Result<(), Errno> {
    if !sys::identity(fd)?.is_regular {
        return Err(libc::EEXIST);
    }
    sys::lock(fd)?;
    let mut bytes = [0; 128];
    const _: () = assert!(FILE_HEADER_BYTES >= 128);
    let length = sys::read(fd, &mut bytes)?;
    if length == 0 {
        return Ok(());
    }
    let Ok(header) = FileHeader::decode(bytes.get(..length).unwrap_or_default()) else {
        return Err(libc::EEXIST);
    };
    let mut pid = sys::pid();
    for _ in 0..64 {
        let Some(process) = ProcessStat::read(pid) else { break };
        if header.pid == pid && header.process_start_ticks == process.start_ticks {
            return Err(libc::EWOULDBLOCK);
        }
        if process.parent_pid == 0 {
            break;
        }
        pid = process.parent_pid;
    }
    Ok(())
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    pub(super) parent_pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub(super) start_ticks: u64,
}

impl ProcessStat {
    pub(super) fn read(pid: u32) -> Option<Self> {
        let mut path = Path::EMPTY;
        let mut digits = [0; 10];
        let parts: [&[u8]; 3] = [b"/proc/", decimal(pid, &mut digits), b"/stat"];
        if !parts.iter().all(|part| path.push(part)) {
            return None;
        }
        let mut buffer = [0; 1024];
        Self::parse(sys::read_file(path.as_c_str(), &mut buffer).ok()?)
    }

    /// The fields behind the name, which is in parentheses and can hold any byte.
    fn parse(stat: &[u8]) -> Option<Self> {
        let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = stat
            .get(end_of_name + 2..)?
            .split(|&byte| byte == b' ')
            .map(|field| std::str::from_utf8(field).ok()?.trim_end().parse::<u64>().ok());
        let parent_pid = u32::try_from(fields.nth(1)??).ok()?;
        let start_ticks = fields.nth(17)??;
        Some(Self { parent_pid, start_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_behind_any_name() {
        let line = b"7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 999 1\n";
        let expected = ProcessStat { parent_pid: 3, start_ticks: 12345 };
        assert_eq!(ProcessStat::parse(line), Some(expected));
    }

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let own = ProcessStat::read(sys::pid()).expect("/proc is mounted");
        assert_eq!(own.parent_pid, sys::parent_pid());
        assert!(own.start_ticks > 0);
    }
}
