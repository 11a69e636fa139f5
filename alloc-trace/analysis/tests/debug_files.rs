//! Debug information in the shapes that compilers and packages give it, whole and damaged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloc_trace_analysis::{Frame, SymbolProblem, Symbols};
use alloc_trace_format::Module;
use object::{Object, ObjectSection, ObjectSymbol};
use tempfile::TempDir;

/// A function into which another one is inlined: only debug information tells.
const SOURCE: &str = "static inline __attribute__((always_inline)) int inlined(volatile int *n) {
    *n += 1;
    return *n * 2;
}
int looked_up(volatile int *n) {
    int twice = inlined(n);
    return twice + *n;
}
";

fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).current_dir(directory).status();
    assert!(status.expect("there, as the linker is").success(), "{program} {arguments:?}");
}

/// A shared object of [`SOURCE`], compiled with these options.
fn compiled(options: &[&str]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    // So many that compression makes sections shorter.
    let others = (0..60).map(|n| format!("int other_{n}(int n) {{ return n + {n}; }}\n"));
    let source = SOURCE.to_owned() + &others.collect::<String>();
    fs::write(directory.path().join("source.c"), source).expect("written");
    let options = [&["-O1", "-fPIC", "-c", "-o", "source.o", "source.c"], options].concat();
    run(directory.path(), "cc", &options);
    let link = ["-shared", "-nostdlib", "-Wl,--build-id", "-o", "lib.so", "source.o"];
    run(directory.path(), "cc", &link);
    let path = directory.path().join("lib.so");
    (directory, path)
}

fn compress(directory: &Path, format: &str) {
    run(directory, "objcopy", &[&format!("--compress-debug-sections={format}"), "lib.so"]);
}

/// The frames at every address of the function `looked_up`, or of all code where that has no symbol.
fn look_up(path: &Path) -> (Vec<Vec<Frame>>, Vec<SymbolProblem>) {
    let bytes = fs::read(path).expect("readable");
    let object = object::File::parse(&*bytes).expect("an object");
    let module = Module {
        stamp: 0,
        start: 0,
        end: u64::MAX,
        bias: 0,
        path: path.to_str().expect("text").into(),
        build_id: object.build_id().expect("sound").unwrap_or_default().into(),
    };
    let function = object.symbols().find(|symbol| symbol.name() == Ok("looked_up"));
    let (begin, length) = match function {
        Some(function) => (function.address(), function.size()),
        None => {
            let code = object.section_by_name(".text").expect("code");
            (code.address(), code.size())
        }
    };
    let mut symbols = Symbols::new(&[module], u64::MAX);
    let frames = (begin..begin + length).map(|address| symbols.frames(address + 1).to_vec());
    (frames.collect(), symbols.problems())
}

/// The functions at those addresses, each backtrace once, innermost first.
fn functions(frames: &[Vec<Frame>]) -> BTreeSet<Vec<&str>> {
    frames.iter().map(|frames| frames.iter().map(|frame| &*frame.function).collect()).collect()
}

/// What is found where debug information is whole.
fn assert_whole(path: &Path) {
    let (frames, problems) = look_up(path);
    let expected = [vec!["inlined", "looked_up"], vec!["looked_up"]];
    assert_eq!(functions(&frames), BTreeSet::from(expected));
    let lines: BTreeSet<_> = frames.iter().flatten().filter_map(|frame| frame.line).collect();
    assert!(lines.contains(&2) && lines.contains(&7), "{lines:?}");
    assert_eq!(problems, []);
}

/// What is found where only the symbol table can be read.
fn assert_functions_alone(path: &Path) -> Vec<SymbolProblem> {
    let (frames, problems) = look_up(path);
    assert_eq!(functions(&frames), BTreeSet::from([vec!["looked_up"]]));
    assert_eq!(frames.iter().flatten().find_map(|frame| frame.line), None);
    problems
}

#[test]
fn each_compression_is_read() {
    for format in ["none", "zlib", "zlib-gnu", "zstd"] {
        let (directory, path) = compiled(&["-g"]);
        compress(directory.path(), format);
        assert_whole(&path);
    }
}

#[test]
fn what_a_compiler_split_off_is_found_in_its_own_file_and_in_a_package() {
    // `dwp` of binutils knows version 4.
    let (directory, path) = compiled(&["-g", "-gdwarf-4", "-gsplit-dwarf"]);
    assert_whole(&path);
    run(directory.path(), "dwp", &["-e", "lib.so", "-o", "lib.so.dwp"]);
    fs::remove_file(directory.path().join("source.dwo")).expect("removed");
    assert_whole(&path);
    fs::remove_file(directory.path().join("lib.so.dwp")).expect("removed");
    let (frames, _) = look_up(&path);
    assert_eq!(functions(&frames), BTreeSet::from([vec!["looked_up"]]), "what is left of it");
    assert!(frames.iter().flatten().all(|frame| frame.line.is_some()));
}

/// Debug information of a function without a symbol, whose name is in a file that others share, as `dwz`
/// makes it.
const SHARING: &str = r#"
    .text
.Lbegin:
    .file 1 "shared.c"
    .loc 1 7
    nop
    nop
    ret
.Lend:
    .section .debug_line, "", @progbits
.Llines:
    .section .debug_abbrev, "", @progbits
.Labbreviations:
    # A unit: name, begin, length, lines.
    .byte 1, 0x11, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x07, 0x10, 0x17, 0, 0
    # A function: name (DW_FORM_GNU_strp_alt), begin, length.
    .byte 2, 0x2e, 0, 0x03, 0xa1, 0x3e, 0x11, 0x01, 0x12, 0x07, 0, 0, 0
    .section .debug_info, "", @progbits
    .long .Lunit_end - .Lunit
.Lunit:
    .value 4
    .long .Labbreviations
    .byte 8
    .byte 1
    .string "shared.c"
    .quad .Lbegin, .Lend - .Lbegin
    .long .Llines
    .byte 2
    .long 1
    .quad .Lbegin, .Lend - .Lbegin
    .byte 0
.Lunit_end:
    .section .gnu_debugaltlink, "", @progbits
    .string "shared.debug"
    .byte 0x12, 0x34, 0x56, 0x78
"#;

const SHARED: &str = r#"
    .section .debug_str, "", @progbits
    .string ""
    .string "name_of_many"
"#;

#[test]
fn names_in_a_file_that_several_share_are_found_where_it_is_and_their_lack_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let assemble = |name: &str, text: &str, build_id: &str| {
        let (source, option) = (format!("{name}.s"), format!("-Wl,--build-id={build_id}"));
        fs::write(directory.path().join(&source), text).expect("written");
        let link = ["-shared", "-nostdlib", &option, "-o", name, &source];
        run(directory.path(), "cc", &link);
    };
    assemble("lib.so", SHARING, "0xabcd");
    assemble("shared.debug", SHARED, "0x12345678");
    let path = directory.path().join("lib.so");
    let (frames, problems) = look_up(&path);
    assert_eq!(functions(&frames), BTreeSet::from([vec!["name_of_many"]]));
    assert_eq!((frames[0][0].line, problems), (Some(7), vec![]));

    let assert_told = |part: &str| {
        let (frames, problems) = look_up(&path);
        assert!(frames.iter().flatten().all(|frame| !frame.named && frame.line == Some(7)));
        let [problem @ SymbolProblem::BrokenDebugInfo { .. }] = &*problems else {
            panic!("{problems:?}")
        };
        let told = problem.to_string();
        assert!(told.contains("shared.debug") && told.contains(part), "{told}");
    };
    // Another build's.
    assemble("shared.debug", SHARED, "0x12345679");
    assert_told("of another build");
    fs::remove_file(directory.path().join("shared.debug")).expect("removed");
    assert_told("which is not here");
}

/// Where a section lies in a file, and how long it is there.
fn place(bytes: &[u8], name: &str) -> (usize, usize) {
    let object = object::File::parse(bytes).expect("an object");
    let section = object.section_by_name(name).expect("such a section");
    let (offset, length) = section.file_range().expect("in the file");
    (offset as usize, length as usize)
}

#[test]
fn a_compressed_section_that_states_another_length_leaves_the_functions_and_is_told() {
    let (directory, path) = compiled(&["-g"]);
    compress(directory.path(), "zlib");
    let whole = fs::read(&path).expect("readable");
    let (offset, _) = place(&whole, ".debug_info");
    for length in [u64::MAX, 1 << 40, 1] {
        let mut bytes = whole.clone();
        // Behind the kind of compression.
        bytes[offset + 8..offset + 16].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, bytes).expect("written");
        let problems = assert_functions_alone(&path);
        let [SymbolProblem::BrokenDebugInfo { module, file, .. }] = &*problems else {
            panic!("{problems:?}")
        };
        assert_eq!((module, file), (&path, &path));
    }
}

#[test]
fn damage_to_a_file_of_debug_information_leaves_its_symbols_and_is_told_of_that_file() {
    // Nothing is exported: what has no symbol table knows no function.
    let (directory, path) = compiled(&["-g", "-fvisibility=hidden"]);
    compress(directory.path(), "zlib");
    run(directory.path(), "objcopy", &["--only-keep-debug", "lib.so", "lib.so.debug"]);
    run(directory.path(), "strip", &["lib.so"]);
    let separate = directory.path().join("lib.so.debug");
    let inlined = |frames: &[Vec<Frame>]| functions(frames).contains(&vec!["inlined", "looked_up"]);
    let (frames, problems) = look_up(&path);
    assert!(inlined(&frames), "it belongs to the module");
    assert_eq!(problems, []);

    let mut bytes = fs::read(&separate).expect("readable");
    let (offset, _) = place(&bytes, ".debug_info");
    bytes[offset + 8..offset + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&separate, bytes).expect("written");
    let (frames, problems) = look_up(&path);
    assert!(functions(&frames).contains(&vec!["looked_up"]) && !inlined(&frames));
    let [SymbolProblem::BrokenDebugInfo { module, file, .. }] = &*problems else {
        panic!("{problems:?}")
    };
    assert_eq!((module, file), (&path, &separate));
}

/// How long all the damaged files may take, which takes some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn damage_to_debug_information_is_survived() {
    // On its own, so that what never ends, or ends the process, is a failure of this test alone.
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "damaged_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .spawn()
        .expect("run");
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().expect("waited for") {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => {
                child.kill().expect("killed");
                panic!("it did not end");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "run by another test"]
fn damaged_in_a_process_of_its_own() {
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % below
    };
    let sections = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_aranges"];
    let mut less = 0;
    for (version, format) in [("-gdwarf-5", "none"), ("-gdwarf-5", "zlib"), ("-gdwarf-4", "none")] {
        let (directory, path) = compiled(&["-g", version]);
        compress(directory.path(), format);
        let whole = fs::read(&path).expect("readable");
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=next(3) {
                let (offset, length) = place(&whole, sections[next(sections.len())]);
                bytes[offset + next(length)] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
            }
            fs::write(&path, bytes).expect("written");
            let (frames, _) = look_up(&path);
            assert!(frames.iter().all(|frames| frames.last().is_some_and(|frame| frame.named)));
            less += usize::from(frames.iter().flatten().all(|frame| frame.line.is_none()));
        }
    }
    assert!(less > 50, "{less}: nothing was damaged");
}
