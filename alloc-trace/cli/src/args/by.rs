//! What figures are grouped by, and what comes first.

use alloc_trace_analysis::{By, Group, LeakSite};
use clap::ValueEnum;

use crate::measures::MeasureName;

/// What requests differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ByName {
    /// The call site
    Site,
    /// The call site's function
    Function,
    /// The call site's source file
    File,
    /// The crate that the call site is in
    Crate,
    /// The thread that asks
    Thread,
    /// The innermost span: what happened in spans within it is theirs
    Span,
    /// The requested size
    Size,
    /// How long the blocks lived
    Lifetime,
}

impl ByName {
    pub(crate) const fn by(self) -> By {
        match self {
            Self::Site => By::Site,
            Self::Function => By::Function,
            Self::File => By::File,
            Self::Crate => By::Crate,
            Self::Thread => By::Thread,
            Self::Span => By::Span,
            Self::Size => By::Size,
            Self::Lifetime => By::Lifetime,
        }
    }
}

/// By what rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// Allocated bytes; with --from and --to the churn between them
    Bytes,
    /// Requests for memory
    Requests,
    /// Their own peak of live bytes
    Peak,
    /// Bytes that were live at the program's peak
    AtPeak,
    /// Bytes never freed
    Live,
    /// Blocks never freed
    LiveBlocks,
    /// Temporary allocations
    Temporary,
    /// How long their blocks lived on average, of those that were released
    Lifetime,
}

impl SortKey {
    /// The measure that it is; none for lifetimes: rows have their mean, which is no sum.
    pub(crate) const fn measure(self) -> Option<MeasureName> {
        Some(match self {
            Self::Bytes => MeasureName::Bytes,
            Self::Requests => MeasureName::Requests,
            Self::Peak => MeasureName::Peak,
            Self::AtPeak => MeasureName::AtPeak,
            Self::Live => MeasureName::Live,
            Self::LiveBlocks => MeasureName::LiveBlocks,
            Self::Temporary => MeasureName::Temporary,
            Self::Lifetime => return None,
        })
    }

    /// What of a group decides.
    pub(crate) fn of_group(self, group: &Group) -> u128 {
        match self.measure() {
            Some(measure) => measure.measure().of(&group.figures),
            None => u128::from(group.lifetimes.mean_ns),
        }
    }
}

/// By what leaks are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LeakKey {
    /// Bytes never freed
    Bytes,
    /// Blocks never freed
    Blocks,
    /// The largest of their blocks; of call sites only
    Size,
    /// The oldest of their blocks; of call sites only
    Age,
}

impl LeakKey {
    /// The same of groups; none for what is known of call sites only.
    pub(crate) const fn of_groups(self) -> Option<SortKey> {
        match self {
            Self::Bytes => Some(SortKey::Live),
            Self::Blocks => Some(SortKey::LiveBlocks),
            Self::Size | Self::Age => None,
        }
    }

    /// What of a call site decides.
    pub(crate) const fn of_site(self, site: &LeakSite) -> u64 {
        match self {
            Self::Bytes => site.bytes,
            Self::Blocks => site.blocks,
            Self::Size => site.max_size,
            Self::Age => site.oldest_age_ns,
        }
    }
}
