//! What memcheck finds in a program with this heap: as much as with `malloc`. Each case is a process
//! of its own under valgrind; where valgrind is not installed they say so, and fail if `CI` is set.
#![cfg(feature = "valgrind")]

use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashMap;
use std::hint::black_box;
use std::process::Command;

use alloc_core::CoreAlloc;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// Set in the process that runs a case.
const CASE: &str = "ALLOC_CORE_CASE";

/// Runs a case under memcheck and returns what memcheck says; `None` in the process of the case, and
/// where there is no valgrind.
fn under_memcheck(name: &str, case: impl FnOnce()) -> Option<String> {
    if std::env::var(CASE).is_ok_and(|wanted| wanted == name) {
        case();
        return None;
    }
    let output = Command::new("timeout")
        .args(["120", "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite"])
        .args(["--errors-for-leak-kinds=definite", "--error-exitcode=9"])
        .arg(std::env::current_exe().expect("this program's path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CASE, name)
        .output()
        .expect("timeout is one of coreutils");
    if output.status.code() == Some(127) {
        assert!(std::env::var_os("CI").is_none(), "valgrind is not here");
        eprintln!("SKIPPED, not tested: valgrind is not here");
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = said.contains("==");
    assert_eq!(output.status.code(), Some(if found { 9 } else { 0 }), "{said}");
    Some(said)
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

fn alloc(size: usize) -> *mut u8 {
    // SAFETY: the layout is not empty.
    unsafe { HEAP.alloc(layout(size)) }
}

fn free(block: *mut u8, size: usize) {
    // SAFETY: wrong in some of these tests, and found out.
    unsafe { HEAP.dealloc(block, layout(size)) };
}

fn read(address: *const u8) -> u8 {
    // SAFETY: wrong in most of these tests, and found out. The memory is mapped.
    unsafe { address.read_volatile() }
}

#[test]
fn a_program_without_faults_is_silent() {
    let said = under_memcheck("a_program_without_faults_is_silent", || {
        let mut map = HashMap::new();
        for round in 0..3000usize {
            map.insert(round, vec![round as u8; round * 37 % 5000]);
            map.remove(&(round / 2));
        }
        let mut grown = Vec::new();
        for size in [100, 5000, 40_000, 200_000, 6 << 20, 40 << 20, 300_000, 50] {
            grown.resize(size, 7u8);
            grown.shrink_to_fit();
            assert!(grown.iter().take(50).all(|byte| *byte == 7));
            // Zeros from memory that was used, and freed, before.
            assert!(vec![0u8; size].iter().all(|byte| *byte == 0));
        }
        let thread = std::thread::spawn(move || (map.len(), grown.len()));
        assert_eq!(thread.join().expect("a thread").1, 50);
        HEAP.purge();
    });
    assert_eq!(said.unwrap_or_default(), "");
}

#[test]
fn a_read_after_the_free_is_found() {
    let said = under_memcheck("a_read_after_the_free_is_found", || {
        let block = alloc(100);
        free(block, 100);
        black_box(read(block.wrapping_add(40)));
        // Not in a loop: of the same place in the code memcheck would report one.
        let block = alloc(100_000);
        free(block, 100_000);
        black_box(read(block.wrapping_add(40)));
    });
    let Some(said) = said else { return };
    for size in ["100", "100,000"] {
        let wanted = format!("40 bytes inside a block of size {size} free'd");
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn a_write_behind_a_block_is_found() {
    let said = under_memcheck("a_write_behind_a_block_is_found", || {
        // The block itself has 112 bytes.
        let block = alloc(100);
        // SAFETY: wrong, and found out.
        unsafe { block.wrapping_add(100).write_volatile(1) };
        free(block, 100);
    });
    let Some(said) = said else { return };
    assert!(said.contains("Invalid write of size 1"), "{said}");
    assert!(said.contains("0 bytes after a block of size 100 alloc'd"), "{said}");
}

#[test]
fn a_use_of_what_was_never_written_is_found() {
    let said = under_memcheck("a_use_of_what_was_never_written_is_found", || {
        let block = alloc(64);
        free(block, 64);
        // The same block again: what was in it before counts as written no more.
        let block = alloc(64);
        if read(block) == 1 {
            println!("one");
        }
        free(block, 64);
    });
    let Some(said) = said else { return };
    assert!(said.contains("depends on uninitialised value"), "{said}");
}

#[test]
#[cfg_attr(feature = "hardened", ignore = "the hardened heap ends the process first")]
fn a_block_freed_twice_is_found() {
    let said = under_memcheck("a_block_freed_twice_is_found", || {
        let (block, other) = (alloc(64), alloc(64));
        free(block, 64);
        free(other, 64);
        free(block, 64);
        // The heap would find it when the blocks go home: leave before.
        std::process::exit(0);
    });
    let Some(said) = said else { return };
    assert!(said.contains("Invalid free()"), "{said}");
}

#[test]
fn a_leak_is_found() {
    let said = under_memcheck("a_leak_is_found", || {
        black_box(alloc(1234));
        black_box([0usize; 64]);
    });
    let Some(said) = said else { return };
    assert!(said.contains("1,234 bytes in 1 blocks are definitely lost"), "{said}");
}
