//! A thread ends, and its heap waits with its pages: the next thread goes on with it, another one takes over
//! its pages, or the helper looks after it; all the while others free blocks of those pages. No free is
//! lost, no block is anybody's twice, no page has two owners or is given up under those who use it.
//!
//! What heaps do with their pages, when their threads end and when others take over, is the crate's own
//! code, as is what lies below: see `heap` and `page` for what stands in for the rest.

use crate::heap::{self, Heap, pool};
use crate::page::{self, Block};
use crate::sync::{model, thread};

const PROCESS: u32 = 5;

/// The heap of a thread that ends, and those of others.
const ENDING: u32 = 1;
const OTHER: u32 = 2;
const THIRD: u32 = 3;

fn heap(number: u32) -> &'static Heap {
    heap::heap(number).expect("a heap")
}

/// Does something with a heap off the fast path, by its thread.
fn with<R>(heap: &'static Heap, operation: impl FnOnce(&'static Heap) -> R) -> Option<R> {
    if !heap.hold.take() {
        heap.hold.miss();
        return None;
    }
    let result = operation(heap);
    heap.hold.let_go();
    Some(result)
}

/// A heap with all blocks of one page. The other page is the third heap's, all of whose blocks are live.
fn world() -> [Block; 3] {
    let fill = |number| [(); 3].map(|()| with(heap(number), Heap::take_block).flatten().unwrap());
    let blocks = fill(ENDING);
    fill(THIRD);
    blocks
}

/// The same, and the heap's thread ended with the first block in its cache.
fn world_with_ended() -> [Block; 2] {
    let [cached, other, another] = world();
    end_with([cached]);
    [other, another]
}

/// The thread frees so many blocks of its own, and ends.
fn end_with<const COUNT: usize>(blocks: [Block; COUNT]) {
    blocks.iter().for_each(|block| heap(ENDING).cache(block));
    heap(ENDING).hand_on();
}

/// Frees blocks as a thread that has no heap.
fn free_elsewhere(blocks: impl IntoIterator<Item = Block>) {
    blocks.into_iter().for_each(|block| heap::free_remotely(&block));
}

/// Needs blocks, for which there is no page but what a waiting heap has, and frees them again.
fn need(number: u32) {
    with(heap(number), |heap| {
        let first = heap.take_block();
        let blocks: Vec<_> = first.into_iter().chain(heap.take_rest()).collect();
        blocks.iter().for_each(|block| heap.cache(block));
    });
}

/// A new thread goes on with a heap that waits, and ends.
fn go_on() {
    if let Some(heap) = pool::take() {
        heap.hold.let_go();
        // Nobody needs hold of a cache: it is the thread's.
        if let Some(block) = heap.take_cached() {
            heap.cache(&block);
        }
        need(heap.number());
        heap.hand_on();
    }
}

/// Once all is quiet and all blocks are free, every heap can be had, and every page is nobody's.
fn expect_whole() {
    // What was posted to the first owner is passed on to the second.
    for _ in 0..2 {
        for heap in heap::all() {
            with(heap, Heap::trim).expect("somebody did not let go");
        }
    }
    assert_eq!(page::unclaimed(), 1, "a free was lost, or a page");
}

#[test]
fn a_page_is_taken_over_while_others_free_its_blocks() {
    model(|| {
        let blocks = world_with_ended();
        let freeing = thread::spawn(move || free_elsewhere(blocks));
        need(OTHER);
        freeing.join().unwrap();
        expect_whole();
    });
}

#[test]
fn two_threads_free_while_a_page_is_taken_over() {
    model(|| {
        let blocks = world_with_ended();
        let threads = blocks.map(|block| thread::spawn(move || free_elsewhere([block])));
        need(OTHER);
        for thread in threads {
            thread.join().unwrap();
        }
        expect_whole();
    });
}

#[test]
fn a_thread_ends_while_another_wants_its_pages_and_a_third_frees_their_blocks() {
    model(|| {
        let [cached, also_cached, other] = world();
        let ending = thread::spawn(move || end_with([cached, also_cached]));
        let freeing = thread::spawn(move || free_elsewhere([other]));
        need(OTHER);
        ending.join().unwrap();
        freeing.join().unwrap();
        expect_whole();
    });
}

#[test]
fn two_threads_want_the_pages_of_a_third_while_its_blocks_are_freed() {
    model(|| {
        let [other, another] = world_with_ended();
        free_elsewhere([other]);
        let third = thread::spawn(move || {
            free_elsewhere([another]);
            need(THIRD);
        });
        need(OTHER);
        third.join().unwrap();
        expect_whole();
    });
}

#[test]
fn a_new_thread_and_a_takeover_want_the_same_waiting_heap() {
    model(|| {
        let [other, another] = world_with_ended();
        let new = thread::spawn(go_on);
        let freeing = thread::spawn(move || free_elsewhere([other]));
        need(OTHER);
        new.join().unwrap();
        freeing.join().unwrap();
        free_elsewhere([another]);
        expect_whole();
    });
}

#[test]
fn a_new_thread_goes_on_with_the_heap_of_one_that_ends() {
    model(|| {
        let [cached, other, another] = world();
        free_elsewhere([other]);
        let ending = thread::spawn(move || end_with([cached]));
        go_on();
        ending.join().unwrap();
        go_on();
        free_elsewhere([another]);
        expect_whole();
    });
}

#[test]
fn a_thread_ends_while_the_helper_looks_after_its_heap_and_another_wants_its_pages() {
    model(|| {
        let [cached, also_cached, other] = world();
        free_elsewhere([other]);
        let helper = thread::spawn(|| heap(ENDING).tend(PROCESS));
        let ending = thread::spawn(move || end_with([cached, also_cached]));
        need(OTHER);
        ending.join().unwrap();
        helper.join().unwrap();
        expect_whole();
    });
}

#[test]
fn a_stack_that_was_changed_twice_is_not_mistaken_for_itself() {
    model(|| {
        let take = || pool::take().map(Heap::number);
        pool::push(heap(OTHER));
        pool::push(heap(ENDING));
        // Slow to take the first, perhaps, while the first and the second go and the first returns.
        let slow = thread::spawn(take);
        let first = take();
        let second = take();
        if let Some(first) = first {
            pool::put(heap(first));
        }
        let slow = slow.join().unwrap();
        let left = [take(), take()];
        let mut heaps: Vec<_> = [slow, second, left[0], left[1]].into_iter().flatten().collect();
        heaps.sort_unstable();
        assert_eq!(heaps, [ENDING, OTHER], "a heap was lost, or is there twice");
    });
}
