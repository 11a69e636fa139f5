//! Real programs that have a fault, and some that look like it: recorded, and found out.
//!
//! This test is recorded itself: it runs itself again with `ALLOC_TRACE`, and the child does what
//! the variable [`TASK`] names.

use std::alloc::System;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use alloc_trace::TraceAlloc;
use alloc_trace_analysis::{
    Advice, By, Evidence, Finding, Group, Grouped, Holder, Leaks, Limited, Options, Recording,
    Rule, Summary, Thresholds,
};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Which program the child is.
const TASK: &str = "ALLOC_TRACE_TEST_TASK";

const ROUNDS: u64 = 200;

/// Not a test of its own: the recorded program.
#[test]
fn program() {
    let Ok(task) = std::env::var(TASK) else { return };
    let run: fn() = match task.as_str() {
        "boxed_value" => boxed_value,
        "boxed_in_a_callee" => boxed_in_a_callee,
        "boxed_between_other_requests" => boxed_between_other_requests,
        "boxed_for_another_thread" => boxed_for_another_thread,
        "boxed_for_the_next_call" => boxed_for_the_next_call,
        "boxed_for_the_next_round" => boxed_for_the_next_round,
        "boxed_tree" => boxed_tree,
        "short_text" => short_text,
        "grown_list" => grown_list,
        "reserved_list" => reserved_list,
        "buffer_a_round" => buffer_a_round,
        "buffer_of_all_rounds" => buffer_of_all_rounds,
        "forgotten" => forgotten,
        "table_kept_too_long" => table_kept_too_long,
        "list_of_small_boxes" => list_of_small_boxes,
        "boxed_for_a_worker_and_back" => boxed_for_a_worker_and_back,
        "kept_from_the_beginning" => kept_from_the_beginning,
        "table_dropped_in_time" => table_dropped_in_time,
        "list_of_small_values" => list_of_small_values,
        "formatted_text" => formatted_text,
        "list_of_one_that_grows" => list_of_one_that_grows,
        "boxed_trait" => boxed_trait,
        "shared_value" => shared_value,
        "forgotten_again_and_again" => forgotten_again_and_again,
        "few_made_at_the_beginning" => few_made_at_the_beginning,
        "small_part_kept_too_long" => small_part_kept_too_long,
        "table_from_empty" => table_from_empty,
        "table_reserved" => table_reserved,
        "text_replaced_by_longer" => text_replaced_by_longer,
        "keys_asked_by_value" => keys_asked_by_value,
        "keys_that_are_new" => keys_that_are_new,
        "words_of_a_text" => words_of_a_text,
        "few_words" => few_words,
        "channel_a_request" => channel_a_request,
        "one_channel" => one_channel,
        "map_of_few" => map_of_few,
        "boxed_in_their_like" => boxed_in_their_like,
        "texts_of_all_lengths" => texts_of_all_lengths,
        other => panic!("no program: {other}"),
    };
    run();
}

#[inline(never)]
fn make(number: u64) -> Box<[u64; 4]> {
    Box::new([number; 4])
}

#[inline(never)]
fn sum(values: &[u64]) -> u64 {
    black_box(values).iter().sum()
}

#[inline(never)]
fn boxed_value() {
    for number in 0..ROUNDS {
        let value = Box::new([number; 4]);
        black_box(sum(&*value));
    }
}

#[inline(never)]
fn boxed_in_a_callee() {
    for number in 0..ROUNDS {
        let value = make(number);
        black_box(sum(&*value));
    }
}

#[inline(never)]
fn boxed_between_other_requests() {
    for number in 0..ROUNDS {
        let value = make(number);
        let other: Vec<u64> = black_box((0..number + 1000).collect());
        black_box(sum(&*value) + sum(&other));
    }
}

#[inline(never)]
fn boxed_for_another_thread() {
    let (sender, receiver) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let worker = thread::spawn(move || receiver.iter().map(|value| sum(&*value)).sum::<u64>());
    for number in 0..ROUNDS {
        sender.send(make(number)).expect("the worker listens");
    }
    drop(sender);
    black_box(worker.join().expect("the worker ends"));
}

thread_local! {
    static KEPT: RefCell<Option<Box<[u64; 4]>>> = const { RefCell::new(None) };
}

/// Keeps a new value where the next call finds it.
#[inline(never)]
fn keep(number: u64) {
    let value = make(number);
    KEPT.with_borrow_mut(|kept| *kept = Some(value));
    // Else the drop above is a jump, and this function's frame is gone by then.
    black_box(number);
}

/// The value outlives the call of `keep` that made it: two calls, from two places.
#[inline(never)]
fn boxed_for_the_next_call() {
    for number in 0..ROUNDS / 2 {
        keep(2 * number);
        // Else the two could become one.
        black_box(number);
        keep(2 * number + 1);
    }
    KEPT.take();
}

/// The known limit: as above, but all calls come from one place and nothing else happens there.
#[inline(never)]
fn boxed_for_the_next_round() {
    for number in 0..ROUNDS {
        keep(number);
    }
    KEPT.take();
}

#[derive(Debug)]
#[expect(clippy::vec_box, reason = "the fault that is to be found, or not")]
struct Tree {
    branches: Vec<Box<Tree>>,
}

#[inline(never)]
fn tree(depth: usize) -> Tree {
    let branches = (0..if depth == 0 { 0 } else { 4 }).map(|_| Box::new(tree(depth - 1)));
    Tree { branches: branches.collect() }
}

/// Lives within one call, but is a collection.
#[inline(never)]
fn boxed_tree() {
    black_box(tree(4).branches.len());
}

#[inline(never)]
fn short_text() {
    for number in 0..ROUNDS {
        let text = String::from_utf8(vec![b'x'; 8 + number as usize % 9]).expect("ASCII");
        black_box(text.as_str());
    }
}

#[inline(never)]
fn grown_list() {
    for _ in 0..ROUNDS {
        let mut list = Vec::new();
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

#[inline(never)]
fn reserved_list() {
    for _ in 0..ROUNDS {
        let mut list = Vec::with_capacity(500);
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

#[inline(never)]
fn buffer_a_round() {
    for number in 0..ROUNDS {
        let mut buffer = vec![0_u64; 4096];
        buffer[black_box(7)] = number;
        black_box(sum(&buffer));
    }
}

#[inline(never)]
fn buffer_of_all_rounds() {
    let mut buffer = vec![0_u64; 4096];
    for number in 0..ROUNDS {
        buffer[black_box(7)] = number;
        black_box(sum(&buffer));
    }
}

#[inline(never)]
fn forgotten() {
    for number in 0..ROUNDS {
        black_box(Box::leak(make(number)));
    }
}

#[inline(never)]
fn table_kept_too_long() {
    let table: Vec<u64> = Vec::with_capacity(10_000);
    black_box(&table);
    // Longer than everything before it, and after it.
    thread::sleep(Duration::from_secs(2));
    drop(table);
}

#[inline(never)]
fn list_of_small_boxes() {
    let list: HashMap<u64, Box<u64>> =
        (0..10 * ROUNDS).map(|number| (number, Box::new(number))).collect();
    black_box(list.len());
}

/// Every value is freed by the thread that made it, whoever read it.
#[inline(never)]
fn boxed_for_a_worker_and_back() {
    let (sender, receiver) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let (back, returned) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let worker = thread::spawn(move || {
        for value in receiver {
            black_box(sum(&*value));
            back.send(value).expect("the maker listens");
        }
    });
    for number in 0..ROUNDS {
        sender.send(make(number)).expect("the worker listens");
        drop(returned.recv().expect("it comes back"));
    }
    drop(sender);
    worker.join().expect("the worker ends");
}

/// A table of the first values is kept to the end, and all that follow are dropped.
#[inline(never)]
fn kept_from_the_beginning() {
    let mut kept = Vec::with_capacity(ROUNDS as usize);
    for number in 0..10 * ROUNDS {
        let value = make(number);
        if number < ROUNDS {
            kept.push(value);
        } else {
            black_box(sum(&*value));
        }
    }
    std::mem::forget(black_box(kept));
}

/// As long as the one that is kept, and dropped when it is of no use any more.
#[inline(never)]
fn table_dropped_in_time() {
    let table: Vec<u64> = Vec::with_capacity(10_000);
    drop(black_box(table));
    thread::sleep(Duration::from_millis(300));
}

#[inline(never)]
fn list_of_small_values() {
    let list: HashMap<u64, u64> = (0..10 * ROUNDS).map(|number| (number, number)).collect();
    black_box(list.len());
}

#[inline(never)]
fn formatted_text() {
    for number in 0..ROUNDS {
        let text = format!("number {}", black_box(number));
        black_box(text.as_str());
    }
}

#[inline(never)]
fn list_of_one_that_grows() {
    for number in 0..ROUNDS {
        let mut list = Vec::from([number]);
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

/// One call site, whatever the type is.
#[inline(never)]
fn boxed_function(function: impl Fn() -> u64 + 'static) -> Box<dyn Fn() -> u64> {
    Box::new(function)
}

#[inline(never)]
fn boxed_trait() {
    for number in 0..ROUNDS {
        let wide = black_box([number; 3]);
        black_box(match number % 2 {
            0 => boxed_function(move || number),
            _ => boxed_function(move || wide.iter().sum()),
        }());
    }
}

#[inline(never)]
fn shared_value() {
    for number in 0..ROUNDS {
        let value = Rc::new([number; 4]);
        black_box(sum(&*Rc::clone(&value)));
    }
}

/// For as long as the program runs, in place of at one time.
#[inline(never)]
fn forgotten_again_and_again() {
    for number in 0..ROUNDS {
        black_box(Box::leak(make(number)));
        thread::sleep(Duration::from_millis(5));
    }
}

/// As a static would be filled.
#[inline(never)]
fn few_made_at_the_beginning() {
    for number in 0..20 {
        black_box(Box::leak(make(number)));
    }
    thread::sleep(Duration::from_millis(300));
}

/// As late as the table that is found, but little of what the program holds.
#[inline(never)]
fn small_part_kept_too_long() {
    let much: Vec<u64> = Vec::with_capacity(1_000_000);
    drop(black_box(much));
    let table: Vec<u64> = Vec::with_capacity(10_000);
    black_box(&table);
    thread::sleep(Duration::from_secs(2));
    drop(table);
}

#[inline(never)]
fn table_from_empty() {
    for _ in 0..ROUNDS {
        let mut table = HashMap::new();
        for number in 0..100_u64 {
            table.insert(number, number);
        }
        black_box(table.len());
    }
}

#[inline(never)]
fn table_reserved() {
    for _ in 0..ROUNDS {
        let mut table = HashMap::with_capacity(100);
        for number in 0..100_u64 {
            table.insert(number, number);
        }
        black_box(table.len());
    }
}

/// A larger block is made and the smaller one freed right after it, but nothing grew.
#[inline(never)]
fn text_replaced_by_longer() {
    let mut text = String::new();
    for number in 0..ROUNDS as usize {
        text = "x".repeat(40 + number % 2 + number / 20);
        black_box(text.as_str());
    }
    drop(text);
}

/// A key is made of every word, and one in fifty is kept.
#[inline(never)]
fn keys_asked_by_value() {
    let words: Vec<String> = (0..40).map(|number| format!("word {number}")).collect();
    let mut counts: HashMap<String, u64> = HashMap::with_capacity(100);
    for number in 0..10 * ROUNDS as usize {
        *counts.entry(words[number % words.len()].clone()).or_default() += 1;
    }
    black_box(counts.len());
}

#[inline(never)]
fn keys_that_are_new() {
    let mut counts: HashMap<String, u64> = HashMap::with_capacity(5000);
    for number in 0..10 * ROUNDS {
        *counts.entry(format!("word {number}")).or_default() += 1;
    }
    black_box(counts.len());
}

/// Five words, as a text has them.
const TEXT: &str = "some words of several lengths";

/// The list and its texts are of one call site.
#[inline(never)]
fn words_of_a_text() {
    let of_text: Vec<String> = TEXT.split(' ').map(str::to_owned).collect();
    let mut words = Vec::new();
    for number in 0..10 * ROUNDS as usize {
        words.push(of_text[number % of_text.len()].clone());
    }
    black_box(words.len());
}

#[inline(never)]
fn few_words() {
    for _ in 0..10 {
        let words: Vec<String> = TEXT.split(' ').cycle().take(200).map(str::to_owned).collect();
        black_box(words.len());
    }
}

#[inline(never)]
fn channel_a_request() {
    for number in 0..ROUNDS {
        let (sender, receiver) = mpsc::channel();
        sender.send(number).expect("it listens");
        black_box(receiver.recv().expect("sent"));
    }
}

#[inline(never)]
fn one_channel() {
    let (sender, receiver) = mpsc::channel();
    for number in 0..ROUNDS {
        sender.send(number).expect("it listens");
        black_box(receiver.recv().expect("sent"));
    }
}

#[inline(never)]
fn map_of_few() {
    for number in 0..ROUNDS {
        let mut map = BTreeMap::new();
        for key in 0..5_u64 {
            map.insert(black_box(key), number);
        }
        black_box(map.len());
    }
}

#[derive(Debug)]
struct Like {
    inner: Option<Box<Like>>,
    number: u64,
}

#[inline(never)]
fn like(depth: u64) -> Box<Like> {
    let inner = (depth > 0).then(|| like(depth - 1));
    Box::new(Like { inner, number: depth })
}

#[inline(never)]
fn boxed_in_their_like() {
    for _ in 0..ROUNDS {
        let like = black_box(like(3));
        black_box(like.number + like.inner.as_ref().map_or(0, |inner| inner.number));
    }
}

#[inline(never)]
fn texts_of_all_lengths() {
    for number in 0..ROUNDS as usize {
        let text = "x".repeat(100 + 37 * (number % 50));
        black_box(text.as_str());
    }
}

/// A recording of a program, and the directory that it lies in.
fn record(task: &str) -> (TempDir, Recording) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("program.trace");
    let output = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "program", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env("ALLOC_TRACE", &path)
        .output()
        .expect("run");
    assert!(output.status.success(), "{output:?}");
    let recording = Recording::open(&path).expect("readable");
    (directory, recording)
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
        Evidence::Stack { frame, .. } => Some(frame.replace("advise_programs::", "")),
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
    for (task, holder, remedy) in [
        ("boxed_value", Holder::Box, "in place of a Box"),
        ("shared_value", Holder::Shared, "lend it by reference"),
        ("formatted_text", Holder::Text, "ArrayString"),
        ("short_text", Holder::Vec, "in place of a Vec"),
        ("grown_list", Holder::Vec, "with_capacity"),
        ("boxed_trait", Holder::Box, "enum of the types"),
        ("list_of_one_that_grows", Holder::Vec, "with_capacity"),
        ("table_from_empty", Holder::HashTable, "with_capacity for the entries"),
        ("keys_asked_by_value", Holder::Text, "borrow to look up"),
        ("words_of_a_text", Holder::Text, "in one buffer"),
        ("channel_a_request", Holder::Channel, "one channel"),
        ("map_of_few", Holder::BTree, "in place of a map"),
        ("boxed_in_their_like", Holder::Box, "unless the type"),
    ] {
        let findings = findings(task);
        let [finding, ..] = findings.as_slice() else { panic!("{task}: nothing") };
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
    assert_eq!(rules("buffer_of_all_rounds"), []);
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
fn many_small_boxes_are_found() {
    assert!(rules("list_of_small_boxes").contains(&Rule::SmallBoxes));
}

#[test]
fn what_looks_like_a_fault_and_is_none_is_not_told() {
    for (task, rule) in [
        ("boxed_for_a_worker_and_back", Rule::RemoteFrees),
        ("kept_from_the_beginning", Rule::Leaks),
        ("table_dropped_in_time", Rule::LateDrops),
        ("list_of_small_values", Rule::SmallBoxes),
        ("few_made_at_the_beginning", Rule::Leaks),
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
