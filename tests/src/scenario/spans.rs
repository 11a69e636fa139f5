//! Spans that were entered before anything is recorded, or while the recording is paused, and fields that
//! are set after a span was made.

use std::sync::{Arc, Barrier};
use std::thread;

use alloc_trace::{Recording, SpanLayer, pause, resume};
use tracing::field::Empty;
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Given;
use crate::block::Block;

/// Enters and leaves spans before a recording begins, while it is paused, and between two. Blocks of 71,001
/// are made in `before`, of 71,002 in no span, of 71,003 in `outer` and `within`, of 71,004 in `outer`, of
/// 71,005 in no span; by another thread of 72,001 in `early`, of 72,002 in `paused`; in the second recording
/// of 73,001 in `kept`, and of 73,002 in no span.
pub(super) fn turns(given: &Given) {
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    let before = info_span!("before").entered();
    let barrier = Arc::new(Barrier::new(2));
    let worker = {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            let early = info_span!("early").entered();
            barrier.wait();
            barrier.wait();
            Block::new(72_001, 8).free();
            barrier.wait();
            barrier.wait();
            drop(early);
            let paused = info_span!("paused").entered();
            barrier.wait();
            barrier.wait();
            Block::new(72_002, 8).free();
            drop(paused);
        })
    };
    barrier.wait();
    let recording = given.builder().expect("a file").start().expect("a recording");
    barrier.wait();
    barrier.wait();
    Block::new(71_001, 8).free();
    drop(before);
    Block::new(71_002, 8).free();
    let outer = info_span!("outer").entered();
    let left = info_span!("left").entered();
    assert!(pause());
    drop(left);
    let within = info_span!("within").entered();
    barrier.wait();
    barrier.wait();
    assert!(resume());
    barrier.wait();
    worker.join().expect("no panic");
    Block::new(71_003, 8).free();
    drop(within);
    Block::new(71_004, 8).free();
    drop(outer);
    Block::new(71_005, 8).free();
    let kept = info_span!("kept").entered();
    recording.stop();
    let path = given.text("second").expect("a file");
    let second = Recording::builder().output(path).start().expect("a recording");
    Block::new(73_001, 8).free();
    drop(kept);
    Block::new(73_002, 8).free();
    second.stop();
}

/// Makes blocks in `request{id=7}`: of 74,001 before the field `user` is set, of 74,002 behind that, and of
/// 74,003 where it was set by a thread outside of the span. In `early`, which is older than the recording, of
/// 74,004 behind its field `late` was set.
pub(super) fn fields(given: &Given) {
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    let early = info_span!("early", late = Empty);
    let recording = given.start();
    let request = info_span!("request", id = 7, user = Empty, seat = Empty);
    request.in_scope(|| {
        Block::new(74_001, 8).free();
        request.record("user", "anna");
        Block::new(74_002, 8).free();
        thread::scope(|scope| {
            scope.spawn(|| request.record("seat", 12));
        });
        Block::new(74_003, 8).free();
    });
    early.record("late", true);
    early.in_scope(|| Block::new(74_004, 8).free());
    drop(recording);
}
