//! Programs of whose heap a recording has snapshots.

use std::thread;
use std::time::Duration;

use alloc_trace::{heap_snapshot, mark};

use super::Given;
use crate::block::{Block, trail};
use crate::os;

/// Asks for a snapshot; holds 3,000 blocks of 5,000 bytes and one each of 300,000 and 40,000,000, and
/// asks for another one; frees them all and asks for a third. Then grows by blocks of 1,000 bytes that
/// it touches, 48 MiB of them, and shrinks again.
pub(super) fn snapshots(given: &Given) {
    let recording = given.start();
    mark("before");
    let asked = heap_snapshot();
    let held: Vec<Block> = (0..3_000).map(|_| Block::new(5_000, 16)).collect();
    let large = [300_000, 40_000_000].map(|size| Block::new(size, 16));
    assert_eq!(heap_snapshot(), asked);
    held.into_iter().chain(large).for_each(Block::free);
    assert_eq!(heap_snapshot(), asked);
    let mut grown = Vec::new();
    for number in 0..48 << 10 {
        // However fast the machine is, the recorder's clock for samples runs on meanwhile.
        if number % 1_000 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        grown.push(Block::zeroed(1_000, 16));
    }
    grown.into_iter().for_each(Block::free);
    println!("{asked}");
    if let Some(recording) = recording {
        recording.stop();
        assert!(!heap_snapshot(), "nothing is recorded any more");
    }
}

/// Makes the trail of 65,000, and three times the given `signal` reaches the main thread. Then a thread
/// `worker` makes the trail of 66,000, some chunks of it.
pub(super) fn snapshots_by_signal(given: &Given) {
    let signal = given.number("signal").expect("a signal") as i32;
    trail(65_000, 1);
    for _ in 0..3 {
        os::raise(signal);
    }
    let worker = thread::Builder::new().name("worker".to_owned());
    worker.spawn(|| trail(66_000, 50_000)).expect("a thread").join().expect("no panic");
}
