//! Code that comes and goes, and descriptors that a program closes.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_SYSTEM, recorded, run};

#[test]
fn code_that_is_loaded_late_and_replaced_harms_neither_program_nor_recording() {
    let directory = TempDir::new().expect("a directory");
    let source = directory.path().join("library.c");
    let library = directory.path().join("library.so");
    let text = "void call_back(void (*f)(void)) { f(); __asm__ volatile(\"\" ::: \"memory\"); }";
    fs::write(&source, text).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    if !compiled.as_ref().is_ok_and(std::process::ExitStatus::success) {
        assert!(std::env::var_os("CI").is_none(), "a C compiler is needed: {compiled:?}");
        eprintln!("SKIPPED: no C compiler");
        return;
    }
    let argument = format!("library={}", library.display());
    for program in [OVER_CORE, OVER_SYSTEM] {
        for options in ["", ",check", ",stacks=off"] {
            let path = directory.path().join("recording");
            let arguments = ["late_library", argument.as_str()];
            run(&mut recorded(program, &arguments, &path, options)).quiet();
            let history = History::read(&path);
            history.assert_whole();
            let count = |size: u64| history.of_size(size).count();
            assert_eq!((count(64_321), count(64_322), count(64_323)), (2, 2000, 2), "{options}");
        }
    }
}

#[test]
fn a_program_that_closes_the_recorders_file_keeps_its_own_untouched() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let file = directory.path().join("file");
    let argument = format!("file={}", file.display());
    let arguments = ["closed_descriptors", argument.as_str()];
    let finished = run(&mut recorded(OVER_CORE, &arguments, &path, "")).success();
    assert_eq!(fs::read(&file).expect("readable"), [7; 1000]);
    assert_eq!(finished.complaints().len(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("closed its file"), "{}", finished.stderr);
    // What fitted into the window is there.
    assert!(History::read(&path).of_size(64_324).count() > 1000);
}
