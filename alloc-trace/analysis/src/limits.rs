//! Limits that a recording is to keep to.

use serde::Serialize;

use crate::summary::Summary;

/// What is limited. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Limited {
    /// The most requested bytes that were live at a time.
    Peak,
    /// Requested bytes that were never freed.
    Leaked,
    /// Blocks that were never freed.
    LeakedBlocks,
    /// Requests for memory: allocations, zeroed ones and reallocations.
    Allocations,
    /// Requested bytes in all.
    Bytes,
    /// Temporary allocations, in percent of the requests.
    Temporary,
}

/// A limit and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckedLimit {
    /// What is limited.
    pub limit: Limited,
    /// The most that is allowed.
    pub max: f64,
    /// What it is.
    pub actual: f64,
    /// Whether that is allowed.
    pub kept: bool,
}

impl Limited {
    /// Compares what a recording says with the most that is allowed: bytes, a number, or percent.
    ///
    /// Figures beyond 2^53 are rounded.
    #[must_use]
    pub fn check(self, max: f64, summary: &Summary) -> CheckedLimit {
        let total = &summary.total;
        let actual = match self {
            Self::Peak => total.peak_bytes as f64,
            Self::Leaked => total.live_bytes_at_end as f64,
            Self::LeakedBlocks => total.live_blocks_at_end as f64,
            Self::Allocations => total.requests() as f64,
            Self::Bytes => total.allocated_bytes as f64,
            Self::Temporary if total.requests() == 0 => 0.0,
            Self::Temporary => total.temporary_allocations as f64 * 100.0 / total.requests() as f64,
        };
        CheckedLimit { limit: self, max, actual, kept: actual <= max }
    }
}
