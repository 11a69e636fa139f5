//! Threads that run at once keep out of each other's way: large blocks, and the pages of small ones, lie
//! with others that were obtained on the same processor.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeSet;
use std::mem;
use std::ptr;
use std::sync::Barrier;
use std::thread;

use alloc_core::CoreAlloc;
use alloc_core::walk::SEGMENT_BYTES;

mod process;

// Not the program's own allocator: a case may say where its first segments lie.
static HEAP: CoreAlloc = CoreAlloc::new();

/// How many threads obtain blocks, and how many blocks each of them.
const THREADS: usize = 4;
const BLOCKS: usize = 8;

/// A block that is large, and one of which a page has few.
const LARGE: usize = SEGMENT_BYTES / 64;
const SMALL: usize = SEGMENT_BYTES / 128;

/// The segment that a new block of so many bytes lies in.
fn segment_of_new(bytes: usize) -> usize {
    let layout = Layout::from_size_align(bytes, 16).expect("a layout");
    // SAFETY: the layout has a size.
    let block = unsafe { HEAP.alloc(layout) };
    assert!(!block.is_null(), "out of memory");
    block.addr() / SEGMENT_BYTES
}

/// Has the heap obtain its first segments. As long as there is one heap, no page's segment is a
/// processor's.
fn begin() {
    segment_of_new(SMALL);
}

/// Address space that the heap asks for first, and what it asks for beside, for a guard.
const RESERVED: usize = 4 * SEGMENT_BYTES;
const BESIDE: usize = if cfg!(feature = "hardened") { SEGMENT_BYTES } else { 0 };

/// What one record of the heap's segments is of.
const ARENA: usize = 1 << 30;

/// Takes so much address space. Where it is, the kernel decides; `None` when there is no room.
fn take_addresses(bytes: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, which nobody can touch.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.addr())
}

/// Gives a part of that back.
fn give_addresses(start: usize, bytes: usize) {
    // SAFETY: nobody has anything there.
    let result = unsafe { libc::munmap(ptr::without_provenance_mut(start), bytes) };
    assert_eq!(result, 0, "what was mapped can be unmapped");
}

/// Has the heap obtain its first segments where one of them lies in an arena, and the others in the next:
/// no other place is left.
fn reserve_across_arenas() {
    let space = take_addresses(3 * ARENA).expect("address space");
    // Less than what the heap reserves; the smallest pieces are left to others.
    // Afterwards only pieces are left that are too small for it.
    let mut bytes = 1 << 46;
    while bytes >= RESERVED {
        if take_addresses(bytes).is_none() {
            bytes /= 2;
        }
    }
    let border = (space + ARENA).next_multiple_of(ARENA);
    give_addresses(border - SEGMENT_BYTES - BESIDE, RESERVED + BESIDE);
    // For threads' stacks and the heap's own records.
    give_addresses(space + 3 * ARENA - RESERVED, RESERVED - SEGMENT_BYTES);
    segment_of_new(SMALL);
    let segments: BTreeSet<usize> = HEAP.segments().map(|segment| segment.address).collect();
    let wanted = (0..4).map(|index| border - SEGMENT_BYTES + index * SEGMENT_BYTES);
    assert_eq!(segments, wanted.collect(), "{border:#x}");
}

/// The processors that this process may run on.
fn processors() -> Vec<usize> {
    // SAFETY: a set of processors is plain data.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is valid for writes of its size.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(result, 0, "the processors are told");
    // SAFETY: the number is within the set.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|index| unsafe { libc::CPU_ISSET(*index, &set) })
        .collect()
}

/// Has the calling thread run on one processor.
fn run_on(processor: usize) {
    // SAFETY: a set of processors is plain data.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number came out of a set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is valid for reads of its size.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(result, 0, "a thread may run on one of its processors");
}

/// The segments of the blocks of so many bytes that threads obtain in turn, those of each thread together;
/// the processor of each is given.
fn segments(bytes: usize, of: impl Fn(usize) -> usize + Sync) -> Vec<BTreeSet<usize>> {
    let turn = Barrier::new(THREADS);
    let work = |thread: usize| {
        run_on(of(thread));
        let mut segments = BTreeSet::new();
        for step in 0..BLOCKS * THREADS {
            if step % THREADS == thread {
                segments.insert(segment_of_new(bytes));
            }
            turn.wait();
        }
        segments
    };
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Has threads on two processors obtain blocks of so many bytes, after this was done.
fn expect_apart(name: &str, bytes: usize, prepare: fn()) {
    let processors = processors();
    let &[first, second, ..] = &processors[..] else {
        eprintln!("SKIPPED: there is only one processor");
        return;
    };
    process::succeed(name, || {
        prepare();
        let found = segments(bytes, |thread| if thread % 2 == 0 { first } else { second });
        let of_first = &found[0] | &found[2];
        let of_second = &found[1] | &found[3];
        assert!(of_first.is_disjoint(&of_second), "{found:?}");
    });
}

/// Has threads on one processor obtain blocks of so many bytes.
fn expect_together(name: &str, bytes: usize) {
    let only = processors()[0];
    process::succeed(name, || {
        begin();
        let found = segments(bytes, |_| only);
        // Some of the first one is in use.
        let all: BTreeSet<usize> = found.iter().flatten().copied().collect();
        assert!(all.len() <= 2, "{found:?}");
    });
}

#[test]
fn large_blocks_obtained_on_different_processors_are_in_different_segments() {
    let name = "large_blocks_obtained_on_different_processors_are_in_different_segments";
    expect_apart(name, LARGE, begin);
}

#[test]
fn large_blocks_of_threads_on_one_processor_are_in_the_same_segments() {
    expect_together("large_blocks_of_threads_on_one_processor_are_in_the_same_segments", LARGE);
}

#[test]
fn pages_of_threads_on_different_processors_are_in_different_segments() {
    let name = "pages_of_threads_on_different_processors_are_in_different_segments";
    expect_apart(name, SMALL, begin);
}

#[test]
fn pages_of_threads_on_one_processor_are_in_the_same_segments() {
    expect_together("pages_of_threads_on_one_processor_are_in_the_same_segments", SMALL);
}

#[test]
fn large_blocks_are_apart_where_the_first_arena_has_one_segment() {
    let name = "large_blocks_are_apart_where_the_first_arena_has_one_segment";
    expect_apart(name, LARGE, reserve_across_arenas);
}

#[test]
fn pages_are_apart_where_the_first_arena_has_one_segment() {
    let name = "pages_are_apart_where_the_first_arena_has_one_segment";
    expect_apart(name, SMALL, reserve_across_arenas);
}
