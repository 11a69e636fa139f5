//! What the demo does heap-heavy is found out by its own recording.

use std::path::Path;
use std::process::Command;

use alloc_trace_analysis::{Advice, Options, Rule, Thresholds};
use alloc_trace_format::Recording;

/// The jobs by what is said of their heap-heavy ways. Of `enum_and_dyn` it is its vector, which is small, and its
/// boxes, of which more are there at a time than an array would hold.
const FOUND: [(Rule, &str); 11] = [
    (Rule::Stack, "token_trees::count_trees"),
    (Rule::Stack, "slices_and_strings::heap_heavy"),
    (Rule::Stack, "value_and_box::heap_heavy"),
    (Rule::Stack, "enum_and_dyn::heap_heavy"),
    (Rule::Growth, "capacity_and_growth::heap_heavy"),
    (Rule::Growth, "array_and_vec::heap_heavy"),
    (Rule::Temporaries, "borrow_and_clone::heap_heavy"),
    (Rule::Temporaries, "buffer_and_whole::heap_heavy"),
    (Rule::Leaks, "indices_and_cycles::circle"),
    (Rule::SmallBoxes, "enum_and_dyn::random_object"),
    (Rule::SmallBoxes, "contiguous_and_linked::heap_heavy"),
];

#[test]
fn advice_finds_the_heap_heavy_ways_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("demo.trace");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(["--scale", "200"]).arg("-o").arg(&file);
    demo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let output = demo.output().expect("the demo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let recording = Recording::open(&file).expect("a recording");
    let thresholds = Thresholds::default();
    let advice = Advice::of(&recording, Options::default(), thresholds).expect("read");
    let findings = || advice.findings.iter();
    for (rule, function) in FOUND {
        let is_it = findings().any(|it| it.rule == rule && it.site.function.ends_with(function));
        let all: Vec<_> = findings().map(|it| (it.rule, &it.site.function)).collect();
        assert!(is_it, "{rule:?} of {function} is not among {all:?}");
    }
    assert!(findings().all(|it| !it.site.function.contains("stack_only")));
}
