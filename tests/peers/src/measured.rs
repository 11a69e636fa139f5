//! What one run of a workload tells its driver: one line of JSON.

use serde::{Deserialize, Serialize};

/// One run of one workload under one allocator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Operations done, by all threads together.
    pub operations: u64,
    /// Time from when all threads were ready until the last one was done, in nanoseconds.
    pub wall_ns: u64,
    /// Processor time of the whole process, in nanoseconds.
    pub cpu_ns: u64,
    /// Largest resident set of the process, in bytes.
    pub peak_resident_bytes: u64,
    /// Page faults that were served without input or output.
    pub minor_faults: u64,
    /// What the work came to: the same under every allocator.
    pub checksum: u64,
}

impl Measured {
    /// Time of an operation, in nanoseconds of wall time.
    #[must_use]
    pub fn ns_per_operation(&self) -> f64 {
        self.wall_ns as f64 / self.operations.max(1) as f64
    }
}

/// What the process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Largest resident set, in bytes.
    pub peak_resident_bytes: u64,
    /// Page faults that were served without input or output.
    pub minor_faults: u64,
}

impl Usage {
    /// Of this process, now.
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: a `rusage` is plain numbers, of which all zero is one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the place is valid for a `rusage`.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        let ns =
            |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
        Self {
            cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
            peak_resident_bytes: peak_resident_bytes(),
            minor_faults: usage.ru_minflt as u64,
        }
    }
}

/// The kernel's own mark of this program: a `rusage`'s is inherited from whoever started it.
fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = mark.and_then(|mark| mark.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
