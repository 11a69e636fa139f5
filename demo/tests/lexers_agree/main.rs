//! The stack lexer against `proc-macro2`: the same sources are rejected, and all others have the
//! same tokens, however small the buffer and whatever each read gives.
//!
//! Two environment variables widen the search:
//!
//! - `LEXERS_AGREE_CASES`: how many generated sources each property tries, from a new seed each
//!   time; the
//!   short sources that are tried one and all become one character longer.
//! - `LEXERS_AGREE_SOURCES`: more directories of published sources, separated by colons.

use std::cell::Cell;
use std::env;
use std::fs;
use std::io::{self, Read};

use demo::stack_lexer::{self, BUFFER_BYTES, BUFFER_MIN_BYTES, LexedSource, StackLexError};
use demo::token_counts::TokenCounts;
use demo::token_trees;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestError, TestRunner};

use generated_sources::{PIECES, damaged, generated_source};
use published_sources::published_sources;

mod generated_sources;
mod published_sources;

const CASES: &str = "LEXERS_AGREE_CASES";

/// Gives at most `step` bytes at a time.
struct Trickle<'s> {
    source: &'s [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.step.min(buffer.len());
        self.source.read(&mut buffer[..length])
    }
}

/// The stack lexer's counts, or `None` for a source that it rejects.
fn stack_counts(source: &[u8], buffer: &mut [u8], step: usize) -> Option<TokenCounts> {
    match stack_lexer::count_tokens(Trickle { source, step }, buffer) {
        Ok(LexedSource { bytes, tokens }) => {
            assert_eq!(bytes, source.len() as u64);
            Some(tokens)
        }
        Err(StackLexError::Rejected) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The counts of `proc-macro2`.
fn tree_counts(source: &[u8]) -> Option<TokenCounts> {
    token_trees::count_tokens(str::from_utf8(source).ok()?).unwrap()
}

/// Buffers and steps that put a refill at every position of a token, and the buffer of the job.
const READINGS: [(usize, usize); 9] = [
    (BUFFER_BYTES, usize::MAX),
    (BUFFER_MIN_BYTES, usize::MAX),
    (BUFFER_MIN_BYTES, 1),
    (BUFFER_MIN_BYTES + 1, 2),
    (BUFFER_MIN_BYTES + 2, 3),
    (16, 7),
    (17, 16),
    (32, 16),
    (64, usize::MAX),
];

/// Whether the source was taken; an error that shows both answers if they differ.
fn compare(source: &[u8], readings: &[(usize, usize)]) -> Result<bool, String> {
    let expected = tree_counts(source);
    for &(buffer_bytes, step) in readings {
        let mut buffer = [0; BUFFER_BYTES];
        let counts = stack_counts(source, &mut buffer[..buffer_bytes], step);
        if counts != expected {
            let source = source.escape_ascii();
            return Err(format!(
                "\"{source}\"\n  through {buffer_bytes} bytes, {step} at a time:\n  \
                 proc-macro2  {expected:?}\n  stack lexer  {counts:?}"
            ));
        }
    }
    Ok(expected.is_some())
}

/// Compares sources given by `strategy`, shrinks the first on which the lexers differ, and sees to
/// it that enough were taken and enough were rejected for the comparison to mean something.
fn compare_generated(cases: u32, strategy: impl Strategy<Value = Vec<u8>>) {
    let wanted = env::var(CASES).ok();
    let seed = if wanted.is_some() { RngSeed::Random } else { RngSeed::Fixed(2015) };
    let cases = wanted.map_or(cases, |wanted| wanted.parse().expect("a number of cases"));
    let config =
        ProptestConfig { cases, rng_seed: seed, failure_persistence: None, ..<_>::default() };
    let taken = Cell::new(0);
    let outcome = TestRunner::new(config).run(&strategy, |source| {
        match compare(&source, &READINGS) {
            Ok(is_taken) => taken.set(taken.get() + u32::from(is_taken)),
            Err(difference) => return Err(TestCaseError::fail(difference)),
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(difference, _)) => panic!("the lexers differ on {difference}"),
        Err(error) => panic!("{error}"),
    }
    let taken = taken.get();
    println!("{cases} sources, of which {taken} were taken");
    assert!(taken > cases / 10 && taken < cases / 10 * 9, "{taken} of {cases} were taken");
}

#[test]
fn on_generated_sources() {
    compare_generated(12_000, generated_source());
}

#[test]
fn on_single_pieces_and_on_all_pairs_of_them() {
    let mut buffer = [0; BUFFER_BYTES];
    let mut taken = 0;
    for first in PIECES {
        compare(first.as_bytes(), &READINGS).unwrap();
        for second in PIECES {
            let source = format!("{first}{second}");
            let counts = stack_counts(source.as_bytes(), &mut buffer[..BUFFER_MIN_BYTES], 3);
            let expected = tree_counts(source.as_bytes());
            assert_eq!(counts, expected, "{source:?}");
            taken += usize::from(expected.is_some());
        }
    }
    println!("{} pairs, of which {taken} were taken", PIECES.len().pow(2));
    assert!(taken > PIECES.len().pow(2) / 10);
}

#[test]
fn on_all_short_sources_of_telling_characters() {
    let alphabet = [
        '\'', '"', '\\', '#', '/', '*', '!', 'r', 'b', 'c', 'x', 'e', '_', '.', '0', '1', '+', '(',
        ')', '\r', '\n', ' ', 'é', '\u{301}',
    ];
    let longest = if env::var_os(CASES).is_some() { 5 } else { 4 };
    let mut buffer = [0; BUFFER_MIN_BYTES];
    let (mut sources, mut taken) = (0, 0);
    for length in 0..=longest {
        for number in 0..alphabet.len().pow(length) {
            let digit = |place| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let source: String = (0..length).map(digit).collect();
            let counts = stack_counts(source.as_bytes(), &mut buffer, usize::MAX);
            let expected = tree_counts(source.as_bytes());
            assert_eq!(counts, expected, "{source:?}");
            sources += 1;
            taken += usize::from(expected.is_some());
        }
    }
    println!("{sources} sources of up to {longest} characters, of which {taken} were taken");
    assert!(taken > sources / 10);
}

#[test]
fn on_tokens_longer_than_every_buffer() {
    let long = |piece: &str| piece.repeat(BUFFER_BYTES / piece.len() + 1);
    let mut sources = vec![
        format!("// {}\nfn", long("é")),
        format!("/// {}\nfn", long("é")),
        format!("/* {} */ fn", long("/* é */")),
        format!("/*! {} */ fn", long("*/**/")),
        format!("\"{}\" fn", long("\\u{e9}é")),
        format!("\"\\\n{}\" fn", long(" \r\n\t")),
        format!("r##\"{}\"## fn", long("\"#\"")),
        format!("b\"{}\"{} fn", long("\\xff"), long("é")),
        format!("0x{}{} fn", long("_"), long("f")),
        format!("1{}.1{}e{}+{}5 fn", long("_"), long("_"), long("_"), long("_")),
        format!("1{}.1{}e{}5\u{301} fn", long("0"), long("0"), long("_")),
        format!("1e+{}x", "_".repeat(1000)),
        format!("1.0e+_{}\u{301}", "1".repeat(1000)),
        format!("{}fn", long(" \u{a0}\r\n")),
        "x".repeat(1024),
        format!("'{}", "é".repeat(512)),
        format!("r#{}", "é".repeat(511)),
    ];
    for hashes in [254, 255, 256, 300] {
        let hashes = "#".repeat(hashes);
        for prefix in ["r", "br", "cr"] {
            sources.push(format!("{prefix}{hashes}\"\"{hashes}"));
        }
    }
    let taken = sources.iter().filter(|source| compare(source.as_bytes(), &READINGS).unwrap());
    assert_eq!(taken.count(), 23);
    for open in ["\"", "r#\"", "/*", "/**", "b'"] {
        let source = format!("{open}{}", long("é"));
        assert_eq!(compare(source.as_bytes(), &READINGS), Ok(false), "{open}");
    }
}

#[test]
fn on_published_sources() {
    let paths = published_sources();
    let (mut taken, mut bytes) = (0, 0);
    for path in &paths {
        let source = fs::read(path).unwrap();
        bytes += source.len();
        match compare(&source, &READINGS[..1]) {
            Ok(is_taken) => taken += usize::from(is_taken),
            Err(_) => panic!("the lexers differ on {}", path.display()),
        }
    }
    println!("{} published sources, {bytes} bytes, of which {taken} were taken", paths.len());
    assert!(taken >= 500, "only {taken} published sources were found and taken");
}

#[test]
fn on_damaged_parts_of_published_sources() {
    let sources: Vec<Vec<u8>> =
        published_sources().iter().step_by(7).map(|path| fs::read(path).unwrap()).collect();
    let part =
        (any::<Index>(), any::<Index>(), 0..300_usize).prop_map(move |(file, start, length)| {
            let source = file.get(&sources);
            let start = start.index(source.len() + 1);
            source[start..source.len().min(start + length)].to_vec()
        });
    compare_generated(6_000, damaged(part));
}
