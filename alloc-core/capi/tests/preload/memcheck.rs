//! What memcheck finds in a C program with the library preloaded that tells it of blocks. Where valgrind is not
//! installed these say so, and fail if `CI` is set.

use std::ffi::OsString;
use std::process::Command;

use crate::library::{FAULTS, LIBRARY};
use crate::process::run;

/// What memcheck says of a fault of `tests/programs/faults.c`. By itself valgrind puts its own functions in
/// the place of any library's `malloc`; it is told to leave ours.
fn memcheck(fault: &str) -> Option<String> {
    let program = FAULTS.as_ref()?;
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        assert!(std::env::var_os("CI").is_none(), "valgrind is not here: {error}");
        eprintln!("SKIPPED, not tested: valgrind is not here: {error}");
        return None;
    }
    let mut preload = OsString::from("LD_PRELOAD=");
    preload.push(&*LIBRARY);
    // Not valgrind itself is to have the library.
    let outcome = run(Command::new("valgrind")
        .args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .args(["--show-leak-kinds=definite", "--error-exitcode=9"])
        .args(["--soname-synonyms=somalloc=nouserintercepts", "--trace-children=yes", "env"])
        .arg(preload)
        .arg(program)
        .arg(fault));
    let found = outcome.stderr.contains("==");
    assert_eq!(outcome.status.code(), Some(if found { 9 } else { 0 }), "{outcome:?}");
    Some(outcome.stderr)
}

fn expect(fault: &str, wanted: &[&str]) {
    let Some(said) = memcheck(fault) else { return };
    for wanted in wanted {
        assert!(said.contains(wanted), "not {wanted}: {said}");
    }
}

#[test]
fn a_read_after_the_free_is_found() {
    let wanted =
        ["40 bytes inside a block of size 100 free'd", "inside a block of size 100,000 free'd"];
    expect("read_after_free", &wanted);
}

#[test]
fn a_write_behind_a_block_is_found() {
    expect("write_behind", &["Invalid write of size 1", "block of size 100 alloc'd"]);
}

#[test]
fn a_write_behind_what_realloc_left_is_found() {
    expect("write_behind_what_realloc_left", &["0 bytes after a block of size 97 alloc'd"]);
}

#[test]
fn a_use_of_what_realloc_added_is_found_and_of_what_it_kept_is_none() {
    let Some(said) = memcheck("read_what_realloc_added") else { return };
    assert_eq!(said.matches("depends on uninitialised value").count(), 1, "{said}");
}

#[test]
fn leaks_are_found() {
    let wanted = ["1,234 bytes in 1 blocks", "4,321 bytes in 1 blocks", "77,777 bytes in 1 blocks"];
    expect("leak", &wanted);
}

#[test]
fn a_program_without_faults_is_silent() {
    assert_eq!(memcheck("nothing").unwrap_or_default(), "");
}
