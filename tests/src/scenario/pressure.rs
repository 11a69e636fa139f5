//! How much the recorder takes, and what happens where there is nothing to take.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::Given;
use crate::block::{Block, trail};
use crate::os::{self, BareThread};

/// Makes the trail of 65,000, then asks for memory until the address space has none, in ever smaller
/// pieces. Dies of a request that must be answered if `how` says so; else frees everything, makes the
/// trail of 67,000, and says how many requests were answered and how many were not.
pub(super) fn out_of_memory(given: &Given) {
    trail(65_000, 100);
    let mut blocks = Vec::with_capacity(1 << 16);
    os::limit_address_space(64 << 20);
    let mut refused = 0;
    for size in [1 << 40, 1 << 20, 64 << 10, 4 << 10] {
        for _ in 0..1 << 14 {
            let Some(block) = Block::try_new(size, 8) else {
                refused += 1;
                break;
            };
            blocks.push(block);
        }
    }
    let answered = blocks.len();
    if given.text("how") == Some("die") {
        black_box(vec![1u8; 1 << 40]);
    }
    for block in blocks {
        block.free();
    }
    trail(67_000, 100);
    println!("{answered} {refused}");
}

/// `count` threads live at once, or as many as there can be, each of which makes a trail of its own, and then
/// as many blocks as `paths` says, each on another call path.
/// Says how many there are, and how much memory is resident then that no disk has: the process's
/// own, and that of memory file systems. The threads' stacks are resident before anything is asked.
pub(super) fn resident(given: &Given) {
    let count = given.number("count").expect("a number of threads");
    let paths = given.number("paths").unwrap_or(0);
    let made = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().expect("no panic");
    let mut threads = Vec::new();
    for number in 0..count {
        let (made, gate) = (Arc::clone(&made), Arc::clone(&gate));
        let run = move || {
            os::touch_stack();
            trail(200_000 + number, 1);
            for path in 0..paths {
                call(20, (number * paths + path).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            made.fetch_add(1, Ordering::Relaxed);
            drop(gate.lock());
        };
        match thread::Builder::new().stack_size(96 << 10).spawn(run) {
            Ok(thread) => threads.push(thread),
            Err(_) => break,
        }
    }
    while made.load(Ordering::Relaxed) < threads.len() {
        thread::yield_now();
    }
    let bytes = os::status_bytes("RssAnon:") + os::status_bytes("RssShmem:");
    println!("{} {bytes}", threads.len());
    drop(closed);
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// Makes a block so many calls further in, by a path that the bits of `path` say.
#[inline(never)]
fn call(calls: usize, path: usize) {
    match (calls, path & 1) {
        (0, _) => Block::new(24, 8).free(),
        (_, 0) => call(calls - 1, path >> 1),
        _ => call(calls - 1, black_box(path) >> 1),
    }
}

/// A function that nobody has called before.
#[inline(never)]
fn once(size: usize) {
    Block::new(size, 8).free();
}

/// How many bytes of stack requests take that are made on a thread of its own: the thread's first
/// one, one like those before, the most of 200,000, the first one of a function, and the first one of a
/// forked child.
pub(super) fn stack(_given: &Given) {
    let measure = |before: usize, count: usize| {
        let run = move || {
            for _ in 0..before {
                trail(60_000, 1);
            }
            os::stack_used(|| {
                for _ in 0..count {
                    trail(60_000, 1);
                }
            })
        };
        let (say, hear) = mpsc::channel();
        let thread = BareThread::start("measured", move || say.send(run()).expect("heard"));
        assert!(!thread.join());
        hear.recv().expect("said")
    };
    for (before, count) in [(0, 1), (100, 1), (100, 200_000)] {
        println!("{}", measure(before, count));
    }
    let by_a_new_function = || {
        trail(60_000, 100);
        os::stack_used(|| once(60_000))
    };
    let thread = BareThread::start("measured", move || println!("{}", by_a_new_function()));
    assert!(!thread.join());
    let Some(child) = os::fork() else {
        let used = os::stack_used(|| trail(60_000, 1));
        println!("{used}");
        os::exit_now(0);
    };
    assert_eq!(os::wait(child), 0);
}
