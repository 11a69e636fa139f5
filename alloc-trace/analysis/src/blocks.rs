//! The blocks of a recording, one by one, each from the request that obtained it to its release.

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use alloc_trace_format::{Clock, EventKind, Recording, Stamp};

use crate::backtraces::Backtraces;
use crate::call_site::CallSite;
use crate::call_tree::Place;
use crate::error::AnalysisError;
use crate::ledger::{Account, How, Ledger, Posted, Posting, Release};
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::span_names::{SpanName, SpanNames};

/// One block.
///
/// A reallocation ends one block and obtains the next, also where the address stays.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BlockRow<'a> {
    /// Its address.
    pub address: u64,
    /// Its requested size in bytes.
    pub size: u64,
    /// Its requested alignment in bytes.
    pub align: u64,
    /// The request that obtained it; `None` where that was before the horizon of a recording that kept
    /// its last part.
    pub kind: Option<EventKind>,
    /// When it was obtained, in nanoseconds from the beginning of the recording.
    pub obtained_ns: u64,
    /// Who obtained it.
    pub by: BlockActor<'a>,
    /// The span in which it was obtained.
    pub span: Option<&'a SpanName>,
    /// How it ended; `None` where it was live at the end of the recording.
    pub end: Option<BlockEnd<'a>>,
    /// Whether it was freed before its thread's next successful request.
    pub temporary: bool,
}

/// Who obtained or released a block.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BlockActor<'a> {
    /// The recording's number for the thread.
    pub thread: u32,
    /// The thread's last name.
    pub thread_name: Option<&'a str>,
    /// The call site.
    pub site: &'a CallSite,
    /// The backtrace, as a node of [`Blocks::backtraces`].
    pub node: u32,
}

/// The end of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BlockEnd<'a> {
    /// When, in nanoseconds from the beginning of the recording.
    pub time_ns: u64,
    /// How long it had lived, in nanoseconds.
    pub lifetime_ns: u64,
    /// What happened to it.
    pub release: BlockRelease,
    /// Who released it; of one that was [`BlockRelease::Missing`] who obtained the next one there.
    pub by: BlockActor<'a>,
}

/// How a block came to its end. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockRelease {
    /// It was freed.
    Free,
    /// It was reallocated: the block that it became has a row of its own.
    Realloc,
    /// The record of its release is missing: its address was handed out again.
    Missing,
}

impl BlockRelease {
    /// The name that outputs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Realloc => "realloc",
            Self::Missing => "missing",
        }
    }
}

/// Reads the blocks of a recording, in the order of their ends; those that were live at the end of the
/// recording come last, in the order in which they were obtained.
///
/// Memory grows with live blocks, not with events.
///
/// ```no_run
/// use alloc_trace_analysis::{Blocks, Options, Recording};
///
/// let recording = Recording::open("app.trace".as_ref())?;
/// let mut blocks = Blocks::of(&recording, Options::default())?;
/// while let Some(block) = blocks.next_row()? {
///     println!("{:#x}: {} bytes by {}", block.address, block.size, block.by.site.function);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Blocks<'a> {
    recording: &'a Recording,
    replay: Replay<'a>,
    ledger: Ledger<Following>,
    backtraces: Arc<Backtraces>,
    clock: Clock,
    span_names: SpanNames,
    /// Whether the events are at their end.
    at_end: bool,
    unknown: CallSite,
}

impl<'a> Blocks<'a> {
    /// Reads through the recording for what its records define; the blocks come next.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &'a Recording, options: Options) -> Result<Self, AnalysisError> {
        let options = Options { backtraces: true, ..options };
        let prepared = Prepared::new(recording, options)?;
        let backtraces = prepared.backtraces();
        let replay = Replay::new(prepared);
        let ledger = Ledger::new(Following::default(), &replay);
        Ok(Self {
            recording,
            replay,
            ledger,
            backtraces,
            clock: *recording.clock(),
            span_names: SpanNames::default(),
            at_end: false,
            unknown: CallSite { function: "[unknown]".into(), file: None, line: None },
        })
    }

    /// The next block; `None` at the end. With a filter, only those whose request it picks.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn next_row(&mut self) -> Result<Option<BlockRow<'_>>, AnalysisError> {
        while self.ledger.account.ended.is_empty() && !self.at_end {
            if !self.ledger.go_on(&mut self.replay)? {
                self.at_end = true;
            }
        }
        if self.at_end && self.ledger.account.ended.is_empty() {
            self.take_first_of_the_live();
        }
        let Some(Ended { address, held, end }) = self.ledger.account.ended.pop_front() else {
            return Ok(None);
        };
        let owner = self.ledger.owners.get(held.owner);
        let spans = &self.replay.spans;
        let path = owner.span.checked_sub(1);
        if let Some(path) = path {
            self.span_names.learn(path, spans);
        }
        let obtained_ns = self.clock.ns(held.obtained);
        let end_of = |end: End| {
            let time_ns = self.clock.ns(end.stamp);
            BlockEnd {
                time_ns,
                lifetime_ns: time_ns.saturating_sub(obtained_ns),
                release: match end.how {
                    How::Freed | How::ByRecorder => BlockRelease::Free,
                    How::Reallocated => BlockRelease::Realloc,
                    How::Replaced => BlockRelease::Missing,
                },
                by: self.actor(end.thread, end.place),
            }
        };
        Ok(Some(BlockRow {
            address,
            size: held.size,
            align: 1 << (held.align_log2 & 63),
            kind: Some(held.kind).filter(|_| self.recording.horizon() < Some(held.obtained)),
            obtained_ns,
            by: self.actor(owner.thread, Place::of_index(owner.key)),
            span: path.and_then(|path| self.span_names.get(path)),
            end: end.map(end_of),
            temporary: end.is_some_and(|end| end.temporary),
        }))
    }

    /// Puts a part of those that are still live in order, the ones that were obtained first: all of them
    /// together would take as much memory again as following them did.
    fn take_first_of_the_live(&mut self) {
        let most = (self.ledger.live().count() / 16).max(FEWEST_IN_ORDER);
        let mut first: BinaryHeap<(Stamp, u64)> = BinaryHeap::with_capacity(most);
        for (address, held) in self.ledger.live() {
            let block = (held.obtained, address);
            if first.len() < most {
                first.push(block);
            } else if let Some(mut last) = first.peek_mut()
                && block < *last
            {
                *last = block;
            }
        }
        for (_, address) in first.into_sorted_vec() {
            if let Some(held) = self.ledger.take_live(address) {
                self.ledger.account.ended.push_back(Ended { address, held, end: None });
            }
        }
    }

    /// The backtraces of the blocks.
    #[must_use]
    pub fn backtraces(&self) -> &Backtraces {
        &self.backtraces
    }

    /// How far the recording can be believed.
    #[must_use]
    pub fn state(&self) -> RecordingState {
        let state = RecordingState::new(self.recording, &self.replay.prepared);
        state.inferred(self.ledger.inferred_frees)
    }

    fn actor(&self, thread: u32, place: Place) -> BlockActor<'_> {
        let prepared = &self.replay.prepared;
        let thread = prepared.definitions.threads.get(thread as usize);
        let site = prepared.sites.at(Some(place));
        BlockActor {
            thread: thread.map_or(0, |thread| thread.id.0),
            thread_name: thread.and_then(|thread| thread.name.as_deref()),
            site: prepared.sites.get(site).unwrap_or(&self.unknown),
            node: self.backtraces.node(place),
        }
    }
}

/// So many blocks are put in order together, whatever number is live.
const FEWEST_IN_ORDER: usize = 1 << 14;

/// Keeps the blocks that have come to their end until they are asked for.
#[derive(Debug, Default)]
struct Following {
    ended: VecDeque<Ended>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    address: u64,
    held: Held,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    stamp: Stamp,
    how: How,
    thread: u32,
    place: Place,
    temporary: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    size: u64,
    obtained: Stamp,
    owner: Owner,
    kind: EventKind,
    align_log2: u8,
}

impl Account for Following {
    type Held = Held;

    const NONE: Held =
        Held { size: 0, obtained: 0, owner: 0, kind: EventKind::Alloc, align_log2: 0 };

    fn parts(&self, posting: &Posting) -> OwnerParts {
        let key = posting.place.index() as u32;
        OwnerParts { key, thread: posting.thread, span: posting.span_path }
    }

    fn obtained(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) -> Held {
        let Posted { size, stamp, kind, align_log2, .. } = posting.event;
        Held { size, obtained: stamp, owner, kind, align_log2 }
    }

    fn owner(held: &Held) -> Owner {
        held.owner
    }

    fn released(&mut self, held: Held, release: &Release<'_>) {
        let Release { address, how, by, temporary, .. } = *release;
        let end = End { stamp: by.event.stamp, how, thread: by.thread, place: by.place, temporary };
        self.ended.push_back(Ended { address, held, end: Some(end) });
    }
}
