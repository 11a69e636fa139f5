//! Appending to a log that is a ring: each chunk with its digest, once there is room for both.

use std::sync::atomic::Ordering;

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};

use super::{Log, PATIENCE_NS};
use crate::recorder::THREAD;
use crate::recorder::ring::{self, For, Place};
use crate::recorder::sys::{self, Errno};
use crate::recorder::workroom::Room;

/// How long a thread waits for a room before it looks by itself: rooms are left by others, too.
const LOOK_NS: u32 = 10_000_000;

impl Log {
    /// Puts a ring behind the first part of the window.
    pub(super) fn open_ring(&self, limit_bytes: u64) -> Result<(), Errno> {
        self.chunk(0)?;
        let window_end = self.end.load(Ordering::Relaxed);
        let (begin, end) = ring::bounds(window_end, limit_bytes);
        let bytes = self.ring.open(begin, end)?;
        self.write_padding(window_end, begin - BLOCK_HEADER_BYTES as u64)?;
        let header = BlockHeader { stored_bytes: bytes, ..BlockHeader::empty(BlockKind::Ring) };
        self.write_at(begin - BLOCK_HEADER_BYTES as u64, &header.encode())?;
        self.end.store(begin + bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Appends a chunk and its digest to the ring, and makes room in it where that is due.
    ///
    /// A chunk without a digest could not be carried on: here it is waited for a room. Those who have
    /// the rooms may be waiting for a fold, which passes over a slot only where it says that it waits.
    pub(super) fn append_to_ring(
        &self,
        plain: &BlockHeader,
        generation: u32,
        level: i32,
        payload: &[u8],
    ) -> Result<(), Errno> {
        let mut until = None;
        let entered = loop {
            // Acquire: what is seen is what was left before the look for a room.
            let left = self.rooms_left.load(Ordering::Acquire);
            let entered = self.rooms.enter(|room| {
                set_waits(false);
                let Room { packing, digester, .. } = room;
                let digest = digester.digest(payload).ok_or(libc::EFBIG)?;
                let packed = if level == 0 { None } else { packing.pack(level, payload) };
                let (codec, stored) = match packed {
                    Some(packed) => (Codec::Columns, packed),
                    None => (Codec::Plain, payload),
                };
                let header = BlockHeader { codec, stored_bytes: stored.len() as u64, ..*plain };
                let digest_header = BlockHeader {
                    stored_bytes: digest.bytes.len() as u64,
                    raw_bytes: digest.effect_bytes,
                    events: digest.node_bytes,
                    stream: generation,
                    first_stamp: plain.first_stamp,
                    last_stamp: plain.last_stamp,
                    ..BlockHeader::empty(BlockKind::Digest)
                };
                let bytes = header.span_bytes() + digest_header.span_bytes();
                let place = self.wait_for_place(bytes)?;
                let header = BlockHeader { place: place.place, ..header };
                let digest_place = place.place + header.span_bytes();
                let digest_header = BlockHeader { place: digest_place, ..digest_header };
                self.write_at_place(&place, &header.with_checksum(stored), stored)?;
                let digest_header = digest_header.with_checksum(digest.bytes);
                self.write_at_place(&place, &digest_header, digest.bytes)?;
                drop(place);
                while self.ring.is_due() && self.folds.fold(self)? {}
                Ok(())
            });
            if entered.is_some() {
                break entered;
            }
            set_waits(true);
            if is_over(&mut until) {
                break None;
            }
            // Dozens of threads that look all the time would take the processors from those in the rooms.
            self.wait_for_rooms.fetch_add(1, Ordering::SeqCst);
            sys::wait_for_change(&self.rooms_left, left, LOOK_NS);
            self.wait_for_rooms.fetch_sub(1, Ordering::SeqCst);
        };
        set_waits(false);
        let Some(result) = entered else {
            return Err(if self.rooms.has_any() { libc::ETIMEDOUT } else { libc::ENOMEM });
        };
        // Sequentially consistent, as there: whoever waits is seen here, or finds another number.
        self.rooms_left.fetch_add(1, Ordering::SeqCst);
        if self.wait_for_rooms.load(Ordering::SeqCst) > 0 {
            sys::wake_one(&self.rooms_left);
        }
        result
    }

    /// Reserves a place in the ring for a chunk; where there is none, makes room or waits for whoever
    /// does.
    fn wait_for_place(&self, bytes: u64) -> Result<Place<'_>, Errno> {
        if let Some(place) = self.ring.reserve(bytes, For::Chunk)? {
            return Ok(place);
        }
        set_waits(true);
        let mut until = None;
        let result = loop {
            match self.folds.fold(self) {
                Ok(true) => {}
                Ok(false) => sys::pause(),
                Err(error) => break Err(error),
            }
            if let Some(place) = self.ring.reserve(bytes, For::Chunk).transpose() {
                break place;
            }
            if is_over(&mut until) {
                break Err(libc::ETIMEDOUT);
            }
        };
        set_waits(false);
        result
    }

    /// Writes a block of the ring at the place that its header states, which was reserved.
    pub(in crate::recorder) fn write_at_place(
        &self,
        reserved: &Place<'_>,
        header: &BlockHeader,
        payload: &[u8],
    ) -> Result<(), Errno> {
        let offset = reserved.ring.offset(header.place);
        if offset + header.span_bytes() > sys::file_size_limit() {
            return Err(libc::EFBIG);
        }
        sys::write_at(self.fd()?, offset, &header.encode(), payload)
    }
}

/// Whether patience is over, which begins with the first time that this is asked.
pub(super) fn is_over(until: &mut Option<u64>) -> bool {
    let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
    now > *until.get_or_insert(now + PATIENCE_NS)
}

/// Says whether this thread waits, in the middle of a hook, and leaves its chunk as it is meanwhile.
fn set_waits(waits: bool) {
    // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
    let slot = THREAD.with(|thread| unsafe { thread.slot.get().as_ref() });
    if let Some(slot) = slot {
        // Release: whoever sees it finds the chunk as it is left.
        slot.waits.store(waits, Ordering::Release);
    }
}
