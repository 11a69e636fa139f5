//! Parsers: trees of small blocks that are built and dropped.

use std::fmt::Write;

use super::race::{Done, Raced, race};
use super::sources;
use crate::random::Random;

/// Rust sources into `syn`'s trees.
pub(super) fn rust(threads: usize) -> Raced {
    let texts = sources::rust();
    let rounds = (8 / threads).max(1);
    race(threads, |_, start| {
        start.ready();
        let mut checksum = 0u64;
        for text in (0..rounds).flat_map(|_| &texts) {
            let file = syn::parse_file(text).expect("a source that was parsed before");
            checksum = checksum.wrapping_add(file.items.len() as u64);
        }
        Done { operations: (rounds * texts.len()) as u64, checksum }
    })
}

/// A JSON document of about 1 MiB into `serde_json`'s values.
pub(super) fn json(threads: usize) -> Raced {
    let text = document();
    let rounds = 80 / threads as u64;
    race(threads, |_, start| {
        start.ready();
        let mut checksum = 0u64;
        for _ in 0..rounds {
            let value: serde_json::Value = serde_json::from_str(&text).expect("a document");
            checksum = checksum.wrapping_add(value.as_array().map_or(0, Vec::len) as u64);
        }
        Done { operations: rounds, checksum }
    })
}

/// Records such as a web service hands out.
fn document() -> String {
    let mut random = Random::new(1);
    let mut text = String::from("[");
    for id in 0..4_000 {
        let comma = if id == 0 { "" } else { "," };
        let tags: Vec<_> = (0..random.below(6)).map(|tag| format!("\"tag-{tag}\"")).collect();
        write!(
            text,
            r#"{comma}{{"id":{id},"name":"user {}","mail":"u{}@example.org","score":{}.5,"active":{},"tags":[{}],"address":{{"street":"{} Street","city":"{}","zip":null}}}}"#,
            random.below(1_000_000),
            random.below(1_000_000),
            random.below(100),
            random.below(2) == 0,
            tags.join(","),
            random.below(1000),
            "x".repeat(random.below(30)),
        )
        .expect("a string takes everything");
    }
    text.push(']');
    text
}
