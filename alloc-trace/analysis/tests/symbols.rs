//! Names, files and lines of real machine code: this test's own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloc_trace_analysis::{Frame, SymbolProblem, Symbols};
use alloc_trace_format::Module;
use object::Object;
use tempfile::TempDir;

/// The function whose address is looked up.
#[inline(never)]
fn looked_up(number: u64) -> u64 {
    std::hint::black_box(number) + 1
}

const LINE: u32 = 15;

/// This program as a module that was loaded where it is.
fn own_module(path: &Path) -> Module {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let own = std::env::current_exe().expect("known");
    let own = own.to_str().expect("text");
    let ranges: Vec<(u64, u64)> = maps
        .lines()
        .filter(|line| line.ends_with(own))
        .filter_map(|line| line.split(' ').next()?.split_once('-'))
        .map(|(start, end)| {
            let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
            (number(start), number(end))
        })
        .collect();
    let start = ranges.first().expect("mapped").0;
    Module {
        stamp: 0,
        bias: start,
        start,
        end: ranges.last().expect("mapped").1,
        build_id: build_id(&own_program()).into(),
        path: path.to_str().expect("text").into(),
    }
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("known")
}

fn build_id(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("readable");
    let file = object::File::parse(&*bytes).expect("an object");
    file.build_id().expect("sound").unwrap_or_default().to_vec()
}

/// A return address within [`looked_up`].
fn address() -> u64 {
    assert_eq!(looked_up(1), 2);
    let function: fn(u64) -> u64 = looked_up;
    function as usize as u64 + 1
}

fn look_up(module: Module, recorded_at_ns: u64) -> (Frame, Vec<SymbolProblem>) {
    let mut symbols = Symbols::new(&[module], recorded_at_ns);
    let frames = symbols.frames(address());
    (frames.last().expect("never empty").clone(), symbols.problems())
}

/// A copy of this program that `objcopy` changed.
fn changed_copy(arguments: &[&str]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("copy");
    let status = Command::new("objcopy").args(arguments).arg(own_program()).arg(&path).status();
    assert!(status.expect("binutils are there, as the linker is").success());
    (directory, path)
}

fn objcopy(arguments: &[&OsStr]) {
    let status = Command::new("objcopy").args(arguments).status();
    assert!(status.expect("binutils are there, as the linker is").success(), "{arguments:?}");
}

#[test]
fn debug_information_gives_function_file_and_line() {
    let (frame, problems) = look_up(own_module(&own_program()), u64::MAX);
    assert_eq!(&*frame.function, "symbols::looked_up");
    assert!(frame.file.is_some_and(|file| file.ends_with("tests/symbols.rs")));
    assert_eq!(frame.line, Some(LINE));
    assert_eq!(problems, []);
}

#[test]
fn a_symbol_table_gives_the_function_and_the_lack_of_lines_is_told() {
    let (_directory, path) = changed_copy(&["--strip-debug"]);
    let (frame, problems) = look_up(own_module(&path), u64::MAX);
    assert_eq!((&*frame.function, frame.file, frame.line), ("symbols::looked_up", None, None));
    assert_eq!(problems, [SymbolProblem::NoDebugInfo { module: path }]);
    assert!(problems[0].to_string().contains("line-tables-only"));
}

#[test]
fn a_stripped_file_gives_its_name_and_the_offset() {
    let (_directory, path) = changed_copy(&["--strip-all"]);
    let module = own_module(&path);
    let offset = address() - module.bias;
    let (frame, problems) = look_up(module, u64::MAX);
    assert_eq!(&*frame.function, format!("[copy+{offset:#x}]"));
    assert!(!frame.named);
    let [problem @ SymbolProblem::Stripped { .. }] = &*problems else { panic!("{problems:?}") };
    let text = problem.to_string();
    assert!(text.contains("copy.debug") && text.contains("/usr/lib/debug/.build-id/"), "{text}");
}

#[test]
fn debug_information_beside_a_stripped_file_is_found_by_link_and_by_name() {
    for place in ["linked", ".debug/linked", "copy.debug", ".debug/copy.debug"] {
        let (directory, path) = changed_copy(&["--strip-all"]);
        let debug = directory.path().join(place);
        fs::create_dir_all(debug.parent().expect("a directory")).expect("made");
        objcopy(&["--only-keep-debug".as_ref(), own_program().as_ref(), debug.as_ref()]);
        if place.ends_with("linked") {
            let link = format!("--add-gnu-debuglink={}", debug.display());
            objcopy(&[link.as_ref(), path.as_ref()]);
        }
        let (frame, problems) = look_up(own_module(&path), u64::MAX);
        assert_eq!((&*frame.function, frame.line), ("symbols::looked_up", Some(LINE)), "{place}");
        assert_eq!(problems, []);
    }
}

#[test]
fn debug_information_of_another_build_is_not_taken() {
    let (directory, path) = changed_copy(&["--strip-all"]);
    let debug = directory.path().join("copy.debug");
    let other = "--remove-section=.note.gnu.build-id";
    objcopy(&[
        "--only-keep-debug".as_ref(),
        other.as_ref(),
        own_program().as_ref(),
        debug.as_ref(),
    ]);
    let (frame, problems) = look_up(own_module(&path), u64::MAX);
    assert!(!frame.named);
    assert!(matches!(&*problems, [SymbolProblem::Stripped { .. }]), "{problems:?}");
}

#[test]
fn compressed_debug_information_is_read_too() {
    let (_directory, path) = changed_copy(&["--compress-debug-sections=zlib"]);
    let (frame, problems) = look_up(own_module(&path), u64::MAX);
    assert_eq!(frame.line, Some(LINE));
    assert_eq!(problems, []);
}

#[test]
fn a_file_that_changed_gives_no_names() {
    let module = Module { build_id: [1, 2, 3, 4].into(), ..own_module(&own_program()) };
    let (frame, problems) = look_up(module, u64::MAX);
    assert!(!frame.named);
    assert_eq!(problems, [SymbolProblem::Changed { module: own_program() }]);
}

#[test]
fn without_a_build_id_a_file_younger_than_the_recording_has_changed() {
    let (_directory, path) = changed_copy(&["--remove-section=.note.gnu.build-id"]);
    for (recorded_at_ns, named) in [(u64::MAX, true), (1_000_000_000, false)] {
        let module = Module { build_id: [].into(), ..own_module(&path) };
        let (frame, problems) = look_up(module, recorded_at_ns);
        assert_eq!((frame.named, problems.is_empty()), (named, named));
    }
}

#[test]
fn an_address_outside_of_every_module_is_itself() {
    let mut symbols = Symbols::new(&[], 0);
    assert_eq!(&*symbols.frames(0x1234)[0].function, "[0x1234]");
}

#[test]
fn the_kernel_s_own_module_has_no_file_and_no_problem() {
    let module = Module { path: "linux-vdso.so.1".into(), ..own_module(&own_program()) };
    let (frame, problems) = look_up(module, u64::MAX);
    assert!(frame.function.starts_with("[linux-vdso.so.1+"));
    assert_eq!(problems, []);
}

#[test]
fn a_file_that_is_no_program_is_told_and_gives_no_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("text");
    fs::write(&path, "text").expect("written");
    let (frame, problems) = look_up(own_module(&path), u64::MAX);
    assert!(!frame.named);
    assert!(matches!(problems.as_slice(), [SymbolProblem::Unreadable { .. }]));
}
