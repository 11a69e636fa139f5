//! Whether a recording was made by a process that this one comes of.
//!
//! What the kernel tells of this process and its ancestors is compared with what the recording tells of the process that
//! made it. An ancestor that has ended is not among them any more: then this process, or one of its ancestors, has been
//! given to another parent, and it had been made while that one still wrote. Where nothing is known, the answer is that it
//! may be.
//!
//! So a recording can stay that is of no ancestor: one of a program that ran when a daemon began that this process is below.
//!
//! Not seen are processes in between that have ended, too, where this one began only after the recording's last write,
//! unless it is still in the process group or the session of that process; nor one that left its session before it was
//! given to a parent that is not the first process.

use super::options::{Path, decimal};
use super::sys;

/// What a recording tells of the process that made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) pid: u32,
    /// When it started, in the kernel's clock ticks since boot; 0 where it did not know.
    pub(super) start_ticks: u64,
    /// When its file was written last, in nanoseconds since the Unix epoch.
    pub(super) written_ns: u64,
}

/// What a recording is to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    /// It was made by an ancestor, or by this process itself.
    Own,
    /// It may have been.
    Perhaps,
    /// It was not.
    None,
}

impl Seen {
    pub(super) fn relation(&self) -> Kin {
        let own_pid = sys::pid();
        let Some(own) = ProcessStat::read(own_pid) else { return Kin::Perhaps };
        let (mut pid, mut process) = (own_pid, own);
        for _ in 0..64 {
            if self.pid == pid && self.start_ticks == process.start_ticks {
                return Kin::Own;
            }
            if self.pid == pid && self.start_ticks == 0 {
                return Kin::Perhaps;
            }
            let parent_pid = process.parent_pid;
            let parent = ProcessStat::read(parent_pid);
            if process.is_orphan(pid, parent) && self.may_have_made(&process) {
                return Kin::Perhaps;
            }
            let Some(parent) = parent else {
                // The process has none, or it is not shown, or it has ended just now.
                if self.pid == parent_pid {
                    return Kin::Perhaps;
                }
                break;
            };
            (pid, process) = (parent_pid, parent);
        }
        if self.pid != own_pid && self.leads(&own) { Kin::Perhaps } else { Kin::None }
    }

    /// Whether the recording's process made the group or the session of the other one: no other process can have its id as
    /// long as one is in them.
    fn leads(&self, process: &ProcessStat) -> bool {
        let is_leader = self.pid == process.group || self.pid == process.session;
        is_leader
            && ProcessStat::read(self.pid)
                .is_none_or(|leader| leader.start_ticks == self.start_ticks)
    }

    /// Whether the recording's process was there before the other one, and wrote until that was.
    fn may_have_made(&self, process: &ProcessStat) -> bool {
        // As long as a tick of this clock, and more than one of the file system's.
        const UNSURE_NS: u64 = 20_000_000;
        self.start_ticks <= process.start_ticks
            && process.start_realtime_ns() <= self.written_ns.saturating_add(UNSURE_NS)
    }
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    pub(super) parent_pid: u32,
    group: u32,
    session: u32,
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
        let group = u32::try_from(fields.next()??).ok()?;
        let session = u32::try_from(fields.next()??).ok()?;
        let start_ticks = fields.nth(15)??;
        Some(Self { parent_pid, group, session, start_ticks })
    }

    /// Whether the process seems to have another parent than the one that made it: the first process, or one of another
    /// session, though it made none itself.
    fn is_orphan(&self, pid: u32, parent: Option<Self>) -> bool {
        let elsewhere = parent.is_some_and(|parent| parent.session != self.session);
        self.parent_pid == 1 || elsewhere && self.session != pid
    }

    /// When it started, in nanoseconds since the Unix epoch.
    fn start_realtime_ns(&self) -> u64 {
        let boot_ns = self.start_ticks.saturating_mul(1_000_000_000 / sys::ticks_per_second());
        let age_ns = sys::clock_ns(libc::CLOCK_BOOTTIME).saturating_sub(boot_ns);
        sys::clock_ns(libc::CLOCK_REALTIME).saturating_sub(age_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_behind_any_name() {
        let line = b"7 (a) b (c)) S 3 7 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 999 1\n";
        let expected = ProcessStat { parent_pid: 3, group: 7, session: 6, start_ticks: 12345 };
        assert_eq!(ProcessStat::parse(line), Some(expected));
    }

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let own = ProcessStat::read(sys::pid()).expect("/proc is mounted");
        assert_eq!(own.parent_pid, sys::parent_pid());
        assert!(own.start_ticks > 0);
        let age_ns = sys::clock_ns(libc::CLOCK_REALTIME).saturating_sub(own.start_realtime_ns());
        assert!(age_ns < 3_600_000_000_000, "it started {age_ns} ns ago");
    }

    #[test]
    fn who_has_another_parent_than_its_maker_is_an_orphan() {
        let process =
            |parent_pid, session| ProcessStat { parent_pid, group: 5, session, start_ticks: 9 };
        let shell = Some(process(3, 4));
        assert!(!process(4, 4).is_orphan(7, shell), "made by a shell");
        assert!(!process(4, 7).is_orphan(7, shell), "with a session of its own");
        assert!(process(4, 6).is_orphan(7, shell), "of another session");
        assert!(process(1, 7).is_orphan(7, None), "given to the first process");
    }

    #[test]
    fn own_and_unknown_processes_are_told_from_others() {
        let own = ProcessStat::read(sys::pid()).expect("/proc is mounted");
        let seen = |pid, start_ticks| Seen { pid, start_ticks, written_ns: 0 }.relation();
        assert_eq!(seen(sys::pid(), own.start_ticks), Kin::Own);
        assert_eq!(seen(sys::pid(), own.start_ticks - 1), Kin::None);
        assert_eq!(seen(sys::pid(), 0), Kin::Perhaps);
        let parent = ProcessStat::read(own.parent_pid).expect("the parent runs");
        assert_eq!(seen(own.parent_pid, parent.start_ticks), Kin::Own);
    }
}
