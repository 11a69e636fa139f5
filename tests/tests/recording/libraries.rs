//! Code that comes and goes, and descriptors that a program closes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};

use alloc_trace_format::{EndReason, Event, EventKind, NodeId};
use tempfile::TempDir;

use crate::history::History;
use crate::program::{OVER_CORE, OVER_SYSTEM, alloc_trace, plugin, recorded, run};

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

/// Compiles a library whose function `call_back` calls what it is given by way of one called `name`: so
/// libraries are alike to the byte but for a name.
fn compile_calling(directory: &Path, name: &str) -> Option<PathBuf> {
    let text = format!(
        "void {name}(void (*f)(void)) {{ f(); __asm__ volatile(\"\" ::: \"memory\"); }}\n\
         void call_back(void (*f)(void)) {{ {name}(f); __asm__ volatile(\"\" ::: \"memory\"); }}\n"
    );
    compile(directory, name, &text)
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
    let names = ["alpha_library", "gamma_library"];
    let [Some(first), Some(second)] = names.map(|name| compile_calling(directory.path(), name))
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
fn each_of_several_threads_is_in_the_library_that_was_there_when_it_asked() {
    let directory = TempDir::new().expect("a directory");
    let names = ["alpha_library", "gamma_library", "omega_library"];
    let mut arguments = vec!["libraries_on_threads".to_owned()];
    for (key, name) in ["first", "second", "third"].into_iter().zip(names) {
        let Some(library) = compile_calling(directory.path(), name) else { return };
        arguments.push(format!("{key}={}", library.display()));
    }
    for (how, options) in [("turns", ""), ("turns", ",check"), ("together", "")] {
        let path = directory.path().join("recording");
        let how = format!("how={how}");
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.push(&how);
        let finished = run(&mut recorded(OVER_CORE, &arguments, &path, options)).quiet();
        assert_eq!(finished.numbers(), [1], "each was loaded where the other ones had been");
        let history = History::read(&path);
        history.assert_whole();
        // Threads that find one unload at the same time say the same of it.
        let mut ends: Vec<NodeId> = history.unloads.iter().map(|gone| gone.first_node).collect();
        ends.sort_unstable();
        ends.dedup();
        assert_eq!(ends.len(), 12, "{how}{options}: {ends:?}");
        let place = history.unloads[0].start + 1..=history.unloads[0].end;
        // Of the event itself, by the numbers of its nodes: whatever is asked for, and what is freed,
        // too, which was obtained through the library before.
        let within = |event: &Event, load: usize| {
            let first = load.checked_sub(1).map_or(NodeId::ROOT, |before| ends[before]);
            let (nodes, _) = history.nodes(event.node);
            let own: Vec<NodeId> =
                nodes.iter().filter(|node| place.contains(&node.1)).map(|node| node.0).collect();
            assert_eq!(own.len(), 2, "{event:?}");
            assert!(
                own.iter().all(|node| first <= *node && *node < ends[load]),
                "{how}{options}: load {load}: {event:?}: {own:?} of {ends:?}"
            );
        };
        for load in 0..12 {
            let kept: Vec<&Event> = history.of_size(64_400 + load as u64).collect();
            assert_eq!(kept.len(), if load == 11 { 3 } else { 6 });
            for event in kept {
                within(event, load + usize::from(event.kind == EventKind::Free));
            }
            assert_eq!(history.of_size(64_500 + load as u64).count(), 6);
            history.of_size(64_500 + load as u64).for_each(|event| within(event, load));
            // And as the reader has it.
            let size = (64_500 + load).to_string();
            let mut stacks = alloc_trace();
            stacks.args(["export", "--format=collapsed", "--size", &size]).arg(&path);
            let stacks = run(&mut stacks).success().stdout;
            let found = names.map(|name| stacks.contains(name));
            assert_eq!(found, [0, 1, 2].map(|name| name == load % 3), "{size}: {stacks}");
        }
    }
}

#[test]
fn a_library_with_a_recorder_of_its_own_that_is_unloaded_does_not_end_the_program() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let argument = format!("library={}", plugin().display());
    let finished = run(&mut recorded(OVER_SYSTEM, &["plugin", &argument], &path, "")).quiet();
    let program = History::read(&path);
    program.assert_whole();
    let worked =
        |history: &History| history.events.iter().filter(|event| event.size == 64_601).count();
    assert_eq!((program.trails(65_000, 100), worked(&program)), (1, 0));
    // It stays loaded, and has one recording.
    let library = History::read(&directory.path().join(format!("recording.{}", finished.pid)));
    assert_eq!(worked(&library), 600);
    assert_eq!(library.end.map(|(reason, _)| reason), Some(EndReason::Exited));
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2);
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
