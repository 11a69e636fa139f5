//! The heaps that wait for a thread.
//!
//! A heap is made when a thread needs one and none is idle, and never goes away: an exiting thread
//! puts its heap here with whatever pages still have live blocks, and the next thread goes on with
//! it. The idle heaps are a stack through their records: see [`idle`](crate::idle).

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::arena;
use crate::heap::Heap;
use crate::hold::Hold;
use crate::idle::{Idle, Waiting};

/// Most heaps at once: threads past this many share what is idle.
const HEAPS: usize = 1 << 16;

/// All heaps by index, from 1. Written once each, before the heap is first put or used.
static TABLE: [AtomicPtr<Heap>; HEAPS] = [const { AtomicPtr::new(ptr::null_mut()) }; HEAPS];

/// Indices given out.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The heaps that wait, by index.
static IDLE: Idle = Idle::new(AtomicU64::new(0));

impl Waiting for Heap {
    fn number(&self) -> u32 {
        self.owner.index.get()
    }

    fn link(&self) -> &AtomicU32 {
        &self.next_idle
    }

    fn hold(&self) -> &Hold {
        &self.hold
    }
}

fn heap(index: u32) -> Option<&'static Heap> {
    let heap = TABLE.get(index as usize)?.load(Ordering::Acquire);
    // SAFETY: what is in the table was complete before (`Release` in `make`), and stays mapped.
    unsafe { heap.as_ref() }
}

/// All heaps, in use or idle. Nobody but their owners may do more than read their numbers.
pub(crate) fn all() -> impl Iterator<Item = &'static Heap> {
    let count = COUNT.load(Ordering::Relaxed);
    (1..=count).filter_map(heap)
}

/// An idle heap, or a new one; the caller owns and holds it until it puts it back.
pub(crate) fn take_or_make() -> Option<&'static Heap> {
    take().or_else(make)
}

/// An idle heap.
pub(crate) fn take() -> Option<&'static Heap> {
    IDLE.take(heap)
}

/// Puts a heap back that the caller owns and holds.
pub(crate) fn put(heap: &'static Heap) {
    IDLE.put(heap);
}

/// Puts a heap back that the caller owns, but that another thread holds now.
pub(crate) fn push(heap: &'static Heap) {
    IDLE.push(heap);
}

/// Whether the idle heaps are a list that ends.
pub(crate) fn check() -> Result<(), &'static str> {
    let mut next = IDLE.top();
    for _ in 0..=COUNT.load(Ordering::Relaxed) {
        if next == 0 {
            return Ok(());
        }
        let Some(heap) = heap(next) else { return Err("an idle heap is none") };
        next = heap.next_idle.load(Ordering::Relaxed);
    }
    Err("the idle heaps are a ring")
}

fn make() -> Option<&'static Heap> {
    if COUNT.load(Ordering::Relaxed) as usize >= HEAPS - 1 {
        return None;
    }
    // Where the address space is limited and used up, free segments are given up for it.
    let heap = Heap::make().or_else(|| arena::unmap_free_segments().then(Heap::make)?);
    let heap = heap.filter(|heap| heap.hold.take())?;
    let index = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    // Lost only by threads that raced past the comparison above at the very last indices.
    let entry = TABLE.get(index as usize)?;
    heap.owner.index.set(index);
    entry.store(ptr::from_ref(heap).cast_mut(), Ordering::Release);
    Some(heap)
}
