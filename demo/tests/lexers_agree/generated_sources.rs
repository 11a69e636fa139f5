//! Sources that are made up: pieces that are tokens or nearly so, put together and damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Whole tokens, comments and white space, and what is nearly one.
pub(super) const PIECES: &[&str] = &[
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
    "\"\\u{00_0041}\"",
    "\"\\u{0000041}\"",
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
pub(super) fn generated_source() -> impl Strategy<Value = Vec<u8>> {
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
pub(super) fn damaged(sources: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
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
