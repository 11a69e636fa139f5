//! What DHAT calls program points: the backtraces of a recording, each with how much it held at most
//! and how long its blocks lived.

use std::sync::Arc;

use alloc_trace_format::Recording;

use crate::backtraces::Backtraces;
use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posted, Posting, Release};
use crate::live_bytes::LiveBytes;
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::tallies::{Levels, Tallies};

/// The backtraces that requested memory.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProgramPoints {
    /// How far the recording can be believed.
    pub state: RecordingState,
    /// The figures of the whole program.
    pub total: Figures,
    /// The backtraces and their frames.
    pub backtraces: Arc<Backtraces>,
    /// Those that obtained a block, in the order of their nodes.
    pub points: Vec<ProgramPoint>,
}

/// A backtrace that requested memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramPoint {
    /// Its node of [`ProgramPoints::backtraces`].
    pub node: u32,
    /// Its figures; `peak_bytes` is its own peak.
    pub figures: Figures,
    /// The blocks that it obtained: its requests that did not fail.
    pub blocks: u64,
    /// How many of its blocks were live at its own peak.
    pub peak_blocks: u64,
}

impl ProgramPoints {
    /// Reads a whole recording. [`Options::all_frames`] says which frames there are.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording, options: Options) -> Result<Self, AnalysisError> {
        let options = Options { backtraces: true, ..options };
        let prepared = Prepared::new(recording, options)?;
        let backtraces = prepared.backtraces();
        let clock = *recording.clock();
        let end = prepared.definitions.last_stamp;
        let mut replay = Replay::new(prepared);
        let account = Pointing {
            backtraces: Arc::clone(&backtraces),
            tallies: Tallies::new(clock),
            levels: Levels::default(),
            extras: vec![Extra::default(); backtraces.nodes.len()],
            large: LargeSizes::default(),
        };
        let mut ledger = Ledger::run(account, &mut replay)?;
        let inferred_frees = ledger.inferred_frees;
        let account = &mut ledger.account;
        account.tallies.finish(end);
        let owners = &ledger.owners;
        let figures = account.levels.figures(&account.tallies, |owner| Some(owners.get(owner).key));
        let points = (0..)
            .zip(figures)
            .zip(&account.extras)
            .filter(|(_, extra)| extra.blocks > 0)
            .map(|((node, mut figures), extra)| {
                figures.finish(|stamp| clock.ns(stamp));
                let Extra { blocks, peak_blocks, .. } = *extra;
                ProgramPoint { node, figures, blocks, peak_blocks }
            })
            .collect();
        let mut total = account.tallies.total();
        total.finish(|stamp| clock.ns(stamp));
        let state = RecordingState::new(recording, &replay.prepared).inferred(inferred_frees);
        Ok(Self { state, total, backtraces, points })
    }
}

struct Pointing {
    backtraces: Arc<Backtraces>,
    tallies: Tallies,
    levels: Levels,
    /// By node.
    extras: Vec<Extra>,
    large: LargeSizes,
}

/// What is kept of a backtrace beside its figures.
#[derive(Debug, Clone, Copy, Default)]
struct Extra {
    blocks: u64,
    live_blocks: u64,
    live_bytes: LiveBytes,
    peak_bytes: u64,
    peak_blocks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    size: HeldSize,
    owner: Owner,
}

impl Account for Pointing {
    type Held = Held;

    const NONE: Held = Held { size: HeldSize::ZERO, owner: 0 };

    fn parts(&self, posting: &Posting) -> OwnerParts {
        let key = self.backtraces.node(posting.place);
        OwnerParts { key, thread: posting.thread, span: 0 }
    }

    fn touch(&mut self, owner: Owner) -> u64 {
        self.tallies.touch(owner)
    }

    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        self.tallies.count(owner, &posting.event);
    }

    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Held {
        let Posted { address, size, stamp, .. } = posting.event;
        self.tallies.obtain(owner, size, stamp);
        self.levels.rise(parts.key, size, stamp);
        if let Some(extra) = self.extras.get_mut(parts.key as usize) {
            extra.blocks += 1;
            extra.live_blocks += 1;
            extra.live_bytes.add(size);
            let live_bytes = extra.live_bytes.get();
            if live_bytes > extra.peak_bytes {
                (extra.peak_bytes, extra.peak_blocks) = (live_bytes, extra.live_blocks);
            }
        }
        Held { size: self.large.hold(address, size), owner }
    }

    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        let node = release.owner.key;
        let size = self.large.release(release.address, held.size);
        self.tallies.release(held.owner, size, release.by.event.stamp, release.temporary);
        self.levels.fall(node, size);
        if let Some(extra) = self.extras.get_mut(node as usize) {
            extra.live_blocks = extra.live_blocks.saturating_sub(1);
            extra.live_bytes.take(size);
        }
    }
}
