//! Backtraces are those that the C library's unwinder takes at the same places, frame by frame.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use alloc_trace_format::EventKind;
use tempfile::TempDir;

use crate::history::History;
use crate::program::{SCENARIOS, checked, optimised_call_trees, recorded, run};

/// The size of the requests to compare, of the first thread.
const SAMPLE_BYTES: u64 = 91_000;
/// Frames of a recorded backtrace at most.
const MAX_DEPTH: usize = 128;

/// Runs `call_trees` and compares every sample that it took.
#[track_caller]
fn assert_frames(program: &Path, options: &str) {
    let directory = TempDir::new().expect("a directory");
    let [path, samples] = ["recording", "samples"].map(|name| directory.path().join(name));
    let argument = samples.to_str().expect("text");
    run(&mut recorded(program, &[argument], &path, options)).quiet();
    let history = History::read(&path);
    history.assert_whole();

    let mut taken: BTreeMap<u64, Vec<Vec<u64>>> = BTreeMap::new();
    for line in fs::read_to_string(&samples).expect("the samples").lines() {
        let mut words = line.split(' ');
        let thread = words.next().and_then(|word| word.parse().ok()).expect("a thread");
        let address = |word| u64::from_str_radix(word, 16).expect("an address");
        taken.entry(thread).or_default().push(words.map(address).collect());
    }
    assert_eq!(taken.len(), 4);
    let (mut compared, mut deep) = (0, 0);
    for (thread, samples) in taken {
        let size = SAMPLE_BYTES + thread;
        let requests = history.events.iter().filter(|event| {
            event.kind == EventKind::Alloc && event.size == size && event.align() == 16
        });
        let requests: Vec<_> = requests.collect();
        assert_eq!(requests.len(), samples.len());
        // The frames between the request and the caller of `sample` are the same each time.
        let shortest = samples.iter().zip(&requests).min_by_key(|(sample, _)| sample.len());
        let (sample, request) = shortest.expect("a sample");
        let inner = history.backtrace(request.node).0.len().checked_sub(sample.len());
        let inner = inner.filter(|&inner| inner < 20).expect("frames further in");
        for (number, (sample, request)) in samples.iter().zip(&requests).enumerate() {
            let (addresses, is_whole) = history.backtrace(request.node);
            let is_deep = inner + sample.len() > MAX_DEPTH;
            let expected: Vec<u64> = sample.iter().copied().take(MAX_DEPTH - inner).collect();
            assert_eq!(is_whole, !is_deep, "sample {number} of thread {thread}");
            assert_eq!(
                format!("{:x?}", addresses.get(inner..).unwrap_or_default()),
                format!("{expected:x?}"),
                "sample {number} of thread {thread}"
            );
            compared += 1;
            deep += usize::from(is_deep);
        }
    }
    assert!(compared > 1000 && deep > 100, "{compared} samples, {deep} of them deep");
}

#[test]
fn backtraces_of_generated_call_trees_are_those_of_the_c_library() {
    let program = Path::new(env!("CARGO_BIN_EXE_call_trees"));
    assert_frames(program, "");
    assert_frames(program, ",check");
}

#[test]
fn backtraces_of_an_optimised_program_without_frame_pointers_are_those_of_the_c_library() {
    assert_frames(optimised_call_trees(), "");
    assert_frames(optimised_call_trees(), ",check");
}

#[test]
fn a_coroutine_that_another_thread_resumes_has_the_frames_of_its_own_stack() {
    let directory = TempDir::new().expect("a directory");
    for program in SCENARIOS {
        let path = directory.path().join("recording");
        run(&mut checked(program, &["coroutine"], &path)).quiet();
        let history = History::read(&path);
        history.assert_whole();
        for (base, times) in [(64_700, 1), (64_710, 1), (64_720, 1), (64_730, 2), (64_740, 2)] {
            assert_eq!(history.trails(base, 10), times, "the trail of {base}");
        }
        let first = |size: u64| history.of_size(size).next().expect("an event");
        assert_ne!(first(64_700).thread, first(64_710).thread);
        // The outermost frame first.
        let frames = |size: u64| {
            let (mut addresses, _) = history.backtrace(first(size).node);
            addresses.reverse();
            addresses
        };
        let shared = |one: &[u64], other: &[u64]| {
            one.iter().zip(other).take_while(|(one, other)| one == other).count()
        };
        let (before, after) = (frames(64_700), frames(64_710));
        let nested = shared(&before, &after);
        assert!(nested > 20, "{before:x?} {after:x?}");
        assert_eq!(before.len(), after.len());
        let outside = frames(64_720);
        assert!(shared(&after, &outside) < 5, "{after:x?} {outside:x?}");
        assert_eq!(shared(&after, &frames(64_740)), 0, "a coroutine has no caller");
    }
}
