//! Hand-written records in, exact figures of what was never freed out.

mod support;

use alloc_trace_analysis::{Leaks, Limited, Options};

use support::{Script, alloc, at, free, realloc};

#[test]
fn what_was_never_freed_is_told_by_call_site_with_ages_threads_and_spans() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.thread(2, "worker", false);
    script.thread(3, "alloc-trace", true);
    script.node(2, 0, 0x100);
    script.node(3, 0, 0x200);
    script.span(1, None, "request", "id=1");
    script.event(at(2, alloc(1, 0x10, 100)));
    script.enter(2, 1);
    script.event(at(2, alloc(2, 0x20, 300)));
    script.event(at(2, alloc(2, 0x30, 50)));
    script.exit(2, 1);
    script.event(free(1, 0x30, 50));
    script.event(at(2, alloc(1, 0x40, 10)));
    script.event(at(3, realloc(1, (0x40, 10), (0x50, 20))));
    script.event(at(3, alloc(3, 0x60, 7)));
    script.end();
    let leaks = Leaks::of(&script.recording(), Options::default()).expect("readable");
    assert!(leaks.state.complete);
    assert_eq!((leaks.blocks, leaks.bytes), (3, 420), "none of the recorder's own");
    let [first, second] = leaks.sites.as_slice() else { panic!("two call sites") };
    assert_eq!(&*first.site.function, "[0x100]");
    assert_eq!((first.blocks, first.bytes, first.obtained_blocks), (2, 400, 4));
    assert_eq!((first.min_size, first.max_size), (100, 300));
    // Stamps 1,010 and 1,021 of a recording that ended at 1,072.
    assert_eq!((first.oldest_age_ns, first.youngest_age_ns), (62, 51));
    let threads: Vec<_> =
        first.threads.iter().map(|row| (row.name.as_deref(), row.blocks, row.bytes)).collect();
    assert_eq!(threads, [(Some("worker"), 1, 300), (Some("main"), 1, 100)]);
    let spans: Vec<_> = first.spans.iter().map(|row| (&*row.name, row.blocks, row.bytes)).collect();
    assert_eq!(spans, [("request", 1, 300)]);
    assert_eq!((&*second.site.function, second.blocks, second.bytes), ("[0x200]", 1, 20));
    assert_eq!(second.oldest_age_ns, 10, "counted from the reallocation");
}

#[test]
fn where_everything_was_freed_there_is_no_call_site() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 100));
    script.event(free(1, 0x10, 100));
    let leaks = Leaks::of(&script.recording(), Options::default()).expect("readable");
    assert_eq!((leaks.blocks, leaks.sites), (0, Vec::new()));
    assert!(!leaks.state.complete);
}

#[test]
fn a_limit_is_kept_up_to_and_with_its_value() {
    let mut script = Script::new();
    script.event(alloc(1, 0x10, 100));
    script.event(alloc(1, 0x20, 50));
    script.event(free(1, 0x20, 50));
    script.end();
    let summary = script.summary();
    for (limit, actual) in [
        (Limited::Peak, 150.0),
        (Limited::Leaked, 100.0),
        (Limited::LeakedBlocks, 1.0),
        (Limited::Allocations, 2.0),
        (Limited::Bytes, 150.0),
        (Limited::Temporary, 50.0),
    ] {
        let checked = limit.check(actual, &summary);
        assert_eq!((checked.actual, checked.kept), (actual, true), "{limit:?}");
        assert!(!limit.check(actual - 0.5, &summary).kept, "{limit:?}");
    }
    let mut nothing = Script::new();
    nothing.end();
    assert!(Limited::Temporary.check(0.0, &nothing.summary()).kept);
}
