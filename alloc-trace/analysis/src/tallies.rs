//! What is counted of each owner, and what follows for whole parts of the program.
//!
//! Counts, bytes, and shares at the program's peak add up, so they are kept for each owner and summed
//! at the end. A part's own peak does not add up: [`Levels`] follows it event by event. No sum loses what
//! does not fit 64 bits: it stops at 2^64 − 1 only where it is shown.

use alloc_trace_format::{Clock, EventKind, Stamp};

use crate::figures::Figures;
use crate::ledger::Posted;
use crate::owners::Owner;

/// What is counted of one owner at nearly every event: one line of a cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Hot {
    /// Events of each kind but zeroed requests, failed ones included.
    made: [u64; 3],
    /// The low halves of these sums.
    allocated_bytes: u64,
    freed_bytes: u64,
    /// That of the times of all releases less those of all requests: once all blocks are gone that is how
    /// long they lived, in nanoseconds, and no block needs to remember when it was obtained.
    lived: u64,
    live_blocks: u64,
    /// The number of the last change.
    changed: u64,
}

/// What is counted of one owner now and then.
#[derive(Debug, Clone, Copy, Default)]
struct Cold {
    zeroed_allocations: u64,
    failed: u64,
    temporary: u64,
    /// The high halves of [`Hot::allocated_bytes`] and [`Hot::freed_bytes`].
    allocated_high: u64,
    freed_high: u64,
    /// That of [`Hot::lived`].
    lived_high: i64,
    /// What that comes to, when all has been counted.
    lifetime_ns: u128,
    /// What was live at the program's peak, as far as that was reached by the last change.
    at_peak_bytes: u64,
    at_peak_blocks: u64,
}

/// What is counted of one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally<'a> {
    hot: &'a Hot,
    cold: &'a Cold,
}

/// The tallies of all owners, and the level of the whole program; with the sums of lifetimes, or without
/// them where nobody asks.
#[derive(Debug)]
pub(crate) struct Tallies<const LIFETIMES: bool = true> {
    clock: Clock,
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    /// How many blocks were obtained or released so far.
    changes: u64,
    program: Level,
    /// The change that brought the program to its peak.
    peak_change: u64,
}

impl<const LIFETIMES: bool> Tallies<LIFETIMES> {
    /// Nothing counted yet of a recording with this clock.
    pub(crate) fn new(clock: Clock) -> Self {
        let (hot, cold, program) = (Vec::new(), Vec::new(), Level::NOTHING);
        Self { clock, hot, cold, changes: 0, program, peak_change: 0 }
    }

    /// There is an owner with this number; something of its tally.
    #[inline]
    pub(crate) fn touch(&mut self, owner: Owner) -> u64 {
        match self.hot.get(owner as usize) {
            Some(hot) => hot.changed,
            None => self.add_owners(owner as usize + 1),
        }
    }

    #[cold]
    fn add_owners(&mut self, owners: usize) -> u64 {
        self.hot.resize(owners, Hot::default());
        self.cold.resize(owners, Cold::default());
        Hot::default().changed
    }

    /// An owner made an event. Here and below, owners are those that were touched.
    #[inline]
    pub(crate) fn count(&mut self, owner: Owner, event: &Posted) {
        // No branch for each kind: which comes next nobody can guess.
        let kind = match event.kind {
            EventKind::Alloc => 0,
            EventKind::Realloc => 1,
            EventKind::Free => 2,
            EventKind::AllocZeroed => 3,
        };
        match self.hot[owner as usize].made.get_mut(kind) {
            Some(made) => *made += 1,
            None => self.cold[owner as usize].zeroed_allocations += 1,
        }
        if event.failed {
            self.cold[owner as usize].failed += 1;
        }
    }

    /// The owner obtained a block.
    #[inline(always)]
    pub(crate) fn obtain(&mut self, owner: Owner, size: u64, stamp: Stamp) {
        let ns = if LIFETIMES { self.clock.ns(stamp) } else { 0 };
        let hot = self.change(owner);
        let (bytes, over) = hot.allocated_bytes.overflowing_add(size);
        hot.allocated_bytes = bytes;
        hot.live_blocks += 1;
        // Each time by itself, not their sum: so the parts of any division add up, and to what rows of
        // blocks and bins of time have.
        let (lived, under) = hot.lived.overflowing_sub(ns);
        hot.lived = lived;
        if over {
            self.cold[owner as usize].carry_allocated();
        }
        if under {
            self.cold[owner as usize].carry_lived(-1);
        }
        if self.program.rise(size, stamp) {
            self.peak_change = self.changes;
        }
    }

    /// A block of the owner was released.
    #[inline(always)]
    pub(crate) fn release(&mut self, owner: Owner, size: u64, stamp: Stamp, temporary: bool) {
        let ns = if LIFETIMES { self.clock.ns(stamp) } else { 0 };
        let hot = self.change(owner);
        let (bytes, over) = hot.freed_bytes.overflowing_add(size);
        hot.freed_bytes = bytes;
        hot.live_blocks = hot.live_blocks.saturating_sub(1);
        let (lived, lived_over) = hot.lived.overflowing_add(ns);
        hot.lived = lived;
        if over {
            self.cold[owner as usize].carry_freed();
        }
        if lived_over {
            self.cold[owner as usize].carry_lived(1);
        }
        if temporary {
            self.cold[owner as usize].temporary += 1;
        }
        self.program.fall(size);
    }

    /// What is live of an owner is about to change. If the program was at its peak since that changed
    /// last, what is live now was live then.
    #[inline]
    fn change(&mut self, owner: Owner) -> &mut Hot {
        self.changes += 1;
        let hot = &mut self.hot[owner as usize];
        if hot.changed <= self.peak_change {
            hot.remember(&mut self.cold[owner as usize]);
        }
        hot.changed = self.changes;
        hot
    }

    /// The change that brought the program to its peak so far.
    pub(crate) fn peak_change(&self) -> u64 {
        self.peak_change
    }

    /// The number of the last change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// All has been counted, and the recording ended at this stamp.
    pub(crate) fn finish(&mut self, end: Stamp) {
        for owner in 0..self.hot.len() as Owner {
            self.change(owner);
        }
        if !LIFETIMES {
            return;
        }
        let end_ns = self.clock.ns(end);
        for (hot, cold) in self.hot.iter().zip(&mut self.cold) {
            cold.lifetime_ns = hot.lived_ns(cold.lived_high, end_ns);
        }
    }

    /// The tallies of all owners that have any, by their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = Tally<'_>> {
        self.hot.iter().zip(&self.cold).map(|(hot, cold)| Tally { hot, cold })
    }

    /// The figures of the whole program. Until [`Figures::finish`] the peak's time is a stamp.
    pub(crate) fn total(&self) -> Figures {
        let mut total = Figures::default();
        for tally in self.all() {
            tally.add_to(&mut total);
        }
        self.program.add_to(&mut total);
        total
    }
}

/// Where [`Hot::lived`] begins: in the middle, so that a block that comes and goes, which takes it down by a
/// time and up again, does not carry each time.
const LIVED_NOTHING: u64 = 1 << 63;

impl Default for Hot {
    fn default() -> Self {
        Self {
            made: [0; 3],
            allocated_bytes: 0,
            freed_bytes: 0,
            lived: LIVED_NOTHING,
            live_blocks: 0,
            changed: 0,
        }
    }
}

impl Hot {
    /// How long all blocks together lived, those that are live until `end`. Stamps that are out of order, which
    /// only a damaged file has, never come to less than nothing.
    fn lived_ns(&self, high: i64, end_ns: u64) -> u128 {
        let released =
            (i128::from(high) << u64::BITS) + i128::from(self.lived) - i128::from(LIVED_NOTHING);
        let live = u128::from(self.live_blocks) * u128::from(end_ns);
        u128::try_from(released.saturating_add_unsigned(live)).unwrap_or(0)
    }

    /// What is live now was live at the program's peak.
    #[cold]
    fn remember(&self, cold: &mut Cold) {
        cold.at_peak_bytes = Tally { hot: self, cold }.live_bytes();
        cold.at_peak_blocks = self.live_blocks;
    }
}

impl Cold {
    #[cold]
    const fn carry_allocated(&mut self) {
        self.allocated_high += 1;
    }

    #[cold]
    const fn carry_freed(&mut self) {
        self.freed_high += 1;
    }

    #[cold]
    const fn carry_lived(&mut self, by: i64) {
        self.lived_high += by;
    }
}

/// A sum in two halves.
const fn whole(high: u64, low: u64) -> u128 {
    (high as u128) << u64::BITS | low as u128
}

/// What is shown of a sum.
fn shown(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Tally<'_> {
    const fn allocated_bytes(&self) -> u128 {
        whole(self.cold.allocated_high, self.hot.allocated_bytes)
    }

    const fn freed_bytes(&self) -> u128 {
        whole(self.cold.freed_high, self.hot.freed_bytes)
    }

    fn live_bytes(&self) -> u64 {
        shown(self.allocated_bytes().saturating_sub(self.freed_bytes()))
    }

    /// Adds all but the peak, which does not add up.
    pub(crate) fn add_to(&self, figures: &mut Figures) {
        let Self { hot, cold } = self;
        let ([allocations, reallocations, frees], zeroed) = (hot.made, cold.zeroed_allocations);
        figures.events += allocations + zeroed + reallocations + frees;
        figures.allocations += allocations;
        figures.zeroed_allocations += zeroed;
        figures.reallocations += reallocations;
        figures.frees += frees;
        figures.failed_requests += cold.failed;
        figures.temporary_allocations += cold.temporary;
        figures.live_blocks_at_end += hot.live_blocks;
        figures.at_peak_blocks += cold.at_peak_blocks;
        figures.lifetime_ns = figures.lifetime_ns.saturating_add(cold.lifetime_ns);
        for (sum, bytes) in [
            (&mut figures.allocated_bytes, shown(self.allocated_bytes())),
            (&mut figures.freed_bytes, shown(self.freed_bytes())),
            (&mut figures.live_bytes_at_end, self.live_bytes()),
            (&mut figures.at_peak_bytes, cold.at_peak_bytes),
        ] {
            *sum = sum.saturating_add(bytes);
        }
    }
}

/// The live bytes of a part of the program, and their peak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// The low half of the sum: what is above shows in the peak, which stops there.
    live_bytes: u64,
    peak_bytes: u64,
    peak_stamp: Stamp,
}

impl Level {
    const NOTHING: Self = Self { live_bytes: 0, peak_bytes: 0, peak_stamp: 0 };

    /// More is live; whether it is more than ever before.
    #[inline]
    fn rise(&mut self, size: u64, stamp: Stamp) -> bool {
        let (live_bytes, over) = self.live_bytes.overflowing_add(size);
        self.live_bytes = live_bytes;
        let reached = if over { u64::MAX } else { live_bytes };
        let peak = reached > self.peak_bytes;
        if peak {
            self.peak_bytes = reached;
            self.peak_stamp = stamp;
        }
        peak
    }

    #[inline]
    const fn fall(&mut self, size: u64) {
        self.live_bytes = self.live_bytes.wrapping_sub(size);
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
        match self.0.get_mut(part as usize) {
            Some(level) => {
                level.rise(size, stamp);
            }
            None => {
                self.add(part).rise(size, stamp);
            }
        }
    }

    #[inline]
    pub(crate) fn fall(&mut self, part: u32, size: u64) {
        match self.0.get_mut(part as usize) {
            Some(level) => level.fall(size),
            None => self.add(part).fall(size),
        }
    }

    /// The level of a part that had none.
    #[cold]
    fn add(&mut self, part: u32) -> &mut Level {
        self.0.resize(part as usize + 1, Level::NOTHING);
        &mut self.0[part as usize]
    }

    /// The figures of each part: the sums of its owners' tallies, and its own peak. `part` says which
    /// part an owner is of, if any.
    pub(crate) fn figures<const LIFETIMES: bool>(
        &self,
        tallies: &Tallies<LIFETIMES>,
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

#[cfg(test)]
mod tests {
    use alloc_trace_format::Anchor;

    use super::*;

    fn tallies(ticks_per_us: u64) -> Tallies {
        let last = Anchor { ticks: ticks_per_us, monotonic_ns: 1_000 };
        let mut tallies = Tallies::new(Clock::new(Anchor::default(), last));
        tallies.touch(0);
        tallies.touch(1);
        tallies
    }

    fn lifetime_ns(tallies: &mut Tallies, end: Stamp) -> u128 {
        tallies.finish(end);
        tallies.total().lifetime_ns
    }

    #[test]
    fn lifetimes_add_up_whatever_the_stamps_are() {
        let mut tallies = tallies(1_000);
        // Far more than 64 bits, in both directions.
        let far = i64::MAX as u64 - 1_000;
        for block in 0..12 {
            tallies.obtain(0, 1, block);
        }
        for block in 0..10 {
            tallies.release(0, 1, far + block, false);
        }
        for block in 0..4 {
            tallies.obtain(0, 1, far + block);
        }
        // Two from the beginning, and four from far on.
        let released = 10 * u128::from(far);
        let early = 2 * u128::from(far + 100) - 10 - 11;
        let late = 4 * 100 - (1 + 2 + 3);
        assert_eq!(lifetime_ns(&mut tallies, far + 100), released + early + late);
    }

    #[test]
    fn the_lifetimes_of_owners_are_sums_of_whole_nanoseconds() {
        // A tick is half of one: each time is rounded by itself.
        let mut tallies = tallies(2_000);
        for owner in [0, 1] {
            for number in 0..100 {
                tallies.obtain(owner, 1, number * 10);
                tallies.release(owner, 1, number * 10 + 3, false);
            }
        }
        assert_eq!(lifetime_ns(&mut tallies, 10_000), 200);
    }

    #[test]
    fn blocks_that_come_and_go_carry_nothing() {
        let mut tallies = tallies(2_000);
        for pair in 0..1_000_u64 {
            tallies.obtain(0, 1, pair << 40);
            tallies.release(0, 1, (pair << 40) + 8, false);
            assert_eq!(tallies.cold[0].lived_high, 0);
        }
        assert_eq!(lifetime_ns(&mut tallies, 1 << 60), 4_000);
    }

    #[test]
    fn stamps_that_are_out_of_order_come_to_nothing() {
        let mut tallies = tallies(1_000);
        tallies.obtain(0, 1, 1 << 40);
        tallies.release(0, 1, 7, false);
        assert_eq!(lifetime_ns(&mut tallies, 1 << 41), 0);
    }
}
