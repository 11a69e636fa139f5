//! Hand-written records in, exact numbers out.

mod support;

use alloc_trace_analysis::{
    By, CallTreeWeights, Events, Figures, Grouped, Leaks, Options, RecordingEnd,
};
use alloc_trace_format::{EndReason, Event, EventKind, Module, Record, ThreadId};

use support::{Script, alloc, at, failed, free, realloc};

#[test]
fn every_kind_of_event_counts_in_its_own_figure() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 100));
    script.event(Event { kind: EventKind::AllocZeroed, ..alloc(1, 0x20, 50) });
    script.event(realloc(1, (0x10, 100), (0x30, 300)));
    script.event(failed(alloc(1, 0, 1 << 40)));
    script.event(failed(realloc(1, (0x30, 300), (0, 1 << 40))));
    script.event(free(1, 0x20, 50));
    script.end();
    let summary = script.summary();
    let expected = Figures {
        events: 6,
        allocations: 2,
        zeroed_allocations: 1,
        reallocations: 2,
        frees: 1,
        failed_requests: 2,
        temporary_allocations: 0,
        allocated_bytes: 450,
        freed_bytes: 150,
        peak_bytes: 350,
        peak_at_ns: 30,
        at_peak_bytes: 350,
        at_peak_blocks: 2,
        live_bytes_at_end: 300,
        live_blocks_at_end: 1,
        lifetime_ns: 20 + 40 + 30,
    };
    assert_eq!(summary.total, expected);
    assert_eq!(summary.threads, 1);
    assert_eq!(summary.by_thread[0].figures, expected);
    assert_eq!(summary.duration_ns, 60);
    assert_eq!((summary.lost_records, summary.complete), (0, true));
    assert_eq!(summary.end, Some(RecordingEnd::Exited));
    assert_eq!(summary.started_at_unix_ns, 5);
}

#[test]
fn releases_of_older_blocks_count_apart_and_live_stays_allocated_minus_freed() {
    let mut script = Script::new();
    script.event(free(1, 0x10, 64));
    script.event(realloc(1, (0x20, 32), (0x30, 40)));
    script.end();
    let summary = script.summary();
    assert_eq!((summary.unmatched_frees, summary.unmatched_freed_bytes), (2, 96));
    let total = summary.total;
    assert_eq!((total.allocated_bytes, total.freed_bytes, total.live_bytes_at_end), (40, 0, 40));
    assert_eq!((total.frees, total.reallocations, total.events), (1, 1, 2));
}

#[test]
fn a_temporary_allocation_is_freed_before_its_thread_allocates_again() {
    let mut script = Script::new();
    // Freed at once: temporary.
    script.event(alloc(1, 0x10, 1));
    script.event(free(1, 0x10, 1));
    // Another one came between: only the inner one is.
    script.event(alloc(1, 0x20, 1));
    script.event(alloc(1, 0x30, 1));
    script.event(free(1, 0x30, 1));
    script.event(free(1, 0x20, 1));
    // Freed by another thread, which allocates in between: temporary.
    script.event(alloc(1, 0x40, 1));
    script.event(alloc(2, 0x50, 1));
    script.event(free(2, 0x40, 1));
    // A failed request is none that ends it: temporary. Thread 2's block from before is too.
    script.event(alloc(1, 0x60, 1));
    script.event(failed(alloc(1, 0, 1)));
    script.event(free(1, 0x60, 1));
    script.event(free(1, 0x50, 1));
    // Reallocated: the old block is not freed by that, the new one is freed at once.
    script.event(alloc(1, 0x70, 1));
    script.event(realloc(1, (0x70, 1), (0x80, 2)));
    script.event(free(1, 0x80, 2));
    script.end();
    let summary = script.summary();
    assert_eq!(summary.total.temporary_allocations, 6);
    assert_eq!(summary.by_thread[0].figures.temporary_allocations, 5);
    assert_eq!(summary.by_thread[1].figures.temporary_allocations, 1);
}

#[test]
fn blocks_belong_to_the_thread_that_obtained_them_and_counts_to_the_one_that_acted() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.thread(2, "worker", false);
    script.event(alloc(1, 0x10, 100));
    script.event(alloc(1, 0x20, 30));
    script.event(free(2, 0x10, 100));
    script.event(realloc(2, (0x20, 30), (0x20, 40)));
    script.end();
    let summary = script.summary();
    let [main, worker] = summary.by_thread.as_slice() else { panic!("two threads") };
    assert_eq!((main.thread, main.name.as_deref(), main.os_thread), (1, Some("main"), Some(101)));
    let main = main.figures;
    assert_eq!((main.events, main.allocations, main.frees), (2, 2, 0));
    assert_eq!((main.allocated_bytes, main.freed_bytes, main.live_bytes_at_end), (130, 130, 0));
    let worker = worker.figures;
    assert_eq!((worker.events, worker.frees, worker.reallocations), (2, 1, 1));
    assert_eq!((worker.allocated_bytes, worker.freed_bytes, worker.live_bytes_at_end), (40, 0, 40));
}

#[test]
fn of_sizes_that_no_heap_can_have_every_analysis_says_the_same() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    let half = u64::MAX / 2 + 1;
    script.event(alloc(1, 0x10, u64::MAX));
    script.event(alloc(1, 0x20, u64::MAX));
    script.event(alloc(1, 0x30, half));
    script.event(free(1, 0x10, u64::MAX));
    script.event(free(1, 0x20, u64::MAX));
    script.end();
    let summary = script.summary();
    let recording = script.recording();
    let options = Options::default;
    let total = summary.total;
    assert_eq!((total.allocated_bytes, total.freed_bytes), (u64::MAX, u64::MAX));
    assert_eq!((total.peak_bytes, total.peak_at_ns, total.at_peak_bytes), (u64::MAX, 10, u64::MAX));
    assert_eq!((total.live_blocks_at_end, total.live_bytes_at_end), (1, half));
    assert_eq!(summary.by_thread[0].figures, total);
    assert_eq!(summary.sites[0].figures, total);
    assert_eq!(Leaks::of(&recording, options()).expect("readable").bytes, half);
    assert_eq!(CallTreeWeights::of(&recording, options()).expect("readable").total, total);
    for by in [By::Site, By::Size, By::Lifetime] {
        assert_eq!(
            Grouped::of(&recording, options(), by).expect("readable").total,
            total,
            "{by:?}"
        );
    }
}

#[test]
fn a_site_s_peak_is_its_own() {
    let mut script = Script::new();
    script.node(2, 0, 0x100);
    script.node(3, 0, 0x200);
    script.event(at(2, alloc(1, 0x10, 100)));
    script.event(at(2, free(1, 0x10, 100)));
    script.event(at(3, alloc(1, 0x20, 60)));
    script.event(at(2, alloc(1, 0x30, 70)));
    script.end();
    let summary = script.summary();
    assert_eq!((summary.total.peak_bytes, summary.total.peak_at_ns), (130, 40));
    let sites: Vec<_> = summary
        .sites
        .iter()
        .map(|row| (&*row.site.function, row.figures.peak_bytes, row.figures.peak_at_ns))
        .collect();
    assert_eq!(sites, [("[0x100]", 100, 10), ("[0x200]", 60, 30)]);
}

#[test]
fn nodes_that_share_a_site_share_its_peak() {
    let mut script = Script::new();
    // Three numbers, two backtraces, one innermost frame.
    script.node(2, 0, 0x900);
    script.node(3, 2, 0x100);
    script.node(4, 0, 0x800);
    script.node(5, 4, 0x100);
    script.node(6, 2, 0x100);
    for (number, node) in [(1, 3), (2, 5), (3, 6)] {
        script.event(at(node, alloc(1, number * 0x10, 10)));
    }
    for number in 1..=3 {
        script.event(free(1, number * 0x10, 10));
    }
    script.end();
    let summary = script.summary();
    let [asking, freeing] = summary.sites.as_slice() else { panic!("{:?}", summary.sites) };
    assert_eq!((asking.figures.peak_bytes, asking.figures.freed_bytes), (30, 30));
    // Where blocks are only freed is a site too: the frees were made there.
    assert_eq!((freeing.figures.requests(), freeing.figures.frees), (0, 3));
    assert_eq!((asking.figures.frees, freeing.figures.freed_bytes), (0, 0));
}

#[test]
fn a_reallocation_moves_the_bytes_to_its_own_site() {
    let mut script = Script::new();
    script.node(2, 0, 0x100);
    script.node(3, 0, 0x200);
    script.event(at(2, alloc(1, 0x10, 100)));
    script.event(at(3, realloc(1, (0x10, 100), (0x10, 120))));
    script.end();
    let summary = script.summary();
    let live: Vec<_> = summary
        .sites
        .iter()
        .map(|row| (&*row.site.function, row.figures.live_bytes_at_end))
        .collect();
    assert_eq!(live, [("[0x200]", 120), ("[0x100]", 0)]);
}

#[test]
fn events_without_a_backtrace_and_with_a_lost_one_have_sites_that_say_so() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 2));
    script.event(at(77, alloc(1, 0x20, 1)));
    script.end();
    let summary = script.summary();
    let sites: Vec<_> = summary.sites.iter().map(|row| &*row.site.function).collect();
    assert_eq!(sites, ["[no backtrace]", "[unknown]"]);
}

#[test]
fn a_node_defined_after_its_use_in_another_stream_is_known() {
    let mut script = Script::new();
    script.event(at(2, alloc(2, 0x10, 1)));
    script.now += 100;
    script.event(alloc(1, 0x20, 1));
    script.node(2, 0, 0x100);
    script.end();
    let summary = script.summary();
    assert!(summary.sites.iter().any(|row| &*row.site.function == "[0x100]"));
}

#[test]
fn the_recorder_s_own_events_are_in_no_figure() {
    let mut script = Script::new();
    // Known as the recorder's only after its first event.
    script.event(alloc(2, 0x10, 1_000));
    script.thread(2, "alloc-trace", true);
    script.event(alloc(1, 0x20, 10));
    script.event(alloc(1, 0x30, 5));
    // The program frees the recorder's block, the recorder one of the program's.
    script.event(free(1, 0x10, 1_000));
    script.event(free(2, 0x20, 10));
    // The address is the program's from here on.
    script.event(alloc(1, 0x10, 7));
    script.event(failed(alloc(2, 0, 9)));
    script.end();
    let summary = script.summary();
    assert_eq!(summary.internal_events, 4);
    assert_eq!(summary.threads, 1);
    let total = summary.total;
    assert_eq!((total.events, total.frees, total.failed_requests), (3, 0, 0));
    assert_eq!((total.allocated_bytes, total.freed_bytes, total.live_bytes_at_end), (22, 10, 12));
    assert_eq!(total.live_blocks_at_end, 2);
    assert_eq!(summary.lost_records, 0, "the closing record counts the recorder's too");
}

#[test]
fn an_address_given_out_twice_means_that_a_free_is_missing() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 100));
    script.event(alloc(1, 0x10, 60));
    script.end();
    let summary = script.summary();
    assert_eq!(summary.inferred_frees, 1);
    assert_eq!(summary.total.frees, 0);
    assert_eq!((summary.total.freed_bytes, summary.total.live_bytes_at_end), (100, 60));
    assert_eq!(summary.total.live_blocks_at_end, 1);
}

#[test]
fn spans_count_what_happens_in_them_and_not_in_those_within() {
    let mut script = Script::new();
    script.span(1, None, "request", "id=1");
    script.span(2, Some(1), "parse", "");
    script.event(alloc(1, 0x10, 1));
    script.enter(1, 1);
    script.event(alloc(1, 0x20, 20));
    script.enter(1, 2);
    script.event(alloc(1, 0x30, 300));
    script.event(free(1, 0x20, 20));
    script.exit(1, 2);
    script.event(alloc(1, 0x40, 4));
    script.exit(1, 1);
    script.event(free(1, 0x30, 300));
    script.end();
    let summary = script.summary();
    let [parse, request] = summary.by_span.as_slice() else { panic!("two spans") };
    assert_eq!((&*parse.name, &*request.name, parse.fields.as_deref()), ("parse", "request", None));
    assert_eq!((parse.spans, parse.level, &*parse.target), (1, 3, "app"));
    let (parse, request) = (parse.figures, request.figures);
    assert_eq!((parse.events, parse.allocations, parse.frees), (2, 1, 1));
    assert_eq!((parse.allocated_bytes, parse.peak_bytes, parse.live_bytes_at_end), (300, 300, 0));
    assert_eq!((request.events, request.allocations), (2, 2));
    assert_eq!((request.allocated_bytes, request.freed_bytes), (24, 20));
    assert_eq!((request.peak_bytes, request.live_blocks_at_end), (20, 1));
}

#[test]
fn spans_of_one_name_are_told_apart_by_fields_on_request() {
    let mut script = Script::new();
    for id in 1..=2 {
        script.span(id, None, "request", &format!("id={id}"));
        script.enter(1, id);
        script.event(alloc(1, id * 0x10, id));
        script.exit(1, id);
    }
    script.end();
    assert_eq!(script.summary().by_span.len(), 1);
    assert_eq!(script.summary().by_span[0].spans, 2);
    let apart = script.summary_with(Options::default().span_fields(true));
    let fields: Vec<_> = apart.by_span.iter().map(|row| row.fields.as_deref()).collect();
    assert_eq!(fields, [Some("id=2"), Some("id=1")]);
}

#[test]
fn a_recording_without_its_closing_record_is_incomplete() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 1));
    let summary = script.summary();
    assert!(!summary.complete);
    assert_eq!(summary.end, None);
}

#[test]
fn a_recording_that_could_not_be_written_on_is_incomplete() {
    let mut script = Script::new();
    let (stamp, reason) = (script.now, EndReason::WriteFailed);
    script.record(1, Record::End { stamp, reason, events: 0 });
    assert!(!script.summary().complete);
}

#[test]
fn lost_records_are_those_counted_and_those_that_the_end_proves_missing() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 1));
    script.record(1, Record::Lost { thread: ThreadId(1), records: 3 });
    let stamp = script.now;
    script.record(1, Record::End { stamp, reason: EndReason::Exited, events: 5 });
    let summary = script.summary();
    assert_eq!(summary.lost_records, 3 + 4);
}

#[test]
fn sizes_beyond_any_heap_neither_wrap_nor_panic() {
    let mut script = Script::new();
    for number in 1..=3 {
        script.event(alloc(1, number * 0x10, u64::MAX));
    }
    script.event(free(1, 0x10, u64::MAX));
    script.end();
    assert_eq!(script.summary().total.allocated_bytes, u64::MAX);
}

#[test]
fn events_come_with_their_span_site_and_thread() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.thread(2, "alloc-trace", true);
    script.node(2, 0, 0x123);
    script.span(1, None, "server", "");
    script.span(2, Some(1), "request", "id=7");
    script.event(alloc(2, 0x99, 1));
    script.enter(1, 2);
    script.event(at(2, realloc(1, (0x10, 4), (0x20, 8))));
    script.exit(1, 2);
    script.event(free(1, 0x20, 8));
    script.end();
    let recording = script.recording();
    let mut events = Events::of(&recording, Options::default()).expect("readable");
    let row = events.next_row().expect("readable").expect("an event");
    assert_eq!((row.seq, row.time_ns, row.thread, row.thread_name), (1, 21, 1, Some("main")));
    assert_eq!((row.kind, row.failed), (EventKind::Realloc, false));
    assert_eq!((row.address, row.size, row.align), (0x20, 8, 8));
    assert_eq!((row.old_address, row.old_size), (Some(0x10), Some(4)));
    assert_eq!(&*row.site.function, "[0x123]");
    let span = row.span.expect("in a span");
    assert_eq!((span.name, span.target, span.fields), ("request", "app", "id=7"));
    let path: Vec<&str> = span.path.iter().map(|name| &**name).collect();
    assert_eq!(path, ["server", "request"]);
    let row = events.next_row().expect("readable").expect("an event");
    assert_eq!((row.seq, row.kind, row.old_address), (2, EventKind::Free, None));
    assert!(row.span.is_none());
    assert!(events.next_row().expect("readable").is_none());
    assert!(events.state().complete && events.state().skipped.is_empty());
}

#[test]
fn a_module_that_is_not_there_is_told_and_its_frames_are_offsets() {
    let mut script = Script::new();
    let module = Module {
        stamp: 1_000,
        bias: 0x5000,
        start: 0x5000,
        end: 0x6000,
        build_id: [1, 2, 3].into(),
        path: "/nowhere/app".into(),
    };
    script.record(1, Record::Module(Box::new(module)));
    script.node(2, 0, 0x5123);
    script.event(at(2, alloc(1, 0x10, 1)));
    script.end();
    let summary = script.summary();
    assert_eq!(&*summary.sites[0].site.function, "[app+0x123]");
    assert_eq!(summary.symbol_problems.len(), 1);
    assert!(summary.symbol_problems[0].to_string().starts_with("/nowhere/app: no names"));
    let quiet = script.summary_with(Options::default().symbols(false));
    assert_eq!(&*quiet.sites[0].site.function, "[app+0x123]");
    assert!(quiet.symbol_problems.is_empty());
}

#[test]
fn in_a_program_without_names_the_allocator_is_known_by_its_place_in_all_backtraces() {
    let sites = |callers: u64, innermost: u64| {
        let mut script = Script::new();
        script.thread(1, "main", false);
        let module = Module {
            stamp: 1_000,
            bias: 0x1000,
            start: 0x1000,
            end: 0x9000,
            build_id: Box::default(),
            path: "/nowhere/app".into(),
        };
        script.record(1, Record::Module(Box::new(module)));
        script.node(2, 0, 0x2000);
        for caller in 0..callers {
            let node = 3 + 2 * caller as u32;
            script.node(node, 2, 0x3000 + caller);
            script.node(node + 1, node, 0x4000 + caller % innermost);
            script.event(at(node + 1, alloc(1, 0x10_0000 + 64 * caller, 10)));
        }
        script.end();
        let sites = script.summary().sites;
        let mut sites: Vec<String> = sites.iter().map(|it| it.site.function.to_string()).collect();
        sites.sort();
        sites
    };
    let offsets = |base: u64, count: u64| -> Vec<String> {
        (base..base + count).map(|offset| format!("[app+{offset:#x}]")).collect()
    };
    assert_eq!(sites(8, 3), offsets(0x2000, 8), "the callers, not what they all call");
    // Where it may be the program that is innermost.
    assert_eq!(sites(6, 3), offsets(0x3000, 3));
    assert_eq!(sites(20, 6), offsets(0x3000, 6));
}
