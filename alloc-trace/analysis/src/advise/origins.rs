//! What is told apart at a call site: what its blocks are the memory of.
//!
//! One line can ask for a list and for what it holds, as `list.push(Box::new(1))` does. The sizes, the number and
//! the lives of the two have nothing to do with each other, so each is judged by itself.

use alloc_trace_format::Stamp;

use super::site::SiteEvidence;
use crate::holder::Holder;
use crate::sites::SiteIndex;

/// A call site, and what some of its blocks are the memory of: a number in [`Origins`].
pub(super) type OriginIndex = u32;

/// All that are met, with what happened to their blocks.
#[derive(Debug)]
pub(super) struct Origins {
    /// By call site, and by holder; the last of these is for what is not known.
    numbers: Vec<[OriginIndex; Holder::COUNT + 1]>,
    evidence: Vec<SiteEvidence>,
    /// Of each call site its last request, for whatever that was.
    last_requests: Vec<Stamp>,
}

impl Origins {
    /// None of so many call sites.
    pub(super) fn new(sites: usize) -> Self {
        let numbers = vec![[OriginIndex::MAX; Holder::COUNT + 1]; sites];
        Self { numbers, evidence: Vec::new(), last_requests: vec![0; sites] }
    }

    /// The number of an origin.
    #[inline]
    pub(super) fn number(&mut self, site: SiteIndex, holder: Option<Holder>) -> OriginIndex {
        let which = holder.map_or(Holder::COUNT, |holder| holder as usize);
        let next = self.evidence.len() as OriginIndex;
        let Some(number) = self.numbers.get_mut(site as usize).map(|of_site| &mut of_site[which])
        else {
            return OriginIndex::MAX;
        };
        if *number == OriginIndex::MAX {
            *number = next;
            self.evidence.push(SiteEvidence::new(site, holder));
        }
        *number
    }

    /// What whoever counts an event of an origin waits for: asked for many at once, by whoever throws it
    /// away.
    #[inline]
    pub(super) fn touch(&self, origin: OriginIndex) -> u64 {
        self.evidence.get(origin as usize).map_or(0, SiteEvidence::touch)
    }

    pub(super) fn get(&self, origin: OriginIndex) -> Option<&SiteEvidence> {
        self.evidence.get(origin as usize)
    }

    pub(super) fn get_mut(&mut self, origin: OriginIndex) -> Option<&mut SiteEvidence> {
        self.evidence.get_mut(origin as usize)
    }

    /// So many bytes were requested there, for a new block or for one that is reallocated.
    #[inline]
    pub(super) fn request(
        &mut self,
        origin: OriginIndex,
        bytes: u64,
        stamp: Stamp,
    ) -> Option<&mut SiteEvidence> {
        let evidence = self.evidence.get_mut(origin as usize)?;
        evidence.bytes = evidence.bytes.saturating_add(bytes);
        evidence.events += 1;
        evidence.last_request = stamp;
        if let Some(last) = self.last_requests.get_mut(evidence.site as usize) {
            *last = stamp;
        }
        Some(evidence)
    }

    /// When an origin's call site requested anything for the last time, be it for another origin.
    #[inline]
    pub(super) fn last_request_at_site(&self, origin: OriginIndex) -> Option<Stamp> {
        let evidence = self.evidence.get(origin as usize)?;
        self.last_requests.get(evidence.site as usize).copied()
    }

    /// The evidence of all of them, by call site.
    pub(super) fn finish(mut self) -> Vec<SiteEvidence> {
        self.evidence.iter_mut().for_each(SiteEvidence::sum_up);
        self.evidence.sort_by_key(|evidence| evidence.site);
        self.evidence
    }
}
