//! What others do to the recording's file while it is written.

use std::fs::{self, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use alloc_trace::is_recording;

use super::Given;
use crate::block::trail;
use crate::os;

/// Makes the trail of 65,000 again and again until nothing is recorded any more; says how often.
pub(super) fn until_it_ends(_given: &Given) {
    let mut made = 0;
    while is_recording() {
        trail(65_000, 1);
        made += 1;
    }
    trail(65_000, 10);
    println!("{made}");
}

/// Cuts the `file` of its recording to `bytes`, or removes it, and goes on until it would have been
/// written twice over.
pub(super) fn truncated(given: &Given) {
    trail(65_000, 100);
    let file = given.text("file").expect("a file");
    match given.number("bytes") {
        Some(bytes) => {
            let file = OpenOptions::new().write(true).open(file).expect("the recording");
            file.set_len(bytes as u64).expect("a shorter file");
        }
        None => fs::remove_file(file).expect("removed"),
    }
    trail(66_000, 60_000);
    println!("{}", if is_recording() { "recorded" } else { "not recorded" });
}

/// Has no standard output and few descriptors when its recording begins, and writes to standard output
/// nevertheless; says on standard error why nothing is recorded.
pub(super) fn few_descriptors(given: &Given) {
    os::limit_descriptors(given.number("limit").expect("a limit") as u64);
    os::close(1);
    match given.builder().expect("a file").start() {
        Ok(recording) => {
            // SAFETY: the bytes are live and as many.
            unsafe { libc::write(1, [b'x'; 5_000].as_ptr().cast(), 5_000) };
            trail(65_000, 100);
            drop(recording);
        }
        Err(error) => eprintln!("{error}"),
    }
}

/// Gets a `SIGBUS` that has nothing to do with the recording.
pub(super) fn bus_error(_given: &Given) {
    trail(65_000, 100);
    os::raise(libc::SIGBUS);
    trail(66_000, 100);
}

/// Records where no file can be mapped.
pub(super) fn unmappable(given: &Given) {
    os::forbid_shared_maps();
    let recording = given.start();
    trail(65_000, 60_000);
    drop(recording);
}

/// Makes a trail, goes into a sandbox where no file can be written, and makes another one there.
pub(super) fn sandboxed(_given: &Given) {
    trail(65_000, 100);
    os::forbid_files();
    trail(66_000, 60_000);
    println!("done");
}

/// Goes into a sandbox where `membarrier` has an `error`, and makes the trail of 65,000 while two threads make
/// others, in three recordings one after the other where it begins them itself. Says how often files of theirs
/// are still mapped.
pub(super) fn without_barriers(given: &Given) {
    os::forbid_barriers(given.number("error").expect("an error") as i32);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for base in [70_000, 71_000] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    trail(base, 1);
                }
            });
        }
        for _ in 0..3 {
            let recording = given.start();
            trail(65_000, 100);
            drop(recording);
            if given.text("record").is_none() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    if let Some(path) = given.text("record") {
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        println!("{}", maps.lines().filter(|line| line.contains(path)).count());
    }
}
