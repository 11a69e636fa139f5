//! Slices claimed, released, purged and unmapped by several threads, in segments that are worth a look and
//! in those of a processor: an arena's own code, with few slices.

use core::ptr::NonNull;

use crate::os::{self, MEMORY};
use crate::segment::{Placement, SEGMENT, SLICE, SLICES, Segment};
use crate::segments::{Segments, in_turn};
use crate::sync::{Arc, Ordering, model, thread};

/// Numbers of processors.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// What an arena knows of so many segments, of which only the first slices are free.
struct World<const SEGMENTS: usize> {
    segments: Segments<SEGMENTS, 1>,
    free: u32,
}

impl<const SEGMENTS: usize> World<SEGMENTS> {
    fn new(free: u32) -> Arc<Self> {
        let segments = Segments::new();
        for (index, segment) in segments.all().enumerate() {
            install(segment, index);
            assert!(segment.claim_exactly(free, SLICES - free).is_some());
            segments.set_open(index);
        }
        Arc::new(Self { segments, free: free * SEGMENTS as u32 })
    }

    /// A slice for a page, and the segment that it is in.
    fn claim(&self, processor: u8) -> Option<(usize, usize)> {
        let claim = |whose| self.segments.claim_for_page(whose, processor, 1);
        let (slice, run) = in_turn(claim)?;
        self.look_at(slice, run.dirty);
        Some((slice, slice / SLICES as usize))
    }

    /// The segment of a slice that the processor's next page gets.
    fn next_segment(&self, processor: u8) -> usize {
        self.claim(processor).expect("a slice is free").1
    }

    fn look_at(&self, slice: usize, dirty: u64) {
        let found = os::contents(slice).load(Ordering::Relaxed);
        assert!(dirty != 0 || found == 0, "a clean slice is not zero");
    }

    /// Writes to a claimed slice and looks whether it stays.
    fn fill(&self, slice: usize, mark: u64) {
        os::contents(slice).store(mark, Ordering::Relaxed);
    }

    fn release(&self, slice: usize, mark: u64) {
        assert_eq!(os::contents(slice).load(Ordering::Relaxed), mark, "somebody else wrote there");
        self.segments.release(slice, 1);
    }

    /// One thread: claims, writes, releases.
    fn use_slice(&self, processor: u8, mark: u64) {
        if let Some((slice, _)) = self.claim(processor) {
            self.fill(slice, mark);
            self.release(slice, mark);
        }
    }

    fn purge(&self) {
        for index in 0..SEGMENTS {
            self.segments.purge(index, true);
            self.segments.forget_users(index);
        }
    }

    /// What must hold once all is quiet and everything was released: whoever asks has all slices.
    fn expect_whole(&self) {
        let free: u32 = self.segments.all().map(|segment| segment.free().count_ones()).sum();
        assert_eq!(free, self.free, "slices were lost");
        for _ in 0..self.free {
            assert!(self.claim(FIRST).is_some(), "a slice is free and cannot be claimed");
        }
        assert_eq!(self.claim(FIRST), None);
    }
}

/// Gives a segment memory that the models' OS knows of.
fn install(segment: &Segment, index: usize) {
    let base = core::ptr::without_provenance_mut((1 + index) * SEGMENT);
    segment.install(NonNull::new(base).expect("an address"));
}

#[test]
fn two_threads_never_have_one_slice() {
    model(|| {
        let world = World::<1>::new(2);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || other.use_slice(FIRST, 1));
        world.use_slice(SECOND, 2);
        thread.join().unwrap();
        world.expect_whole();
    });
}

#[test]
fn the_last_slice_is_found_again_after_it_was_released() {
    model(|| {
        let world = World::<1>::new(1);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || other.use_slice(FIRST, 1));
        world.use_slice(FIRST, 2);
        thread.join().unwrap();
        world.expect_whole();
    });
}

/// One slice with contents, free; one thread purges it while another claims it.
fn purge_against_claim(refuses: bool) {
    model(move || {
        let world = World::<1>::new(1);
        os::REFUSES.store(refuses.into(), Ordering::Relaxed);
        world.use_slice(FIRST, 7);
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || other.purge());
        world.use_slice(FIRST, 8);
        thread.join().unwrap();
        world.expect_whole();
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
fn what_has_rested_goes_one_purge_earlier() {
    model(|| {
        let world = World::<1>::new(2);
        let segment = world.segments.of_slice(0);
        let claim = || {
            assert!(segment.claim_exactly(0, 2).is_some());
        };
        claim();
        world.segments.release(0, 2);
        assert_eq!(segment.purge(false), None);
        assert_eq!(segment.purge(false), Some(2 * SLICE));
        claim();
        world.segments.release_rested(0, 2);
        assert_eq!(segment.purge(false), Some(2 * SLICE));
    });
}

#[test]
fn a_segment_is_unmapped_only_when_nobody_has_a_slice_of_it() {
    model(|| {
        let segment = Segment::new();
        install(&segment, 0);
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

/// Two threads, on a processor each, place a page, at once. Returns the segments.
fn place_at_once(world: &Arc<World<2>>, processors: [u8; 2]) -> [usize; 2] {
    let [first, second] = processors;
    let other = Arc::clone(world);
    let thread = thread::spawn(move || other.next_segment(first));
    let segment = world.next_segment(second);
    [thread.join().unwrap(), segment]
}

#[test]
fn two_processors_pages_go_to_segments_of_their_own() {
    model(|| {
        let world = World::<2>::new(MEMORY as u32);
        place_at_once(&world, [FIRST, SECOND]);
        // The first pages may have met in one, which is one of the two's now.
        let segments = [FIRST, SECOND].map(|processor| world.next_segment(processor));
        assert_ne!(segments[0], segments[1], "both in one segment");
        let again = [FIRST, SECOND].map(|processor| world.next_segment(processor));
        assert_eq!(again, segments, "a processor changed its segment");
    });
}

/// The arena, of two, that a processor's page gets.
fn place_in(arenas: &[Arc<World<1>>; 2], processor: u8) -> usize {
    let claim_in =
        |arena: &World<1>, whose| arena.segments.claim_for_page(whose, processor, 1).is_some();
    let claim = |whose| arenas.iter().position(|arena| claim_in(arena, whose));
    in_turn(claim).expect("a slice is free")
}

#[test]
fn two_processors_pages_go_to_segments_of_their_own_also_in_different_arenas() {
    model(|| {
        let arenas = [(); 2].map(|()| World::<1>::new(MEMORY as u32));
        let other = arenas.clone();
        let thread = thread::spawn(move || place_in(&other, FIRST));
        place_in(&arenas, SECOND);
        thread.join().unwrap();
        // As above, where both are in one arena.
        let placed = [FIRST, SECOND].map(|processor| place_in(&arenas, processor));
        assert_ne!(
            placed[0], placed[1],
            "both in one segment, of which the first arena has no more"
        );
        let again = [FIRST, SECOND].map(|processor| place_in(&arenas, processor));
        assert_eq!(again, placed, "a processor changed its segment");
    });
}

#[test]
fn one_processors_pages_stay_together() {
    model(|| {
        let world = World::<2>::new(MEMORY as u32);
        // A thread that is first somewhere has its processor's segment found by the next one.
        let before = world.next_segment(FIRST);
        assert_eq!(place_at_once(&world, [FIRST, FIRST]), [before; 2]);
        assert_ne!(world.next_segment(SECOND), before);
    });
}

#[test]
fn a_processor_takes_anothers_slices_before_there_are_none() {
    model(|| {
        let world = World::<2>::new(1);
        let segments = place_at_once(&world, [FIRST, FIRST]);
        assert_ne!(segments[0], segments[1], "there was one slice in each");
        let slice = segments[0] * SLICES as usize;
        let other = Arc::clone(&world);
        let thread = thread::spawn(move || other.segments.release(slice, 1));
        // Comes too early, or is given what the other processor's thread released.
        let found = world.claim(SECOND);
        thread.join().unwrap();
        let found = found.or_else(|| world.claim(SECOND));
        assert_eq!(found, Some((slice, segments[0])), "a slice is free and cannot be claimed");
    });
}

#[test]
fn a_block_that_grew_gets_most_room_of_its_processors_segments_and_nobodys() {
    model(|| {
        let world = World::<2>::new(MEMORY as u32);
        // Pages leave less room.
        let used = [(); 2].map(|()| world.next_segment(FIRST))[1];
        let next_segment = |processor| {
            let claim =
                |whose| world.segments.claim_for_block(whose, processor, 1, 1, Placement::Roomy);
            in_turn(claim).expect("a slice is free").0 / SLICES as usize
        };
        let roomiest = next_segment(FIRST);
        assert_ne!(roomiest, used, "there is more room elsewhere");
        assert_eq!(next_segment(SECOND), used, "the other one is another processor's");
    });
}

#[test]
fn a_segment_that_was_free_at_a_purge_is_anybodys() {
    model(|| {
        let world = World::<2>::new(MEMORY as u32);
        let (slice, segment) = world.claim(FIRST).unwrap();
        // Nothing else of the segment is in use.
        world.segments.release(segment * SLICES as usize + MEMORY, SLICES - MEMORY as u32);
        let other = Arc::clone(&world);
        let releasing = thread::spawn(move || {
            other.segments.release(slice, 1);
            other.segments.forget_users(segment);
        });
        world.segments.forget_users(segment);
        releasing.join().unwrap();
        assert_eq!(world.next_segment(SECOND), segment);
    });
}
