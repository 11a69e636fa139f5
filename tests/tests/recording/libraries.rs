//! Code that comes and goes, and descriptors that a program closes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};

use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_SYSTEM, alloc_trace, recorded, run};

/// Compiles a library with a build id; `None` where there is no compiler.
fn compile(directory: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let [source, library] = ["c", "so"].map(|suffix| directory.join(name).with_extension(suffix));
    fs::write(&source, text).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wl,--build-id", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    if !compiled.as_ref().is_ok_and(ExitStatus::success) {
        assert!(env::var_os("CI").is_none(), "a C compiler is needed: {compiled:?}");
        eprintln!("SKIPPED: no C compiler");
        return None;
    }
    Some(library)
}

#[test]
fn code_that_is_loaded_late_and_replaced_harms_neither_program_nor_recording() {
    let directory = TempDir::new().expect("a directory");
    let text = "void call_back(void (*f)(void)) { f(); __asm__ volatile(\"\" ::: \"memory\"); }";
    let Some(library) = compile(directory.path(), "library", text) else { return };
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
fn of_two_libraries_that_had_the_same_place_each_call_is_named_by_its_own() {
    let directory = TempDir::new().expect("a directory");
    // Alike to the byte, but for a name; and both have the name that is looked up.
    let text = |name: &str| {
        format!(
            "void {name}(void (*f)(void)) {{ f(); __asm__ volatile(\"\" ::: \"memory\"); }}\n\
             void call_back(void (*f)(void)) {{ {name}(f); __asm__ volatile(\"\" ::: \"memory\"); }}\n"
        )
    };
    let names = ["alpha_library", "gamma_library"];
    let [Some(first), Some(second)] =
        names.map(|name| compile(directory.path(), name, &text(name)))
    else {
        return;
    };
    let arguments = [
        "replaced_libraries".to_owned(),
        format!("first={}", first.display()),
        format!("second={}", second.display()),
    ];
    for program in [OVER_CORE, OVER_SYSTEM] {
        for options in ["", ",check"] {
            let path = directory.path().join("recording");
            let arguments = arguments.each_ref().map(String::as_str);
            let finished = run(&mut recorded(program, &arguments, &path, options)).quiet();
            assert_eq!(finished.numbers(), [1], "each was loaded where the other one had been");
            let history = History::read(&path);
            history.assert_whole();
            // The last one is found to be gone when the recording ends.
            assert_eq!(history.unloads.len(), 4, "{:?}", history.unloads);
            for (size, own, other) in [(64_331, names[0], names[1]), (64_332, names[1], names[0])] {
                let mut tree = alloc_trace();
                let size = size.to_string();
                tree.args(["export", "--format=collapsed", "--size", &size]).arg(&path);
                let stacks = run(&mut tree).success().stdout;
                assert!(stacks.contains(own) && !stacks.contains(other), "{size}: {stacks}");
            }
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
