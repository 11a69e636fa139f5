//! Frames of C's runtime: functions by symbol tables alone where they are folded away, and all that is known
//! of them where they are shown.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use alloc_trace_analysis::{CallTreeWeights, Options};
use alloc_trace_format::{Module, Record};
use object::Object;
use tempfile::TempDir;

use support::{Script, alloc, at};

/// Stands for a function of the C library.
#[inline(never)]
fn asking(number: u64) -> u64 {
    std::hint::black_box(number) + 1
}

/// Another one.
#[inline(never)]
fn on_the_way(number: u64) -> u64 {
    std::hint::black_box(number) + 2
}

const LINE_OF_ASKING: u32 = 19;
const LINE_OF_ON_THE_WAY: u32 = 25;

/// Where the two modules that are copies of this program were loaded.
const LIBRARY: u64 = 0x1_0000_0000;
const PROGRAM: u64 = 0x2_0000_0000;

fn load(script: &mut Script, path: &Path, bias: u64) {
    let bytes = fs::read(path).expect("readable");
    let object = object::File::parse(&*bytes).expect("an object");
    script.record(
        1,
        Record::Module(Box::new(Module {
            stamp: script.now,
            start: bias,
            end: bias + 0x1_0000_0000,
            bias,
            path: path.to_str().expect("text").into(),
            build_id: object.build_id().expect("sound").unwrap_or_default().into(),
        })),
    );
}

/// How far a function of this program is from where that begins.
fn offset(function: usize) -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let own = std::env::current_exe().expect("known");
    let own = own.to_str().expect("text");
    let first = maps.lines().find(|line| line.ends_with(own)).expect("mapped");
    let start = first.split('-').next().expect("an address");
    function as u64 - u64::from_str_radix(start, 16).expect("hexadecimal")
}

/// A recording of two events, and the file of the library in it: one that the library asked the program's
/// allocator for, and one in which the library itself is the innermost that is known.
fn recorded() -> (TempDir, PathBuf, Script) {
    let directory = tempfile::tempdir().expect("a directory");
    let own = std::env::current_exe().expect("known");
    let [library, program] = ["libc.so.6", "app"].map(|name| directory.path().join(name));
    for copy in [&library, &program] {
        fs::copy(&own, copy).expect("copied");
    }
    let mut script = Script::new();
    script.thread(1, "main", false);
    load(&mut script, &library, LIBRARY);
    load(&mut script, &program, PROGRAM);
    let functions: [fn(u64) -> u64; 2] = [asking, on_the_way];
    assert_eq!(functions.map(|function| function(1)), [2, 3]);
    let allocator: fn() -> alloc_trace::RecordingBuilder = alloc_trace::Recording::builder;
    script.node(2, 0, LIBRARY + offset(functions[0] as usize) + 1);
    script.node(3, 2, PROGRAM + offset(allocator as usize) + 1);
    script.node(4, 0, LIBRARY + offset(functions[1] as usize) + 1);
    script.event(at(3, alloc(1, 0x10, 40)));
    script.event(at(4, alloc(1, 0x20, 20)));
    (directory, library, script)
}

/// Function and line of the call sites of the two.
fn sites(script: &mut Script, options: Options) -> [(String, Option<u32>); 2] {
    let sites = script.summary_with(options).sites;
    let sites: Vec<_> =
        sites.into_iter().map(|site| (site.site.function.to_string(), site.site.line)).collect();
    sites.try_into().expect("two")
}

/// The second one's.
fn on_the_way_with(line: Option<u32>) -> (String, Option<u32>) {
    ("runtime_frames::on_the_way".into(), line)
}

#[test]
fn what_is_shown_of_the_runtime_has_its_line_and_what_is_folded_away_its_function() {
    let (_directory, _, mut script) = recorded();
    let asking = ("runtime_frames::asking".to_owned(), Some(LINE_OF_ASKING));
    assert_eq!(sites(&mut script, Options::default()), [asking, on_the_way_with(None)]);
    let [of_allocator, of_library] = sites(&mut script, Options::default().all_frames(true));
    assert_eq!(of_allocator.0, "alloc_trace::recording::Recording::builder");
    assert_eq!(of_library, on_the_way_with(Some(LINE_OF_ON_THE_WAY)));
}

#[test]
fn names_that_were_kept_without_lines_stand_in_where_there_is_nothing_better() {
    let (_directory, library, mut script) = recorded();
    let folded = Options::default().keep_symbols(true);
    let all = folded.clone().all_frames(true);
    assert_eq!(sites(&mut script, folded.clone())[1], on_the_way_with(None));
    let away = library.with_extension("away");
    fs::rename(&library, &away).expect("moved");
    assert_eq!(sites(&mut script, all.clone())[1], on_the_way_with(None), "as it was kept");
    fs::rename(&away, &library).expect("moved");
    let with_line = on_the_way_with(Some(LINE_OF_ON_THE_WAY));
    assert_eq!(sites(&mut script, all)[1], with_line);
    assert_eq!(sites(&mut script, folded)[1], with_line, "kept with its line");
}

#[test]
fn what_is_folded_away_is_no_frame_of_the_backtraces() {
    let (_directory, _, mut script) = recorded();
    let weights = CallTreeWeights::of(&script.recording(), Options::default()).expect("readable");
    let tree = &weights.backtraces;
    let used: BTreeSet<_> = tree.nodes.iter().filter_map(|node| node.frame).collect();
    assert_eq!(used.len(), tree.frames.len(), "{:?}", tree.frames);
}

/// A recording of events with these frames, the innermost first, which are kept beside it as names.
fn with_names(backtraces: &[&[&str]]) -> (Script, Options) {
    let mut script = Script::new();
    script.thread(1, "main", false);
    let mut names = "alloc-trace symbols 1 42 1000 5\n".to_owned();
    let (start, end) = (PROGRAM, PROGRAM + 0x1000);
    let (path, build_id) = ("/nowhere/app".into(), [1].into());
    let module = Module { stamp: script.now, start, end, bias: start, path, build_id };
    script.record(1, Record::Module(Box::new(module)));
    let mut node = 1;
    for (size, functions) in (1..).zip(backtraces) {
        let mut parent = 0;
        for function in functions.iter().rev() {
            node += 1;
            let address = PROGRAM + u64::from(node);
            script.node(node, parent, address);
            names.push_str(&format!("{address:x}\n\t{function}\t\t\t/nowhere/app\n"));
            parent = node;
        }
        script.event(at(node, alloc(1, 0x100 * size, size)));
    }
    let recording = script.recording();
    fs::write(recording.path().with_extension("trace.symbols"), names).expect("written");
    (script, Options::default().keep_symbols(true))
}

#[test]
fn what_the_runtime_keeps_is_no_leak_and_what_it_calls_is_the_program_s() {
    let cache = "<std::backtrace_rs::symbolize::gimli::Context>::new";
    let resolve = "<std::backtrace::Backtrace>::resolve::{closure#0}";
    let (mut script, options) = with_names(&[
        &["std::sys::pal::unix::stack_overflow::thread_info::set_current_info", "main", "_start"],
        &["<gimli::read::abbrev::Abbreviations>::insert", cache, "app::panics", "main", "_start"],
        &["<[u8]>::to_vec", resolve, cache, "app::asks", "main", "_start"],
        &["<gimli::read::abbrev::Abbreviations>::insert", "app::reads", "main", "_start"],
        &["app::works", "std::sys::backtrace::__rust_begin_short_backtrace", "start_thread"],
        &["std::sys::backtrace::__rust_begin_short_backtrace", "start_thread"],
    ]);
    let summary = script.summary_with(options);
    assert_eq!((summary.runtime_blocks_at_end, summary.runtime_bytes_at_end), (2, 1 + 2));
    let mut sites: Vec<(u64, &str)> = summary
        .sites
        .iter()
        .map(|site| (site.figures.allocated_bytes, &*site.site.function))
        .filter(|&(bytes, _)| bytes > 0)
        .collect();
    sites.sort_unstable();
    assert_eq!(
        sites,
        [
            (3, "[runtime]"),
            (3, "app::asks"),
            (4, "<gimli::read::abbrev::Abbreviations>::insert"),
            (5, "app::works"),
            (6, "[a thread's function, inlined]"),
        ]
    );
}
