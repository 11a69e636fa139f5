//! Hand-written records in, exact findings out: what each rule finds, and what only looks like it.

mod support;

use std::sync::Arc;

use alloc_trace_analysis::{Advice, Evidence, Finding, Options, Reserve, Rule, Thresholds};
use alloc_trace_format::{Event, Record, ThreadId};

use support::{Script, alloc, at, free, realloc};

/// `main` → `job` → `make`, `job` → `drop`, `main` → `other`, and `main` → another call of `job`.
const MAKE: u32 = 4;
const DROP: u32 = 5;
const OTHER: u32 = 6;
const JOB_AGAIN_DROP: u32 = 8;

fn script() -> Script {
    let mut script = Script::new();
    for thread in 1..=2 {
        script.thread(thread, "", false);
    }
    for (id, parent, address) in [
        (2, 0, 0x10),
        (3, 2, 0x20),
        (MAKE, 3, 0x30),
        (DROP, 3, 0x40),
        (OTHER, 0, 0x11),
        (7, 0, 0x12),
        (JOB_AGAIN_DROP, 7, 0x40),
    ] {
        script.node(id, parent, address);
    }
    script
}

fn advice(script: &mut Script) -> Advice {
    script.end();
    Advice::of(&script.recording(), Options::default(), Thresholds::default()).expect("readable")
}

fn of_rule(advice: &Advice, rule: Rule) -> Option<&Finding> {
    let mut found = advice.findings.iter().filter(|finding| finding.rule == rule);
    let finding = found.next();
    assert!(found.next().is_none(), "one call site");
    finding
}

/// So many blocks, one after the other, with an event of the thread between each one's two.
fn one_after_the_other(between: impl Fn(&mut Script), freed_at: u32) -> Advice {
    let mut script = script();
    for _ in 0..20 {
        script.event(at(MAKE, alloc(1, 0x1000, 32)));
        between(&mut script);
        script.event(at(freed_at, free(1, 0x1000, 32)));
    }
    advice(&mut script)
}

#[test]
fn blocks_within_one_activation_could_live_in_its_frame() {
    let advice = one_after_the_other(
        |script| {
            script.event(at(3, alloc(1, 0x2000, 5)));
            script.event(at(3, free(1, 0x2000, 5)));
        },
        DROP,
    );
    let found = advice
        .findings
        .iter()
        .find(|finding| &*finding.site.function == "[0x30]" && finding.rule == Rule::Stack)
        .expect("found");
    assert_eq!((found.blocks, found.bytes, found.events), (20, 640, 40));
    let expected = Evidence::Stack {
        min_size: 32,
        max_size: 32,
        enclosed: 20,
        at_once: 1,
        frame: Arc::from("[0x20]"),
        in_frame: 20,
        after_next: 0,
    };
    assert_eq!(found.evidence, expected);
    assert!(advice.backtraces && advice.state.complete);
}

#[test]
fn an_event_that_shows_that_the_frame_was_left_contradicts() {
    // Back in `main` in between: only `main`'s own activation goes on, at another of its calls.
    let advice =
        one_after_the_other(|script| script.event(at(OTHER, free(1, 0x9000, 1))), JOB_AGAIN_DROP);
    assert_eq!(of_rule(&advice, Rule::Stack), None);
}

#[test]
fn a_frame_that_the_recording_calls_new_is_another_activation() {
    for (kept, frame) in [(2, Some("[0x20]")), (1, Some("[0x10]")), (0, None)] {
        let advice = one_after_the_other(
            |script| {
                script.event(Event { kept_frames: Some(kept), ..at(MAKE, free(1, 0x9000, 1)) });
            },
            DROP,
        );
        let found = of_rule(&advice, Rule::Stack).map(|finding| match &finding.evidence {
            Evidence::Stack { frame, .. } => &**frame,
            other => panic!("{other:?}"),
        });
        assert_eq!(found, frame, "{kept} kept");
    }
}

#[test]
fn a_return_and_another_call_from_the_same_place_without_an_event_is_a_known_limit() {
    // Each block is freed by the next call of `job`, from the same place in `main`, before that
    // call's own allocation. Nothing in the recording tells that the first call returned.
    let advice = one_after_the_other(|_| (), DROP);
    assert!(of_rule(&advice, Rule::Stack).is_some());
}

#[test]
fn what_another_thread_frees_or_reallocates_is_no_candidate() {
    let mut script = script();
    for _ in 0..20 {
        script.event(at(MAKE, alloc(1, 0x1000, 32)));
        script.event(at(DROP, free(2, 0x1000, 32)));
        script.event(at(3, alloc(1, 0x2000, 32)));
        script.event(at(3, realloc(2, (0x2000, 32), (0x3000, 16))));
        script.event(at(3, free(1, 0x3000, 16)));
    }
    let advice = advice(&mut script);
    assert_eq!(of_rule(&advice, Rule::Stack), None);
}

#[test]
fn after_lost_records_no_frame_is_known_to_be_the_same() {
    let lost = Record::Lost { thread: ThreadId(1), records: 1 };
    let advice = one_after_the_other(|script| script.record(1, lost.clone()), DROP);
    assert_eq!(of_rule(&advice, Rule::Stack), None);
    assert_eq!(advice.state.lost_records, 20);
}

/// In each of three activations, so many blocks at a time.
fn many_at_once(blocks: u64, size: u64) -> Advice {
    let mut script = script();
    for _ in 0..3 {
        for number in 1..=blocks {
            script.event(at(MAKE, alloc(1, 0x1000 * number, size)));
        }
        for number in 1..=blocks {
            script.event(at(DROP, free(1, 0x1000 * number, size)));
        }
        script.event(at(OTHER, free(1, 0x9000_0000, 1)));
    }
    advice(&mut script)
}

#[test]
fn few_at_a_time_fit_a_frame_and_a_collection_does_not() {
    let few = many_at_once(16, 32);
    let found = of_rule(&few, Rule::Stack).expect("found");
    assert!(matches!(found.evidence, Evidence::Stack { at_once: 16, enclosed: 48, .. }));
    assert!(found.remedy.contains("ArrayVec of 16 with 32 bytes each"), "{}", found.remedy);
    for (blocks, size) in [(17, 32), (16, 512), (2000, 8), (5000, 8)] {
        let advice = many_at_once(blocks, size);
        assert_eq!(of_rule(&advice, Rule::Stack), None, "{blocks} of {size}");
    }
}

#[test]
fn blocks_of_an_earlier_activation_do_not_count_as_living_in_this_one() {
    let mut script = script();
    // A list that `main` keeps, made by `job` of which each call has one more block of its own.
    for round in 1..=30_u64 {
        script.event(at(MAKE, alloc(1, 0x1000, 32)));
        script.event(at(DROP, free(1, 0x1000, 32)));
        script.event(at(OTHER, alloc(1, 0x1_0000 * round, 32)));
    }
    let advice = advice(&mut script);
    let found = of_rule(&advice, Rule::Stack).expect("found");
    assert_eq!(&*found.site.function, "[0x30]");
    assert!(matches!(found.evidence, Evidence::Stack { at_once: 1, .. }));
}

#[test]
fn the_bound_depends_on_whether_the_size_is_fixed() {
    let of_sizes = |sizes: [u64; 2]| {
        let mut script = script();
        for number in 0..20 {
            let size = sizes[number % 2];
            script.event(at(MAKE, alloc(1, 0x1000, size)));
            script.event(at(DROP, free(1, 0x1000, size)));
        }
        of_rule(&advice(&mut script), Rule::Stack).map(|found| found.remedy.clone())
    };
    assert!(of_sizes([1024, 1024]).expect("found").contains("array of 1024 bytes"));
    assert_eq!(of_sizes([1025, 1025]), None);
    assert!(of_sizes([8, 256]).expect("found").contains("room for 256 bytes"));
    assert_eq!(of_sizes([8, 257]), None);
}

#[test]
fn without_backtraces_nothing_is_said_of_the_stack() {
    let mut script = Script::new();
    for _ in 0..20 {
        script.event(alloc(1, 0x1000, 32));
        script.event(free(1, 0x1000, 32));
    }
    let advice = advice(&mut script);
    assert!(!advice.backtraces);
    assert_eq!(of_rule(&advice, Rule::Stack), None);
}

#[test]
fn growth_is_told_with_the_capacities_that_would_have_served() {
    let mut script = script();
    // Nine grow to 64 bytes, one to 1,024; in steps of two, the first step in place.
    for number in 0..10 {
        let last = if number == 9 { 1024 } else { 64 };
        script.event(at(MAKE, alloc(1, 0x1000, 16)));
        script.event(at(MAKE, realloc(1, (0x1000, 16), (0x1000, 32))));
        let mut size = 32;
        while size < last {
            let (old, new) = (0x1000 * (size / 32), 0x1000 * (size / 16));
            script.event(at(MAKE, realloc(1, (old, size), (new, size * 2))));
            size *= 2;
        }
        script.event(at(DROP, free(1, 0x1000 * (size / 32), size)));
    }
    let advice = advice(&mut script);
    let found = of_rule(&advice, Rule::Growth).expect("found");
    // Nine times 16 + 32, and 16 + 32 + … + 512.
    assert_eq!((found.blocks, found.events, found.bytes), (10, 9 * 2 + 6, 9 * 48 + 1008));
    let expected = Evidence::Growth {
        grown: 10,
        reallocations: 24,
        moves: 14,
        capacity_50: 64,
        capacity_90: 64,
        capacity_100: 1024,
        element_size: None,
        reserve: Some(found_reserve(found)),
        worth_it: true,
        never_shrunk: 0,
        never_shrunk_bytes: 0,
    };
    assert_eq!(found.evidence, expected);
    assert!(found.remedy.contains("64 bytes"), "{}", found.remedy);
    // Ten times from 16 to 32 and to 64 bytes; nothing is smaller.
    assert_eq!(reserve(found), (64, 9, 20, 480, 0));
}

/// A capacity, how many it serves, the reallocations and copied bytes that it saves, and what it costs.
fn reserve(finding: &Finding) -> (u64, u64, u64, u64, u64) {
    let it = found_reserve(finding);
    (it.capacity, it.served, it.reallocations, it.copied_bytes, it.held_bytes)
}

fn found_reserve(finding: &Finding) -> Reserve {
    match finding.evidence {
        Evidence::Growth { reserve: Some(reserve), .. } => reserve,
        ref other => panic!("{other:?}"),
    }
}

/// So many lists of 32 bytes that never grow, and ten that grow to 4,096; all of them kept or not.
fn lists(small: u64, kept: bool) -> Advice {
    let mut script = script();
    for number in 1..=small + 10 {
        let mut address = 0x10_0000 * number;
        script.event(at(MAKE, alloc(1, address, 32)));
        let mut size = 32;
        while number > small && size < 4096 {
            let old = (address, size);
            (address, size) = (address + 0x2000, size * 2);
            script.event(at(MAKE, realloc(1, old, (address, size))));
        }
        if !kept {
            script.event(at(DROP, free(1, address, size)));
        }
    }
    advice(&mut script)
}

#[test]
fn a_capacity_is_weighed_against_what_the_blocks_would_hold_that_never_grow() {
    let found = |small, kept| {
        let advice = lists(small, kept);
        let found = of_rule(&advice, Rule::Growth).expect("found").clone();
        let worth_it = matches!(found.evidence, Evidence::Growth { worth_it: true, .. });
        assert_eq!(found.remedy.contains("no one capacity"), !worth_it, "{}", found.remedy);
        (worth_it, reserve(&found))
    };
    // Seven steps each, 32 + 64 + … + 2,048 bytes.
    assert_eq!(found(0, true), (true, (4096, 10, 70, 40_640, 0)));
    // Three that stay small would hold 4,064 bytes each for nothing: less than is saved.
    assert_eq!(found(3, true), (true, (4096, 10, 70, 40_640, 3 * 4064)));
    // A thousand such would hold 4 MB, to save copies of 40 KB.
    assert_eq!(found(1000, true), (false, (4096, 10, 70, 40_640, 1000 * 4064)));
    // Where one lives at a time that is held only once, but asked for a thousand times.
    let (worth_it, (.., held_bytes)) = found(1000, false);
    assert!(!worth_it && held_bytes < 4096, "{held_bytes}");
}

#[test]
fn what_shrinks_does_not_grow_and_what_stays_grown_is_told() {
    let mut script = script();
    for number in 1..=20 {
        script.event(at(MAKE, alloc(1, 0x1000 * number, 64)));
        script.event(at(MAKE, realloc(1, (0x1000 * number, 64), (0x1000 * number, 32))));
    }
    assert_eq!(of_rule(&advice(&mut script), Rule::Growth), None);

    let mut script = self::script();
    for number in 1..=20 {
        script.event(at(MAKE, alloc(1, 0x1000 * number, 32)));
        script.event(at(MAKE, realloc(1, (0x1000 * number, 32), (0x1000 * number, 64))));
    }
    script.now *= 3;
    let advice = advice(&mut script);
    let found = of_rule(&advice, Rule::Growth).expect("found");
    assert!(matches!(
        found.evidence,
        Evidence::Growth { never_shrunk: 20, never_shrunk_bytes: 1280, element_size: Some(8), .. }
    ));
    assert!(found.remedy.contains("with_capacity(8)"), "{}", found.remedy);
    assert!(found.remedy.contains("shrink_to_fit"), "{}", found.remedy);
}

/// One buffer after the other, each of the size that is asked for it.
fn buffers(size: impl Fn(u64) -> u64, kept: bool) -> Advice {
    let mut script = script();
    for number in 1..=200 {
        let address = if kept { 0x10_0000 * number } else { 0x1000 };
        script.event(at(MAKE, alloc(1, address, size(number))));
        if !kept {
            script.event(at(DROP, free(1, address, size(number))));
        }
    }
    advice(&mut script)
}

#[test]
fn one_buffer_after_the_other_could_be_one() {
    let advice = buffers(|_| 8192, false);
    let found = of_rule(&advice, Rule::Temporaries).expect("found");
    assert_eq!((found.blocks, found.events, found.bytes), (200, 398, 199 * 8192));
    let expected =
        Evidence::Temporaries { size: 8192, of_that_size: 200, max_size: 8192, repeats: 199 };
    assert_eq!(found.evidence, expected);
}

#[test]
fn few_buffers_are_told_where_they_are_a_part_of_what_the_program_requests() {
    let of = |others: u64| {
        let mut script = script();
        for _ in 0..20 {
            script.event(at(MAKE, alloc(1, 0x1000, 8192)));
            script.event(at(DROP, free(1, 0x1000, 8192)));
        }
        for number in 1..=others {
            script.event(at(OTHER, alloc(1, 0x10_0000 * number, 8192)));
        }
        of_rule(&advice(&mut script), Rule::Temporaries).map(|found| found.events)
    };
    assert_eq!(of(1000), Some(38), "nineteen of a thousand");
    assert_eq!(of(4000), None, "of four thousand");
}

#[test]
fn a_buffer_is_one_whatever_is_kept_beside_it() {
    let of = |kept_of_ten: u64| {
        let mut script = script();
        for number in 0..1000 {
            script.event(at(MAKE, alloc(1, 0x1000 + 0x1000 * number, 2000)));
            if number % 10 >= kept_of_ten {
                script.event(at(DROP, free(1, 0x1000 + 0x1000 * number, 2000)));
            }
        }
        of_rule(&advice(&mut script), Rule::Temporaries).map(|found| found.events)
    };
    assert_eq!(of(1), Some(2 * 899), "all but each first after a kept one");
    assert_eq!(of(6), None, "most are kept");
}

#[test]
fn what_is_freed_after_the_next_one_was_made_is_a_candidate_of_the_last_rank() {
    let mut script = script();
    // A field that each call of `job` replaces; and, less often, a value of its own.
    script.event(at(MAKE, alloc(1, 0x1000, 40)));
    for number in 2..=100_u64 {
        script.event(at(MAKE, alloc(1, 0x1000 * number, 40)));
        script.event(at(DROP, free(1, 0x1000 * (number - 1), 40)));
        if number % 5 == 0 {
            script.event(at(3, alloc(1, 0x10, 24)));
            script.event(at(3, free(1, 0x10, 24)));
        }
    }
    let advice = advice(&mut script);
    let stack: Vec<_> =
        advice.findings.iter().filter(|finding| finding.rule == Rule::Stack).collect();
    let [own, field] = stack.as_slice() else { panic!("{stack:?}") };
    assert_eq!((own.blocks, field.blocks), (20, 100), "the field's are more");
    assert!(field.remedy.starts_with("look first whether a field"), "{}", field.remedy);
    assert!(field.evidence.is_handed_on() && !own.evidence.is_handed_on());
    assert!(matches!(field.evidence, Evidence::Stack { enclosed: 99, after_next: 99, .. }));
    assert!(!own.remedy.contains("look first"), "{}", own.remedy);
}

#[test]
fn a_recording_without_events_lacks_no_backtraces() {
    let advice = advice(&mut script());
    assert!(advice.backtraces && advice.findings.is_empty());
}

#[test]
fn buffers_that_are_kept_or_of_many_sizes_are_not_used_again() {
    assert_eq!(of_rule(&buffers(|_| 8192, true), Rule::Temporaries), None);
    assert_eq!(of_rule(&buffers(|number| 4096 + number % 5, false), Rule::Temporaries), None);
}

/// A table that is freed so much later, when nothing more is made at its call site.
fn table(used_for_ns: u64, freed_after_ns: u64) -> Advice {
    let mut script = script();
    script.event(at(MAKE, alloc(1, 0x1000, 5000)));
    script.now += used_for_ns;
    script.event(at(MAKE, alloc(1, 0x8000, 5000)));
    script.now += freed_after_ns;
    script.event(at(DROP, free(1, 0x1000, 5000)));
    script.event(at(DROP, free(1, 0x8000, 5000)));
    advice(&mut script)
}

#[test]
fn a_late_drop_is_one_long_after_the_last_request_at_its_call_site() {
    const LONG: u64 = 100_000_000;
    let advice = table(0, LONG);
    let found = of_rule(&advice, Rule::LateDrops).expect("found");
    assert_eq!((found.blocks, found.bytes, found.events), (2, 10_000, 0));
    let least_idle_ns = LONG + 10;
    assert_eq!(found.evidence, Evidence::LateDrops { late: 2, least_idle_ns, span: None });
    assert_eq!(of_rule(&table(LONG, 100), Rule::LateDrops), None, "in use until then");
    assert_eq!(of_rule(&table(0, LONG - 100), Rule::LateDrops), None, "it may be read meanwhile");
    assert_eq!(of_rule(&table(LONG / 2, LONG), Rule::LateDrops), None, "two thirds, and only two");
}

#[test]
fn what_is_never_freed_is_a_leak_unless_it_is_little_of_it() {
    let leaking = |freed: u64| {
        let mut script = script();
        for number in 1..=20 {
            script.event(at(MAKE, alloc(1, 0x1000 * number, 3000)));
        }
        for number in 1..=freed {
            script.event(at(OTHER, free(1, 0x1000 * number, 3000)));
        }
        let advice = advice(&mut script);
        of_rule(&advice, Rule::Leaks).map(|found| (found.bytes, found.evidence.clone()))
    };
    let expected = Evidence::Leaks { never_freed: 15, in_quarters: [0, 5, 5, 5], over_ns: 190 };
    assert_eq!(leaking(5), Some((45_000, expected)));
    assert_eq!(leaking(10), None, "half of them were freed");
}

#[test]
fn what_is_left_behind_again_and_again_is_a_leak_and_what_is_kept_from_one_time_is_not() {
    let leaving = |is_left: fn(u64) -> bool| {
        let mut script = script();
        for number in 1..=1000 {
            script.event(at(MAKE, alloc(1, 0x1000 * number, 3000)));
            if !is_left(number) {
                script.event(at(OTHER, free(1, 0x1000 * number, 3000)));
            }
        }
        of_rule(&advice(&mut script), Rule::Leaks).map(|found| found.evidence.clone())
    };
    let expected =
        Evidence::Leaks { never_freed: 40, in_quarters: [10, 10, 10, 10], over_ns: 19_590 };
    assert_eq!(leaving(|number| number % 25 == 0), Some(expected));
    assert_eq!(leaving(|number| number <= 40), None, "built at the beginning");
    assert_eq!(leaving(|number| number > 960), None, "in use at the end");
}

#[test]
fn many_small_blocks_at_a_time_are_told_and_large_ones_are_not() {
    let list = |blocks: u64, size: u64| {
        let mut script = script();
        for number in 1..=blocks {
            script.event(at(MAKE, alloc(1, 0x100 * number, size)));
        }
        for number in 1..=blocks {
            script.event(at(OTHER, free(1, 0x100 * number, size)));
        }
        let advice = advice(&mut script);
        of_rule(&advice, Rule::SmallBoxes).map(|found| (found.bytes, found.events))
    };
    assert_eq!(list(1000, 24), Some((1000 * (8 + 8), 2000)));
    assert_eq!(list(1000, 65), None);
    assert_eq!(list(999, 24), None);
}

#[test]
fn a_few_large_blocks_hide_nothing_of_many_small_ones() {
    let found = |rule: Rule, large: u64| {
        let mut script = script();
        for number in 1..=large {
            script.event(at(MAKE, alloc(1, 0x100_0000 * number, 400_000)));
            if rule == Rule::Stack {
                script.event(at(DROP, free(2, 0x100_0000 * number, 400_000)));
            }
        }
        for number in 1..=1000 {
            script.event(at(MAKE, alloc(1, 0x100 * number, 24)));
            if rule == Rule::Stack {
                script.event(at(DROP, free(1, 0x100 * number, 24)));
            }
        }
        of_rule(&advice(&mut script), rule).map(|found| found.evidence.clone())
    };
    let small =
        |large: u64| Evidence::SmallBoxes { min_size: 24, size: 24, peak_blocks: 1000 + large };
    assert_eq!(found(Rule::SmallBoxes, 111), Some(small(111)));
    assert_eq!(found(Rule::SmallBoxes, 112), None, "less than nine in ten");
    for (large, is_found) in [(52, true), (53, false)] {
        let is_24 = |evidence| match evidence {
            Evidence::Stack { min_size, max_size, .. } => (min_size, max_size) == (24, 24),
            _ => false,
        };
        assert_eq!(found(Rule::Stack, large).is_some_and(is_24), is_found, "{large} large ones");
    }
}

#[test]
fn remote_frees_are_told_where_they_are_the_rule() {
    let remote = |remote: u64, own: u64| {
        let mut script = script();
        for number in 0..remote + own {
            let thread = if number < remote { 2 } else { 1 };
            script.event(at(MAKE, alloc(1, 0x1000, 3000)));
            script.event(at(DROP, free(thread, 0x1000, 3000)));
        }
        let advice = advice(&mut script);
        of_rule(&advice, Rule::RemoteFrees).map(|found| found.evidence.clone())
    };
    assert_eq!(remote(150, 50), Some(Evidence::RemoteFrees { remote: 150, freed: 200 }));
    assert_eq!(remote(150, 150), None);
    assert_eq!(remote(99, 0), None);
}

#[test]
fn few_blocks_are_a_case_only_on_request() {
    let mut script = script();
    script.event(at(MAKE, alloc(1, 0x1000, 32)));
    script.event(at(DROP, free(1, 0x1000, 32)));
    script.end();
    let recording = script.recording();
    let found = |thresholds| {
        let advice = Advice::of(&recording, Options::default(), thresholds).expect("readable");
        advice.findings.len()
    };
    assert_eq!(found(Thresholds::default()), 0);
    assert_eq!(found(Thresholds::default().min_blocks(1)), 1);
}

#[test]
fn the_recorder_s_own_blocks_are_in_no_finding() {
    let mut script = script();
    script.thread(3, "alloc-trace", true);
    for number in 1..=2000 {
        script.event(at(MAKE, alloc(3, 0x1000 * number, 16)));
        script.event(at(MAKE, realloc(3, (0x1000 * number, 16), (0x1000 * number, 24))));
    }
    assert_eq!(advice(&mut script).findings, []);
}
