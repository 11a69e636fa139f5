//! What can be measured of any part of a program: one list for all commands, exports and pictures.

use serde::Serialize;

use crate::figures::Figures;

/// A measure: one of the [`Figures`]. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Measure {
    /// Requested bytes. Over an interval (see [`Filter`](crate::Filter)) that is the churn.
    Bytes,
    /// Requests for memory.
    Requests,
    /// The part's own peak of live bytes, whenever that was.
    Peak,
    /// The bytes that were live at the program's peak.
    AtPeak,
    /// The bytes that were live at the end; with [`Filter::live_at`](crate::Filter::live_at) those
    /// of the picked blocks that never were freed.
    Live,
    /// Blocks that were live at the end.
    LiveBlocks,
    /// Temporary allocations.
    Temporary,
    /// How long all blocks together lived, in nanoseconds; those that were never released, until the end.
    Lifetime,
}

impl Measure {
    /// All measures.
    pub const ALL: [Self; 8] = [
        Self::Bytes,
        Self::Requests,
        Self::Peak,
        Self::AtPeak,
        Self::Live,
        Self::LiveBlocks,
        Self::Temporary,
        Self::Lifetime,
    ];

    /// Its value in some figures: all but lifetimes fit 64 bits.
    #[must_use]
    pub const fn of(self, figures: &Figures) -> u128 {
        let value = match self {
            Self::Bytes => figures.allocated_bytes,
            Self::Requests => figures.requests(),
            Self::Peak => figures.peak_bytes,
            Self::AtPeak => figures.at_peak_bytes,
            Self::Live => figures.live_bytes_at_end,
            Self::LiveBlocks => figures.live_blocks_at_end,
            Self::Temporary => figures.temporary_allocations,
            Self::Lifetime => return figures.lifetime_ns,
        };
        value as u128
    }

    /// Whether it is in bytes, rather than in nanoseconds or a number of something.
    #[must_use]
    pub const fn is_bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::Peak | Self::AtPeak | Self::Live)
    }

    /// Whether the values of parts add up to that of the whole.
    #[must_use]
    pub const fn adds_up(self) -> bool {
        !matches!(self, Self::Peak)
    }

    /// The name that options and outputs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Requests => "requests",
            Self::Peak => "peak",
            Self::AtPeak => "at-peak",
            Self::Live => "live",
            Self::LiveBlocks => "live-blocks",
            Self::Temporary => "temporary",
            Self::Lifetime => "lifetime",
        }
    }
}
