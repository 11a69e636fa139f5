//! A program that is run and measured from outside.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a process and those that it waited for have cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From before it was started until it was waited for, in nanoseconds.
    pub wall_ns: u64,
    /// Processor time in the program, in nanoseconds.
    pub user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// The largest resident set of any of them, in bytes. No less than what the process that started
    /// it ever had: the kernel counts from before `exec`.
    pub peak_resident_bytes: u64,
    /// Page faults that were served without input or output.
    pub minor_faults: u64,
}

impl Cost {
    /// Processor time, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// Runs a command to its end and tells its cost. It is killed if it takes longer than the limit.
///
/// # Errors
///
/// If it cannot be started, fails, or had to be killed.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Cost> {
    let begin = Instant::now();
    let child = command.spawn()?;
    let (cost, status) = wait(child, begin, limit)?;
    if !status.success() {
        return Err(io::Error::other(format!("{command:?}: {status}")));
    }
    Ok(cost)
}

/// Waits for a child and tells what it has cost since an instant, and how it ended. It is killed if
/// that takes longer than the limit.
///
/// # Errors
///
/// If the kernel does not know the child.
pub fn wait(child: Child, begin: Instant, limit: Duration) -> io::Result<(Cost, ExitStatus)> {
    let pid = child.id() as libc::pid_t;
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: no memory is handed over. The child has not been waited for: whoever waits
            // closes the channel after it has returned, and joins this thread.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    });
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both places are valid for what is written to them.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    let wall_ns = begin.elapsed().as_nanos() as u64;
    let error = io::Error::last_os_error();
    drop(done);
    watchdog.join().map_err(|_| io::Error::other("the watchdog failed"))?;
    if waited != pid {
        return Err(error);
    }
    // SAFETY: plain numbers, zeroed and then written by the kernel.
    let usage = unsafe { usage.assume_init() };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    let cost = Cost {
        wall_ns,
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        peak_resident_bytes: usage.ru_maxrss as u64 * 1024,
        minor_faults: usage.ru_minflt as u64,
    };
    Ok((cost, ExitStatus::from_raw(status)))
}

/// A number for the contents of a file.
///
/// # Errors
///
/// If it cannot be read.
pub fn checksum(file: &Path) -> io::Result<u64> {
    let mut file = File::open(file)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.write(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_measured_with_those_it_waited_for() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done'; true"]);
        let cost = run(&mut shell, Duration::from_secs(60)).expect("a shell");
        assert!(cost.user_ns > 0 && cost.wall_ns > 0 && cost.minor_faults > 0);
        assert!(cost.peak_resident_bytes > 1 << 19);
    }

    #[test]
    fn failure_and_delay_are_errors() {
        let failed = run(Command::new("false").arg("x"), Duration::from_secs(60));
        assert!(failed.unwrap_err().to_string().contains("exit status: 1"));
        let late = run(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(late.unwrap_err().to_string().contains("signal: 9"));
    }
}
