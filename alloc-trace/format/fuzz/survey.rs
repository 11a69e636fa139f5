// What a reader may be asked of a file: the fuzz target asks it of anything, and the crate's tests of a
// recording that is damaged in every place.

use std::path::Path;

use alloc_trace_format::{Follower, Recording, Step};

/// Reads a file, whatever it holds, in every way there is.
///
/// Answers whether it is a recording of which nothing had to be passed over. Panics where the ways
/// contradict each other.
pub(crate) fn survey(path: &Path) -> bool {
    let Ok(recording) = Recording::open(path) else {
        assert!(Follower::open(path).is_err(), "what is no recording cannot be followed either");
        return false;
    };
    let mut definitions = recording.definitions();
    let mut defined = 0_u64;
    while definitions.next_record().expect("the file can be read").is_some() {
        defined += 1;
    }
    let mut merged = recording.merged();
    let (mut events, mut others) = (0_u64, 0_u64);
    loop {
        match merged.advance().expect("the file can be read") {
            Step::Event => events += 1,
            Step::Other(_) => others += 1,
            Step::End => break,
        }
    }
    // What a ring carries on of the part that was written over, each pass has in its own way.
    if merged.skipped().is_empty() && recording.horizon().is_none() {
        // Nothing is wrong with any record: then both passes see the same.
        assert_eq!((definitions.events(), defined), (events, others));
    }
    assert!(
        definitions.skipped().is_empty() || !merged.skipped().is_empty(),
        "what the first pass skips the second one cannot read either"
    );
    let mut follower = Follower::open(path).expect("a recording");
    let mut followed = 0;
    while follower.poll(1 << 10, |_| followed += 1).expect("the file can be read").records > 0 {}
    recording.skipped().is_empty() && merged.skipped().is_empty()
}
