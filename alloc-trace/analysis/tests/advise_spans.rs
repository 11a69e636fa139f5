//! What outlives the span that it was made in: by hand-written records, and in programs that are recorded.
//!
//! This test is recorded itself: it runs itself again with `ALLOC_TRACE`, and the child does what the
//! variable [`TASK`] names.

mod recorded;
mod support;

use std::alloc::System;
use std::collections::VecDeque;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use alloc_trace::{SpanLayer, TraceAlloc};
use alloc_trace_analysis::{
    Advice, Evidence, Finding, Options, OutlivedSpan, Recording, Rule, Thresholds,
};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use recorded::{TASK, age, record};
use support::{Script, alloc, at, free, realloc};

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Where blocks are made, and where they are freed.
const MAKE: u32 = 2;
const DROP: u32 = 3;

fn script() -> Script {
    let mut script = Script::new();
    script.thread(1, "", false);
    script.node(MAKE, 0, 0x10);
    script.node(DROP, 0, 0x20);
    script
}

fn late(recording: &Recording, function: &str) -> Option<Finding> {
    let advice = Advice::of(recording, Options::default(), Thresholds::default());
    let mut findings = advice.expect("readable").findings.into_iter();
    findings.find(|found| found.rule == Rule::LateDrops && found.site.function.ends_with(function))
}

fn late_of(script: &mut Script) -> Option<Finding> {
    script.end();
    late(&script.recording(), "[0x10]")
}

/// Twenty requests of 100 ns and a little, each of which makes a block, and so much time between any two. The
/// block is freed before the end of the request that comes so many later.
fn requests(later: u64, between: u64, also: impl Fn(&mut Script, u64)) -> Script {
    let mut script = script();
    for number in 1..=20 {
        script.span(number, None, "request", "");
        script.enter(1, number);
        script.event(at(MAKE, alloc(1, 0x1_0000 * number, 5000)));
        script.now += 100;
        if let Some(made) = number.checked_sub(later).filter(|&made| made > 0) {
            script.event(at(DROP, free(1, 0x1_0000 * made, 5000)));
        }
        script.exit(1, number);
        script.close(number);
        also(&mut script, number);
        script.now += between;
    }
    script
}

fn nothing(_: &mut Script, _: u64) {}

#[test]
fn what_lives_ten_times_as_long_as_its_span_after_that_is_late() {
    let found = late_of(&mut requests(1, 2_000, nothing)).expect("found");
    assert_eq!((found.blocks, found.bytes, found.events), (20, 19 * 5_000, 0));
    // But for the last one, which is there for a moment until the recording ends. Each request takes 113 or
    // 123 ns, and 2,121 or so are between its end and the next one's free.
    let Evidence::LateDrops { late: 19, least_idle_ns: 2_121, span: Some(span) } = found.evidence
    else {
        panic!("{:?}", found.evidence)
    };
    let OutlivedSpan { ref name, longest_ns, never_freed, held_bytes, .. } = span;
    assert_eq!((&**name, longest_ns, never_freed), ("request", 123, 0));
    assert!((4_700..4_800).contains(&held_bytes), "nearly all the time one: {held_bytes}");
    assert_eq!(late_of(&mut requests(1, 500, nothing)), None, "some five times as long");
    assert_eq!(late_of(&mut requests(0, 2_000, nothing)), None, "freed in its span");
}

#[test]
fn what_is_reallocated_after_its_span_is_in_use() {
    let mut script = requests(5, 2_000, |script, number| {
        let address = 0x1_0000 * number;
        script.event(at(MAKE, realloc(1, (address, 5000), (address, 5008))));
    });
    assert_eq!(late_of(&mut script), None);
    assert!(late_of(&mut requests(5, 2_000, nothing)).is_some());
}

#[test]
fn little_of_what_the_program_held_is_not_told() {
    let with = |other_bytes: u64| {
        let mut script = requests(1, 2_000, |script, number| {
            if number == 1 {
                script.event(at(DROP, alloc(1, 0x10_0000_0000, other_bytes)));
                script.event(at(DROP, free(1, 0x10_0000_0000, other_bytes)));
            }
        });
        late_of(&mut script).is_some()
    };
    assert!(with(80_000), "5,000 bytes of 85,000");
    assert!(!with(110_000), "5,000 bytes of 115,000");
}

/// A step of a request makes a block; the request, or another step of it, frees it at its end.
fn handed_on(freed_in_step: bool, then: &str) -> Option<Finding> {
    let mut script = script();
    for request in 1..=20 {
        let [outer, step, other] = [100, 200, 300].map(|id| id + request);
        script.span(outer, None, "request", "");
        script.enter(1, outer);
        script.span(step, Some(outer), "parse", "");
        script.enter(1, step);
        script.event(at(MAKE, alloc(1, 0x1_0000 * request, 5000)));
        script.exit(1, step);
        script.close(step);
        script.now += 2_000;
        if freed_in_step {
            script.span(other, Some(outer), then, "");
            script.enter(1, other);
        }
        script.event(at(DROP, free(1, 0x1_0000 * request, 5000)));
        if freed_in_step {
            script.exit(1, other);
            script.close(other);
        }
        script.exit(1, outer);
        script.close(outer);
    }
    late_of(&mut script)
}

#[test]
fn what_a_step_makes_for_what_is_around_it_is_not_late() {
    assert_eq!(handed_on(false, ""), None);
    assert_eq!(handed_on(true, "answer"), None);
    let found = handed_on(true, "parse").expect("kept for the next one of its kind");
    assert!(matches!(found.evidence, Evidence::LateDrops { late: 20, span: Some(_), .. }));
}

#[test]
fn what_the_program_keeps_for_half_of_the_recording_is_late_whoever_frees_it() {
    let load = |before: u64| {
        let mut script = script();
        script.now += before;
        script.span(1, None, "load", "");
        script.enter(1, 1);
        script.event(at(MAKE, alloc(1, 0x1000, 5000)));
        script.exit(1, 1);
        script.close(1);
        // The call site's last request is here: it says nothing.
        script.now += 10_000;
        script.event(at(MAKE, alloc(1, 0x8000, 5)));
        script.event(at(DROP, free(1, 0x1000, 5000)));
        late_of(&mut script).map(|found| found.evidence)
    };
    let Some(Evidence::LateDrops { late: 1, span: Some(span), .. }) = load(0) else {
        panic!("not found")
    };
    assert_eq!((&*span.name, span.longest_ns, span.never_freed), ("load", 13, 0));
    assert_eq!(load(10_100), None, "freed by the program, after less than half of the recording");
}

#[test]
fn what_is_mostly_never_freed_is_asked_for_its_owner_first() {
    let rules = |min_blocks: u64| {
        let mut script = requests(20, 2_000, nothing);
        script.end();
        let thresholds = Thresholds::default().min_blocks(min_blocks);
        let advice = Advice::of(&script.recording(), Options::default(), thresholds);
        let findings = advice.expect("readable").findings;
        findings.iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(10), [Rule::Leaks]);
    assert_eq!(rules(30), [Rule::LateDrops], "too few blocks for a leak");
}

const REQUESTS: usize = 30;
/// Where the machine stood still, a few spans may have taken long, or a few answers have lived long.
const HALF: u64 = REQUESTS as u64 / 2;

/// What a request waits for: so long that the program's beginning is short beside all of them, however slow the
/// machine is.
fn pause() -> Duration {
    Duration::from_millis(20).max(age() / 4)
}

/// Not a test of its own: the recorded program.
#[test]
fn program() {
    let Ok(task) = std::env::var(TASK) else { return };
    tracing_subscriber::registry().with(SpanLayer::new()).init();
    match task.as_str() {
        "answers_kept_past_their_requests" => answers_kept_past_their_requests(),
        "answers_used_by_their_requests" => answers_used_by_their_requests(),
        "answers_of_long_requests" => answers_of_long_requests(),
        other => panic!("no program: {other}"),
    }
}

#[inline(never)]
fn answer() -> Vec<u8> {
    black_box(Vec::with_capacity(100_000))
}

fn keep_another(kept: &mut VecDeque<Vec<u8>>) {
    kept.push_back(answer());
    if kept.len() > 3 {
        kept.pop_front();
    }
}

/// Each answer is made in a moment, and stays until three more are there.
#[inline(never)]
fn answers_kept_past_their_requests() {
    let mut kept = VecDeque::new();
    let pause = pause();
    for _ in 0..REQUESTS {
        info_span!("request").in_scope(|| {
            keep_another(&mut kept);
        });
        thread::sleep(pause);
    }
}

/// Made in a moment, and used for as long as the request goes on.
#[inline(never)]
fn answers_used_by_their_requests() {
    let pause = pause();
    for _ in 0..REQUESTS {
        info_span!("request").in_scope(|| {
            let answer = info_span!("prepare").in_scope(answer);
            thread::sleep(pause);
            black_box(answer.capacity());
        });
    }
}

/// As many are kept as above, but the spans that made them last as long.
#[inline(never)]
fn answers_of_long_requests() {
    let mut kept = VecDeque::new();
    let pause = pause();
    for _ in 0..REQUESTS {
        info_span!("request").in_scope(|| {
            keep_another(&mut kept);
            thread::sleep(pause);
        });
    }
}

/// What is found late of the answers of a program.
fn late_answers(task: &str) -> Option<Finding> {
    let (_directory, recording) = record(task);
    late(&recording, "advise_spans::answer")
}

#[test]
fn what_is_kept_past_its_request_is_found() {
    let found = late_answers("answers_kept_past_their_requests").expect("found");
    let Evidence::LateDrops { late, span: Some(span), .. } = &found.evidence else {
        panic!("{found:?}")
    };
    assert!(*late > HALF && &*span.name == "request", "{found:?}");
    assert!(span.held_bytes > 100_000, "{found:?}");
}

#[test]
fn what_is_used_by_its_request_is_not_late_nor_what_lives_about_as_long_as_its_span() {
    for task in ["answers_used_by_their_requests", "answers_of_long_requests"] {
        let late = late_answers(task).map_or(0, |found| match found.evidence {
            Evidence::LateDrops { late, .. } => late,
            other => panic!("{task}: {other:?}"),
        });
        assert!(late < HALF, "{task}: {late}");
    }
}
