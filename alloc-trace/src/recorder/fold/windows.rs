//! What threads have in their unfinished chunks that have not met a later generation yet.
//!
//! Nobody waits for them: who is just writing is in the way, and who has written in between is found out
//! by a second look.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use alloc_trace_format::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkRow, ChunkState, Rows, Stamp};

use super::{Fold, Memory};
use crate::recorder::RECORDER;
use crate::recorder::slots::Slot;
use crate::recorder::sys::Errno;

impl Fold<'_> {
    /// Whether a slot's chunk in the window is of the segment's generation or an earlier one, and how
    /// much is in it; `None` where its owner is just writing to it.
    fn old_chunk(
        &self,
        number: usize,
        slot: &Slot,
        segment: u64,
    ) -> Option<Option<(*const u8, ChunkState)>> {
        if u64::from(slot.generation.load(Ordering::Relaxed)) > segment {
            return Some(None);
        }
        let stream = slot.stream.load(Ordering::Relaxed);
        if stream as usize != number {
            // Nobody has taken it yet.
            return Some(None);
        }
        let Some(chunk) = self.log.mapped_chunk(stream) else { return Some(None) };
        // Acquire pairs with the release at the end of a hook. Whoever waits for room in the ring
        // leaves its chunk as it is meanwhile, as this thread does.
        let is_still = ptr::eq(slot, self.own) || slot.waits.load(Ordering::Acquire);
        if slot.busy.load(Ordering::Acquire) && !is_still {
            return None;
        }
        // SAFETY: the state word lies in the chunk's header, aligned to eight bytes.
        let place = unsafe { chunk.as_ptr().add(ChunkHeader::STATE_OFFSET) };
        // SAFETY: as above; the chunk stays mapped while the recording runs.
        let word = unsafe { AtomicU64::from_ptr(place.cast()) };
        let state = ChunkState::from_bits(word.load(Ordering::Acquire));
        Some((state.committed_bytes > 0).then_some((chunk.as_ptr().cast_const(), state)))
    }

    /// A hash of what the old chunks of the window are; `None` where one is just being written.
    pub(super) fn windows_seen(&self, segment: u64) -> Result<Option<u64>, Errno> {
        let mut seen = 0_u64;
        for (number, slot) in RECORDER.slots.iter().enumerate() {
            match self.old_chunk(number, slot, segment) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some((chunk, state))) => {
                    let mixed = state.to_bits() ^ (chunk.addr() as u64).rotate_left(32);
                    seen = seen.wrapping_add(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                }
            }
        }
        Ok(Some(seen))
    }

    /// Marks what threads' unfinished chunks name that have not met the next generation yet; answers
    /// as [`Self::windows_seen`].
    pub(super) fn mark_windows(
        &mut self,
        segment: u64,
        oldest: &mut Stamp,
        horizon: &mut Stamp,
    ) -> Result<Option<u64>, Errno> {
        for (number, slot) in RECORDER.slots.iter().enumerate() {
            let (chunk, state) = match self.old_chunk(number, slot, segment) {
                None => return Ok(None),
                Some(None) => continue,
                Some(Some(found)) => found,
            };
            let Memory { marks, threads, chunk: copy, .. } = &mut *self.memory;
            let words = (state.committed_bytes as usize).div_ceil(8).min(copy.len());
            for (index, word) in copy.iter_mut().take(words).enumerate() {
                // SAFETY: within the chunk, whose length is a multiple of eight, behind its header.
                let place = unsafe { chunk.add(CHUNK_HEADER_BYTES + index * 8) };
                // SAFETY: as above. Its owner may wake up and write, so it is read as an atomic; what
                // was read then counts for nothing, as the second look at the slot finds.
                let place = unsafe { AtomicU64::from_ptr(place.cast_mut().cast()) };
                *word = place.load(Ordering::Relaxed);
            }
            let bytes = copy.as_ptr().cast::<u8>();
            let length = (state.committed_bytes as usize).min(copy.len() * 8);
            // SAFETY: so many bytes of the copy are there, of plain numbers.
            let payload = unsafe { std::slice::from_raw_parts(bytes, length) };
            let mut rows = Rows::new(payload);
            let mut is_first = true;
            while let Some(row) = rows.next_row() {
                match row {
                    ChunkRow::Event => marks.insert(rows.event().node.0),
                    ChunkRow::Node(node) => marks.insert(node.parent.0),
                    ChunkRow::Context(thread, stamp) => {
                        threads.insert(thread.0);
                        if is_first {
                            *oldest = (*oldest).min(stamp);
                        }
                        is_first = false;
                    }
                    ChunkRow::Record(_) => {}
                }
            }
            *horizon = (*horizon).max(rows.stamp());
        }
        self.windows_seen(segment)
    }
}
