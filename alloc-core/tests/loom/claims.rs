//! Slices claimed, released, purged and unmapped by several threads, and the bit that says whether
//! a segment is worth a look.

use core::ptr::NonNull;

use crate::open;
use crate::os::{self, MEMORY};
use crate::segment::{Placement, SEGMENT, SLICES, Segment};
use crate::sync::{Arc, AtomicU64, Ordering, model, thread};

/// A segment of which only the first slices are free, and its bit.
struct World {
    segment: Segment,
    open: [AtomicU64; 1],
}

impl World {
    fn new(free: u32) -> Arc<Self> {
        let segment = Segment::new();
        segment.install(NonNull::new(core::ptr::without_provenance_mut(SEGMENT)).unwrap());
        assert!(segment.claim_exactly(free, SLICES - free).is_some());
        Arc::new(Self { segment, open: [AtomicU64::new(1)] })
    }

    /// As an arena claims: looks only into an open segment, and closes one that is full then.
    fn claim(&self) -> Option<usize> {
        if !open::is_open(&self.open, 0) {
            return None;
        }
        let run = self.segment.claim(1, 1, Placement::Lowest);
        if self.segment.free() == 0 {
            open::close(&self.open, 0, || self.segment.free() != 0);
        }
        let run = run?;
        let slice = run.first as usize;
        assert!(slice < MEMORY, "a slice that was not free");
        let found = os::contents(slice).load(Ordering::Relaxed);
        assert!(run.dirty != 0 || found == 0, "a clean slice is not zero");
        Some(slice)
    }

    /// Writes to a claimed slice and looks whether it stays.
    fn fill(&self, slice: usize, mark: u64) {
        os::contents(slice).store(mark, Ordering::Relaxed);
    }

    fn release(&self, slice: usize, mark: u64) {
        assert_eq!(os::contents(slice).load(Ordering::Relaxed), mark, "somebody else wrote there");
        if self.segment.release(slice as u32, 1) {
            open::open(&self.open, 0);
        }
    }

    /// As an arena purges.
    fn purge(&self) {
        if self.segment.purge(true).is_some() {
            open::open(&self.open, 0);
        }
    }

    /// What must hold once all is quiet.
    fn expect_whole(&self, free: u32) {
        assert_eq!(self.segment.free().count_ones(), free, "slices were lost");
        assert!(free == 0 || open::is_open(&self.open, 0), "free slices that nobody looks for");
    }
}

/// One thread: claims, writes, releases.
fn use_slice(world: &World, mark: u64) {
    if let Some(slice) = world.claim() {
        world.fill(slice, mark);
        world.release(slice, mark);
    }
}

#[test]
fn two_threads_never_have_one_slice() {
    model(|| {
        let world = World::new(2);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || use_slice(&other, 1));
        use_slice(&world, 2);
        thread.join().unwrap();
        world.expect_whole(2);
    });
}

#[test]
fn the_last_slice_is_found_again_after_it_was_released() {
    model(|| {
        let world = World::new(1);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || use_slice(&other, 1));
        use_slice(&world, 2);
        thread.join().unwrap();
        world.expect_whole(1);
        assert!(world.claim().is_some(), "it is free and cannot be claimed");
    });
}

/// One slice with contents, free; one thread purges it while another claims it.
fn purge_against_claim(refuses: bool) {
    model(move || {
        let world = World::new(1);
        os::REFUSES.store(refuses.into(), Ordering::Relaxed);
        use_slice(&world, 7);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || other.purge());
        use_slice(&world, 8);
        thread.join().unwrap();
        world.expect_whole(1);
    });
}

#[test]
fn a_purge_takes_nothing_that_was_claimed() {
    purge_against_claim(false);
}

#[test]
fn a_purge_that_the_os_refuses_loses_no_slice() {
    purge_against_claim(true);
}

#[test]
fn a_segment_is_unmapped_only_when_nobody_has_a_slice_of_it() {
    model(|| {
        let segment = Segment::new();
        segment.install(NonNull::new(core::ptr::without_provenance_mut(SEGMENT)).unwrap());
        let segment = Arc::new(segment);
        let other = Arc::clone(&segment);
        let thread = thread::spawn(move || other.unmap());
        let run = segment.claim(1, 1, Placement::Lowest);
        if run.is_some() {
            assert!(!segment.slice(0).is_null(), "a slice of what is unmapped");
        }
        let is_unmapped = thread.join().unwrap();
        assert_ne!(run.is_some(), is_unmapped);
    });
}
