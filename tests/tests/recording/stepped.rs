//! A program that is run step by step: it stands still in between, and its files can be looked at.

use std::ffi::{c_int, c_void};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::{io, ptr};

use crate::program::Watchdog;

/// A child that stands still, and is killed where this is dropped. It must be made, moved on and dropped
/// by one thread.
pub(crate) struct Stepped {
    child: Child,
    _watchdog: Watchdog,
}

impl Stepped {
    /// Starts a program; it stands at its first instruction. `None` where that is not allowed.
    pub(crate) fn start(command: &mut Command) -> Option<Self> {
        // SAFETY: the closure makes one system call and touches nothing.
        unsafe { command.pre_exec(|| request(libc::PTRACE_TRACEME, 0, 0)) };
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(error) => panic!("{error}"),
        };
        let stepped = Self { _watchdog: Watchdog::of(&child), child };
        assert_eq!(stepped.wait(), Some(libc::SIGTRAP), "the program ended before it began");
        Some(stepped)
    }

    /// Lets it run to the beginning or the end of its next system call; `false` where it has ended.
    pub(crate) fn to_system_call(&self) -> bool {
        self.go_on(libc::PTRACE_SYSCALL)
    }

    /// Lets it run one instruction; `false` where it has ended.
    pub(crate) fn to_instruction(&self) -> bool {
        self.go_on(libc::PTRACE_SINGLESTEP)
    }

    /// It was looked at for long: from here on it has the whole time again.
    pub(crate) fn has_time_again(&mut self) {
        self._watchdog = Watchdog::of(&self.child);
    }

    /// Sends it a signal and lets it run until that arrives, then to the beginning or the end of a
    /// system call, in the handler or behind it.
    pub(crate) fn interrupt(&self, signal: c_int) {
        // SAFETY: the call takes two numbers.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
        // A system call that it is in is ended before.
        while self.go_on_to_stop(libc::PTRACE_SYSCALL, 0).expect("it has not ended") != signal {}
        let next = self.go_on_to_stop(libc::PTRACE_SYSCALL, signal);
        assert_eq!(next, Some(libc::SIGTRAP), "the program got another signal");
    }

    fn go_on(&self, how: Request) -> bool {
        let stop = self.go_on_to_stop(how, 0);
        assert!(matches!(stop, None | Some(libc::SIGTRAP)), "the program got another signal");
        stop.is_some()
    }

    /// Lets it run, with a signal that it stands before; the signal that it stands at then.
    fn go_on_to_stop(&self, how: Request, signal: c_int) -> Option<c_int> {
        request(how, self.pid(), signal).expect("it stands still");
        self.wait()
    }

    fn pid(&self) -> libc::pid_t {
        self.child.id().cast_signed()
    }

    /// Waits until it stands still, and at which signal; `None` where it has ended.
    fn wait(&self) -> Option<c_int> {
        let mut status: c_int = 0;
        // SAFETY: the call writes one `c_int`, which `status` is.
        let waited = unsafe { libc::waitpid(self.pid(), &raw mut status, 0) };
        assert_eq!(waited, self.pid());
        libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Request = libc::c_uint;

fn request(what: Request, pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    let data = ptr::without_provenance_mut::<c_void>(signal as usize);
    // SAFETY: these requests take no address.
    let result = unsafe { libc::ptrace(what, pid, ptr::null_mut::<c_void>(), data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
