//! Figures by how long blocks lived.
//!
//! The group of a block is known when it is gone. What it was to the program's peak is known then too:
//! it was live at the peak so far or was not, and should the peak be passed later, it is not live any
//! more. So each group's share stands for one peak, and begins anew with the next.

use alloc_trace_format::{Clock, EventKind, Recording, Stamp};

use super::classes::{self, LIFETIMES};
use super::{By, Group, GroupKey, Grouped, IS_RUNTIME_S, LifetimeSum, runtime_s};
use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, How, Ledger, Posted, Posting, Release};
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::Replay;
use crate::tallies::Tallies;

pub(super) struct ByLifetime {
    clock: Clock,
    /// Of the threads: what is temporary depends on them.
    tallies: Tallies,
    groups: Vec<Sum>,
    /// What has no block: requests that failed, and frees of blocks older than the recording.
    blockless: Figures,
    large: LargeSizes,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    figures: Figures,
    /// The blocks that Rust's runtime keeps, and their bytes.
    runtime: (u64, u64),
    lifetimes: LifetimeSum,
    /// The change that brought the program to the peak of which `figures` tells the share.
    peak_change: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    obtained: Stamp,
    change: Change,
    size: HeldSize,
    owner: Owner,
}

/// The number of the change that obtaining a block was, and the kind of the request, in eight bytes.
#[derive(Debug, Clone, Copy)]
struct Change(u64);

impl Change {
    fn new(number: u64, kind: EventKind) -> Self {
        let kind = match kind {
            EventKind::Alloc | EventKind::Free => 0,
            EventKind::AllocZeroed => 1,
            EventKind::Realloc => 2,
        };
        Self(number << 2 | kind)
    }

    const fn number(self) -> u64 {
        self.0 >> 2
    }

    const fn kind(self) -> EventKind {
        match self.0 & 3 {
            1 => EventKind::AllocZeroed,
            2 => EventKind::Realloc,
            _ => EventKind::Alloc,
        }
    }
}

impl ByLifetime {
    pub(super) fn run(
        recording: &Recording,
        replay: &mut Replay<'_>,
    ) -> Result<Grouped, AnalysisError> {
        let account = Self {
            clock: *recording.clock(),
            tallies: Tallies::new(*recording.clock()),
            groups: vec![Sum::default(); LIFETIMES as usize],
            blockless: Figures::default(),
            large: LargeSizes::default(),
        };
        let mut ledger = Ledger::run(account, replay)?;
        let inferred_frees = ledger.inferred_frees;
        let peak_change = ledger.account.tallies.peak_change();
        let end = replay.prepared.definitions.last_stamp;
        let end_ns = recording.clock().ns(end);
        let mut never = Sum::default();
        for (address, held) in ledger.live() {
            let size = ledger.account.large.get(address, held.size);
            never.add(size, held.change, peak_change);
            let figures = &mut never.figures;
            let lived = end_ns.saturating_sub(recording.clock().ns(held.obtained));
            figures.lifetime_ns = figures.lifetime_ns.saturating_add(u128::from(lived));
            figures.live_blocks_at_end += 1;
            figures.live_bytes_at_end = figures.live_bytes_at_end.saturating_add(size);
            if ledger.owners.get(held.owner).span == IS_RUNTIME_S {
                let (blocks, bytes) = &mut never.runtime;
                (*blocks, *bytes) = (*blocks + 1, bytes.saturating_add(size));
            }
        }
        let account = &mut ledger.account;
        account.groups.push(never);
        account.groups.push(Sum { figures: account.blockless, ..Sum::default() });
        account.tallies.finish(end);
        let peak_change = account.tallies.peak_change();
        let groups = (0..).zip(&account.groups).filter(|(_, sum)| sum.figures.events > 0);
        let groups = groups.map(|(number, sum)| {
            // Behind the classes are the group of blocks which were never released, and that of no block.
            let class = (number < LIFETIMES).then(|| classes::lifetimes(number));
            let mut figures = sum.figures;
            if sum.peak_change != peak_change {
                (figures.at_peak_blocks, figures.at_peak_bytes) = (0, 0);
            }
            figures.peak_bytes = figures.at_peak_bytes;
            Group {
                key: GroupKey::Lifetime {
                    known_block: number <= LIFETIMES,
                    min_lifetime_ns: class.map(|(min, _)| min),
                    max_lifetime_ns: class.map(|(_, max)| max),
                },
                figures,
                runtime_blocks_at_end: sum.runtime.0,
                runtime_bytes_at_end: sum.runtime.1,
                lifetimes: sum.lifetimes.close(),
            }
        });
        let groups = groups.collect();
        let mut total = account.tallies.total();
        total.finish(|stamp| account.clock.ns(stamp));
        let state = RecordingState::new(recording, &replay.prepared).inferred(inferred_frees);
        Ok(Grouped { state, by: By::Lifetime, total, groups })
    }
}

impl Sum {
    /// A block of this group, whose release is counted apart.
    fn add(&mut self, size: u64, change: Change, peak_change: u64) {
        let figures = &mut self.figures;
        figures.events += 1;
        *figures.made(change.kind()) += 1;
        figures.allocated_bytes = figures.allocated_bytes.saturating_add(size);
        if self.peak_change != peak_change {
            (figures.at_peak_blocks, figures.at_peak_bytes) = (0, 0);
            self.peak_change = peak_change;
        }
        if change.number() <= peak_change {
            figures.at_peak_blocks += 1;
            figures.at_peak_bytes = figures.at_peak_bytes.saturating_add(size);
        }
    }
}

impl Account for ByLifetime {
    type Held = Held;

    const NONE: Held = Held { obtained: 0, change: Change(0), size: HeldSize::ZERO, owner: 0 };

    fn parts(&self, posting: &Posting) -> OwnerParts {
        OwnerParts { key: 0, thread: posting.thread, span: runtime_s(posting) }
    }

    #[inline]
    fn touch(&mut self, owner: Owner) -> u64 {
        self.tallies.touch(owner)
    }

    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        self.tallies.count(owner, &posting.event);
        if posting.event.failed {
            let figures = &mut self.blockless;
            figures.events += 1;
            figures.failed_requests += 1;
            *figures.made(posting.event.kind) += 1;
        }
    }

    fn obtained(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) -> Held {
        let Posted { address, size, stamp, kind, .. } = posting.event;
        self.tallies.obtain(owner, size, stamp);
        let change = Change::new(self.tallies.changes(), kind);
        Held { obtained: stamp, change, size: self.large.hold(address, size), owner }
    }

    fn freed_unknown(&mut self, _: &Posting) {
        self.blockless.events += 1;
        self.blockless.frees += 1;
    }

    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        // Before this release: the block was live at the peak so far if it was obtained by then.
        let peak_change = self.tallies.peak_change();
        let size = self.large.release(release.address, held.size);
        self.tallies.release(held.owner, size, release.by.event.stamp, release.temporary);
        let (begin, end) = (self.clock.ns(held.obtained), self.clock.ns(release.by.event.stamp));
        let lived = end.saturating_sub(begin);
        let Some(sum) = self.groups.get_mut(classes::of_lifetime(lived) as usize) else { return };
        sum.add(size, held.change, peak_change);
        sum.lifetimes.add(lived);
        sum.figures.lifetime_ns = sum.figures.lifetime_ns.saturating_add(u128::from(lived));
        let freed = release.how == How::Freed;
        sum.figures.events += u64::from(freed);
        sum.figures.frees += u64::from(freed);
        sum.figures.temporary_allocations += u64::from(release.temporary);
        sum.figures.freed_bytes = sum.figures.freed_bytes.saturating_add(size);
    }
}
