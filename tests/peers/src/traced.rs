//! What a traced program tells its driver: one line of JSON.

use serde::{Deserialize, Serialize};

/// One run of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Traced {
    /// Heap events; only the build that counts them knows.
    pub events: Option<u64>,
    /// Largest resident set of the traced process, in bytes.
    pub peak_resident_bytes: u64,
    /// What the work came to: the same under every profiler.
    pub checksum: u64,
}
