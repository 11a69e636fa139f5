//! Where what needs more than a few hundred bytes of stack is done: a few rooms with a stack, a
//! packer and a compressor each.
//!
//! A room is taken without waiting. Where all are in use the caller does without: a chunk goes to
//! the log as it is. So the recorder's memory has a bound whatever the number of threads.

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use alloc_trace_format::{Packer, PackerSpace};

use super::compressor::{Compressor, WORKSPACE_BYTES};
use super::digest::Digester;
use super::extents::LARGEST_CHUNK_BYTES;
use super::{stack_switch, sys};

/// Where chunks are packed. Three threads can at the same time: with what a room touches, that is 2.6 MiB.
/// Compression needs about 10 KiB of stack.
pub(super) type Workrooms = Rooms<Room, 3, { 256 << 10 }>;

/// Where a stack runs over there is no memory.
const GUARD_BYTES: usize = 64 << 10;

/// All rooms of one kind in the process, each with so much stack. They are made as they are needed, and
/// never given back.
#[derive(Debug)]
pub(super) struct Rooms<T, const ROOMS: usize, const STACK_BYTES: usize> {
    rooms: [Place<T, STACK_BYTES>; ROOMS],
}

#[derive(Debug)]
struct Place<T, const STACK_BYTES: usize> {
    taken: AtomicBool,
    room: AtomicPtr<T>,
}

/// What a room has beside its stack.
pub(super) trait Furnishing {
    /// Makes it ready for use.
    ///
    /// # Safety
    ///
    /// `place` is zeroed memory for one, aligned to 64 bytes, that stays for good and that nobody else has
    /// seen.
    unsafe fn furnish(place: *mut Self);
}

impl Furnishing for Room {
    unsafe fn furnish(place: *mut Self) {
        // SAFETY: the workspace lies in the room, which nobody else has seen.
        let workspace = unsafe { (&raw mut (*place).workspace).cast::<u8>() };
        // SAFETY: as above.
        let compressor = unsafe { &raw mut (*place).packing.compressor };
        // SAFETY: as above; a zeroed compressor is given its workspace, for good.
        unsafe { compressor.write(Compressor::new(workspace)) };
    }
}

/// What a room has beside its stack. Zeroed memory is a room that was not used yet.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Room {
    pub(super) packing: Packing,
    pub(super) digester: Digester,
    workspace: UnsafeCell<[u8; WORKSPACE_BYTES]>,
}

/// What a chunk is packed and compressed with.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Packing {
    packer: Packer,
    space: PackerSpace,
    compressor: Compressor,
    output: [u8; LARGEST_CHUNK_BYTES],
}

impl Packing {
    /// Packs a chunk's records and compresses them at a level; `None` where that gains nothing: no
    /// longer than the payload.
    pub(super) fn pack(&mut self, level: i32, payload: &[u8]) -> Option<&[u8]> {
        let Self { packer, space, compressor, output } = self;
        let output = output.get_mut(..payload.len())?;
        let packed = packer.pack(space.lend(), payload, output, |effort, column, out| {
            compressor.compress(effort, level, column, out)
        })?;
        output.get(..packed)
    }
}

impl<T: Furnishing, const ROOMS: usize, const STACK_BYTES: usize> Rooms<T, ROOMS, STACK_BYTES> {
    pub(super) const fn new() -> Self {
        Self { rooms: [const { Place::new() }; ROOMS] }
    }

    /// Does some work in a room, on its stack; `None` where all are taken, or memory is short.
    ///
    /// No signal handler runs meanwhile. One that needs more stack than is left would run over, though the
    /// program's own has room for it. And where the work is done for a handler that has an alternate stack,
    /// the kernel would take that one for unused, since the stack pointer is elsewhere, and have the next
    /// handler begin at its end: over the frames of the first.
    ///
    /// The work must not panic.
    pub(super) fn enter<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Acquire pairs with the release below: what was left in the room is seen.
        let _blocked = sys::BlockedSignals::new();
        let place = self.rooms.iter().find(|place| !place.taken.swap(true, Ordering::Acquire))?;
        let result = place.room().map(|room| {
            let end = room.cast::<u8>().as_ptr();
            // SAFETY: the place was taken, so the room is this thread's.
            let inside = || work(unsafe { &mut *room.as_ptr() });
            // SAFETY: the room lies behind its stack, which is aligned to 64 bytes there; the stack is the
            // room's, and nothing in the recorder panics.
            unsafe { stack_switch::call_on(end, inside) }
        });
        place.taken.store(false, Ordering::Release);
        result
    }

    /// Whether there is a room, free or not: without memory there is none.
    pub(super) fn has_any(&self) -> bool {
        self.rooms.iter().any(|place| !place.room.load(Ordering::Relaxed).is_null())
    }

    /// The process was forked: whoever was in a room is not in this process, but for the caller.
    pub(super) fn abandon(&self) {
        for place in self.rooms.iter().filter(|place| !place.is_run_on()) {
            place.taken.store(false, Ordering::Release);
        }
    }
}

impl<T: Furnishing, const STACK_BYTES: usize> Place<T, STACK_BYTES> {
    const fn new() -> Self {
        Self { taken: AtomicBool::new(false), room: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether the caller runs on its stack.
    #[inline(never)]
    fn is_run_on(&self) -> bool {
        let local = 0_u8;
        let end = self.room.load(Ordering::Acquire).addr();
        end.wrapping_sub((&raw const local).addr()) <= STACK_BYTES
    }

    /// The room, made when it is needed first. The place is taken by the caller.
    fn room(&self) -> Option<NonNull<T>> {
        if let Some(room) = NonNull::new(self.room.load(Ordering::Acquire)) {
            return Some(room);
        }
        let bytes = GUARD_BYTES + STACK_BYTES + size_of::<T>();
        let memory = sys::map_anonymous(bytes.next_multiple_of(64 << 10))?;
        sys::protect(memory, GUARD_BYTES);
        // SAFETY: the room's part of the mapping.
        let room = unsafe { memory.add(GUARD_BYTES + STACK_BYTES) }.cast::<T>();
        // SAFETY: it was mapped just now, from a boundary of 64 KiB behind the mapping's beginning on.
        unsafe { T::furnish(room.as_ptr()) };
        self.room.store(room.as_ptr(), Ordering::Release);
        Some(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_one_threads_and_is_given_back() {
        let rooms = Workrooms::new();
        let inside = |room: &mut Room| {
            let taken: Vec<_> = (0..4).map(|_| rooms.enter(ptr::from_mut)).collect();
            // The others are free one after the other, this one is not.
            assert!(taken.iter().all(|other| other.is_some_and(|other| !ptr::eq(other, room))));
            let nested = rooms.enter(|_| rooms.enter(|_| rooms.enter(|_| ()).is_none()));
            assert_eq!(nested, Some(Some(true)), "there are three");
            ptr::from_mut(room)
        };
        let first = rooms.enter(inside).expect("a room");
        assert_eq!(rooms.enter(inside), Some(first));
    }
}
