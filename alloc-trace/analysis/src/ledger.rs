//! Every block followed from the request that obtained it to its release.
//!
//! All analyses that ask whose a block is go through here, so that they agree: on what is the
//! recorder's own, on what a filter picks, on releases that match no block, on blocks whose release is
//! missing, and on which allocations are temporary. The [module of the summary](crate::summary) says
//! what counts how.

use alloc_trace_format::{Event, EventKind, NodeId, ReadError, RunEvent, Stamp};
use rustc_hash::FxHashMap;

use crate::call_tree::Place;
use crate::live::LiveBlocks;
use crate::replay::{HeapEvent, HeapRun, Prepared, Replay};
use crate::selection::Picked;
use crate::sites::{SiteIndex, Traced};
use crate::spans::{Entered, Spans};

/// How many events are read before they are counted.
///
/// Nearly every release finds its block in memory that is in no cache. Asked for one after the other
/// each is waited for; asked for together the processor fetches several at a time.
const BATCH: usize = 64;

/// An owner of blocks: a number that [`Owners`] gives meaning to.
pub(crate) type Owner = u32;

/// What an analysis tells owners apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OwnerParts {
    /// A call site, a place of the call tree, or what else an analysis groups by.
    pub(crate) key: u32,
    /// The index of a thread.
    pub(crate) thread: u32,
    /// A span's kind or path, plus one; 0 outside of spans.
    pub(crate) span: u32,
}

/// What an account needs of a heap event: little, for every event is copied on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posted {
    pub(crate) stamp: Stamp,
    pub(crate) address: u64,
    pub(crate) size: u64,
    /// Of a reallocation.
    pub(crate) old_address: u64,
    old_size: u64,
    pub(crate) kind: EventKind,
    pub(crate) failed: bool,
    pub(crate) align_log2: u8,
}

impl Posted {
    const NONE: Self = Self {
        stamp: 0,
        address: 0,
        size: 0,
        old_address: 0,
        old_size: 0,
        kind: EventKind::Free,
        failed: false,
        align_log2: 0,
    };
}

impl From<&Event> for Posted {
    #[inline]
    fn from(event: &Event) -> Self {
        let &Event {
            kind, failed, stamp, address, size, align_log2, old_address, old_size, ..
        } = event;
        Self { stamp, address, size, old_address, old_size, kind, failed, align_log2 }
    }
}

impl From<&RunEvent> for Posted {
    #[inline]
    fn from(event: &RunEvent) -> Self {
        let &RunEvent { stamp, address, size, kind, align_log2, .. } = event;
        Self { stamp, address, size, old_address: 0, old_size: 0, kind, failed: false, align_log2 }
    }
}

/// A heap event and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posting {
    pub(crate) event: Posted,
    node: NodeId,
    pub(crate) place: Place,
    pub(crate) site: SiteIndex,
    /// The index of its thread.
    pub(crate) thread: u32,
    /// The kind of the innermost span plus one; 0 outside of spans.
    pub(crate) span_kind: u32,
    /// The number of that span's path plus one; 0 outside of spans.
    pub(crate) span_path: u32,
    /// Who it belongs to, where it counts.
    owner: Owner,
    parts: OwnerParts,
    internal: bool,
    filter: Picked,
}

impl Posting {
    /// What events of a thread have in common.
    #[inline]
    fn template(thread: usize, internal: bool, span: Option<&Entered>, filter: Picked) -> Self {
        let (span_kind, span_path) =
            span.map_or((0, 0), |entered| (entered.kind + 1, entered.path + 1));
        Self {
            event: Posted::NONE,
            node: NodeId::ROOT,
            place: Place::LOST,
            site: 0,
            thread: thread as u32,
            span_kind,
            span_path,
            owner: 0,
            parts: OwnerParts::default(),
            internal,
            filter,
        }
    }

    #[inline]
    fn new(heap_event: HeapEvent<'_>, spans: &Spans) -> Self {
        let HeapEvent { event, thread, internal, filter } = heap_event;
        let template = Self::template(thread, internal, spans.current(thread), filter);
        Self { event: event.into(), node: event.node, ..template }
    }
}

/// How a block came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Freed,
    /// Its successor is the block that the same event obtains.
    Reallocated,
    /// Its address was handed out again: the record of its release is missing.
    Replaced,
    /// A thread of the recorder's own released it.
    ByRecorder,
}

/// A block's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release<'a> {
    pub(crate) address: u64,
    pub(crate) how: How,
    /// The event that ended it.
    pub(crate) by: &'a Posting,
    /// Freed before its thread's next successful request.
    pub(crate) temporary: bool,
    pub(crate) owner: OwnerParts,
}

/// What an analysis does with what the ledger finds.
pub(crate) trait Account {
    /// What is kept of a live block. This is what grows with the recorded program.
    type Held: Copy + std::fmt::Debug;

    /// What stands for no block.
    const NONE: Self::Held;

    /// Who an event belongs to.
    fn parts(&self, posting: &Posting) -> OwnerParts;

    /// An event of an owner is about to come. What it answers means nothing: it is read so that it is
    /// near when the event comes.
    fn touch(&mut self, owner: Owner) -> u64 {
        let _ = owner;
        0
    }

    /// An event that counts, failed requests and frees included.
    fn made(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) {
        let _ = (owner, parts, posting);
    }

    /// A block was obtained.
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Self::Held;

    /// The owner of a block.
    fn owner(held: &Self::Held) -> Owner;

    /// A block was released.
    fn released(&mut self, held: Self::Held, release: &Release<'_>);
}

/// The owners met so far, each with a number.
#[derive(Debug)]
pub(crate) struct Owners {
    parts: Vec<OwnerParts>,
    numbers: FxHashMap<OwnerParts, Owner>,
    /// The numbers asked for lately: most events are of an owner that had one just before.
    recent: Vec<(OwnerParts, Owner)>,
}

/// So many are looked for without a hash table: their entries fill a second-level cache to a part.
const RECENT: usize = 1 << 13;

impl Owners {
    pub(crate) fn new() -> Self {
        let none = OwnerParts { key: u32::MAX, thread: u32::MAX, span: u32::MAX };
        // No owner has this number.
        let recent = vec![(none, Owner::MAX); RECENT];
        Self { parts: Vec::new(), numbers: FxHashMap::default(), recent }
    }

    #[inline]
    pub(crate) fn number(&mut self, parts: OwnerParts) -> Owner {
        let mixed = parts.key ^ parts.thread.rotate_left(9) ^ parts.span.rotate_left(5);
        let slot = (mixed ^ mixed >> 13) as usize % RECENT;
        let (known, owner) = self.recent[slot];
        if known == parts && owner != Owner::MAX { owner } else { self.find(parts, slot) }
    }

    #[cold]
    fn find(&mut self, parts: OwnerParts, slot: usize) -> Owner {
        let next = self.parts.len() as Owner;
        let owner = *self.numbers.entry(parts).or_insert(next);
        if owner == next {
            self.parts.push(parts);
        }
        self.recent[slot] = (parts, owner);
        owner
    }

    #[inline]
    pub(crate) fn get(&self, owner: Owner) -> OwnerParts {
        self.parts.get(owner as usize).copied().unwrap_or_default()
    }

    /// All owners, by their numbers.
    pub(crate) fn all(&self) -> &[OwnerParts] {
        &self.parts
    }
}

/// The blocks of a recording on their way through it, and the account that is kept of them.
#[derive(Debug)]
pub(crate) struct Ledger<A: Account> {
    pub(crate) account: A,
    pub(crate) owners: Owners,
    live: LiveBlocks<A::Held>,
    /// Whether a filter picks a part of the recording: then what is live was picked.
    filtered: bool,
    /// The block that each thread obtained last; 0 where there is none.
    last_obtained: Vec<u64>,
    batch: Vec<Posting>,
    pub(crate) unmatched_frees: u64,
    pub(crate) unmatched_freed_bytes: u64,
    pub(crate) inferred_frees: u64,
    pub(crate) internal_events: u64,
}

impl<A: Account> Ledger<A> {
    pub(crate) fn new(account: A, replay: &Replay<'_>) -> Self {
        Self {
            account,
            owners: Owners::new(),
            live: LiveBlocks::new(A::NONE),
            filtered: replay.prepared.is_filtered(),
            last_obtained: vec![0; replay.prepared.definitions.threads.len()],
            batch: Vec::with_capacity(BATCH),
            unmatched_frees: 0,
            unmatched_freed_bytes: 0,
            inferred_frees: 0,
            internal_events: 0,
        }
    }

    /// Goes through the whole recording.
    pub(crate) fn run(account: A, replay: &mut Replay<'_>) -> Result<Self, ReadError> {
        let mut ledger = Self::new(account, replay);
        while ledger.go_on(replay)? {}
        Ok(ledger)
    }

    /// Goes on by some events; `false` at the end of the recording.
    pub(crate) fn go_on(&mut self, replay: &mut Replay<'_>) -> Result<bool, ReadError> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        while batch.len() < BATCH {
            if let Some(run) = replay.next_run(BATCH - batch.len()) {
                let HeapRun { events, thread, internal, span } = run;
                let template = Posting::template(thread, internal, span, Picked::ALL);
                batch.extend(events.iter().map(|event| Posting {
                    event: event.into(),
                    node: event.node,
                    ..template
                }));
            } else if replay.advance()? {
                batch.push(Posting::new(replay.event(), &replay.spans));
            } else {
                break;
            }
        }
        self.prepare(&mut batch, &replay.prepared);
        for posting in &batch {
            self.take(posting);
        }
        let any = !batch.is_empty();
        self.batch = batch;
        Ok(any)
    }

    /// The blocks that are live.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u64, &A::Held)> {
        self.live.iter()
    }

    /// Takes a block out that is live at an address, without its end.
    pub(crate) fn take_live(&mut self, address: u64) -> Option<A::Held> {
        self.live.remove(address)
    }

    /// Shows the account every block that is live, and its owner.
    pub(crate) fn close(&mut self, mut keep: impl FnMut(&mut A, OwnerParts, u64, &A::Held)) {
        for (address, held) in self.live.iter() {
            keep(&mut self.account, self.owners.get(A::owner(held)), address, held);
        }
    }

    /// Finds out whose the events are, and has the processor fetch what they will need.
    ///
    /// Each loop is so short that many accesses are under way at a time.
    #[inline]
    fn prepare(&mut self, batch: &mut [Posting], prepared: &Prepared<'_>) {
        let mut fetched = 0;
        for Posting { event, .. } in batch.iter() {
            let released = event.kind == EventKind::Realloc;
            fetched ^= self.live.peek(if released { event.old_address } else { event.address });
        }
        for posting in batch.iter_mut() {
            let Traced { place, site } = prepared.traced(posting.node);
            (posting.place, posting.site) = (place, site);
        }
        for posting in batch.iter_mut() {
            if posting.filter.picked && !posting.internal {
                posting.parts = self.account.parts(posting);
                posting.owner = self.owners.number(posting.parts);
                fetched ^= self.account.touch(posting.owner);
            }
        }
        std::hint::black_box(fetched);
    }

    #[inline]
    fn take(&mut self, posting: &Posting) {
        let Posting { event, internal, filter, .. } = posting;
        if *internal {
            self.take_internal(posting);
            return;
        }
        let owner = if self.filtered && event.kind == EventKind::Free {
            self.owner_of_free(posting)
        } else {
            filter.picked.then_some((posting.owner, posting.parts))
        };
        if let Some((owner, parts)) = owner {
            self.account.made(owner, parts, posting);
        }
        if event.failed {
            return;
        }
        match event.kind {
            EventKind::Free => self.release(event.address, event.size, How::Freed, posting),
            EventKind::Realloc => {
                self.release(event.old_address, event.old_size, How::Reallocated, posting);
            }
            EventKind::Alloc | EventKind::AllocZeroed => {}
        }
        if event.kind == EventKind::Free {
            return;
        }
        match owner {
            Some((owner, parts)) => {
                let place = match self.live.place(event.address) {
                    Some(place) => Some(place),
                    None => {
                        // The old block's end comes first where its address is handed out again.
                        self.replace(posting);
                        self.live.place(event.address)
                    }
                };
                let held = self.account.obtained(owner, parts, posting);
                if let Some(place) = place {
                    self.live.put(place, event.address, held);
                }
            }
            None => self.replace(posting),
        }
        // Also where the request is not picked: what its thread had obtained before it is no
        // temporary allocation any more.
        if let Some(last) = self.last_obtained.get_mut(posting.thread as usize) {
            *last = event.address;
        }
    }

    /// Who a free belongs to where there is a filter: nobody, unless its block was picked.
    #[cold]
    fn owner_of_free(&mut self, posting: &Posting) -> Option<(Owner, OwnerParts)> {
        self.live.has(posting.event.address).then(|| {
            let parts = self.account.parts(posting);
            let owner = self.owners.number(parts);
            std::hint::black_box(self.account.touch(owner));
            (owner, parts)
        })
    }

    /// The recorder's own threads release what is the program's only where the program handed it
    /// to them, as a name or a closure.
    #[cold]
    fn take_internal(&mut self, posting: &Posting) {
        self.internal_events += 1;
        let event = &posting.event;
        let address = match event.kind {
            EventKind::Free => event.address,
            EventKind::Realloc => event.old_address,
            EventKind::Alloc | EventKind::AllocZeroed => return,
        };
        if !event.failed
            && let Some(held) = self.live.remove(address)
        {
            let owner = self.owners.get(A::owner(&held));
            let how = How::ByRecorder;
            let release = Release { address, how, by: posting, temporary: false, owner };
            self.account.released(held, &release);
        }
    }

    #[inline]
    fn release(&mut self, address: u64, size: u64, how: How, by: &Posting) {
        let Some(held) = self.live.remove(address) else {
            if !self.filtered {
                self.unmatched_frees += 1;
                self.unmatched_freed_bytes = self.unmatched_freed_bytes.saturating_add(size);
            }
            return;
        };
        let owner = self.owners.get(A::owner(&held));
        let last = self.last_obtained.get_mut(owner.thread as usize);
        let last = last.filter(|last| **last == address);
        let temporary = how == How::Freed && last.is_some();
        if let Some(last) = last {
            *last = 0;
        }
        self.account.released(held, &Release { address, how, by, temporary, owner });
    }

    /// Ends the block that still seems to be live at the address of a new one, if any.
    #[cold]
    fn replace(&mut self, by: &Posting) {
        let address = by.event.address;
        let Some(held) = self.live.remove(address) else { return };
        self.inferred_frees += 1;
        let owner = self.owners.get(A::owner(&held));
        let release = Release { address, how: How::Replaced, by, temporary: false, owner };
        self.account.released(held, &release);
    }
}
