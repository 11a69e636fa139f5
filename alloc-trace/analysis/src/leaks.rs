//! What was never freed, by call site.
//!
//! As everywhere, a reallocation obtains a new block: what is left of a list that grew belongs to
//! the call site, the thread and the span of its last reallocation, and its age counts from there.

use std::sync::Arc;

use alloc_trace_format::{Recording, Stamp};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::call_site::CallSite;
use crate::error::AnalysisError;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posted, Posting, Release};
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::sites::{RUNTIME, SiteIndex};

/// What was live when the recording ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Leaks {
    /// How far the recording can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// The program's blocks that were never freed.
    pub blocks: u64,
    /// Their requested bytes.
    pub bytes: u64,
    /// Blocks that Rust's runtime made for itself and keeps until the end: no leak of the program's, and
    /// in no other figure. Where there are no names they count as the program's.
    pub runtime_blocks: u64,
    /// Their requested bytes.
    pub runtime_bytes: u64,
    /// By call site; most bytes first.
    pub sites: Vec<LeakSite>,
}

/// What one call site obtained and nobody freed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakSite {
    /// The call site.
    #[serde(flatten)]
    pub site: CallSite,
    /// The blocks that were never freed.
    pub blocks: u64,
    /// Their requested bytes.
    pub bytes: u64,
    /// All blocks that the call site obtained.
    pub obtained_blocks: u64,
    /// The smallest of those that were never freed, in requested bytes.
    pub min_size: u64,
    /// The largest one.
    pub max_size: u64,
    /// How long before the end of the recording the first of them was obtained, in nanoseconds.
    pub oldest_age_ns: u64,
    /// How long before the end of the recording the last of them was obtained, in nanoseconds.
    pub youngest_age_ns: u64,
    /// The threads that obtained them; most bytes first.
    pub threads: Vec<LeakThread>,
    /// The spans that they were obtained in; most bytes first. What was obtained outside of spans is
    /// in none.
    pub spans: Vec<LeakSpan>,
}

/// A thread's part of what a call site left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakThread {
    /// The recording's number for it.
    pub thread: u32,
    /// Its last name.
    pub name: Option<String>,
    /// Its blocks.
    pub blocks: u64,
    /// Their requested bytes.
    pub bytes: u64,
}

/// The part of what a call site left that was obtained in spans of one name and target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakSpan {
    /// The span's name.
    pub name: Arc<str>,
    /// Its target.
    pub target: Arc<str>,
    /// Its fields, where spans are told apart by them (see [`Options::span_fields`]).
    pub fields: Option<Arc<str>>,
    /// Its blocks.
    pub blocks: u64,
    /// Their requested bytes.
    pub bytes: u64,
}

impl Leaks {
    /// Reads a whole recording for what was live at its end.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording, options: Options) -> Result<Self, AnalysisError> {
        let prepared = Prepared::new(recording, options)?;
        let obtained = vec![0; prepared.sites.len()];
        let account = Live { obtained, large: LargeSizes::default() };
        let mut replay = Replay::new(prepared);
        let ledger = Ledger::run(account, &mut replay)?;
        Ok(close(&ledger, recording, &replay))
    }
}

/// What is kept of a live block.
#[derive(Debug, Clone, Copy)]
struct Held {
    obtained: Stamp,
    size: HeldSize,
    owner: Owner,
}

#[derive(Debug)]
struct Live {
    /// The blocks that each call site obtained.
    obtained: Vec<u64>,
    large: LargeSizes,
}

impl Account for Live {
    type Held = Held;

    const NONE: Held = Held { obtained: 0, size: HeldSize::ZERO, owner: 0 };

    #[inline]
    fn parts(&self, posting: &Posting) -> OwnerParts {
        OwnerParts { key: posting.site, thread: posting.thread, span: posting.span_kind }
    }

    #[inline]
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Held {
        if let Some(obtained) = self.obtained.get_mut(parts.key as usize) {
            *obtained += 1;
        }
        let Posted { address, size, stamp, .. } = posting.event;
        Held { obtained: stamp, size: self.large.hold(address, size), owner }
    }

    #[inline]
    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        self.large.release(release.address, held.size);
    }
}

/// Blocks and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    blocks: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, size: u64) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(size);
    }
}

/// What a call site left.
#[derive(Debug, Default)]
struct Left {
    all: Sum,
    min_size: u64,
    max_size: u64,
    first: Stamp,
    last: Stamp,
    threads: FxHashMap<u32, Sum>,
    spans: FxHashMap<u32, Sum>,
}

impl Left {
    fn add(&mut self, size: u64, obtained: Stamp, owner: OwnerParts) {
        if self.all.blocks == 0 {
            (self.min_size, self.first) = (size, obtained);
        }
        self.all.add(size);
        self.min_size = self.min_size.min(size);
        self.max_size = self.max_size.max(size);
        self.first = self.first.min(obtained);
        self.last = self.last.max(obtained);
        self.threads.entry(owner.thread).or_default().add(size);
        if let Some(span) = owner.span.checked_sub(1) {
            self.spans.entry(span).or_default().add(size);
        }
    }
}

fn close(ledger: &Ledger<Live>, recording: &Recording, replay: &Replay<'_>) -> Leaks {
    let prepared = &replay.prepared;
    let clock = recording.clock();
    let end_ns = clock.ns(prepared.definitions.last_stamp);
    let age_ns = |stamp| end_ns.saturating_sub(clock.ns(stamp));
    let (mut all, mut runtime) = (Sum::default(), Sum::default());
    let mut by_site: FxHashMap<SiteIndex, Left> = FxHashMap::default();
    for (address, held) in ledger.live() {
        let owner = ledger.owners.get(held.owner);
        let size = ledger.account.large.get(address, held.size);
        if owner.key == RUNTIME {
            runtime.add(size);
            continue;
        }
        all.add(size);
        by_site.entry(owner.key).or_default().add(size, held.obtained, owner);
    }
    let site = |(index, left): (SiteIndex, Left)| {
        Some(LeakSite {
            site: prepared.sites.get(index)?.clone(),
            blocks: left.all.blocks,
            bytes: left.all.bytes,
            obtained_blocks: ledger
                .account
                .obtained
                .get(index as usize)
                .copied()
                .unwrap_or_default(),
            min_size: left.min_size,
            max_size: left.max_size,
            oldest_age_ns: age_ns(left.first),
            youngest_age_ns: age_ns(left.last),
            threads: threads(&left.threads, replay),
            spans: spans(&left.spans, replay),
        })
    };
    let mut sites: Vec<LeakSite> = by_site.into_iter().filter_map(site).collect();
    sites.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.site.cmp(&other.site)));
    Leaks {
        state: RecordingState::new(recording, prepared).inferred(ledger.inferred_frees),
        blocks: all.blocks,
        bytes: all.bytes,
        runtime_blocks: runtime.blocks,
        runtime_bytes: runtime.bytes,
        sites,
    }
}

fn threads(sums: &FxHashMap<u32, Sum>, replay: &Replay<'_>) -> Vec<LeakThread> {
    let known = &replay.prepared.definitions.threads;
    let row = |(&index, sum): (&u32, &Sum)| {
        let thread = known.get(index as usize)?;
        Some(LeakThread {
            thread: thread.id.0,
            name: thread.name.as_deref().map(str::to_owned),
            blocks: sum.blocks,
            bytes: sum.bytes,
        })
    };
    let mut rows: Vec<LeakThread> = sums.iter().filter_map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.bytes), row.thread));
    rows
}

fn spans(sums: &FxHashMap<u32, Sum>, replay: &Replay<'_>) -> Vec<LeakSpan> {
    let row = |(&kind, sum): (&u32, &Sum)| {
        let kind = replay.spans.kinds().get(kind as usize)?;
        Some(LeakSpan {
            name: Arc::clone(&kind.name),
            target: Arc::clone(&kind.target),
            fields: kind.fields.clone(),
            blocks: sum.blocks,
            bytes: sum.bytes,
        })
    };
    let mut rows: Vec<LeakSpan> = sums.iter().filter_map(row).collect();
    rows.sort_by(|one, other| {
        let key =
            |row: &LeakSpan| (Arc::clone(&row.name), Arc::clone(&row.target), row.fields.clone());
        other.bytes.cmp(&one.bytes).then_with(|| key(one).cmp(&key(other)))
    });
    rows
}
