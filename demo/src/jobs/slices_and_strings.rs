//! Parts of a text that is there already.

use std::hint::black_box;

use super::{Answer, Input, JobError};

job! {
    /// A slice points into text that somebody else owns, where a String of the same words is a copy
    /// of them that has to be made, moved and freed.
    "slices-and-strings", stack_only, heap_heavy
}

/// What a web server noted down: method, path, status and bytes sent.
const LOG: &str = "\
GET / 200 5120
GET /style.css 200 18220
GET /favicon.ico 404 153
POST /orders 201 412
GET /orders/1 200 962
GET /orders/2 200 1003
DELETE /orders/2 204 0
GET /orders/2 404 153
GET /images/logo.svg 304 0
GET /images/products/2024/garden-chair.jpg 200 231044
POST /orders 500 88
GET /health 200 2
";

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut sent = 0;
    for round in 0..input.scale {
        for line in black_box(LOG).lines() {
            let mut fields = line.split_whitespace();
            let path = fields.nth(1).unwrap_or_default();
            let status = fields.next().unwrap_or_default();
            let bytes = fields.next().unwrap_or_default();
            sent += count(black_box(path), status, bytes, round);
        }
    }
    Ok(answer(sent))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut sent = 0;
    for round in 0..input.scale {
        let lines: Vec<String> = black_box(LOG).lines().map(str::to_string).collect();
        for line in lines {
            let fields: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            let path = fields[1].clone();
            sent += count(black_box(&path), &fields[2], &fields[3], round);
        }
    }
    Ok(answer(sent))
}

/// The bytes of a successful answer, and one for each part of the path that was asked for.
fn count(path: &str, status: &str, bytes: &str, round: usize) -> u64 {
    let parts = path.split('/').filter(|part| !part.is_empty()).count() as u64;
    let is_success = status.starts_with('2');
    let bytes = bytes.parse().ok().filter(|_| is_success).unwrap_or(0);
    bytes + parts * (round as u64 % 7)
}

fn answer(sent: u64) -> Answer {
    Answer::Number { what: "bytes sent and parts of paths", value: sent }
}
