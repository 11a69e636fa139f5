//! Signals while a program is recorded.
//!
//! The program shares our process group, so an interrupt typed at the terminal reaches it without
//! us: we only have to survive it and report. What is sent to our process alone, as by a service
//! manager, is sent on.

use std::io::{self, IsTerminal};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::error::CommandError;

/// The signals that no longer end this process.
#[derive(Debug)]
pub(super) struct Signals {
    received: signal_hook::iterator::Signals,
}

impl Signals {
    /// From here on the signals are kept until there is somebody to send them to. The program does
    /// not inherit that: handlers do not outlive `exec`.
    pub(super) fn block() -> Result<Self, CommandError> {
        let received = signal_hook::iterator::Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])
            .map_err(|source| CommandError::Io { attempt: "prepare for signals", source })?;
        Ok(Self { received })
    }

    /// Sends on what was and what will be received, for as long as this process lives.
    ///
    /// Where the kernel has no handle for a process nothing is sent on: its number may be
    /// another's by then.
    pub(super) fn send_to(self, process: u32) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return;
        };
        let mut received = self.received;
        thread::spawn(move || {
            for signal in received.forever() {
                let signal = match signal {
                    SIGTERM => Signal::TERM,
                    SIGHUP => Signal::HUP,
                    // At a terminal they came from the keyboard, to the whole group.
                    _ if io::stdin().is_terminal() => continue,
                    SIGQUIT => Signal::QUIT,
                    _ => Signal::INT,
                };
                // It may have exited already: then there is nobody to tell.
                let _ = pidfd_send_signal(&process, signal);
            }
        });
    }
}
