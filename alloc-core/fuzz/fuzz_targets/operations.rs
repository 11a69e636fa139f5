//! A script of bytes, played on the heap and on a model of it; see `tests/script/mod.rs`, which a
//! test on stable Rust runs too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/model/mod.rs"]
#[allow(dead_code, reason = "other programs that drive the model use the rest")]
mod model;
#[path = "../../tests/script/mod.rs"]
mod script;

fuzz_target!(|bytes: &[u8]| script::play(bytes));
