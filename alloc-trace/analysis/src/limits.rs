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
    /// Requested bytes of the program's that were never freed: without what Rust's runtime keeps for itself.
    Leaked,
    /// Blocks of the program's that were never freed.
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
    /// What it is in the recording that `max` was made from, where it was.
    pub baseline: Option<f64>,
    /// What it is.
    pub actual: f64,
    /// Whether that is allowed.
    pub kept: bool,
}

/// How much more than in another recording something may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Growth {
    /// So many bytes, blocks or requests, or percentage points.
    By(f64),
    /// So many percent of what it is there.
    Percent(f64),
}

impl Growth {
    /// The most that is allowed, given what it is in the other recording.
    #[must_use]
    pub fn max(self, baseline: f64) -> f64 {
        match self {
            Self::By(more) => baseline + more,
            Self::Percent(percent) => baseline + baseline * percent / 100.0,
        }
    }
}

impl Limited {
    /// Everything that can be limited.
    pub const ALL: [Self; 6] = [
        Self::Peak,
        Self::Leaked,
        Self::LeakedBlocks,
        Self::Allocations,
        Self::Bytes,
        Self::Temporary,
    ];

    /// Whether it depends on the whole recording: what is live in the end does not, so that it is right
    /// in a recording that kept its last part.
    #[must_use]
    pub const fn needs_everything(self) -> bool {
        !matches!(self, Self::Leaked | Self::LeakedBlocks)
    }

    /// What a recording says: bytes, a number, or percent.
    ///
    /// Figures beyond 2^53 are rounded.
    #[must_use]
    pub fn of(self, summary: &Summary) -> f64 {
        let total = &summary.total;
        match self {
            Self::Peak => total.peak_bytes as f64,
            Self::Leaked => {
                total.live_bytes_at_end.saturating_sub(summary.runtime_bytes_at_end) as f64
            }
            Self::LeakedBlocks => {
                total.live_blocks_at_end.saturating_sub(summary.runtime_blocks_at_end) as f64
            }
            Self::Allocations => total.requests() as f64,
            Self::Bytes => total.allocated_bytes as f64,
            Self::Temporary if total.requests() == 0 => 0.0,
            Self::Temporary => total.temporary_allocations as f64 * 100.0 / total.requests() as f64,
        }
    }

    /// Compares what a recording says with the most that is allowed.
    #[must_use]
    pub fn check(self, max: f64, summary: &Summary) -> CheckedLimit {
        let actual = self.of(summary);
        CheckedLimit { limit: self, max, baseline: None, actual, kept: actual <= max }
    }

    /// Compares what a recording says with what another one does.
    #[must_use]
    pub fn check_growth(
        self,
        growth: Growth,
        baseline: &Summary,
        summary: &Summary,
    ) -> CheckedLimit {
        let baseline = self.of(baseline);
        let checked = self.check(growth.max(baseline), summary);
        CheckedLimit { baseline: Some(baseline), ..checked }
    }
}
