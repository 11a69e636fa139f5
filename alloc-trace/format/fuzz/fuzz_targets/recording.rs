//! Any bytes as a recording: `cargo +nightly fuzz run recording seeds/recording` in
//! `alloc-trace/format/fuzz`. What the bytes are taken for is said in `inputs.rs`.
#![no_main]

#[path = "../inputs.rs"]
mod inputs;
#[path = "../survey.rs"]
mod survey;

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("a directory"));
}

fuzz_target!(|bytes: &[u8]| {
    DIRECTORY.with(|directory| inputs::take(bytes, directory.path()));
});
