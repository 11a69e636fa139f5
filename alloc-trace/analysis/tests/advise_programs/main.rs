//! Real programs that have a fault, and some that look like it: recorded, and found out.
//!
//! This test is recorded itself: it runs itself again with `ALLOC_TRACE`, and the child does what
//! the variable [`TASK`] names.

mod one_line;
mod programs;
#[path = "../recorded/mod.rs"]
mod recorded;
mod recursions;
mod threads;

use std::alloc::System;

use alloc_trace::TraceAlloc;
use alloc_trace_analysis::{
    Advice, By, Evidence, Finding, Group, Grouped, Holder, Leaks, Limited, Options, Rule, Summary,
    Thresholds,
};

use programs::ROUNDS;
use recorded::{TASK, record};

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Not a test of its own: the recorded program.
#[test]
fn program() {
    let Ok(task) = std::env::var(TASK) else { return };
    programs::named(&task)();
}

/// What is found in a program, at its own call sites.
fn findings(task: &str) -> Vec<Finding> {
    let (_directory, recording) = record(task);
    let advice = Advice::of(&recording, Options::default(), Thresholds::default());
    let mut findings = advice.expect("readable").findings;
    // What the test harness does is not the program's.
    let harness = ["advise_programs::program", "advise_programs::main"];
    findings.retain(|finding| {
        let function = &*finding.site.function;
        function.contains("advise_programs::") && !harness.contains(&function)
    });
    findings
}

/// The names of the functions whose frame could hold the blocks, of each stack candidate.
fn frames(task: &str) -> Vec<String> {
    let findings = findings(task);
    let frame = |finding: &Finding| match &finding.evidence {
        Evidence::Stack { frame, .. } => Some(frame.replace("advise_programs::programs::", "")),
        _ => None,
    };
    findings.iter().filter_map(frame).collect()
}

fn rules(task: &str) -> Vec<Rule> {
    findings(task).iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_boxed_value_could_live_in_the_frame_that_drops_it() {
    assert_eq!(frames("boxed_value"), ["boxed_value"]);
    assert_eq!(frames("boxed_in_a_callee"), ["boxed_in_a_callee"]);
    assert_eq!(frames("boxed_between_other_requests"), ["boxed_between_other_requests"]);
}

#[test]
fn a_short_text_could_live_in_its_frame_with_a_bound() {
    let findings = findings("short_text");
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding.rule, finding.blocks, finding.events), (Rule::Stack, ROUNDS, 2 * ROUNDS));
    assert!(matches!(finding.evidence, Evidence::Stack { min_size: 8, max_size: 16, .. }));
}

#[test]
fn the_remedy_is_for_what_holds_the_blocks() {
    for (task, rule, holder, remedy) in [
        ("boxed_value", Rule::Stack, Holder::Box, "in place of a Box"),
        ("shared_value", Rule::Stack, Holder::Shared, "lend it by reference"),
        ("formatted_text", Rule::Stack, Holder::Text, "ArrayString"),
        ("short_text", Rule::Stack, Holder::Vec, "in place of a Vec"),
        ("grown_list", Rule::Growth, Holder::Vec, "with_capacity"),
        ("boxed_trait", Rule::Stack, Holder::Box, "enum of the types"),
        ("list_of_one_that_grows", Rule::Growth, Holder::Vec, "with_capacity"),
        // Room for a hundred, and for as many as then are.
        ("table_from_empty", Rule::Growth, Holder::HashTable, "with_capacity(112)"),
        ("text_that_grows", Rule::Growth, Holder::Text, "with_capacity(512) would"),
        ("keys_asked_by_value", Rule::Temporaries, Holder::Text, "borrow to look up"),
        ("words_of_a_text", Rule::SmallBoxes, Holder::Text, "in one buffer"),
        ("channel_a_request", Rule::Temporaries, Holder::Channel, "one channel"),
        ("map_of_few", Rule::Stack, Holder::BTree, "in place of a map"),
        ("boxed_in_their_like", Rule::Stack, Holder::Box, "unless the type"),
    ] {
        let findings = findings(task);
        let finding = findings.iter().find(|finding| finding.rule == rule);
        let finding = finding.unwrap_or_else(|| panic!("{task}: {findings:?}"));
        assert_eq!(finding.holder, Some(holder), "{task}");
        assert!(finding.remedy.contains(remedy), "{task}: {}", finding.remedy);
    }
}

#[test]
fn what_goes_to_another_thread_could_not() {
    assert_eq!(rules("boxed_for_another_thread"), [Rule::RemoteFrees]);
}

#[test]
fn what_the_next_call_drops_could_not_live_in_the_frame_of_the_one_that_made_it() {
    // It could live in the frame that encloses both.
    assert_eq!(frames("boxed_for_the_next_call"), ["boxed_for_the_next_call"]);
}

#[test]
fn of_calls_from_one_place_the_advice_cannot_tell_and_names_the_callee() {
    assert_eq!(frames("boxed_for_the_next_round"), ["keep"]);
}

#[test]
fn a_block_in_each_call_of_a_recursion_could_live_in_its_frame_however_deep_that_is() {
    let findings = findings("list_in_each_call");
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let Evidence::Stack { enclosed, at_once, after_next, .. } = finding.evidence else {
        panic!("{finding:?}")
    };
    assert_eq!((enclosed, at_once, after_next), (41 * ROUNDS, 1, 0));
    assert!(finding.remedy.starts_with("use an array"), "{}", finding.remedy);
}

#[test]
fn a_tree_is_a_collection() {
    assert_eq!(frames("boxed_tree"), [""; 0]);
}

#[test]
fn a_list_that_grows_is_told_its_capacity_and_one_that_was_reserved_is_not() {
    let findings = findings("grown_list");
    let growth = findings.iter().find(|finding| finding.rule == Rule::Growth).expect("found");
    assert!(growth.remedy.contains("with_capacity(512)"), "{}", growth.remedy);
    assert_eq!(growth.events, 7 * ROUNDS, "4, 8, … 512");
    assert!(!rules("reserved_list").contains(&Rule::Growth));
}

#[test]
fn a_table_that_grows_is_one_block_that_was_reallocated() {
    let findings = findings("table_from_empty");
    let growth = findings.iter().find(|finding| finding.rule == Rule::Growth).expect("found");
    // Room for 3, 7, 14, 28, 56 and 112 entries, or the first two at once.
    assert!([5, 4].map(|steps| steps * ROUNDS).contains(&growth.events), "{growth:?}");
    assert_eq!(growth.blocks, ROUNDS);
}

#[test]
fn buffers_may_differ_in_size_where_they_are_lists_or_text() {
    assert_eq!(rules("texts_of_all_lengths"), [Rule::Temporaries]);
}

#[test]
fn a_buffer_a_round_could_be_one_for_all_rounds() {
    assert_eq!(rules("buffer_a_round"), [Rule::Temporaries]);
    assert!(!rules("buffer_of_all_rounds").contains(&Rule::Temporaries));
}

#[test]
fn what_is_forgotten_is_found() {
    assert_eq!(rules("forgotten"), [Rule::Leaks]);
    let remedy = |task| findings(task).pop().map(|finding| finding.remedy).unwrap_or_default();
    let again = remedy("forgotten_again_and_again");
    assert!(again.starts_with("find who owns them"), "{again}");
}

#[test]
fn what_the_runtime_keeps_for_itself_is_no_leak_of_the_program_s() {
    let (_directory, recording) = record("forgotten");
    let leaks = Leaks::of(&recording, Options::default()).expect("readable");
    let summary = Summary::of(&recording, Options::default()).expect("readable");
    let of_runtime = (leaks.runtime_blocks, leaks.runtime_bytes);
    assert_eq!(of_runtime, (summary.runtime_blocks_at_end, summary.runtime_bytes_at_end));
    assert!(leaks.runtime_blocks > 0, "the standard library's list of threads, before main");
    assert_eq!(leaks.blocks + leaks.runtime_blocks, summary.total.live_blocks_at_end);
    assert_eq!(leaks.bytes + leaks.runtime_bytes, summary.total.live_bytes_at_end);
    for by in [By::Site, By::Function, By::Thread, By::Span, By::Size, By::Lifetime] {
        let groups = Grouped::of(&recording, Options::default(), by).expect("readable").groups;
        let of_group = |group: &Group| (group.runtime_blocks_at_end, group.runtime_bytes_at_end);
        let add = |one: (u64, u64), other: (u64, u64)| (one.0 + other.0, one.1 + other.1);
        let in_groups = groups.iter().map(of_group).fold((0, 0), add);
        assert_eq!(in_groups, of_runtime, "{by:?}");
    }
    assert_eq!(Limited::Leaked.of(&summary), leaks.bytes as f64);
    assert_eq!(Limited::LeakedBlocks.of(&summary), leaks.blocks as f64);
    let of_sites: u64 = leaks.sites.iter().map(|site| site.bytes).sum();
    assert_eq!(of_sites, leaks.bytes);
    let forgotten = leaks.sites.iter().find(|site| site.site.function.ends_with("make"));
    assert_eq!(
        forgotten.map(|site| site.blocks),
        Some(ROUNDS),
        "nothing of the program's is hidden"
    );
}

#[test]
fn what_is_dropped_late_is_found() {
    let findings = findings("table_kept_too_long");
    let late: Vec<_> = findings.iter().filter(|found| found.rule == Rule::LateDrops).collect();
    let [late] = late.as_slice() else { panic!("{findings:?}") };
    assert_eq!((late.blocks, late.bytes), (1, 80_000));
}

#[test]
fn a_list_that_grew_and_stays_is_told_to_shrink() {
    let shrink = |task: &str| {
        let (of_list, element) = ("programs::numbers", Some(8));
        let growth = findings(task)
            .into_iter()
            .find(|found| found.rule == Rule::Growth && found.site.function.ends_with(of_list))?;
        let Evidence::Growth { never_shrunk, never_shrunk_bytes, element_size, .. } =
            growth.evidence
        else {
            panic!("{growth:?}")
        };
        assert_eq!(element_size, element, "{task}");
        let told = growth.remedy.contains("shrink_to_fit");
        Some((never_shrunk, never_shrunk_bytes, told))
    };
    assert_eq!(shrink("list_that_stays_grown"), Some((1, 8 * 8_192, true)));
    assert_eq!(shrink("list_that_shrinks"), Some((0, 0, false)));
    assert_eq!(shrink("list_dropped_in_time"), Some((0, 0, false)));
    assert_eq!(shrink("list_reserved_that_stays"), None);
}

#[test]
fn many_small_boxes_are_found() {
    assert!(rules("list_of_small_boxes").contains(&Rule::SmallBoxes));
}

#[test]
fn a_list_and_what_it_holds_are_told_apart_though_one_line_makes_both() {
    for (task, holder, blocks, size) in [
        ("shared_numbers", Holder::Shared, 10 * ROUNDS, 24),
        ("boxes_in_a_list", Holder::Box, one_line::BOXES, 8),
    ] {
        let findings = findings(task);
        let found: Vec<_> = findings.iter().filter(|it| it.rule == Rule::SmallBoxes).collect();
        let [found] = found.as_slice() else { panic!("{task}: {findings:?}") };
        assert_eq!((found.blocks, found.holder), (blocks, Some(holder)), "{task}");
        let expected = Evidence::SmallBoxes { min_size: size, size, peak_blocks: blocks };
        assert_eq!(found.evidence, expected);
    }
    // The list is one block that grew.
    let findings = findings("boxes_in_a_list");
    let growth: Vec<_> = findings.iter().filter(|it| it.rule == Rule::Growth).collect();
    let [growth] = growth.as_slice() else { panic!("{findings:?}") };
    assert_eq!((growth.blocks, growth.holder), (1, Some(Holder::Vec)));
}

#[test]
fn boxes_that_are_made_again_and_again_are_many_though_few_live_at_a_time() {
    let findings = findings("boxed_shapes");
    let found: Vec<_> = findings.iter().filter(|found| found.rule == Rule::SmallBoxes).collect();
    // Squares and rectangles are of two lines.
    let [one, other] = found.as_slice() else { panic!("{findings:?}") };
    for (found, size) in [(one, 8), (other, 16)] {
        assert_eq!((found.blocks, found.events), (40 * ROUNDS, 80 * ROUNDS));
        let expected = Evidence::SmallBoxes { min_size: size, size, peak_blocks: 40 };
        assert_eq!(found.evidence, expected);
        assert!(found.remedy.contains("variants of an enum"), "{}", found.remedy);
    }
}

#[test]
fn what_the_standard_library_has_for_a_thread_is_told_of_only_where_threads_are_many() {
    let scopes = findings("threads_in_scopes");
    assert!(scopes.is_empty(), "{scopes:?}");
    let many = findings("many_threads");
    let told = many.iter().map(|found| (found.rule, found.holder)).collect::<Vec<_>>();
    assert_eq!(told, [(Rule::RemoteFrees, Some(Holder::Thread))], "{many:?}");
    assert!(many.iter().all(|found| found.remedy.starts_with("start fewer threads")), "{many:?}");
}

#[test]
fn what_looks_like_a_fault_and_is_none_is_not_told() {
    for (task, rule) in [
        ("boxed_for_a_worker_and_back", Rule::RemoteFrees),
        ("kept_from_the_beginning", Rule::Leaks),
        ("table_dropped_in_time", Rule::LateDrops),
        ("list_of_small_values", Rule::SmallBoxes),
        ("few_made_at_the_beginning", Rule::Leaks),
        ("boxed_shapes_for_a_worker", Rule::SmallBoxes),
        ("boxed_shapes_in_few_rounds", Rule::SmallBoxes),
        ("small_part_kept_too_long", Rule::LateDrops),
        ("table_reserved", Rule::Growth),
        ("text_replaced_by_longer", Rule::Growth),
        ("keys_that_are_new", Rule::Temporaries),
        ("few_words", Rule::SmallBoxes),
        ("one_channel", Rule::Temporaries),
    ] {
        let findings = findings(task);
        let of_rule: Vec<_> = findings.iter().filter(|finding| finding.rule == rule).collect();
        assert!(of_rule.is_empty(), "{task}: {of_rule:?}");
    }
}
