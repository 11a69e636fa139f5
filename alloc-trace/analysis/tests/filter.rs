//! Hand-written records in, the figures of the part that a filter picks out.

mod support;

use alloc_trace_analysis::{
    Advice, AnalysisError, Events, Filter, Leaks, Moment, Options, Regex, Summary, Thresholds,
};
use alloc_trace_format::{EventKind, Record, ThreadId};

use support::{Script, alloc, at, failed, free, realloc};

/// Seven requests and what becomes of them, at 1,010, 1,020 and so on.
fn script() -> Script {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.thread(2, "worker", false);
    script.node(2, 0, 0x100);
    script.node(3, 0, 0x200);
    script.span(1, None, "server", "");
    script.span(2, Some(1), "request", "");
    script.event(at(2, alloc(1, 0x10, 100))); // 10: live to the end
    script.event(at(3, alloc(2, 0x20, 200))); // 20: freed by the other thread at 30
    script.event(at(2, free(1, 0x20, 200))); // 30
    script.now += 1_000;
    marker(&mut script, "warm");
    script.enter(1, 2);
    script.event(at(3, alloc(1, 0x30, 300))); // 1,041: reallocated at 1,051
    script.event(at(2, realloc(1, (0x30, 300), (0x40, 1_000)))); // 1,051: the peak
    script.exit(1, 2);
    script.event(at(2, free(1, 0x40, 1_000))); // 1,062
    script.event(at(2, failed(alloc(1, 0, 5_000)))); // 1,072
    script.event(free(2, 0x999, 77)); // 1,082: of an older block
    script.end();
    script
}

fn marker(script: &mut Script, text: &str) {
    let (thread, stamp) = (ThreadId(1), script.now);
    script.record(1, Record::Marker { thread, stamp, text: text.into() });
}

fn summary(filter: Filter) -> Summary {
    script().summary_with(Options::default().filter(filter))
}

/// Of the figures: requests, frees, bytes allocated, peak, live at the end.
fn figures(filter: Filter) -> [u64; 5] {
    let total = summary(filter).total;
    let live = total.live_bytes_at_end;
    assert_eq!(live, total.allocated_bytes - total.freed_bytes);
    [total.requests(), total.frees, total.allocated_bytes, total.peak_bytes, live]
}

#[test]
fn without_a_filter_everything_counts() {
    assert!(Filter::default().is_empty());
    assert_eq!(figures(Filter::default()), [5, 3, 1_600, 1_100, 100]);
    assert_eq!(summary(Filter::default()).unmatched_frees, 1);
}

#[test]
fn a_free_goes_with_its_block_whoever_makes_it() {
    let worker = summary(Filter::default().thread("worker"));
    assert_eq!((worker.total.requests(), worker.total.frees), (1, 1), "freed by main");
    assert_eq!(worker.unmatched_frees, 0, "what is older than the recording is in no part");
    assert_eq!(figures(Filter::default().thread("2")), [1, 1, 200, 200, 0]);
    assert_eq!(figures(Filter::default().thread("1").thread("worker")), [5, 2, 1_600, 1_100, 100]);
    assert_eq!(figures(Filter::default().thread("nobody")), [0; 5]);
}

#[test]
fn a_reallocation_s_halves_are_picked_each_by_its_own_request() {
    let of_site = |pattern| figures(Filter::default().site(Regex::new(pattern).expect("sound")));
    // The old block alone, then the new one alone.
    assert_eq!(of_site("0x200"), [2, 1, 500, 300, 0]);
    assert_eq!(of_site("^.0x100.$"), [3, 1, 1_100, 1_100, 100]);
    assert_eq!(of_site("0x[12]00"), [5, 2, 1_600, 1_100, 100]);
}

#[test]
fn spans_are_picked_with_those_in_them() {
    assert_eq!(figures(Filter::default().span("server")), [2, 1, 1_300, 1_000, 0]);
    assert_eq!(figures(Filter::default().span("request")), [2, 1, 1_300, 1_000, 0]);
    assert_eq!(figures(Filter::default().span("other")), [0; 5]);
}

#[test]
fn sizes_and_kinds_are_the_request_s_own() {
    assert_eq!(figures(Filter::default().sizes(200..=300)), [2, 1, 500, 300, 0]);
    assert_eq!(figures(Filter::default().kind(EventKind::Realloc)), [1, 1, 1_000, 1_000, 0]);
    assert_eq!(figures(Filter::default().kind(EventKind::Free)), [0; 5]);
    let both = Filter::default().sizes(..=200).thread("main");
    assert_eq!(figures(both), [1, 0, 100, 100, 100]);
}

#[test]
fn times_are_those_of_the_request() {
    assert_eq!(figures(Filter::default().to(Moment::Ns(20))), [2, 1, 300, 300, 100]);
    assert_eq!(figures(Filter::default().from(Moment::Ns(1_050))), [2, 1, 1_000, 1_000, 0]);
    let marker = Moment::Marker("warm".into());
    assert_eq!(figures(Filter::default().from(marker.clone())), [3, 1, 1_300, 1_000, 0]);
    let to_peak = Filter::default().from(marker).to(Moment::Peak);
    assert_eq!(figures(to_peak), [2, 1, 1_300, 1_000, 0]);
}

#[test]
fn a_lifetime_ends_with_the_free_the_reallocation_or_the_recording() {
    assert_eq!(figures(Filter::default().lifetimes(..=10)), [2, 1, 500, 300, 0]);
    assert_eq!(figures(Filter::default().lifetimes(11..100)), [1, 1, 1_000, 1_000, 0]);
    assert_eq!(figures(Filter::default().lifetimes(1_000..)), [1, 0, 100, 100, 100]);
}

#[test]
fn what_was_live_at_a_moment_had_been_obtained_and_not_released() {
    let live_at = |moment| figures(Filter::default().live_at(moment));
    assert_eq!(live_at(Moment::Ns(9)), [0; 5]);
    assert_eq!(live_at(Moment::Ns(20)), [2, 1, 300, 300, 100]);
    assert_eq!(live_at(Moment::Ns(30)), [1, 0, 100, 100, 100]);
    assert_eq!(live_at(Moment::Peak), [2, 1, 1_100, 1_100, 100]);
}

#[test]
fn a_temporary_allocation_is_one_whatever_is_picked() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 10));
    script.event(alloc(1, 0x20, 99));
    script.event(free(1, 0x10, 10));
    script.event(free(1, 0x20, 99));
    script.end();
    let summary = script.summary_with(Options::default().filter(Filter::default().sizes(10..=10)));
    assert_eq!(summary.total.temporary_allocations, 0, "another request came in between");
}

#[test]
fn events_are_picked_each_by_itself() {
    let events = |filter: Filter| {
        let recording = script().recording();
        let mut events = Events::of(&recording, Options::default().filter(filter)).expect("read");
        let mut numbers = Vec::new();
        while let Some(event) = events.next_row().expect("readable") {
            numbers.push(event.seq);
        }
        numbers
    };
    assert_eq!(events(Filter::default()), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(events(Filter::default().thread("main")), [1, 3, 4, 5, 6, 7]);
    assert_eq!(events(Filter::default().kind(EventKind::Free)), [3, 6, 8]);
    assert_eq!(events(Filter::default().from(Moment::Ns(30)).to(Moment::Peak)), [3, 4, 5]);
    assert_eq!(events(Filter::default().lifetimes(11..100)), [5, 6], "and the free of it");
}

#[test]
fn leaks_and_advice_are_of_what_is_picked() {
    let mut script = script();
    for number in 0..20 {
        script.event(at(2, alloc(1, 0x1000 + 0x10 * number, 8)));
        script.event(at(3, alloc(1, 0x2000 + 0x10 * number, 8)));
    }
    let recording = script.recording();
    let options = || {
        let pattern = Regex::new("0x200").expect("sound");
        Options::default().filter(Filter::default().site(pattern))
    };
    let leaks = Leaks::of(&recording, options()).expect("readable");
    assert_eq!((leaks.blocks, leaks.bytes, leaks.sites.len()), (20, 160, 1));
    let advice = Advice::of(&recording, options(), Thresholds::default()).expect("readable");
    let sites: Vec<&str> = advice.findings.iter().map(|found| &*found.site.function).collect();
    assert_eq!(sites, ["[0x200]"]);
}

#[test]
fn a_marker_that_there_is_not_is_an_error_that_lists_those_there_are() {
    let recording = script().recording();
    let filter = Filter::default().from(Moment::Marker("cold".into()));
    let error = Summary::of(&recording, Options::default().filter(filter)).expect_err("no marker");
    assert!(matches!(error, AnalysisError::NoSuchMarker { .. }));
    assert_eq!(
        error.to_string(),
        "no time and no marker: `cold`; the recording's markers are: warm"
    );
}
