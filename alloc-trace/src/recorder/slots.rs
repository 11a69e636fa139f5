//! Who writes where: a slot for each live thread.
//!
//! A slot is what the recorder keeps of a thread: its place in the window (one chunk of its own) and
//! its previous backtrace. A thread takes one at its first event and gives it back when it exits;
//! the next thread goes on in the same chunk. So thousands of short threads need few slots, and each
//! slot's records are one stream in order of time.
//!
//! Slots lie in extents, which are never given back: whoever holds a pointer to a slot can always
//! look at it.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::backtrace::Backtrace;
use super::chunk_writer::ChunkWriter;
use super::extents::{MAX_EXTENTS, Shape, extent_of};
use super::spill::Spill;
use super::sys;

const WORDS: usize = 4;

/// What the recorder keeps of one live thread.
///
/// The flags and the spill are touched by the owning thread and by signal handlers that interrupt
/// it; `state` by whoever holds `busy`.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// Set while the owner, in a hook, uses the slot; a recording that is stopped waits for it.
    pub(super) busy: AtomicBool,
    /// The recording that the owner writes to; 0 for none.
    pub(super) epoch: AtomicU64,
    /// The number of the slot, and so of its stream.
    pub(super) stream: AtomicU32,
    /// Of a ring: the generation that its chunk is of.
    pub(super) generation: AtomicU32,
    /// Whether its owner, busy, waits for room in a ring.
    pub(super) waits: AtomicBool,
    /// Requests made by signal handlers while the slot was busy.
    pub(super) spill: Spill,
    pub(super) state: UnsafeCell<State>,
}

impl Slot {
    /// The owner, in a hook, uses it from here on.
    #[inline(always)]
    pub(super) fn enter(&self) {
        self.busy.store(true, Ordering::Relaxed);
        // A signal handler on this thread sees the flag from here on; whoever stops the recording
        // sees it after the barrier that it makes every thread pass.
        compiler_fence(Ordering::SeqCst);
    }

    /// The owner does not use it any more.
    #[inline(always)]
    pub(super) fn leave(&self) {
        // Release: whoever stops the recording and sees the flag clear sees what was written.
        self.busy.store(false, Ordering::Release);
    }
}

/// The part of a slot that is used only while it is busy.
#[derive(Debug)]
pub(super) struct State {
    pub(super) writer: ChunkWriter,
    pub(super) backtrace: Backtrace,
    /// The epoch of the recording that the writer writes to.
    pub(super) session: u64,
    /// The kernel's id of the owner.
    pub(super) os_thread: u32,
    /// The name that the recording has for the owner.
    pub(super) name: [u8; 16],
}

/// All slots of the process.
#[derive(Debug)]
pub(super) struct Slots {
    extents: [AtomicPtr<Slot>; MAX_EXTENTS],
    /// A bit for each slot that a thread has taken.
    taken: [[AtomicU64; WORDS]; MAX_EXTENTS],
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self {
            extents: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_EXTENTS],
            taken: [const { [const { AtomicU64::new(0) }; WORDS] }; MAX_EXTENTS],
        }
    }

    /// Takes the first free slot; `None` where memory is short or there are too many threads.
    pub(super) fn take(&self) -> Option<&Slot> {
        for (extent, taken) in self.taken.iter().enumerate() {
            let slots = self.extent(extent)?;
            for (index, word) in taken.iter().enumerate() {
                let first = index * 64;
                while let Some(bit) = free_bit(word, slots.len().saturating_sub(first)) {
                    // Acquire pairs with the release in `give_back`: what the previous owner did to
                    // the slot is seen.
                    if word.fetch_or(1 << bit, Ordering::Acquire) & 1 << bit == 0 {
                        let slot = slots.get(first + bit)?;
                        let stream = Shape::first_stream(extent) + (first + bit) as u32;
                        slot.stream.store(stream, Ordering::Relaxed);
                        return Some(slot);
                    }
                }
            }
        }
        None
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, slot: &Slot) {
        let stream = slot.stream.load(Ordering::Relaxed);
        let extent = extent_of(stream);
        let index = (stream - Shape::first_stream(extent)) as usize;
        if let Some(word) = self.taken.get(extent).and_then(|words| words.get(index / 64)) {
            // Release: pairs with the acquire in `take`.
            word.fetch_and(!(1 << (index % 64)), Ordering::Release);
        }
    }

    /// Every slot that was ever taken, and some that were not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.extents
            .iter()
            .enumerate()
            .flat_map(|(extent, place)| slice(place.load(Ordering::Acquire), Shape::slots(extent)))
    }

    /// The slots of an extent, made if they do not exist.
    fn extent(&self, extent: usize) -> Option<&[Slot]> {
        let place = self.extents.get(extent)?;
        let count = Shape::slots(extent);
        // Acquire pairs with the exchange below.
        let existing = place.load(Ordering::Acquire);
        if !existing.is_null() {
            return Some(slice(existing, count));
        }
        let bytes = count * size_of::<Slot>();
        let made = sys::map_anonymous(bytes)?;
        let fresh = made.cast::<Slot>().as_ptr();
        match place.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(slice(fresh, count)),
            Err(first) => {
                // SAFETY: the mapping was made above, and nobody else has seen it.
                unsafe { sys::unmap(made, bytes) };
                Some(slice(first, count))
            }
        }
    }
}

/// The slots at `first`, none where it is null.
fn slice<'a>(first: *const Slot, count: usize) -> &'a [Slot] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: an extent's pointer is a mapping of as many slots that is never given back, and zeroed
    // memory is a valid slot: atomics, cells of plain data, no slot of a frame remembered.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A clear bit among the first `count` of a word.
fn free_bit(word: &AtomicU64, count: usize) -> Option<usize> {
    let bit = word.load(Ordering::Relaxed).trailing_ones() as usize;
    (bit < count.min(64)).then_some(bit)
}

// SAFETY: the cells of `state` and of the spill are used by one thread at a time, as `Slot` states.
unsafe impl Sync for Slot {}

#[cfg(test)]
mod tests {
    use super::super::extents::SMALLEST_CHUNK_BYTES;
    use super::*;

    #[test]
    fn a_slot_is_no_larger_than_what_a_live_thread_may_cost() {
        // Its chunk of the window belongs to it.
        let bytes = size_of::<Slot>() + SMALLEST_CHUNK_BYTES;
        assert!(bytes <= 8 << 10, "{bytes} bytes");
    }

    #[test]
    fn no_slot_is_taken_twice_and_the_first_free_one_comes_next() {
        let slots = Slots::new();
        let taken: Vec<&Slot> = (0..400).map(|_| slots.take().expect("memory")).collect();
        for (index, slot) in taken.iter().enumerate() {
            assert_eq!(slot.stream.load(Ordering::Relaxed), index as u32);
        }
        for stream in [399, 17, 5] {
            slots.give_back(taken[stream]);
        }
        for stream in [5, 17, 399, 400] {
            let slot = slots.take().expect("memory");
            assert_eq!(slot.stream.load(Ordering::Relaxed), stream);
        }
    }
}
