//! Heap events known to the last byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use alloc_trace::{SpanLayer, mark};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Given;
use crate::block::Block;
use crate::counting::counts;
use crate::os::{self, BareThread};

/// Between the markers `begin` and `end` 23 events, and no others:
///
/// - in the span `outer`: three blocks of 1,013 bytes, one of 555 that is freed at once, and a
///   request that fails;
/// - in the span `inner` within it: two zeroed ones of 4,099, and one of the 1,013 grows to 2,027;
/// - in the thread `known-thread`, in no span: the other two of 1,013 are freed, five of 3,001 made
///   and all but the last freed;
/// - behind that, in the main thread and no span: one of 777, aligned to 2,048.
pub(super) fn run(given: &Given) {
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    let outer = info_span!("outer", id = 7);
    let inner = info_span!(parent: &outer, "inner");
    // What the registry asks for when a thread enters spans for the first time happens here.
    let warm = info_span!("warm_up");
    warm.in_scope(|| info_span!(parent: &warm, "warm_up").in_scope(|| ()));
    let recording = given.start();

    // A thread's closure is a request too, and is made before the marker.
    let (give, take) = UnixStream::pair().expect("two sockets");
    let blocks = Arc::new(Mutex::new([const { None::<Block> }; 3]));
    let thread = {
        let blocks = Arc::clone(&blocks);
        BareThread::start("known-thread", move || {
            let mut byte = [0];
            (&take).read_exact(&mut byte).expect("the main thread's word");
            let mut blocks = blocks.lock().expect("no panic");
            for block in [blocks[1].take(), blocks[2].take()].into_iter().flatten() {
                block.free();
            }
            let own = [(); 5].map(|()| Block::new(3001, 8));
            let [first, second, third, fourth, _last] = own;
            for block in [first, second, third, fourth] {
                block.free();
            }
        })
    };

    mark("begin");
    {
        let _outer = outer.enter();
        *blocks.lock().expect("no panic") = [(); 3].map(|()| Some(Block::new(1013, 16)));
        inner.in_scope(|| {
            let _zeroed = [(); 2].map(|()| Block::zeroed(4099, 64));
            let first = blocks.lock().expect("no panic")[0].take();
            let _grown = first.map(|block| block.resize(2027));
        });
        Block::new(555, 1).free();
        assert!(Block::try_new(isize::MAX as usize - 15, 16).is_none());
    }
    (&give).write_all(&[1]).expect("the thread listens");
    thread.join();
    let _last = Block::new(777, 2048);
    mark("end");
    if let Some(recording) = recording {
        recording.stop();
    }
}

/// Four threads `span-0` to `span-3`; thread N makes N + 1 blocks of 10,000 + N bytes in the span
/// `request{id=N}`, one of 20,000 + N in `step` within it, and one of 30,000 + N outside.
pub(super) fn spans(given: &Given) {
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    let recording = given.start();
    let threads: Vec<_> = (0..4)
        .map(|id: usize| {
            let run = move || {
                info_span!("request", id).in_scope(|| {
                    for _ in 0..=id {
                        Block::new(10_000 + id, 8).free();
                    }
                    info_span!("step").in_scope(|| Block::new(20_000 + id, 8).free());
                });
                Block::new(30_000 + id, 8).free();
            };
            thread::Builder::new().name(format!("span-{id}")).spawn(run).expect("a thread")
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    if let Some(recording) = recording {
        recording.stop();
    }
}

/// Whatever the runtime and a few threads ask for, counted by the allocator itself from the first
/// request to the last: written as seven numbers when the process exits.
pub(super) fn counted(_given: &Given) {
    os::at_exit(write_counts);
    let threads: Vec<_> = (0..4)
        .map(|number: usize| {
            thread::spawn(move || {
                let mut lines = Vec::new();
                for line in 0..200 {
                    lines.push(format!("{number}: {line}").repeat(line));
                    if line % 3 == 0 {
                        lines.swap_remove(line % lines.len());
                    }
                }
                lines.iter().map(String::len).sum::<usize>()
            })
        })
        .collect();
    let total = AtomicU64::new(0);
    for thread in threads {
        let length = thread.join().expect("no panic") as u64;
        total.fetch_add(length, Ordering::Relaxed);
    }
    assert!(Block::try_new(isize::MAX as usize - 15, 16).is_none());
    assert_eq!(Block::zeroed(100, 1).resize(50).size(), 50);
}

extern "C" fn write_counts() {
    let mut line = [b' '; 256];
    let mut length = 0;
    for count in counts() {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = count;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        line[length..][..digits.len() - first].copy_from_slice(&digits[first..]);
        length += digits.len() - first + 1;
    }
    os::say(&line[..length]);
}
