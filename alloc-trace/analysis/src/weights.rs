//! The call tree with what each backtrace and what lies inside of it weighs.

use std::sync::Arc;

use alloc_trace_format::Recording;
use serde::Serialize;

use crate::backtraces::Backtraces;
use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posted, Posting, Release};
use crate::loaded_module::LoadedModule;
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::tallies::Tallies;

/// The call tree of a recording, with figures.
///
/// A node's figures are those of the events whose backtrace it is, and inclusive figures those of all
/// nodes inside of it too. Every figure adds up over nodes, so `peak_bytes` and `peak_at_ns` are 0
/// for all of them: a node's share at the program's peak is `at_peak_bytes`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CallTreeWeights {
    /// How far the recording can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// The figures of the whole program.
    pub total: Figures,
    /// The modules that the program had loaded, in the order of loading.
    #[serde(skip)]
    pub modules: Vec<LoadedModule>,
    /// The nodes and their frames.
    #[serde(flatten)]
    pub backtraces: Arc<Backtraces>,
    /// The figures of each node, by its number.
    pub own: Vec<Figures>,
    /// The same with all nodes inside.
    pub inclusive: Vec<Figures>,
}

impl CallTreeWeights {
    /// Reads a whole recording. [`Options::all_frames`] says which frames there are.
    ///
    /// ```no_run
    /// use alloc_trace_analysis::{CallTreeWeights, Options, Recording};
    ///
    /// let recording = Recording::open("app.trace".as_ref())?;
    /// let tree = CallTreeWeights::of(&recording, Options::default())?;
    /// for (node, figures) in (0..).zip(&tree.inclusive) {
    ///     let frame = tree.backtraces.frame(node).map_or("all", |frame| &*frame.function);
    ///     println!("{} bytes in {frame} and below", figures.allocated_bytes);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording, options: Options) -> Result<Self, AnalysisError> {
        let options = Options { backtraces: true, ..options };
        let prepared = Prepared::new(recording, options)?;
        let backtraces = prepared.backtraces();
        let mut replay = Replay::new(prepared);
        let account = Weighing {
            tallies: Tallies::new(*recording.clock()),
            large: LargeSizes::default(),
            backtraces: Arc::clone(&backtraces),
        };
        let Ledger { account, owners, inferred_frees, .. } = Ledger::run(account, &mut replay)?;
        let mut tallies = account.tallies;
        let clock = recording.clock();
        tallies.finish(replay.prepared.definitions.last_stamp);
        let mut own = vec![Figures::default(); backtraces.nodes.len()];
        for (parts, tally) in owners.all().iter().zip(tallies.all()) {
            if let Some(figures) = own.get_mut(parts.key as usize) {
                tally.add_to(figures);
            }
        }
        let mut inclusive = own.clone();
        for (node, at) in backtraces.nodes.iter().enumerate().rev() {
            if let Some(parent) = at.parent
                && let Ok([parent, figures]) = inclusive.get_disjoint_mut([parent as usize, node])
            {
                parent.add(figures);
            }
        }
        let mut total = tallies.total();
        total.finish(|stamp| clock.ns(stamp));
        let state = RecordingState::new(recording, &replay.prepared).inferred(inferred_frees);
        let modules = replay.prepared.definitions.modules.iter().map(LoadedModule::from).collect();
        Ok(Self { state, total, modules, backtraces, own, inclusive })
    }
}

struct Weighing {
    tallies: Tallies,
    large: LargeSizes,
    backtraces: Arc<Backtraces>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    size: HeldSize,
    owner: Owner,
}

impl Account for Weighing {
    type Held = Held;

    const NONE: Held = Held { size: HeldSize::ZERO, owner: 0 };

    #[inline]
    fn parts(&self, posting: &Posting) -> OwnerParts {
        let key = self.backtraces.node(posting.place);
        OwnerParts { key, thread: posting.thread, span: 0 }
    }

    #[inline]
    fn touch(&mut self, owner: Owner) -> u64 {
        self.tallies.touch(owner)
    }

    #[inline]
    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        self.tallies.count(owner, &posting.event);
    }

    #[inline]
    fn obtained(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) -> Held {
        let Posted { address, size, stamp, .. } = posting.event;
        self.tallies.obtain(owner, size, stamp);
        Held { size: self.large.hold(address, size), owner }
    }

    #[inline]
    fn owner(held: &Held) -> Owner {
        held.owner
    }

    #[inline]
    fn released(&mut self, held: Held, release: &Release<'_>) {
        let size = self.large.release(release.address, held.size);
        self.tallies.release(held.owner, size, release.by.event.stamp, release.temporary);
    }
}
