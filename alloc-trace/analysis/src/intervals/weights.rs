//! How much each part of a program weighs, found out in a pass of its own before the intervals are: what is too
//! small for a row of its own has to be known from the beginning.

use alloc_trace_format::EventKind;

use crate::error::AnalysisError;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posting, Release};
use crate::live_bytes::LiveBytes;
use crate::owners::{Owner, OwnerParts};
use crate::replay::Replay;

/// What is counted of a part: bytes, requests, temporaries, bytes that were never released, and the most that can
/// have been live at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weights(pub(super) [u64; 5]);

impl Weights {
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, weight) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(weight);
        }
    }

    /// Whether it weighs anything.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(|&weight| weight > 0)
    }

    /// Whether it has at least such a share of a total in any respect.
    pub(super) fn is_large(&self, total: &Self, share: f64) -> bool {
        let mut pairs = self.0.iter().zip(total.0);
        pairs.any(|(&own, total)| own > 0 && own as f64 >= share * total as f64)
    }

    /// The greatest of its shares of a total.
    pub(super) fn share_of(&self, total: &Self) -> f64 {
        let shares =
            self.0.iter().zip(total.0).map(|(&own, total)| own as f64 / total.max(1) as f64);
        shares.fold(0.0, f64::max)
    }
}

/// What nodes weigh with all below them, where parents stand before their children; given what they weigh alone.
pub(super) fn inclusive(
    mut weights: Vec<Weights>,
    parent: impl Fn(usize) -> Option<u32>,
) -> Vec<Weights> {
    for node in (0..weights.len()).rev() {
        if let Some(parent) = parent(node) {
            let own = weights[node];
            weights[parent as usize].add(&own);
        }
    }
    weights
}

/// Weighs the owners of a recording's blocks.
pub(super) fn weigh(
    replay: &mut Replay<'_>,
) -> Result<(Vec<OwnerParts>, Vec<Weights>), AnalysisError> {
    let mut ledger = Ledger::run(Weighing::default(), replay)?;
    ledger.close(|account, _, address, held| account.keep(address, *held));
    let Weighing { weights, .. } = ledger.account;
    Ok((ledger.owners.all().to_vec(), weights))
}

#[derive(Debug, Default)]
struct Weighing {
    /// By owner.
    weights: Vec<Weights>,
    live: Vec<LiveBytes>,
    large: LargeSizes,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    size: HeldSize,
    owner: Owner,
}

impl Weighing {
    fn keep(&mut self, address: u64, held: Held) {
        let size = self.large.get(address, held.size);
        let [.., kept, _] = &mut self.weights[held.owner as usize].0;
        *kept = kept.saturating_add(size);
    }
}

impl Account for Weighing {
    type Held = Held;

    const NONE: Held = Held { size: HeldSize::ZERO, owner: 0 };

    fn parts(&self, posting: &Posting) -> OwnerParts {
        let Posting { place, thread, span_kind, .. } = *posting;
        OwnerParts { key: place.index() as u32, thread, span: span_kind }
    }

    fn touch(&mut self, owner: Owner) -> u64 {
        let owners = owner as usize + 1;
        if owners > self.weights.len() {
            self.weights.resize(owners, Weights::default());
            self.live.resize(owners, LiveBytes::default());
        }
        0
    }

    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        let [_, requests, ..] = &mut self.weights[owner as usize].0;
        *requests += u64::from(posting.event.kind != EventKind::Free);
    }

    fn obtained(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) -> Held {
        let size = posting.event.size;
        let live = &mut self.live[owner as usize];
        live.add(size);
        let [bytes, .., most] = &mut self.weights[owner as usize].0;
        *bytes = bytes.saturating_add(size);
        *most = live.get().max(*most);
        Held { size: self.large.hold(posting.event.address, size), owner }
    }

    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        let size = self.large.release(release.address, held.size);
        self.live[held.owner as usize].take(size);
        let [_, _, temporary, ..] = &mut self.weights[held.owner as usize].0;
        *temporary += u64::from(release.temporary);
    }
}
