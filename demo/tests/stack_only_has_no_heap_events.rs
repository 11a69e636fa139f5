//! No stack-only way touches the heap between its first and its last instruction: neither Rust's,
//! which this program's global allocator counts, nor C's, which a preloaded library counts.
//!
//! Both counts are taken of the heap-heavy ways too, so that a counter that counts nothing is found
//! out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::env;
use std::ffi::{CStr, c_ulong};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use demo::jobs::{Answer, Input, JOBS, Way};
use demo::source_files::SourceFiles;

/// Counts the calls of each thread, and hands them on.
struct CountingAlloc;

thread_local! {
    /// Without a destructor, so that it can be used at any time in a thread's life.
    static CALLS: Cell<Calls> = const { Cell::new(Calls { allocations: 0, frees: 0 }) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calls {
    /// Requests for a block, a reallocation being one.
    allocations: u64,
    /// Blocks given back, a reallocation being one.
    frees: u64,
}

fn count(allocations: u64, frees: u64) {
    let calls = CALLS.get();
    CALLS.set(Calls { allocations: calls.allocations + allocations, frees: calls.frees + frees });
}

// SAFETY: every method is `System`'s own with the same arguments; counting neither allocates nor
// panics.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, 1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

/// Rounds of the small jobs.
const SCALE: usize = 25;

/// This repository, small jobs of a few rounds.
fn input() -> Input {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    Input { files: SourceFiles::under(repository).unwrap(), scale: SCALE }
}

/// A way's answer and the calls that it made to Rust's allocator.
fn rust_calls(way: Way, input: &Input) -> (Answer, Calls) {
    let before = CALLS.get();
    let outcome = black_box(way)(black_box(input));
    let after = CALLS.get();
    let calls = Calls {
        allocations: after.allocations - before.allocations,
        frees: after.frees - before.frees,
    };
    (outcome.map_err(|error| error.to_string()).unwrap(), calls)
}

const NONE: Calls = Calls { allocations: 0, frees: 0 };

#[test]
fn stack_only_ways_make_no_call_to_rusts_heap() {
    let input = input();
    for job in JOBS {
        let (stack_answer, stack_calls) = rust_calls(job.stack_only, &input);
        let (heap_answer, heap_calls) = rust_calls(job.heap_heavy, &input);
        println!("{}: {stack_calls:?} stack-only, {heap_calls:?} heap-heavy", job.name);
        assert_eq!(stack_calls, NONE, "{}", job.name);
        assert!(heap_calls.allocations >= SCALE as u64, "{}", job.name);
        assert_eq!(stack_answer, heap_answer, "{}", job.name);
    }
}

#[test]
fn only_the_circle_is_left_behind() {
    let input = input();
    for job in JOBS {
        // What is made once in a program's life, as `proc-macro2` does, is made before.
        rust_calls(job.heap_heavy, &input);
        let (_, calls) = rust_calls(job.heap_heavy, &input);
        let expected = if job.name == "indices-and-cycles" { SCALE as u64 } else { 0 };
        assert_eq!(calls.allocations - calls.frees, expected, "{}", job.name);
    }
}

#[test]
fn a_stack_only_way_that_fails_makes_no_call_either() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("source.rs");
    fs::write(&path, "").unwrap();
    let input = Input { files: SourceFiles::under(root.path()).unwrap(), scale: 0 };
    let lex = JOBS.iter().find(|job| job.name == "lex").unwrap();
    let fails_without_calls = |why: &str| {
        let before = CALLS.get();
        let outcome = (lex.stack_only)(&input);
        assert_eq!(CALLS.get(), before, "{why}");
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("source.rs"), "{message}");
    };
    fs::write(&path, "(".repeat(5000)).unwrap();
    fails_without_calls("too deep");
    fs::write(&path, "x".repeat(5000)).unwrap();
    fails_without_calls("too long");
    fs::remove_file(&path).unwrap();
    fails_without_calls("gone");
}

/// Set in the process that the library is preloaded into.
const INTERPOSED: &str = "DEMO_HEAP_CALLS_INTERPOSED";

const C_TEST: &str = "stack_only_ways_make_no_call_to_cs_heap";

#[test]
fn stack_only_ways_make_no_call_to_cs_heap() {
    if env::var_os(INTERPOSED).is_some() {
        return count_c_calls();
    }
    let Some(library) = build_interposer() else {
        // A machine without a C compiler can still run the other tests; where all must run, it may
        // not.
        assert!(env::var_os("CI").is_none(), "no C compiler, although CI is set");
        eprintln!("SKIPPED: {C_TEST}: no C compiler (cc) to build the interposer with");
        return;
    };
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", C_TEST, "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", &library)
        .env(INTERPOSED, "1")
        .output()
        .unwrap();
    fs::remove_file(&library).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "in the interposed process");
    let counted = text.lines().filter(|line| line.starts_with(COUNTED)).count();
    assert_eq!(counted, JOBS.len(), "jobs counted in the interposed process");
}

/// How a line of the interposed process begins that tells a job's counts.
const COUNTED: &str = "C heap calls of ";

/// In the interposed process: counts both ways of every job.
fn count_c_calls() {
    let interposer = Interposer::find();
    let input = input();
    for job in JOBS {
        let calls = |way: Way| {
            interposer.begin();
            let outcome = black_box(way)(black_box(&input));
            let calls = interposer.end();
            assert!(outcome.is_ok(), "{}", job.name);
            calls
        };
        let (stack_only, heap_heavy) = (calls(job.stack_only), calls(job.heap_heavy));
        println!("\n{COUNTED}{}: {stack_only} stack-only, {heap_heavy} heap-heavy", job.name);
        assert_eq!(stack_only, 0, "{}", job.name);
        assert!(heap_heavy >= 2 * SCALE as c_ulong - 1, "{}", job.name);
    }
}

/// The functions of the preloaded library.
struct Interposer {
    begin: extern "C" fn(),
    end: extern "C" fn() -> c_ulong,
}

impl Interposer {
    fn find() -> Interposer {
        let begin = symbol(c"heap_calls_begin");
        let end = symbol(c"heap_calls_end");
        Interposer {
            // SAFETY: the library defines `void heap_calls_begin(void)`.
            begin: unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(begin) },
            // SAFETY: the library defines `unsigned long heap_calls_end(void)`.
            end: unsafe {
                std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> c_ulong>(end)
            },
        }
    }

    fn begin(&self) {
        (self.begin)();
    }

    fn end(&self) -> c_ulong {
        (self.end)()
    }
}

fn symbol(name: &CStr) -> *mut libc::c_void {
    // SAFETY: the name ends with a zero byte, and the default handle is always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(!address.is_null(), "the library is not preloaded: no {name:?}");
    address
}

/// Builds the library, or gives `None` where there is no C compiler.
fn build_interposer() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interposer/count_heap_calls.c");
    let name = format!("count_heap_calls.{}.so", std::process::id());
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    // The compiler must not take `malloc` for the function that it knows and optimise calls of it.
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-o"])
        .args([&library, &source])
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "the interposer does not compile");
            Some(library)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("cc cannot be run: {error}"),
    }
}
