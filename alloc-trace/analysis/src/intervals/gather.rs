//! The events of a recording, counted in bins of time and in every axis.

use std::sync::Arc;

use alloc_trace_format::{Clock, EventKind, Recording, Stamp};

use super::axis::{Axis, Cell, Now};
use super::classes::{lifetime_class, size_class};
use super::rows::{PlaceRows, Rows};
use super::weights::weigh;
use super::{Bin, Intervals, Parts, Resolution};
use crate::error::AnalysisError;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, How, Ledger, Posted, Posting, Release};
use crate::live_bytes::LiveBytes;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::summary::Program;

/// Bins are not merged to fewer than these, however many cells they have.
const FEWEST_BINS: u32 = 32;

/// What is kept of a live block: with its address 24 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    obtained: Stamp,
    size: HeldSize,
    owner: Owner,
}

/// The axes, one part of each of which every block belongs to.
#[derive(Debug, Default)]
struct Axes {
    sites: Axis,
    functions: Axis,
    files: Axis,
    crates: Axis,
    threads: Axis,
    spans: Axis,
    sizes: Axis,
    nodes: Axis,
}

/// The figures as they grow.
#[derive(Debug)]
pub(super) struct Gather {
    clock: Clock,
    /// How long the recording is. What claims to be later counts as its end: or the times in a damaged
    /// file, not the resolution, would say how many bins there are.
    duration_ns: u64,
    resolution: Resolution,
    bin_ns: u64,
    /// The present bin: how far it reaches in nanoseconds.
    now: Now,
    bin_end_ns: u64,
    bins: Vec<Bin>,
    live_bytes: LiveBytes,
    axes: Axes,
    /// By the number of the class: see [`class_number`].
    lifetimes: Axis,
    rows: Rows,
    parts: Parts,
    large: LargeSizes,
}

impl Gather {
    pub(super) fn new(
        recording: &Recording,
        prepared: &Prepared<'_>,
        parts: Parts,
        resolution: Resolution,
        rows: Rows,
    ) -> Self {
        let clock = *recording.clock();
        let duration_ns = clock.ns(prepared.definitions.last_stamp);
        // One more nanosecond than the last event's, so that no bin begins behind the end.
        let bin_ns = duration_ns / u64::from(resolution.bins) + 1;
        Self {
            clock,
            duration_ns,
            resolution,
            bin_ns,
            now: Now::default(),
            bin_end_ns: bin_ns,
            bins: vec![Bin::default()],
            live_bytes: LiveBytes::default(),
            axes: Axes::default(),
            lifetimes: Axis::default(),
            rows,
            parts,
            large: LargeSizes::default(),
        }
    }

    /// When something happened.
    #[inline]
    fn ns(&self, stamp: Stamp) -> u64 {
        self.clock.ns(stamp).min(self.duration_ns)
    }

    /// Goes on to a moment: its nanoseconds, and its bin.
    #[inline]
    fn go_to(&mut self, stamp: Stamp) -> (u64, u32) {
        let ns = self.ns(stamp);
        while ns >= self.bin_end_ns {
            self.next_bin();
        }
        (ns, self.bin_of(ns))
    }

    #[inline]
    fn bin_of(&self, ns: u64) -> u32 {
        if ns + self.bin_ns >= self.bin_end_ns { self.now.bin } else { (ns / self.bin_ns) as u32 }
    }

    #[cold]
    fn next_bin(&mut self) {
        self.close_bin();
        let closed = self.now.bin + 1;
        let too_many = self.cells() > self.resolution.cells && closed > FEWEST_BINS;
        if too_many && closed.is_multiple_of(2) {
            self.halve(closed);
        }
        self.now = Now { bin: self.bins.len() as u32, epoch: 0 };
        self.bin_end_ns = self.bin_end_ns.saturating_add(self.bin_ns);
        self.bins.push(Bin {
            peak_bytes: self.live_bytes.get(),
            peak_at_ns: u64::from(self.now.bin) * self.bin_ns,
            ..Bin::default()
        });
    }

    fn close_bin(&mut self) {
        let now = self.now;
        self.each_axis(|axis| axis.close(now));
    }

    fn halve(&mut self, closed: u32) {
        let later: Vec<bool> =
            self.bins.chunks_exact(2).map(|pair| pair[1].peak_bytes > pair[0].peak_bytes).collect();
        let later = |bin: u32| later.get(bin as usize).copied().unwrap_or_default();
        self.each_axis(|axis| axis.halve(closed, later));
        self.lifetimes.halve(closed, later);
        let bins = self.bins.chunks(2).map(|pair| pair.iter().fold(Bin::default(), Bin::and));
        self.bins = bins.collect();
        self.bin_ns *= 2;
    }

    fn each_axis(&mut self, mut change: impl FnMut(&mut Axis)) {
        let Axes { sites, functions, files, crates, threads, spans, sizes, nodes } = &mut self.axes;
        for axis in [sites, functions, files, crates, threads, spans, sizes, nodes] {
            change(axis);
        }
    }

    fn cells(&self) -> usize {
        let Axes { sites, functions, files, crates, threads, spans, sizes, nodes } = &self.axes;
        [sites, functions, files, crates, threads, spans, sizes, nodes]
            .iter()
            .map(|axis| axis.cells())
            .sum()
    }

    /// Does something with every axis, and the number of the part in it.
    #[inline]
    fn each(&mut self, owner: OwnerParts, size: u64, mut change: impl FnMut(&mut Axis, u32)) {
        let axes = &mut self.axes;
        change(&mut axes.threads, self.rows.of_thread(owner.thread));
        change(&mut axes.spans, self.rows.of_span(owner.span));
        if self.parts == Parts::WithoutSites {
            return;
        }
        let PlaceRows { site, function, file, krate, node } = self.rows.of_place(owner);
        change(&mut axes.sites, site);
        change(&mut axes.functions, function);
        change(&mut axes.files, file);
        change(&mut axes.crates, krate);
        change(&mut axes.sizes, class_number(size_class(size)));
        change(&mut axes.nodes, node);
    }

    /// The bin in which a block was obtained.
    #[inline]
    fn obtained_in(&self, held: Held) -> u32 {
        self.bin_of(self.ns(held.obtained))
    }

    /// What is still live was never released.
    fn keep(&mut self, address: u64, held: Held, owner: OwnerParts) {
        let size = self.large.get(address, held.size);
        let bin = self.obtained_in(held);
        let lifetime_ns = self.duration_ns.saturating_sub(self.ns(held.obtained));
        self.each(owner, size, |axis, part| {
            axis.count(part, bin, |cell| {
                cell.kept_bytes = cell.kept_bytes.saturating_add(size);
                cell.kept_blocks += 1;
            });
        });
        if let Some(figures) = self.bins.get_mut(bin as usize) {
            figures.kept_bytes = figures.kept_bytes.saturating_add(size);
            figures.kept_blocks += 1;
            figures.lifetime_ns += u128::from(lifetime_ns);
        }
        self.lifetimes.count(NEVER, bin, |cell| {
            cell.requests += 1;
            cell.allocated_bytes = cell.allocated_bytes.saturating_add(size);
            cell.kept_bytes = cell.kept_bytes.saturating_add(size);
            cell.kept_blocks += 1;
        });
    }

    /// To the end, which may be later than the last event.
    fn end(&mut self, end: Stamp) {
        self.go_to(end);
        self.close_bin();
    }
}

impl Account for Gather {
    type Held = Held;

    const NONE: Held = Held { obtained: 0, size: HeldSize::ZERO, owner: 0 };

    #[inline]
    fn parts(&self, posting: &Posting) -> OwnerParts {
        let Posting { place, thread, span_kind, .. } = *posting;
        // Owners are not told apart by what nobody asks for.
        let key = match self.parts {
            Parts::All => place.index() as u32,
            Parts::WithoutSites => 0,
        };
        OwnerParts { key, thread, span: span_kind }
    }

    /// A request, whether it succeeds or not. Frees go with what they release.
    #[inline]
    fn made(&mut self, _: Owner, parts: OwnerParts, posting: &Posting) {
        let event = posting.event;
        let (_, bin) = self.go_to(event.stamp);
        if event.kind == EventKind::Free {
            return;
        }
        let bytes = if event.failed { 0 } else { event.size };
        if let Some(figures) = self.bins.get_mut(bin as usize) {
            match event.kind {
                EventKind::Alloc => figures.allocations += 1,
                EventKind::AllocZeroed => figures.zeroed_allocations += 1,
                EventKind::Realloc => figures.reallocations += 1,
                EventKind::Free => {}
            }
            figures.failed_requests += u64::from(event.failed);
            figures.allocated_bytes = figures.allocated_bytes.saturating_add(bytes);
        }
        // Of one that succeeds the rest comes with its block.
        if event.failed {
            self.each(parts, event.size, |axis, part| {
                axis.count(part, bin, |cell| cell.requests += 1)
            });
        }
    }

    #[inline]
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Held {
        let Posted { address, size: bytes, stamp, .. } = posting.event;
        let (ns, bin) = self.go_to(stamp);
        let now = self.now;
        let count = |cell: &mut Cell| {
            cell.requests += 1;
            cell.allocated_bytes = cell.allocated_bytes.saturating_add(bytes);
        };
        self.each(parts, bytes, |axis, part| {
            axis.count_and_change(part, (bin, now), count, |live| live.add(bytes));
        });
        self.live_bytes.add(bytes);
        let live_bytes = self.live_bytes.get();
        if let Some(figures) = self.bins.last_mut()
            && live_bytes > figures.peak_bytes
        {
            (figures.peak_bytes, figures.peak_at_ns) = (live_bytes, ns);
            self.now.epoch += 1;
        }
        Held { obtained: stamp, size: self.large.hold(address, bytes), owner }
    }

    fn freed_unknown(&mut self, by: &Posting) {
        let (_, bin) = self.go_to(by.event.stamp);
        if let Some(figures) = self.bins.get_mut(bin as usize) {
            figures.unmatched_frees += 1;
        }
    }

    #[inline]
    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        let Release { address, how, by, temporary, owner } = *release;
        let (ns, bin) = self.go_to(by.event.stamp);
        let size = self.large.release(address, held.size);
        let obtained_in = self.obtained_in(held);
        let lifetime_ns = ns.saturating_sub(self.ns(held.obtained));
        let now = self.now;
        let count = |cell: &mut Cell| {
            cell.released_bytes = cell.released_bytes.saturating_add(size);
            cell.released_blocks += 1;
        };
        self.each(owner, size, |axis, part| {
            axis.count_and_change(part, (bin, now), count, |live| live.take(size));
            if temporary {
                axis.count(part, obtained_in, |cell| cell.temporary_allocations += 1);
            }
        });
        self.live_bytes.take(size);
        if let Some(figures) = self.bins.get_mut(bin as usize) {
            figures.released_bytes = figures.released_bytes.saturating_add(size);
            figures.released_blocks += 1;
        }
        if let Some(figures) = self.bins.get_mut(obtained_in as usize) {
            figures.temporary_allocations += u64::from(temporary);
            figures.frees += u64::from(how == How::Freed);
            figures.lifetime_ns += u128::from(lifetime_ns);
        }
        let class = class_number(lifetime_class(lifetime_ns));
        self.lifetimes.count(class, obtained_in, |cell| {
            cell.requests += 1;
            cell.allocated_bytes = cell.allocated_bytes.saturating_add(size);
            cell.temporary_allocations += u64::from(temporary);
        });
        self.lifetimes.count(class, bin, |cell| {
            cell.released_bytes = cell.released_bytes.saturating_add(size);
            cell.released_blocks += 1;
        });
    }
}

/// Reads a whole recording.
pub(super) fn run(
    recording: &Recording,
    prepared: Prepared<'_>,
    parts: Parts,
    resolution: Resolution,
) -> Result<Intervals, AnalysisError> {
    let mut rows = match parts {
        Parts::All => Rows::new(&prepared),
        Parts::WithoutSites => Rows::without_sites(),
    };
    let mut replay = Replay::new(prepared);
    if rows.may_exceed(resolution.rows, &replay.prepared) {
        let (owners, weights) = weigh(&mut replay)?;
        rows.fold(resolution.rows, &owners, &weights);
        replay = replay.again();
    }
    let gather = Gather::new(recording, &replay.prepared, parts, resolution, rows);
    let mut ledger = Ledger::run(gather, &mut replay)?;
    ledger.account.end(replay.prepared.definitions.last_stamp);
    ledger.close(|account, owner, address, held| account.keep(address, *held, owner));
    Ok(intervals(recording, &replay, ledger))
}

fn intervals(recording: &Recording, replay: &Replay<'_>, ledger: Ledger<Gather>) -> Intervals {
    let (internal_events, unmatched_frees, inferred_frees) =
        (ledger.internal_events, ledger.unmatched_frees, ledger.inferred_frees);
    let gather = ledger.account;
    let prepared = &replay.prepared;
    let definitions = &prepared.definitions;
    let Axes { sites, functions, files, crates, threads, spans, sizes, nodes } = gather.axes;
    let rows = gather.rows;
    Intervals {
        state: RecordingState::new(recording, prepared).inferred(inferred_frees),
        program: definitions.process.as_ref().map(Program::from),
        started_at_unix_ns: recording.header().start_realtime_ns,
        internal_events,
        unmatched_frees,
        inferred_frees,
        markers: definitions
            .markers()
            .map(|(text, stamp)| (Arc::from(text), gather.clock.ns(stamp)))
            .collect(),
        resident: definitions
            .resident
            .iter()
            .map(|&(stamp, bytes)| (gather.clock.ns(stamp), bytes))
            .collect(),
        bin_ns: gather.bin_ns,
        bins: gather.bins,
        sites: rows.sites(sites, prepared),
        functions: rows.functions(functions),
        files: rows.files(files),
        crates: rows.crates(crates),
        threads: rows.threads(threads, prepared),
        spans: rows.spans(spans, &replay.spans),
        sizes: sizes.rows(|index| Some((class_of(index as u32, size_class)?, 1))),
        lifetimes: gather.lifetimes.rows(|index| match index as u32 {
            NEVER => Some((None, 1)),
            number => Some((Some(class_of(number, lifetime_class)?), 1)),
        }),
        nodes: rows.nodes(nodes),
    }
}

impl Bin {
    /// Two bins that follow each other as one.
    fn and(first: Self, second: &Self) -> Self {
        let later = second.peak_bytes > first.peak_bytes;
        Self {
            allocations: first.allocations + second.allocations,
            zeroed_allocations: first.zeroed_allocations + second.zeroed_allocations,
            reallocations: first.reallocations + second.reallocations,
            failed_requests: first.failed_requests + second.failed_requests,
            frees: first.frees + second.frees,
            unmatched_frees: first.unmatched_frees + second.unmatched_frees,
            temporary_allocations: first.temporary_allocations + second.temporary_allocations,
            allocated_bytes: first.allocated_bytes.saturating_add(second.allocated_bytes),
            released_bytes: first.released_bytes.saturating_add(second.released_bytes),
            released_blocks: first.released_blocks + second.released_blocks,
            kept_bytes: first.kept_bytes.saturating_add(second.kept_bytes),
            kept_blocks: first.kept_blocks + second.kept_blocks,
            lifetime_ns: first.lifetime_ns + second.lifetime_ns,
            peak_bytes: if later { second.peak_bytes } else { first.peak_bytes },
            peak_at_ns: if later { second.peak_at_ns } else { first.peak_at_ns },
        }
    }
}

/// The part of the lifetimes' axis for blocks that were never released.
const NEVER: u32 = 0;

/// A class's number in an axis: each class is more than twice the one before, or twice.
const fn class_number(class: u64) -> u32 {
    match class.checked_ilog2() {
        Some(exponent) => 2 + exponent,
        None => 1,
    }
}

/// The class of a number, where `class` tells a value's.
fn class_of(number: u32, class: impl Fn(u64) -> u64) -> Option<u64> {
    match number.checked_sub(2) {
        None => Some(0),
        // The greatest value of as many bits is in the last class that begins with as many.
        Some(exponent) => Some(class(u64::MAX >> 63_u32.checked_sub(exponent)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_by_its_number() {
        let values = (0..64).flat_map(|bit| [1_u64 << bit, u64::MAX >> bit]);
        for value in values.chain([0, 100, 200, 500, 1_000, 2_000, 5_000]) {
            for class in [size_class, lifetime_class] {
                let number = class_number(class(value));
                assert_eq!(class_of(number, class), Some(class(value)), "{value}");
                assert_ne!(number, NEVER);
            }
        }
    }
}
