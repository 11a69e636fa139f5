//! Follows every block from its allocation to its free, and adds up what happened by call site and by what they are the
//! memory of.
//!
//! Memory grows with live blocks and call sites. What an activation encloses is asked once a block,
//! at its free, of the thread's [`Watermark`].

use alloc_trace_format::{EventKind, ReadError, Stamp};

use super::activations::{Ends, LiveByThread};
use super::batch::{self, BATCH, Found};
use super::block::{Block, Blocks, History, Ticks};
use super::made_in::MadeIn;
use super::makers::{Maker, MakerIndex, Makers};
use super::origins::{OriginIndex, Origins};
use super::site::SiteEvidence;
use super::stack::AT_ONCE;
use super::sums::{Step, Sums, Told};
use super::teller::Teller;
use super::watermark::Watermark;
use crate::call_tree::Place;
use crate::frames::{Frames, FunctionIndex};
use crate::holder::Holder;
use crate::ledger::Posted;
use crate::live_bytes::LiveBytes;
use crate::replay::{Prepared, Replay};
use crate::sites::Traced;
use crate::span_lives::{NO_SPAN, SpanLives};

/// What is known of a thread.
#[derive(Debug, Default)]
struct ThreadState {
    watermark: Watermark,
    /// Of its last event; `None` where that is not known.
    place: Option<Place>,
    /// What its last event allocated.
    made: Option<Made>,
    /// The spans that its live blocks were made in.
    made_in: MadeIn,
}

/// A block that was just allocated.
#[derive(Debug, Clone, Copy)]
struct Made {
    address: u64,
    origin: OriginIndex,
    size: u64,
}

/// A hash table that grows has about twice the size afterwards, and no more than this beyond.
const TABLE_EXTRA_BYTES: u64 = 64;

/// Gathers the evidence, event by event.
#[derive(Debug)]
pub(super) struct Gather {
    threads: Vec<ThreadState>,
    blocks: Blocks,
    makers: Makers,
    live: LiveByThread,
    origins: Origins,
    ticks: Ticks,
    /// Half of the recording, in ticks of its clock.
    half: Stamp,
    live_bytes: LiveBytes,
    peak_bytes: u64,
    last_stamp: Stamp,
    events: bool,
    backtraces: bool,
    inferred_frees: u64,
    batch: Vec<Found>,
    teller: Teller,
}

impl Gather {
    pub(super) fn new(prepared: &Prepared<'_>) -> Self {
        let (first_stamp, last_stamp) = (prepared.first_stamp(), prepared.definitions.last_stamp);
        let half = last_stamp.saturating_sub(first_stamp) / 2;
        let events = prepared.definitions.recorded_events;
        Self {
            threads: prepared.definitions.threads.iter().map(|_| ThreadState::default()).collect(),
            blocks: Blocks::new(),
            makers: Makers::new(),
            live: LiveByThread::new(),
            origins: Origins::new(prepared.sites.len()),
            ticks: Ticks::new(first_stamp, last_stamp),
            half,
            live_bytes: LiveBytes::default(),
            peak_bytes: 0,
            last_stamp,
            events: false,
            backtraces: false,
            inferred_frees: 0,
            batch: Vec::with_capacity(BATCH),
            teller: Teller::new(|| Sums::new(prepared.sites.len(), half), events),
        }
    }

    /// Whether any event had a backtrace, or there was none that could have had one.
    pub(super) fn has_backtraces(&self) -> bool {
        self.backtraces || !self.events
    }

    /// The most bytes that were live at a time.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Blocks whose address was handed out again before they were released.
    pub(super) fn inferred_frees(&self) -> u64 {
        self.inferred_frees
    }

    /// Goes on by some events; `false` at the end of the recording.
    pub(super) fn go_on(&mut self, replay: &mut Replay<'_>) -> Result<bool, ReadError> {
        let mut batch = std::mem::take(&mut self.batch);
        batch::read(&mut batch, replay)?;
        self.prepare(&mut batch, &mut replay.prepared);
        let mut lives = replay.span_lives.take().unwrap_or_default();
        for found in &batch {
            self.take(&mut replay.prepared, &mut lives, found);
        }
        self.teller.pass_on();
        // Not before: blocks of the batch may have been made in spans that closed meanwhile.
        lives.sweep();
        replay.span_lives = Some(lives);
        let any = !batch.is_empty();
        self.batch = batch;
        Ok(any)
    }

    /// Finds out what the events lead to, and has the processor fetch what they will need.
    ///
    /// Each loop is so short that many accesses are under way at a time.
    fn prepare(&mut self, batch: &mut [Found], prepared: &mut Prepared<'_>) {
        self.blocks.reserve(batch.len());
        let mut fetched = self.trace(batch, prepared);
        if let Some(frames) = &mut prepared.frames {
            fetched ^= self.mark(batch, frames);
        }
        fetched ^= self.find_makers(batch, prepared);
        fetched ^= self.fetch(batch);
        std::hint::black_box(fetched);
    }

    #[inline(never)]
    fn trace(&self, batch: &mut [Found], prepared: &Prepared<'_>) -> u64 {
        let mut fetched = 0;
        for found in batch {
            found.traced = prepared.traced(found.node);
            fetched ^= self.blocks.peek(found.released().unwrap_or(found.event.address));
        }
        fetched
    }

    /// Finds out what the frames of each event have in common with those of its thread's event before.
    ///
    /// Every event of the thread counts here, the recorder's own too.
    #[inline(never)]
    fn mark(&mut self, batch: &mut [Found], frames: &mut Frames) -> u64 {
        let mut fetched = 0;
        for found in &mut *batch {
            let Some(state) = self.threads.get_mut(found.thread as usize) else { continue };
            let place = found.place();
            found.before = std::mem::replace(&mut state.place, place).filter(|_| !found.gap);
            if let (Some(before), Some(now)) = (found.before, place) {
                fetched ^= frames.touch_pair(before, now);
            }
        }
        for found in batch {
            if let (Some(before), Some(now)) = (found.before, found.place()) {
                found.mark = frames.between(before, now, found.kept_frames);
            }
        }
        fetched
    }

    #[inline(never)]
    fn find_makers(&mut self, batch: &mut [Found], prepared: &mut Prepared<'_>) -> u64 {
        let mut fetched = 0;
        for found in batch {
            match found.released() {
                Some(address) => found.maker = self.blocks.glance(address),
                None if found.internal || !found.begins || found.event.failed => {}
                None => found.maker = self.maker(found, prepared),
            }
            let kin = self.makers.get(found.maker).kin;
            fetched ^= self.live.touch(kin);
        }
        fetched
    }

    #[inline(never)]
    fn fetch(&self, batch: &[Found]) -> u64 {
        batch.iter().fold(0, |fetched, found| {
            fetched ^ self.live.touch_parts(self.makers.get(found.maker).kin)
        })
    }

    /// Who makes a block that begins with an event.
    fn maker(&mut self, found: &Found, prepared: &mut Prepared<'_>) -> MakerIndex {
        let (Traced { place, site }, thread) = (found.traced, found.thread);
        let (origins, live, teller) = (&mut self.origins, &mut self.live, &mut self.teller);
        self.makers.number(place, thread, || {
            let place = found.place().unwrap_or(Place::CUT);
            let holder = prepared.frames.as_mut().and_then(|frames| frames.holder(place));
            let (origin, is_new) = origins.number(site, holder);
            if is_new {
                teller.tell(Told::Met { site, holder });
            }
            Maker { place, thread, origin, kin: live.number(origin, thread) }
        })
    }

    fn take(&mut self, prepared: &mut Prepared<'_>, lives: &mut SpanLives, found: &Found) {
        let Found { event, thread, internal, begins, gap, span, .. } = found;
        let (&thread, &internal, &gap, &span) = (thread, internal, gap, span);
        self.events = true;
        self.backtraces |= !found.node.is_root();
        let (number, made) = match self.threads.get_mut(thread as usize) {
            Some(state) => {
                let made = state.made.take();
                (state.watermark.push(found.mark), made.filter(|_| !gap))
            }
            None => (0, None),
        };
        if event.failed {
            return;
        }
        let old = found.released().and_then(|address| self.blocks.remove(address));
        let obtained = match (event.kind, old) {
            (EventKind::Free, old) => {
                if let Some(block) = old {
                    let table = made.filter(|made| !internal && self.is_grown(&block, made));
                    let continued =
                        table.is_some_and(|made| self.carry_on(&block, &made, event, lives));
                    if !continued {
                        let now = (&*lives, span);
                        self.free(prepared, now, block, event, thread, internal);
                    }
                }
                None
            }
            (_, Some(block)) if internal => {
                // It is the recorder's from here on.
                self.forget(&block);
                None
            }
            _ if internal => None,
            (_, Some(block)) => Some(self.change(block, event, thread, lives)),
            (_, None) if !begins => None,
            (_, None) => {
                let index = match event.kind {
                    EventKind::Realloc => self.maker(found, prepared),
                    _ => found.maker,
                };
                let maker = self.makers.get(index);
                let block = self.begin(event, index, maker, number);
                if let Some(state) = self.threads.get_mut(thread as usize) {
                    let (address, origin, size) = (event.address, maker.origin, block.size);
                    state.made = Some(Made { address, origin, size });
                    state.made_in.add(number, span, lives);
                }
                Some(block)
            }
        };
        if let Some(block) = obtained
            && let Some(old) = self.blocks.insert(event.address, block)
        {
            // Its free is not in the recording.
            self.inferred_frees += 1;
            self.forget(&old);
        }
    }

    fn begin(&mut self, event: &Posted, index: MakerIndex, maker: Maker, number: u64) -> Block {
        let Maker { place, thread, origin, kin } = maker;
        let ordinal = self.origins.begin(origin);
        let live = self.live.of(kin);
        let repeats = live.place_of_the_last_one() == Some(place);
        if let Some(state) = self.threads.get(thread as usize) {
            live.add(number, place, &state.watermark);
        }
        let &Posted { stamp, size, align_log2, .. } = event;
        self.teller.tell(Told::Begun { origin, stamp, size, align_log2, repeats });
        self.rise(event.size);
        Block {
            maker: index,
            event: number,
            ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX),
            align_log2: event.align_log2,
            size: event.size,
            max_size: event.size,
            last_change: self.ticks.at(event.stamp),
            history: History::default(),
        }
    }

    /// A block was reallocated.
    fn change(&mut self, block: Block, event: &Posted, thread: u32, lives: &SpanLives) -> Block {
        let past = self.is_past_its_span(&block, event.stamp, lives);
        let maker = self.makers.get(block.maker);
        let step = Step {
            from: block.size,
            to: event.size,
            align_log2: block.align_log2,
            moved: event.address != event.old_address,
            again: block.history.has(History::REALLOCATED),
        };
        self.teller.tell(Told::Resized { origin: maker.origin, stamp: event.stamp, step });
        self.live_bytes.take(block.size);
        self.rise(event.size);
        let history = (block.history)
            .and(History::REALLOCATED, true)
            .and(History::GREW, event.size > block.size)
            .and(History::SHRANK, event.size < block.size)
            .and(History::STRAYED, thread != maker.thread)
            .and(History::USED_PAST, past);
        Block {
            size: event.size,
            max_size: block.max_size.max(event.size),
            last_change: self.ticks.at(event.stamp),
            history,
            ..block
        }
    }

    /// Whether a block that is freed was a hash table's that has just moved to a larger one.
    fn is_grown(&self, old: &Block, made: &Made) -> bool {
        let origin = self.makers.get(old.maker).origin;
        made.origin == origin
            && made.size > old.size
            && made.size <= old.size.saturating_mul(2).saturating_add(TABLE_EXTRA_BYTES)
            && self.origins.holder(origin) == Some(Holder::HashTable)
    }

    /// A hash table has grown: it obtained a larger block, moved there, and freed its old one. To advice it
    /// is one block that was reallocated. `false` where the larger one is not live.
    fn carry_on(&mut self, old: &Block, made: &Made, event: &Posted, lives: &SpanLives) -> bool {
        let Some(new) = self.blocks.remove(made.address) else { return false };
        let (maker, new_maker) = (self.makers.get(old.maker), self.makers.get(new.maker));
        let past = self.is_past_its_span(old, event.stamp, lives);
        if let Some(state) = self.threads.get_mut(new_maker.thread as usize) {
            state.made_in.remove(new.event);
        }
        self.live_bytes.take(old.size);
        self.origins.take_back(maker.origin);
        let step = Step {
            from: old.size,
            to: new.size,
            align_log2: old.align_log2,
            moved: true,
            again: old.history.has(History::REALLOCATED),
        };
        self.teller.tell(Told::CarriedOn { origin: maker.origin, step });
        self.live.of(maker.kin).carry_on(old.event, maker.place, new.event);
        let history = (old.history)
            .and(History::REALLOCATED, true)
            .and(History::GREW, true)
            .and(History::USED_PAST, past);
        let block = Block {
            size: new.size,
            max_size: old.max_size.max(new.size),
            last_change: self.ticks.at(event.stamp),
            history,
            ..*old
        };
        self.blocks.insert(made.address, block);
        true
    }

    /// A block was freed, by a thread that was in a span.
    fn free(
        &mut self,
        prepared: &mut Prepared<'_>,
        (lives, span): (&SpanLives, u64),
        block: Block,
        event: &Posted,
        thread: u32,
        internal: bool,
    ) {
        let maker = self.makers.get(block.maker);
        let own = thread == maker.thread && !internal;
        let encloser = match (self.threads.get(thread as usize), &mut prepared.frames) {
            (Some(state), Some(frames)) if own && !block.history.has(History::STRAYED) => {
                let least = state.watermark.least_since(block.event);
                frames
                    .encloser(maker.place, least)
                    .map(|found| (found.function, state.watermark.first_event_of(found.frame)))
            }
            _ => None,
        };
        let since = encloser.map(|(_, since)| since);
        let Ends { newest, innermost, at_once } =
            self.live.of(maker.kin).end(block.event, since, AT_ONCE);
        let at_once = u32::try_from(at_once).unwrap_or(u32::MAX);
        let enclosed = encloser.map(|(function, _)| (function, at_once));
        self.end(&block, event.stamp, enclosed);
        self.leave_span(&block, (event.stamp, span), true, lives);
        self.leave(&block, maker.thread);
        let (origin, stamp, size) = (maker.origin, event.stamp, block.size);
        self.teller.tell(Told::Freed { origin, stamp, size, own, newest, innermost });
    }

    /// A block whose end is not known is gone.
    fn forget(&mut self, block: &Block) {
        let Maker { thread, kin, origin, .. } = self.makers.get(block.maker);
        self.live.of(kin).remove(block.event);
        self.leave(block, thread);
        self.teller.tell(Told::Forgotten { origin });
    }

    fn rise(&mut self, bytes: u64) {
        self.live_bytes.add(bytes);
        self.peak_bytes = self.peak_bytes.max(self.live_bytes.get());
    }

    /// A block of a thread is live no more.
    fn leave(&mut self, block: &Block, thread: u32) {
        self.live_bytes.take(block.size);
        if let Some(state) = self.threads.get_mut(thread as usize) {
            state.made_in.remove(block.event);
        }
    }

    /// Whether the span that a block was made in is over.
    fn is_past_its_span(&self, block: &Block, now: Stamp, lives: &SpanLives) -> bool {
        let thread = self.makers.get(block.maker).thread;
        let made_in = self.threads.get(thread as usize).map(|state| &state.made_in);
        made_in.is_some_and(|made_in| lives.is_past(made_in.of(block.event), now))
    }

    /// A live block is freed, or the recording ends, at a moment and in a span.
    fn leave_span(
        &mut self,
        block: &Block,
        (now, span): (Stamp, u64),
        freed: bool,
        lives: &SpanLives,
    ) {
        let Maker { thread, origin, .. } = self.makers.get(block.maker);
        let Some(state) = self.threads.get(thread as usize) else { return };
        let made_in = state.made_in.of(block.event);
        if made_in == NO_SPAN || block.history.has(History::USED_PAST) {
            return;
        }
        if let Some(outlived) = lives.outlived(made_in, now, span) {
            self.teller.tell(Told::Outlived { origin, outlived, size: block.size, freed });
        }
    }

    /// What is known of a block when it has had its last size.
    fn end(&mut self, block: &Block, stamp: Stamp, enclosed: Option<(FunctionIndex, u32)>) {
        let origin = self.makers.get(block.maker).origin;
        let &Block { size, max_size, history, .. } = block;
        let long = self.half > 0 && self.ticks.between(block.last_change, stamp) >= self.half;
        self.teller.tell(Told::Ended { origin, size, max_size, history, long, enclosed });
    }

    /// The evidence of each origin, by call site.
    pub(super) fn finish(mut self, replay: &mut Replay<'_>) -> Vec<SiteEvidence> {
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new());
        let lives = replay.span_lives.take().unwrap_or_default();
        for block in blocks.iter() {
            self.end(&block, self.last_stamp, None);
            let Maker { thread, origin, .. } = self.makers.get(block.maker);
            let current = replay.spans.current(thread as usize);
            let span = current.map_or(NO_SPAN, |entered| entered.instance);
            self.leave_span(&block, (self.last_stamp, span), false, &lives);
            let (size, ordinal) = (block.size, block.ordinal);
            self.teller.tell(Told::Left { origin, size, ordinal });
            self.teller.pass_on();
        }
        self.teller.finish().finish()
    }
}
