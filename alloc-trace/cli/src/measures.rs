//! The measures, as they are named on the command line and shown.

use alloc_trace_analysis::Measure;
use clap::ValueEnum;

use crate::units::{bytes, count, summed_time};

/// What is looked at: what comes first, and what a tree or a graph is drawn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeasureName {
    /// Allocated bytes; with --from and --to the churn between them
    Bytes,
    /// Requests for memory
    Requests,
    /// The same as at-peak: the peaks of parts do not add up to the whole's
    Peak,
    /// Bytes that were live at the program's peak
    AtPeak,
    /// Bytes never freed
    Live,
    /// Blocks never freed
    LiveBlocks,
    /// Temporary allocations
    Temporary,
    /// How long all blocks together lived; those never freed, until the end
    Lifetime,
}

impl MeasureName {
    pub(crate) const fn measure(self) -> Measure {
        match self {
            Self::Bytes => Measure::Bytes,
            Self::Requests => Measure::Requests,
            Self::Peak => Measure::Peak,
            Self::AtPeak => Measure::AtPeak,
            Self::Live => Measure::Live,
            Self::LiveBlocks => Measure::LiveBlocks,
            Self::Temporary => Measure::Temporary,
            Self::Lifetime => Measure::Lifetime,
        }
    }
}

/// The measure, or the nearest one whose values for parts add up to that of the whole.
pub(crate) const fn adding_up(measure: Measure) -> Measure {
    if measure.adds_up() { measure } else { Measure::AtPeak }
}

/// A value of a measure as a person reads it.
pub(crate) fn value(measure: Measure, value: impl Into<u128>) -> String {
    let value = value.into();
    if measure == Measure::Lifetime {
        return summed_time(value);
    }
    // All others have 64 bits.
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    if measure.is_bytes() { bytes(value) } else { count(value) }
}

/// What a value of a measure is a number of: of bytes, of nanoseconds, or of what it counts.
pub(crate) const fn unit(measure: Measure) -> &'static str {
    match measure {
        Measure::Lifetime => "nanoseconds",
        measure if measure.is_bytes() => "bytes",
        measure => phrase(measure),
    }
}

/// What a measure is, as headings say it.
pub(crate) const fn phrase(measure: Measure) -> &'static str {
    match measure {
        Measure::Bytes => "allocated bytes",
        Measure::Requests => "requests",
        Measure::Peak => "their peak",
        Measure::AtPeak => "bytes live at the peak",
        Measure::Live => "bytes live at end",
        Measure::LiveBlocks => "blocks live at end",
        Measure::Temporary => "temporary allocations",
        Measure::Lifetime => "lifetimes of all blocks",
        _ => measure.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_has_the_name_that_outputs_use() {
        let names = MeasureName::value_variants();
        assert_eq!(names.len(), Measure::ALL.len());
        for (name, measure) in names.iter().zip(Measure::ALL) {
            assert_eq!(name.measure(), measure);
            let value = name.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), measure.name());
        }
    }
}
