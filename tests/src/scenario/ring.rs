//! Programs that record more than a ring keeps.

use std::io::{Write, stdout};
use std::sync::atomic::Ordering;
use std::sync::{Barrier, Mutex};
use std::thread;

use alloc_trace::{Compression, SpanLayer};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Given;
use crate::block::Block;
use crate::{os, steps};

/// Of every block that a test looks for.
const ALIGN: usize = 32;

/// A number that looks like chance, and the next one to ask with.
const fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*state >> 33) as usize
}

/// Makes a block below so many frames.
#[inline(never)]
fn at_depth(depth: usize, size: usize) -> Block {
    let block = if depth == 0 { Block::new(size, ALIGN) } else { at_depth(depth - 1, size) };
    // The frame is needed behind the call.
    std::hint::black_box(&block);
    block
}

/// `threads` threads share a table of `live` blocks aligned to 32, made one by one before. Each makes
/// `steps` steps, without end where that is 0: the block at a place that looks like chance is freed and
/// another one put there, or it is given another size. `keep` first blocks are never touched again. At
/// the end the blocks are left, and their number, bytes, and a sum of their sizes are said, weighted by
/// place. With `file_bytes` no file may become longer than that. With `fork` the child of a fork goes on as its parent does, and says its own.
pub(super) fn churn(given: &Given) {
    let number = |key: &str, or: usize| given.number(key).unwrap_or(or);
    let (threads, steps) = (number("threads", 1), number("steps", 0));
    let (live, keep) = (number("live", 1_000), number("keep", 100));
    if let Some(bytes) = given.number("file_bytes") {
        os::limit_file_bytes(bytes as u64);
    }
    let recording = given.builder().map(|builder| {
        let builder = builder.ring(true).limit_bytes(9 << 20).window_bytes(1 << 20);
        builder.compression(Compression::Off).start().expect("a recording")
    });
    let mut state = 99;
    let table: Vec<Mutex<Option<Block>>> = (0..live)
        .map(|_| Mutex::new(Some(at_depth(random(&mut state) % 8, 32 + random(&mut state) % 200))))
        .collect();
    let run = |thread: usize| {
        let mut state = thread as u64 + 7;
        let mut step = 0;
        while steps == 0 || step < steps {
            let place = keep + random(&mut state) % (live - keep);
            let (what, depth, size) =
                (random(&mut state), random(&mut state) % 24, 32 + random(&mut state) % 300);
            let mut entry = table[place].lock().expect("no panic");
            if what % 8 == 0 {
                *entry = entry.take().map(|block| block.resize(size));
            } else {
                if let Some(block) = entry.take() {
                    block.free();
                }
                *entry = Some(at_depth(depth, size));
            }
            step += 1;
        }
    };
    if threads == 1 {
        run(0);
    } else {
        thread::scope(|scope| {
            for thread in 0..threads {
                let named = thread::Builder::new().name(format!("churn-{thread}"));
                named.spawn_scoped(scope, move || run(thread)).expect("a thread");
            }
        });
    }
    if given.number("fork").is_some() {
        // SAFETY: this thread is the only one here, and the child goes on as any process does.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        run(1);
        if child > 0 {
            let mut status = 0;
            // SAFETY: the child is this process's, and the status is written.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0);
        }
    }
    let sizes = table.iter().map(|block| {
        let size = block.lock().expect("no panic").as_ref().map_or(0, Block::size);
        size as u64
    });
    let (mut bytes, mut squares) = (0, 0);
    for size in sizes {
        bytes += size;
        squares += size * size;
    }
    // One write: parent and child say theirs to the same pipe.
    let line = format!("{live} {bytes} {squares}\n");
    stdout().write_all(line.as_bytes()).expect("said");
    std::mem::forget(table);
    drop(recording);
}

/// A thread `idle` makes the trail of 1,000 blocks aligned to 32 of which it keeps every second, and
/// sleeps; the main thread makes `steps` steps meanwhile and frees every fourth of them half-way. Says
/// how many are left.
pub(super) fn idle(given: &Given) {
    let steps = given.number("steps").expect("steps");
    let (give, take) = std::sync::mpsc::channel::<Vec<Block>>();
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let idle = move || {
        let mut kept = Vec::with_capacity(500);
        for number in 0..1_000 {
            let block = at_depth(number % 16, 1_000 + number);
            if number % 2 == 0 {
                kept.push(block);
            } else {
                block.free();
            }
        }
        give.send(kept).expect("a listener");
        asleep.recv().expect("a word");
        at_depth(3, 3_000).free();
    };
    let thread = thread::Builder::new().name("idle".into()).spawn(idle).expect("a thread");
    let mut kept = take.recv().expect("the blocks");
    let mut state = 5;
    for step in 0..steps {
        if step == steps / 2 {
            for block in kept.drain(..250) {
                block.free();
            }
        }
        at_depth(random(&mut state) % 20, 32 + random(&mut state) % 500).free();
    }
    wake.send(()).expect("a listener");
    thread.join().expect("no panic");
    println!("{}", kept.len());
    std::mem::forget(kept);
}

/// Makes the blocks of [`steps`] without end, says each step in `file` once it is done, and has a long
/// marker in between, which fills the ring.
pub(super) fn acknowledged(given: &Given) {
    let count = os::map_number(given.text("file").expect("a file"));
    let filler = "x".repeat(1_000);
    let mut table: Vec<Option<Block>> = (0..steps::LIVE).map(|_| None).collect();
    for number in 0_u64.. {
        if let Some(block) = table[steps::place(number)].take() {
            block.free();
        }
        let depth = (number % 5) as usize;
        table[steps::place(number)] = Some(at_depth(depth, steps::size(number) as usize));
        alloc_trace::mark(&filler);
        count.store(number + 1, Ordering::Release);
    }
}

/// `threads` threads, one after the other, make 400 blocks aligned to 32 each, keep every second, wait
/// for a byte of standard input, and make another one that they free. The main thread fills the ring one
/// and a half times and more meanwhile. Says how many are left.
pub(super) fn late(given: &Given) {
    let threads = given.number("threads").expect("threads");
    let ready = Barrier::new(2);
    let late = || {
        for number in 0..400 {
            let block = at_depth(number % 16, 1_000 + number);
            if number % 2 == 1 {
                block.free();
            }
        }
        ready.wait();
        os::wait_for_input();
        at_depth(3, 3_000).free();
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(late);
            ready.wait();
        }
        let filler = "x".repeat(1_000);
        for number in 0..15_000 {
            at_depth(number % 20, 32 + number % 500).free();
            alloc_trace::mark(&filler);
        }
    });
    println!("{}", threads * 200);
}

/// `threads` threads ask for `snapshots` snapshots of the heap each, as fast as they can.
pub(super) fn snapshots(given: &Given) {
    let [threads, snapshots] =
        ["threads", "snapshots"].map(|key| given.number(key).expect("a number"));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..snapshots {
                    assert!(alloc_trace::heap_snapshot());
                }
            });
        }
    });
    println!("{}", threads * snapshots);
}

/// Enters the spans `outer` and `inner` and then fills the ring several times. Makes blocks of 66,666 bytes
/// in both, of 77,777 in `outer` alone, and of 88,888 in none.
pub(super) fn spans(_given: &Given) {
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    let outer = info_span!("outer", id = 7).entered();
    let inner = info_span!("inner").entered();
    for number in 0..400_000 {
        at_depth(number % 20, 32 + number % 500).free();
    }
    at_depth(3, 66_666).free();
    drop(inner);
    at_depth(3, 77_777).free();
    drop(outer);
    at_depth(3, 88_888).free();
}
