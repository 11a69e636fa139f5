//! The stack lexer against `proc-macro2`: the same sources are rejected, and all others have the same
//! tokens, however small the buffer and whatever each read gives.
//!
//! Two environment variables widen the search:
//!
//! - `LEXERS_AGREE_CASES`: how many generated sources each property tries, from a new seed each time; the
//!   short sources that are tried one and all become one character longer.
//! - `LEXERS_AGREE_SOURCES`: more directories of published sources, separated by colons.

use std::cell::Cell;
use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use demo::source_files::SourceFiles;
use demo::stack_lexer::{self, BUFFER_BYTES, BUFFER_MIN_BYTES, LexedSource, StackLexError};
use demo::token_counts::TokenCounts;
use demo::token_trees;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestError, TestRunner};

const CASES: &str = "LEXERS_AGREE_CASES";

const SOURCES: &str = "LEXERS_AGREE_SOURCES";

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

/// Compares sources given by `strategy`, shrinks the first on which the lexers differ, and sees to it
/// that enough were taken and enough were rejected for the comparison to mean something.
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

/// Whole tokens, comments and white space, and what is nearly one.
const PIECES: &[&str] = &[
    "fn",
    "r",
    "b",
    "c",
    "br",
    "cr",
    "rb",
    "_",
    "__",
    "r#fn",
    "r#_",
    "r#self",
    "r#crate",
    "r#Self",
    "r#super",
    "r#selfish",
    "é",
    "名前",
    "ℼ",
    "a\u{301}",
    "\u{301}",
    "·",
    "x·",
    "union",
    "'a",
    "'r#a",
    "'r#self",
    "'_",
    "'static",
    "'名",
    "'a'",
    "'é'",
    "'\u{10348}'",
    "'''",
    "''",
    "'\\''",
    "'\\n'",
    "'\\x7f'",
    "'\\x80'",
    "'\\u{1F600}'",
    "'\\u{d800}'",
    "'ab'",
    "'a#",
    "'r#a#",
    "' '",
    "'\n'",
    "b'x'",
    "b'\\xff'",
    "b'é'",
    "b'''",
    "b'\\u{41}'",
    "b''",
    "\"\"",
    "\"a\"",
    "\"é\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\x41\"",
    "\"\\u{00_e9}\"",
    "\"\\u{_1}\"",
    "\"\\u{1234567}\"",
    "\"\\u{110000}\"",
    "\"\\u{}\"",
    "\"\\\n  \"",
    "\"\\\r\n\t\r\n x\"",
    "\"\\\r x\"",
    "\"\r\n\"",
    "\"\r\"",
    "\"\\q\"",
    "\"a\"suffix",
    "\"a\"_",
    "\"a\"é",
    "b\"a\\xff\"",
    "b\"é\"",
    "b\"\\u{41}\"",
    "b\"\\0\"",
    "c\"a\"",
    "c\"\\0\"",
    "c\"\\x00\"",
    "c\"\\xff\"",
    "c\"\\u{0}\"",
    "c\"é\"",
    "c\"\0\"",
    "\"\0\"",
    "r\"\\\"",
    "r\"é\"",
    "r#\"a\"b\"#",
    "r##\"\"#\"##",
    "r###\"\"##\"###",
    "r#\"",
    "r##a",
    "r\"\r\n\"",
    "r\"\r\"",
    "br\"a\"",
    "br#\"\"\"#",
    "br\"é\"",
    "br#a",
    "cr\"é\"",
    "cr\"\0\"",
    "cr#\"\"#",
    "cr#x",
    "'r\"a\"",
    "'br\"a\"",
    "'c\"a\"",
    "'b\"a\"",
    "'br#\"\"#",
    "'b'a",
    "0",
    "00",
    "1_000",
    "1u8",
    "1.0",
    "1.",
    "1..2",
    "1.e5",
    "1.foo",
    "1._0",
    "1.0.0",
    "1e5",
    "1E-5",
    "1e",
    "1e+",
    "1e+_",
    "1e+__x",
    "1e_+5",
    "1.0e_",
    "1.0e+_1",
    "1.0e+__a",
    "1e+_1\u{301}",
    "1.0e-_1\u{301}",
    "1.0e_-1\u{301}",
    "1.0e+-5",
    "1.0ee5",
    "1.0e5f32",
    "1.0e5\u{301}",
    "1e5\u{301}",
    "1.0\u{301}",
    "1e+5\u{301}",
    "1\u{301}",
    "1.é",
    "1.\u{301}",
    "0x",
    "0x_",
    "0xF_f",
    "0xg",
    "0x1.0",
    "0x1e+5",
    "0b",
    "0b10",
    "0b12",
    "0b_1u8",
    "0b1e5",
    "0o",
    "0o17",
    "0o18",
    "0oa",
    "0.1",
    "0e0",
    "1if",
    "1.0if",
    "1.0_",
    "1_.0",
    "//",
    "// x\n",
    "//\r\n",
    "// \r x\n",
    "///",
    "/// x\n",
    "/// x\r\n",
    "/// \r x\n",
    "/// x\r",
    "////\n",
    "//// \r\n",
    "//!",
    "//! x\n",
    "//! \r\n",
    "//! \r\r\n",
    "///!\n",
    "//!/\n",
    "/**/",
    "/***/",
    "/* x */",
    "/* /* */ */",
    "/* /* */",
    "/*/",
    "/*/*/",
    "/*/**/*/",
    "/** x */",
    "/** \r */",
    "/** \r\n */",
    "/** x\r*/",
    "/*! x */",
    "/*!*/",
    "/*! /* */ */",
    "/*!",
    "/**",
    "/*** x */",
    "/** * */",
    "/**\n*/",
    "*/",
    "(/*ERROR*/)",
    "(/*ERROR*/",
    "(/*ERROR*/ )",
    "[/*ERROR*/]",
    "(/*error*/)",
    "()",
    "[]",
    "{}",
    "( )",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "([{}])",
    "(]",
    "~",
    "!",
    "@",
    "#",
    "$",
    "%",
    "^",
    "&",
    "*",
    "-",
    "=",
    "+",
    "|",
    ";",
    ":",
    ",",
    "<",
    ".",
    ">",
    "/",
    "?",
    "'",
    "\"",
    "\\",
    "`",
    "..",
    "...",
    "->",
    "=>",
    "::",
    "#!",
    "#!/usr/bin/env run\n",
    "#![a]",
    " ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{200e}",
    "\u{200f}",
    "\u{2028}",
    "\u{3000}",
    "\u{feff}",
    "\u{200b}",
    "\u{1c}",
    "\0",
    "😀",
];

/// A number of any make, right or wrong.
fn number() -> impl Strategy<Value = String> {
    let parts =
        ["0", "1", "9", "_", ".", "e", "E", "+", "-", "x", "o", "b", "a", "f", "u8", "\u{301}"];
    (select(vec!["0", "1", "9", "0x", "0b", "0o"]), vec(select(parts.to_vec()), 0..9))
        .prop_map(|(first, rest)| first.to_string() + &rest.concat())
}

/// A string of any kind with anything in it; it is closed most of the time.
fn string() -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "é",
        "名",
        "\u{10348}",
        "\"",
        "\"#",
        "\"##",
        "#",
        "\\",
        "\\\\",
        "\\\"",
        "\\'",
        "'",
        "\\n",
        "\\0",
        "\\x",
        "\\x4",
        "\\x41",
        "\\xff",
        "\\x00",
        "\\u",
        "\\u{",
        "\\u{4_1}",
        "\\u{0}",
        "}",
        "\\\n",
        "\\\r\n",
        "\\\r",
        "\r\n",
        "\r",
        "\n",
        " ",
        "\t",
        "\u{a0}",
        "\0",
        "//",
        "/*",
    ];
    let opening = select(vec!["\"", "b\"", "c\"", "r\"", "br\"", "cr\"", "'", "b'"]);
    let closing = select(vec!["", "", "suffix", "_", "é", "r", "\u{301}"]);
    let content = vec(select(parts.to_vec()), 0..6);
    (opening, 0..3_usize, content, any::<bool>(), closing).prop_map(
        |(opening, hashes, content, is_closed, suffix)| {
            let hashes = if opening.contains('r') { "#".repeat(hashes) } else { String::new() };
            let (prefix, quote) = opening.split_at(opening.len() - 1);
            let closing = if is_closed { format!("{quote}{hashes}") } else { String::new() };
            format!("{prefix}{hashes}{quote}{}{closing}{suffix}", content.concat())
        },
    )
}

/// A comment of any kind; block comments are closed most of the time.
fn comment() -> impl Strategy<Value = String> {
    let parts = ["a", "é", "*", "/", "!", "/*", "*/", "\r", "\r\n", "\n", " ", "\"", "'"];
    let opening = select(vec!["//", "///", "//!", "////", "/*", "/**", "/*!", "/***"]);
    (opening, vec(select(parts.to_vec()), 0..6), any::<bool>()).prop_map(
        |(opening, content, is_closed)| {
            let closing = match is_closed {
                true if opening.starts_with("/*") => "*/",
                true => "\n",
                false => "",
            };
            format!("{opening}{}{closing}", content.concat())
        },
    )
}

/// Sources of a few pieces, some of them inside a group, and some then damaged.
fn generated_source() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => select(PIECES).prop_map(str::to_string),
        1 => number(),
        1 => string(),
        1 => comment(),
    ];
    let group = (select(vec!["()", "[]", "{}"]), vec(piece.clone(), 0..4))
        .prop_map(|(delimiters, pieces)| {
            format!("{}{}{}", &delimiters[..1], pieces.concat(), &delimiters[1..])
        })
        .boxed();
    let space = select(vec!["", "", " ", "\n", "\r\n", "/**/"]);
    let pieces = vec((prop_oneof![3 => piece, 1 => group], space), 0..8);
    let mark = select(vec!["", "", "", "\u{feff}"]);
    let whole = (mark, pieces).prop_map(|(mark, pieces)| {
        let pieces = pieces.iter().map(|(piece, space)| piece.clone() + space);
        mark.to_string() + &pieces.collect::<String>()
    });
    damaged(whole.prop_map(String::into_bytes))
}

/// The same sources with up to three bytes inserted, deleted or replaced: most often none.
fn damaged(sources: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let telling = b"'\"\\#/*!rbce_.0x+-{}()[]\r\n\t \0\x80\xe2\xcc\xff".to_vec();
    let byte = prop_oneof![3 => select(telling), 1 => any::<u8>()];
    let damage = (any::<Index>(), 0..3_u8, byte);
    let damages = prop_oneof![2 => Just(vec![]), 1 => vec(damage, 1..4)];
    (sources, damages).prop_map(|(mut source, damages)| {
        for (index, kind, byte) in damages {
            let position = index.index(source.len() + 1);
            match kind {
                0 => source.insert(position, byte),
                _ if position == source.len() => {}
                1 => drop(source.remove(position)),
                _ => source[position] = byte,
            }
        }
        source
    })
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

/// Where published sources are: this repository, the packages that its lock file names as the registry
/// unpacked them, the toolchain's library if it is installed, and what the environment adds.
fn directories_of_published_sources() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut directories = vec![repository.to_owned()];

    let home = || env::home_dir().expect("a home directory").join(".cargo");
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from);
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap();
    let values = |key: &'static str| lock.lines().filter_map(move |line| line.strip_prefix(key));
    let packages: Vec<String> = values("name = ")
        .zip(values("version = ").skip(1))
        .map(|(name, version)| format!("{}-{}", name.trim_matches('"'), version.trim_matches('"')))
        .collect();
    if let Ok(registries) = fs::read_dir(cargo_home.join("registry/src")) {
        for registry in registries.map(|registry| registry.unwrap().path()) {
            directories.extend(packages.iter().map(|package| registry.join(package)));
        }
    }

    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() {
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        directories.push(sysroot.join("lib/rustlib/src/rust/library/core/src"));
    }

    let more = env::var_os(SOURCES).unwrap_or_default();
    directories.extend(env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()));
    directories.retain(|directory| directory.is_dir());
    directories
}

fn published_sources() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for directory in directories_of_published_sources() {
        if let Ok(files) = SourceFiles::under(&directory) {
            paths.extend(files.iter().map(|file| file.path().to_owned()));
        }
    }
    paths
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
    let directories = directories_of_published_sources().len();
    println!(
        "{} published sources in {directories} directories, {bytes} bytes, of which {taken} were taken",
        paths.len()
    );
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
