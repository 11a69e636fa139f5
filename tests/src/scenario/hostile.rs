//! What others do to the recording's file while it is written.

use std::fs::{self, OpenOptions};

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
