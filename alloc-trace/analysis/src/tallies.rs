//! What is counted of each owner, and what follows for whole parts of the program.
//!
//! Counts, bytes, and shares at the program's peak add up, so they are kept for each owner and summed
//! at the end. A part's own peak does not add up: [`Levels`] follows it event by event.

use alloc_trace_format::{Event, EventKind, Stamp};

use crate::figures::Figures;
use crate::ledger::Owner;

/// What is counted of one owner.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Events of each kind, failed ones included.
    made: [u64; 4],
    failed: u64,
    temporary: u64,
    allocated_bytes: u64,
    freed_bytes: u64,
    live: Held,
    /// What was live at the program's peak, as far as that was reached by the last change.
    at_peak: Held,
    /// The number of the last change.
    changed: u64,
}

/// Live blocks and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    blocks: u64,
    bytes: u64,
}

/// The tallies of all owners, and the level of the whole program.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    of: Vec<Tally>,
    /// How many blocks were obtained or released so far.
    changes: u64,
    program: Level,
    /// The change that brought the program to its peak.
    peak_change: u64,
}

impl Tallies {
    #[inline]
    fn at(&mut self, owner: Owner) -> &mut Tally {
        let index = owner as usize;
        if index >= self.of.len() {
            self.of.resize(index + 1, Tally::default());
        }
        &mut self.of[index]
    }

    /// The owner made an event.
    #[inline]
    pub(crate) fn count(&mut self, owner: Owner, event: &Event) {
        let tally = self.at(owner);
        let kind = match event.kind {
            EventKind::Alloc => 0,
            EventKind::AllocZeroed => 1,
            EventKind::Realloc => 2,
            EventKind::Free => 3,
        };
        tally.made[kind] += 1;
        tally.failed += u64::from(event.failed);
    }

    /// The owner obtained a block.
    ///
    /// Sums saturate: no heap has as many bytes, only a damaged recording.
    #[inline]
    pub(crate) fn obtain(&mut self, owner: Owner, size: u64, stamp: Stamp) {
        let peak_change = self.peak_change;
        self.changes += 1;
        let change = self.changes;
        let tally = self.at(owner);
        tally.pass(peak_change, change);
        tally.allocated_bytes = tally.allocated_bytes.saturating_add(size);
        tally.live.bytes = tally.live.bytes.saturating_add(size);
        tally.live.blocks += 1;
        if self.program.rise(size, stamp) {
            self.peak_change = change;
        }
    }

    /// A block of the owner was released.
    #[inline]
    pub(crate) fn release(&mut self, owner: Owner, size: u64, temporary: bool) {
        let peak_change = self.peak_change;
        self.changes += 1;
        let change = self.changes;
        let tally = self.at(owner);
        tally.pass(peak_change, change);
        tally.freed_bytes = tally.freed_bytes.saturating_add(size);
        tally.live.bytes = tally.live.bytes.saturating_sub(size);
        tally.live.blocks = tally.live.blocks.saturating_sub(1);
        tally.temporary += u64::from(temporary);
        self.program.fall(size);
    }

    /// The change that brought the program to its peak so far.
    pub(crate) fn peak_change(&self) -> u64 {
        self.peak_change
    }

    /// The number of the last change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// All has been counted.
    pub(crate) fn finish(&mut self) {
        let (peak_change, changes) = (self.peak_change, self.changes);
        for tally in &mut self.of {
            tally.pass(peak_change, changes);
        }
    }

    /// The tallies of all owners that have any, by their numbers.
    pub(crate) fn all(&self) -> &[Tally] {
        &self.of
    }

    /// The figures of the whole program. Until [`Figures::finish`] the peak's time is a stamp.
    pub(crate) fn total(&self) -> Figures {
        let mut total = Figures::default();
        for tally in &self.of {
            tally.add_to(&mut total);
        }
        self.program.add_to(&mut total);
        total
    }
}

impl Tally {
    /// A change is about to come. If the program was at its peak since the last one, what is live was
    /// live then.
    #[inline]
    fn pass(&mut self, peak_change: u64, change: u64) {
        if self.changed <= peak_change {
            self.at_peak = self.live;
        }
        self.changed = change;
    }

    /// Adds all but the peak, which does not add up.
    pub(crate) fn add_to(&self, figures: &mut Figures) {
        let [allocations, zeroed, reallocations, frees] = self.made;
        figures.events += allocations + zeroed + reallocations + frees;
        figures.allocations += allocations;
        figures.zeroed_allocations += zeroed;
        figures.reallocations += reallocations;
        figures.frees += frees;
        figures.failed_requests += self.failed;
        figures.temporary_allocations += self.temporary;
        figures.live_blocks_at_end += self.live.blocks;
        figures.at_peak_blocks += self.at_peak.blocks;
        for (sum, bytes) in [
            (&mut figures.allocated_bytes, self.allocated_bytes),
            (&mut figures.freed_bytes, self.freed_bytes),
            (&mut figures.live_bytes_at_end, self.live.bytes),
            (&mut figures.at_peak_bytes, self.at_peak.bytes),
        ] {
            *sum = sum.saturating_add(bytes);
        }
    }
}

/// The live bytes of a part of the program, and their peak.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Level {
    live_bytes: u64,
    peak_bytes: u64,
    peak_stamp: Stamp,
}

impl Level {
    /// More is live; whether it is more than ever before.
    #[inline]
    fn rise(&mut self, size: u64, stamp: Stamp) -> bool {
        self.live_bytes = self.live_bytes.saturating_add(size);
        let peak = self.live_bytes > self.peak_bytes;
        if peak {
            self.peak_bytes = self.live_bytes;
            self.peak_stamp = stamp;
        }
        peak
    }

    #[inline]
    fn fall(&mut self, size: u64) {
        self.live_bytes = self.live_bytes.saturating_sub(size);
    }

    /// Sets the peak of a part's figures.
    pub(crate) fn add_to(&self, figures: &mut Figures) {
        figures.peak_bytes = self.peak_bytes;
        figures.peak_at_ns = self.peak_stamp;
    }
}

/// The levels of the parts that a program is divided into.
#[derive(Debug, Default)]
pub(crate) struct Levels(Vec<Level>);

impl Levels {
    #[inline]
    pub(crate) fn rise(&mut self, part: u32, size: u64, stamp: Stamp) {
        self.at(part).rise(size, stamp);
    }

    #[inline]
    pub(crate) fn fall(&mut self, part: u32, size: u64) {
        self.at(part).fall(size);
    }

    #[inline]
    fn at(&mut self, part: u32) -> &mut Level {
        let index = part as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Level::default());
        }
        &mut self.0[index]
    }

    /// The figures of each part: the sums of its owners' tallies, and its own peak. `part` says which
    /// part an owner is of, if any.
    pub(crate) fn figures(
        &self,
        tallies: &Tallies,
        part: impl Fn(Owner) -> Option<u32>,
    ) -> Vec<Figures> {
        let mut parts = vec![Figures::default(); self.0.len()];
        for (owner, tally) in (0..).zip(tallies.all()) {
            let Some(part) = part(owner) else { continue };
            let part = part as usize;
            if part >= parts.len() {
                parts.resize(part + 1, Figures::default());
            }
            tally.add_to(&mut parts[part]);
        }
        for (figures, level) in parts.iter_mut().zip(&self.0) {
            level.add_to(figures);
        }
        parts
    }
}
