//! Adds up what is told of blocks, by their origins.
//!
//! What becomes of a block is found out by going from event to event; what it counts as depends on nothing that
//! comes later. So the two are told apart: whoever follows the blocks says what happened to them, in order, and where
//! there is a second processor, that adds it up meanwhile.

use alloc_trace_format::Stamp;

use super::block::History;
use super::late_drops;
use super::origins::OriginIndex;
use super::site::SiteEvidence;
use crate::frames::FunctionIndex;
use crate::holder::Holder;
use crate::sites::SiteIndex;
use crate::span_lives::Outlived;

/// What happened to a block of an origin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// There is an origin more, which has the next number.
    Met { site: SiteIndex, holder: Option<Holder> },
    /// A block was made.
    Begun {
        origin: OriginIndex,
        stamp: Stamp,
        size: u64,
        align_log2: u8,
        /// Whether the block before it in its thread had the same backtrace and was freed already.
        repeats: bool,
    },
    /// A block was reallocated.
    Resized { origin: OriginIndex, stamp: Stamp, step: Step },
    /// A block went on in one that was made just before, which counts as not made.
    CarriedOn { origin: OriginIndex, step: Step },
    /// A block had its last size.
    Ended {
        origin: OriginIndex,
        size: u64,
        max_size: u64,
        history: History,
        /// Whether it had that size for half of the recording.
        long: bool,
        /// The function that enclosed its life, and how many were live at once in there.
        enclosed: Option<(FunctionIndex, u32)>,
    },
    /// A block was freed, which [ended](Self::Ended) it.
    Freed {
        origin: OriginIndex,
        stamp: Stamp,
        size: u64,
        /// Whether the thread that made it freed it, and whether it was the newest and the innermost one then.
        own: bool,
        newest: bool,
        innermost: bool,
    },
    /// A block lived on after its span.
    Outlived { origin: OriginIndex, outlived: Outlived, size: u64, freed: bool },
    /// A block is gone whose end is not known.
    Forgotten { origin: OriginIndex },
    /// A block is live at the end of the recording. So many of its origin had been made before.
    Left { origin: OriginIndex, size: u64, ordinal: u32 },
}

/// A block's way from one size to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) align_log2: u8,
    pub(super) moved: bool,
    /// Whether it had been reallocated before.
    pub(super) again: bool,
}

impl Step {
    fn add_to(self, evidence: &mut SiteEvidence) {
        let Self { from, to, align_log2, moved, again } = self;
        let growth = &mut evidence.growth;
        growth.moves += u64::from(moved);
        growth.steps.add(from, to);
        if !again {
            growth.beginning.get_or_insert((from, to, 1 << (align_log2 & 63)));
        }
    }
}

impl Told {
    /// What counting it waits for: asked for many at once, by whoever throws it away.
    #[inline]
    fn touch(&self, origins: &[SiteEvidence]) -> u64 {
        match *self {
            Self::Begun { origin, .. } => touch_counts(origins, origin),
            Self::Ended { origin, max_size, enclosed, .. } => {
                let Some(evidence) = origins.get(origin as usize) else { return 0 };
                let function = enclosed.map(|(function, _)| function);
                let enclosed = function.and_then(|function| evidence.enclosed.get(&function));
                evidence.sizes().touch(max_size) ^ enclosed.map_or(0, |enclosed| enclosed.blocks)
            }
            Self::Freed { origin, .. } => touch_counts(origins, origin),
            Self::Resized { origin, step, .. } => {
                let evidence = origins.get(origin as usize);
                evidence.map_or(0, |evidence| evidence.growth.steps.touch(step.to))
            }
            _ => 0,
        }
    }
}

#[inline]
fn touch_counts(origins: &[SiteEvidence], origin: OriginIndex) -> u64 {
    origins.get(origin as usize).map_or(0, SiteEvidence::touch)
}

/// What happened to all blocks, by origin.
#[derive(Debug)]
pub(super) struct Sums {
    origins: Vec<SiteEvidence>,
    /// Of each call site its last request.
    last_requests: Vec<Stamp>,
    /// Half of the recording, in ticks of its clock.
    half: Stamp,
}

/// So many are fetched together.
const TOGETHER: usize = 64;

impl Sums {
    pub(super) fn new(sites: usize, half: Stamp) -> Self {
        Self { origins: Vec::new(), last_requests: vec![0; sites], half }
    }

    /// Adds up what happened, in order.
    pub(super) fn add(&mut self, told: &[Told]) {
        for told in told.chunks(TOGETHER) {
            let origins = &self.origins;
            let touched = told.iter().fold(0, |touched, told| touched ^ told.touch(origins));
            std::hint::black_box(touched);
            for told in told {
                self.add_one(*told);
            }
        }
    }

    fn add_one(&mut self, told: Told) {
        match told {
            Told::Met { site, holder } => self.origins.push(SiteEvidence::new(site, holder)),
            Told::Begun { origin, stamp, size, align_log2, repeats } => {
                let Some(evidence) = self.requested(origin, stamp, size) else { return };
                evidence.blocks += 1;
                evidence.live += 1;
                evidence.peak_blocks = evidence.peak_blocks.max(evidence.live);
                if evidence.blocks == 1 {
                    evidence.first_request = stamp;
                }
                evidence.align_log2 = align_log2;
                evidence.repeats += u64::from(repeats);
            }
            Told::Resized { origin, stamp, step } => {
                let Some(evidence) = self.requested(origin, stamp, step.to) else { return };
                if step.to > step.from {
                    step.add_to(evidence);
                }
            }
            Told::CarriedOn { origin, step } => {
                let Some(evidence) = self.of(origin) else { return };
                evidence.blocks = evidence.blocks.saturating_sub(1);
                evidence.live = evidence.live.saturating_sub(1);
                evidence.events += 1;
                step.add_to(evidence);
            }
            Told::Ended { origin, size, max_size, history, long, enclosed } => {
                let Some(evidence) = self.of(origin) else { return };
                evidence.resized += u64::from(history.has(History::REALLOCATED));
                let growth = &mut evidence.growth;
                growth.sizes.add(max_size);
                if history.has(History::GREW) {
                    growth.blocks += 1;
                    growth.largest.add(max_size);
                    if !history.has(History::SHRANK) && long {
                        growth.never_shrunk += 1;
                        growth.never_shrunk_bytes = growth.never_shrunk_bytes.saturating_add(size);
                    }
                }
                if let Some((function, at_once)) = enclosed {
                    let enclosed = evidence.enclosed.entry(function).or_default();
                    enclosed.blocks += 1;
                    enclosed.at_once = enclosed.at_once.max(u64::from(at_once));
                }
            }
            Told::Freed { origin, stamp, size, own, newest, innermost } => {
                let half = self.half;
                let Some(evidence) = self.origins.get_mut(origin as usize) else { return };
                evidence.freed += 1;
                evidence.events += 1;
                evidence.live = evidence.live.saturating_sub(1);
                evidence.brief += u64::from(own && newest);
                evidence.innermost += u64::from(own && innermost);
                if !own {
                    evidence.remote += 1;
                    evidence.remote_bytes = evidence.remote_bytes.saturating_add(size);
                }
                // What the call site made for itself there counts, too: a list is in use while what it holds is made.
                let last_request = self.last_requests.get(evidence.site as usize).copied();
                let idle = stamp.saturating_sub(last_request.unwrap_or(stamp));
                if idle >= half && half > 0 {
                    evidence.late += 1;
                    evidence.late_bytes = evidence.late_bytes.saturating_add(size);
                    let least = evidence.least_idle.map_or(idle, |least| least.min(idle));
                    evidence.least_idle = Some(least);
                }
            }
            Told::Outlived { origin, outlived, size, freed } => {
                let half = self.half;
                if late_drops::is_late(outlived, half)
                    && let Some(evidence) = self.of(origin)
                {
                    let past = evidence.past_spans.entry(outlived.kind).or_default();
                    past.add(outlived, size, freed);
                }
            }
            Told::Forgotten { origin } => {
                let Some(evidence) = self.of(origin) else { return };
                evidence.live = evidence.live.saturating_sub(1);
            }
            Told::Left { origin, size, ordinal } => {
                let Some(evidence) = self.of(origin) else { return };
                evidence.live_bytes = evidence.live_bytes.saturating_add(size);
                let quarter = u64::from(ordinal) * 4 / evidence.blocks.max(1);
                if let Some(left) = evidence.left_in_quarters.get_mut(quarter as usize) {
                    *left += 1;
                }
            }
        }
    }

    #[inline]
    fn of(&mut self, origin: OriginIndex) -> Option<&mut SiteEvidence> {
        self.origins.get_mut(origin as usize)
    }

    /// Counts what a request and a reallocation have in common.
    #[inline]
    fn requested(
        &mut self,
        origin: OriginIndex,
        stamp: Stamp,
        size: u64,
    ) -> Option<&mut SiteEvidence> {
        let evidence = self.origins.get_mut(origin as usize)?;
        evidence.bytes = evidence.bytes.saturating_add(size);
        evidence.events += 1;
        evidence.last_request = stamp;
        if let Some(last) = self.last_requests.get_mut(evidence.site as usize) {
            *last = stamp;
        }
        Some(evidence)
    }

    /// The evidence of all origins, by call site.
    pub(super) fn finish(mut self) -> Vec<SiteEvidence> {
        self.origins.iter_mut().for_each(SiteEvidence::sum_up);
        self.origins.sort_by_key(|evidence| evidence.site);
        self.origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_small() {
        assert!(size_of::<Told>() <= 48, "{}", size_of::<Told>());
    }
}
