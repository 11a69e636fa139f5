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
        unsafe { command.pre_exec(|| request(libc::PTRACE_TRACEME, 0)) };
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(error) => panic!("{error}"),
        };
        let stepped = Self { _watchdog: Watchdog::of(&child), child };
        assert!(stepped.wait(), "the program ended before it began");
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

    fn go_on(&self, how: Request) -> bool {
        request(how, self.pid()).expect("it stands still");
        self.wait()
    }

    fn pid(&self) -> libc::pid_t {
        self.child.id().cast_signed()
    }

    /// Waits until it stands still; `false` where it has ended.
    fn wait(&self) -> bool {
        let mut status: c_int = 0;
        // SAFETY: the call writes one `c_int`, which `status` is.
        let waited = unsafe { libc::waitpid(self.pid(), &raw mut status, 0) };
        assert_eq!(waited, self.pid());
        if libc::WIFSTOPPED(status) {
            let signal = libc::WSTOPSIG(status);
            assert_eq!(signal, libc::SIGTRAP, "the program got another signal");
        }
        libc::WIFSTOPPED(status)
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

fn request(what: Request, pid: libc::pid_t) -> io::Result<()> {
    let none = ptr::null_mut::<c_void>();
    // SAFETY: these requests take no address.
    let result = unsafe { libc::ptrace(what, pid, none, none) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
