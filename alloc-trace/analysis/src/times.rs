//! The times of a filter, in a recording.

use alloc_trace_format::Recording;

use crate::definitions::Definitions;
use crate::error::AnalysisError;
use crate::filter::{Filter, Moment};
use crate::peak;

/// The times of a filter, found in a recording.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) from_ns: Option<u64>,
    pub(crate) to_ns: Option<u64>,
    pub(crate) live_at_ns: Option<u64>,
}

impl Times {
    pub(crate) fn find(
        filter: &Filter,
        recording: &Recording,
        definitions: &Definitions,
    ) -> Result<Self, AnalysisError> {
        let moments @ [from, to, live_at] = filter.moments();
        let asks_for_peak = moments.iter().any(|moment| **moment == Some(Moment::Peak));
        let peak_ns = if asks_for_peak { peak::peak_ns(recording, definitions)? } else { 0 };
        let clock = recording.clock();
        let find = |moment: &Option<Moment>| match moment {
            None => Ok(None),
            Some(Moment::Ns(ns)) => Ok(Some(*ns)),
            Some(Moment::Peak) => Ok(Some(peak_ns)),
            Some(Moment::Marker(text)) => match definitions.marker(text) {
                Some(stamp) => Ok(Some(clock.ns(stamp))),
                None => Err(AnalysisError::NoSuchMarker {
                    text: text.clone(),
                    markers: definitions.marker_texts(),
                }),
            },
        };
        Ok(Self { from_ns: find(from)?, to_ns: find(to)?, live_at_ns: find(live_at)? })
    }
}
