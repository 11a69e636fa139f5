//! Follows every block from its allocation to its free, and adds up what happened by call site.
//!
//! Memory grows with live blocks and call sites. What an activation encloses is asked once a block,
//! at its free, of the thread's [`Watermark`].

use alloc_trace_format::{Event, EventKind, Stamp};
use rustc_hash::FxHashMap;

use super::site::SiteEvidence;
use super::watermark::Watermark;
use crate::call_tree::Place;
use crate::live::LiveBlocks;
use crate::replay::{Prepared, Replay};
use crate::sites::{SiteIndex, Traced};

/// A live block.
#[derive(Debug, Clone, Copy)]
struct Block {
    site: SiteIndex,
    thread: u32,
    /// The number of its allocation among the events of its thread.
    event: u64,
    place: Place,
    /// How many blocks its call site had allocated before.
    ordinal: u64,
    size: u64,
    max_size: u64,
    align: u64,
    last_change: Stamp,
    reallocations: u32,
    grew: bool,
    shrank: bool,
    /// Whether another thread reallocated it.
    strayed: bool,
}

impl Block {
    /// Stands for none.
    const NONE: Self = Self {
        site: 0,
        thread: 0,
        event: 0,
        place: Place::LOST,
        ordinal: 0,
        size: 0,
        max_size: 0,
        align: 0,
        last_change: 0,
        reallocations: 0,
        grew: false,
        shrank: false,
        strayed: false,
    };
}

/// What is known of a thread.
#[derive(Debug, Default)]
struct ThreadState {
    watermark: Watermark,
    /// Of its last event; `None` where that is not known.
    place: Option<Place>,
}

/// The live blocks of one call site and one thread.
#[derive(Debug, Default)]
struct Live {
    blocks: u64,
    /// The numbers of their allocations, increasing; kept unless there are many.
    events: Vec<u64>,
    /// There were more than are told apart: none of them is a candidate.
    many: bool,
    /// Of the block allocated last.
    place: Option<Place>,
}

/// So many live blocks of a call site and a thread are told apart. No frame has room for as many.
const COUNTED_BLOCKS: usize = 4096;

/// Gathers the evidence, event by event.
#[derive(Debug)]
pub(super) struct Gather {
    threads: Vec<ThreadState>,
    blocks: LiveBlocks<Block>,
    live: FxHashMap<(SiteIndex, u32), Live>,
    sites: Vec<SiteEvidence>,
    /// Half of the recording, in ticks.
    half: Stamp,
    last_stamp: Stamp,
    backtraces: bool,
    inferred_frees: u64,
}

impl Gather {
    pub(super) fn new(prepared: &Prepared<'_>) -> Self {
        let last_stamp = prepared.definitions.last_stamp;
        Self {
            threads: prepared.definitions.threads.iter().map(|_| ThreadState::default()).collect(),
            blocks: LiveBlocks::new(Block::NONE),
            live: FxHashMap::default(),
            sites: (0..prepared.sites.len()).map(|_| SiteEvidence::default()).collect(),
            half: last_stamp.saturating_sub(prepared.first_stamp()) / 2,
            last_stamp,
            backtraces: false,
            inferred_frees: 0,
        }
    }

    /// Whether any event had a backtrace.
    pub(super) fn has_backtraces(&self) -> bool {
        self.backtraces
    }

    /// Blocks whose address was handed out again before they were released.
    pub(super) fn inferred_frees(&self) -> u64 {
        self.inferred_frees
    }

    /// Takes the event that the replay came to; `gap`: records of its thread were lost before it.
    pub(super) fn take(&mut self, replay: &mut Replay<'_>, gap: bool) {
        let found = replay.event();
        let (event, thread) = (*found.event, found.thread as u32);
        let internal = found.internal;
        // A reallocation begins nothing of its own where its block may be one that is not picked.
        let begins = found.filter.picked
            && (event.kind != EventKind::Realloc || !replay.prepared.is_filtered());
        let Traced { place, site } = replay.prepared.traced(event.node);
        let place = (place != Place::LOST).then_some(place);
        self.backtraces |= !event.node.is_root();
        // Every event of the thread counts here, the recorder's own too: what an event says of its
        // frames is in comparison with the thread's last one.
        let number = match self.threads.get_mut(thread as usize) {
            Some(state) => {
                let before = state.place.filter(|_| !gap);
                let frames = replay.prepared.frames.as_mut();
                let mark = match (before, place, frames) {
                    (Some(before), Some(now), Some(frames)) => {
                        frames.between(before, now, event.kept_frames)
                    }
                    _ => 0,
                };
                state.place = place;
                state.watermark.push(mark)
            }
            None => 0,
        };
        if event.failed {
            return;
        }
        let released = match event.kind {
            EventKind::Free => event.address,
            EventKind::Realloc => event.old_address,
            EventKind::Alloc | EventKind::AllocZeroed => 0,
        };
        let old = self.blocks.remove(released);
        let obtained = match (event.kind, old) {
            (EventKind::Free, old) => {
                if let Some(block) = old {
                    self.free(replay, block, &event, thread, internal);
                }
                None
            }
            (_, Some(block)) if internal => {
                // It is the recorder's from here on.
                self.forget(&block);
                None
            }
            _ if internal => None,
            (_, Some(block)) => Some(self.change(block, &event, thread)),
            (_, None) if !begins => None,
            (_, None) => Some(self.begin(&event, site, thread, number, place)),
        };
        if let Some(block) = obtained
            && let Some(old) = self.blocks.insert(event.address, block)
        {
            // Its free is not in the recording.
            self.inferred_frees += 1;
            self.forget(&old);
        }
    }

    fn begin(
        &mut self,
        event: &Event,
        site: SiteIndex,
        thread: u32,
        number: u64,
        place: Option<Place>,
    ) -> Block {
        let place = place.unwrap_or(Place::CUT);
        let ordinal = self.sites.get(site as usize).map_or(0, |evidence| evidence.blocks);
        if let Some(evidence) = self.sites.get_mut(site as usize) {
            evidence.blocks += 1;
            evidence.bytes = evidence.bytes.saturating_add(event.size);
            evidence.events += 1;
            evidence.live += 1;
            evidence.peak_blocks = evidence.peak_blocks.max(evidence.live);
            evidence.last_request = event.stamp;
            let live = self.live.entry((site, thread)).or_default();
            evidence.repeats += u64::from(live.blocks == 0 && live.place == Some(place));
            live.place = Some(place);
            live.blocks += 1;
            if live.events.len() == COUNTED_BLOCKS {
                live.many = true;
                live.events = Vec::new();
            } else if !live.many {
                live.events.push(number);
            }
        }
        Block {
            site,
            thread,
            event: number,
            place,
            ordinal,
            size: event.size,
            max_size: event.size,
            align: event.align(),
            last_change: event.stamp,
            reallocations: 0,
            grew: false,
            shrank: false,
            strayed: false,
        }
    }

    /// A block was reallocated.
    fn change(&mut self, block: Block, event: &Event, thread: u32) -> Block {
        if let Some(evidence) = self.sites.get_mut(block.site as usize) {
            evidence.bytes = evidence.bytes.saturating_add(event.size);
            evidence.events += 1;
            evidence.last_request = event.stamp;
            if event.size > block.size {
                let growth = &mut evidence.growth;
                growth.reallocations += 1;
                growth.moves += u64::from(event.address != event.old_address);
                growth.copied_bytes = growth.copied_bytes.saturating_add(block.size);
                if block.reallocations == 0 {
                    growth.beginning.get_or_insert((block.size, event.size, block.align));
                }
            }
        }
        Block {
            size: event.size,
            max_size: block.max_size.max(event.size),
            last_change: event.stamp,
            reallocations: block.reallocations.saturating_add(1),
            grew: block.grew || event.size > block.size,
            shrank: block.shrank || event.size < block.size,
            strayed: block.strayed || thread != block.thread,
            ..block
        }
    }

    fn free(
        &mut self,
        replay: &mut Replay<'_>,
        block: Block,
        event: &Event,
        thread: u32,
        internal: bool,
    ) {
        let own = thread == block.thread && !internal;
        let encloser = match (self.threads.get(thread as usize), &replay.prepared.frames) {
            (Some(state), Some(frames)) if own && !block.strayed => {
                let least = state.watermark.least_since(block.event);
                frames
                    .encloser(block.place, least)
                    .map(|found| (found.function, state.watermark.first_event_of(found.frame)))
            }
            _ => None,
        };
        let live = self.live.get(&(block.site, block.thread)).filter(|live| !live.many);
        let enclosed = encloser.zip(live).map(|((function, since), live)| {
            let before = live.events.partition_point(|&event| event < since);
            (function, (live.events.len() - before) as u64)
        });
        self.end(&block, event.stamp);
        self.drop_live(&block);
        let Some(evidence) = self.sites.get_mut(block.site as usize) else { return };
        evidence.freed += 1;
        evidence.events += 1;
        evidence.live = evidence.live.saturating_sub(1);
        if !own {
            evidence.remote += 1;
            evidence.remote_bytes = evidence.remote_bytes.saturating_add(block.size);
        }
        let idle = event.stamp.saturating_sub(evidence.last_request);
        if idle >= self.half && self.half > 0 {
            evidence.late += 1;
            evidence.late_bytes = evidence.late_bytes.saturating_add(block.size);
            evidence.least_idle = Some(evidence.least_idle.map_or(idle, |least| least.min(idle)));
        }
        if let Some((function, at_once)) = enclosed {
            let enclosed = evidence.enclosed.entry(function).or_default();
            enclosed.blocks += 1;
            enclosed.at_once = enclosed.at_once.max(at_once);
        }
    }

    /// A block whose end is not known is gone.
    fn forget(&mut self, block: &Block) {
        self.drop_live(block);
        if let Some(evidence) = self.sites.get_mut(block.site as usize) {
            evidence.live = evidence.live.saturating_sub(1);
        }
    }

    fn drop_live(&mut self, block: &Block) {
        let Some(live) = self.live.get_mut(&(block.site, block.thread)) else { return };
        live.blocks = live.blocks.saturating_sub(1);
        if let Ok(index) = live.events.binary_search(&block.event) {
            live.events.remove(index);
        }
    }

    /// What is known of a block when it has had its last size.
    fn end(&mut self, block: &Block, stamp: Stamp) {
        let Some(evidence) = self.sites.get_mut(block.site as usize) else { return };
        evidence.sizes.add(block.max_size);
        evidence.resized |= block.reallocations > 0;
        if block.grew {
            evidence.growth.blocks += 1;
            evidence.growth.largest.add(block.max_size);
            let idle = stamp.saturating_sub(block.last_change);
            if !block.shrank && idle >= self.half && self.half > 0 {
                evidence.growth.never_shrunk += 1;
                evidence.growth.never_shrunk_bytes =
                    evidence.growth.never_shrunk_bytes.saturating_add(block.size);
            }
        }
    }

    /// The evidence of each call site, by its index.
    pub(super) fn finish(mut self) -> Vec<SiteEvidence> {
        let blocks = std::mem::replace(&mut self.blocks, LiveBlocks::new(Block::NONE));
        for (_, block) in blocks.iter() {
            self.end(block, self.last_stamp);
            if let Some(evidence) = self.sites.get_mut(block.site as usize) {
                evidence.live_bytes = evidence.live_bytes.saturating_add(block.size);
                let quarter = block.ordinal.saturating_mul(4) / evidence.blocks.max(1);
                if let Some(left) = evidence.left_in_quarters.get_mut(quarter as usize) {
                    *left += 1;
                }
            }
        }
        self.sites
    }
}
