//! What a recording takes and what it leaves out, as it is asked.

use std::thread;

use alloc_trace::{is_recording, pause, resume};

use super::Given;
use crate::block::trail;
use crate::os;

/// The trail of 65,000, and after each turn those of 66,000, 67,000 and 68,000. A turn is made by
/// the program, or by `signal`.
pub(super) fn in_turn(given: &Given) {
    let signal = given.number("signal");
    let recording = given.builder().map(|builder| builder.paused(true).start().expect("begins"));
    assert!(!is_recording(), "it begins paused");
    trail(65_000, 100);
    for (base, records) in [(66_000, true), (67_000, false), (68_000, true)] {
        match signal {
            Some(signal) => os::raise(signal as i32),
            None => assert!(if records { resume() } else { pause() }),
        }
        assert_eq!(is_recording(), records);
        assert!(!(if records { resume() } else { pause() }), "it is so already");
        trail(base, 100);
    }
    drop(recording);
    assert!(given.text("record").is_none() || !(resume() || pause()), "nothing is left");
}

/// Four threads `worker-N` make the trail of 65,000 + 1,000 N; the main thread that of 70,000, before
/// and afterwards.
pub(super) fn workers(_given: &Given) {
    trail(70_000, 100);
    for number in 0..4 {
        let named = thread::Builder::new().name(format!("worker-{number}"));
        let worker = named.spawn(move || trail(65_000 + number * 1_000, 100));
        worker.expect("a thread").join().expect("no panic");
    }
    trail(70_000, 100);
}

/// Obtains 64 blocks of a mebibyte and touches them, then makes the trail of 65,000 for some chunks.
pub(super) fn growing(given: &Given) {
    let recording = given.start();
    let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
    for _ in 0..100 {
        trail(65_000, 1_000);
    }
    drop(recording);
    drop(blocks);
}
