//! What a burst took goes back to the OS without anybody's help, whatever the program does then. Each
//! case is a process of its own with a time limit; within that, it may take as long as it takes.

use std::hint::black_box;
use std::mem::{self, MaybeUninit};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use std::{ptr, thread};

use alloc_core::CoreAlloc;

mod blocks;
mod memory;
mod process;

use blocks::{Block, free, shuffle};
use memory::resident_bytes;
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// Bytes of a burst.
const BURST: usize = 192 << 20;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("this process's threads").count()
}

/// The blocks of a burst of these sizes.
fn burst(sizes: &[usize]) -> Vec<Block> {
    blocks::burst(sizes, BURST)
}

/// Sizes of every kind of block in a segment.
const ALL_SIZES: [usize; 9] = [24, 64, 200, 700, 1500, 5000, 20_000, 100_000, 1 << 20];

/// Waits, doing `meanwhile`, until nine tenths of what a burst took have gone back. Nothing here asks
/// the heap for more than its caches hold.
fn wait_until_it_went(before: usize, at_peak: usize, mut meanwhile: impl FnMut()) {
    assert!(at_peak > before + BURST / 2, "{before}, then {at_peak}");
    while resident_bytes() > before + (at_peak - before) / 10 {
        meanwhile();
    }
}

fn sleep() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_burst_goes_back_while_the_program_sleeps() {
    succeed("a_burst_goes_back_while_the_program_sleeps", || {
        let before = resident_bytes();
        let blocks = burst(&ALL_SIZES);
        let at_peak = resident_bytes();
        free(blocks);
        wait_until_it_went(before, at_peak, sleep);
        // Who saw to it is gone when there is nothing more to do.
        while threads() > 2 {
            sleep();
        }
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn a_burst_that_is_freed_in_no_order_goes_back() {
    succeed("a_burst_that_is_freed_in_no_order_goes_back", || {
        let before = resident_bytes();
        let sizes: Vec<usize> = (1..=64).map(|index| index * 48).collect();
        let mut blocks = burst(&sizes);
        let at_peak = resident_bytes();
        shuffle(&mut blocks);
        free(blocks);
        wait_until_it_went(before, at_peak, sleep);
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn a_burst_goes_back_while_the_program_lives_on_its_caches() {
    succeed("a_burst_goes_back_while_the_program_lives_on_its_caches", || {
        let before = resident_bytes();
        let blocks = burst(&ALL_SIZES);
        let at_peak = resident_bytes();
        free(blocks);
        wait_until_it_went(before, at_peak, || {
            for size in [16, 100, 1000] {
                drop(black_box(Vec::<u8>::with_capacity(size)));
            }
        });
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn what_another_thread_frees_goes_back_while_its_owner_sleeps() {
    succeed("what_another_thread_frees_goes_back_while_its_owner_sleeps", || {
        let (send, receive) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        let before = resident_bytes();
        let owner = thread::spawn(move || {
            send.send(burst(&ALL_SIZES)).expect("somebody waits");
            // Its heap stays its own, and it does nothing.
            wait.recv().expect("the end");
        });
        let blocks = receive.recv().expect("a burst");
        let at_peak = resident_bytes();
        free(blocks);
        wait_until_it_went(before, at_peak, sleep);
        done.send(()).expect("the owner waits");
        owner.join().expect("the owner");
        HEAP.check_all().expect("a whole heap");
    });
}

/// Runs a function on a thread whose stack, with its thread-local memory, is unmapped at its end: as the
/// C library does where it has enough of them.
fn on_a_stack_that_goes(run: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
    const STACK: usize = 1 << 20;
    let mut attributes = MaybeUninit::uninit();
    let mut thread = MaybeUninit::uninit();
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping.
    let stack = unsafe { libc::mmap(ptr::null_mut(), STACK, protection, flags, -1, 0) };
    assert_ne!(stack, libc::MAP_FAILED);
    let mut done = Vec::new();
    // SAFETY: the attributes are made here.
    done.push(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) });
    // SAFETY: the attributes were made, and the stack is nobody else's.
    done.push(unsafe { libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, STACK) });
    // SAFETY: the function takes any argument.
    done.push(unsafe {
        libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, ptr::null_mut())
    });
    assert_eq!(done, [0; 3]);
    // SAFETY: the thread was made.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: it is joined once.
    done.push(unsafe { libc::pthread_join(thread, ptr::null_mut()) });
    // SAFETY: the thread has ended.
    done.push(unsafe { libc::munmap(stack, STACK) });
    assert_eq!(done, [0; 5]);
}

/// Blocks of the main thread's that another one frees.
static OTHERS: Mutex<Vec<Block>> = Mutex::new(Vec::new());

#[test]
fn who_gives_memory_back_outlives_the_thread_that_had_it_begin() {
    extern "C" fn free_much(_: *mut libc::c_void) -> *mut libc::c_void {
        free(mem::take(&mut OTHERS.lock().expect("no panic")));
        while threads() < 3 {
            free(burst(&[1 << 20]));
        }
        ptr::null_mut()
    }

    succeed("who_gives_memory_back_outlives_the_thread_that_had_it_begin", || {
        let before = resident_bytes();
        // What stays of them keeps every page, and few of the OS's pages.
        let mut blocks = burst(&[200]);
        let at_peak = resident_bytes();
        let mut kept = Vec::new();
        let mut number = 0;
        blocks.retain(|&block| {
            number += 1;
            let is_kept = number % 300 == 0;
            kept.extend(is_kept.then_some(block));
            !is_kept
        });
        *OTHERS.lock().expect("no panic") = blocks;
        on_a_stack_that_goes(free_much);
        wait_until_it_went(before, at_peak, sleep);
        free(kept);
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn burst_after_burst_goes_back_in_a_child_too() {
    succeed("burst_after_burst_goes_back_in_a_child_too", || {
        let before = resident_bytes();
        for _ in 0..3 {
            free(burst(&ALL_SIZES));
        }
        // SAFETY: the child only allocates, waits, and leaves by `_exit`, or is ended by the alarm.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        // SAFETY: has no preconditions.
        unsafe { libc::alarm(40) };
        let blocks = burst(&ALL_SIZES);
        let at_peak = resident_bytes();
        free(blocks);
        wait_until_it_went(before, at_peak, sleep);
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    });
}

#[test]
fn a_program_that_wants_one_thread_has_one() {
    succeed("a_program_that_wants_one_thread_has_one", || {
        HEAP.purge_in_background(false);
        // The test's own thread, and the one that waits for it.
        let before = threads();
        let blocks = burst(&ALL_SIZES);
        free(blocks);
        for _ in 0..50 {
            assert_eq!(threads(), before);
            sleep();
        }
        // And once it may, it does not wait to be asked twice.
        HEAP.purge_in_background(true);
        free(burst(&ALL_SIZES));
        while threads() == before {
            sleep();
        }
    });
}

#[test]
fn a_heap_at_work_is_looked_after_without_harm() {
    succeed("a_heap_at_work_is_looked_after_without_harm", || {
        // Threads that sleep for longer than a period between requests, so that the helper takes hold
        // of their heaps again and again; each checks what it has.
        let workers: Vec<_> = (0..6u64)
            .map(|worker| {
                thread::spawn(move || {
                    let mut state = worker + 1;
                    let mut kept: Vec<Vec<u64>> = Vec::new();
                    for round in 0..6 {
                        for _ in 0..20_000 {
                            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let index = (state >> 33) as usize % 4096;
                            let length = (state >> 50) as usize % 600;
                            let vector = vec![worker << 32 | length as u64; length];
                            if index < kept.len() {
                                let old = mem::replace(&mut kept[index], vector);
                                let mark = worker << 32 | old.len() as u64;
                                assert!(old.iter().all(|word| *word == mark));
                            } else {
                                kept.push(vector);
                            }
                        }
                        if round % 2 == worker % 2 {
                            thread::sleep(Duration::from_millis(1200));
                        }
                        free(burst(&[40_000, 3000]));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
        HEAP.check_all().expect("a whole heap");
    });
}
