//! Texts that fit.

use std::io::{self, Write};

use alloc_trace_analysis::shorten;

use crate::printable::printable;
use crate::style::Style;
use crate::table::{from_the_back, from_the_front};

/// A function's name in so many columns.
pub(crate) fn function(name: &str, columns: usize) -> String {
    shorten(&printable(name), columns)
}

/// Writes a heading, in as many lines as it needs.
pub(crate) fn write_heading(
    out: &mut dyn Write,
    text: &str,
    columns: usize,
    style: Style,
) -> io::Result<()> {
    wrap(text, columns).iter().try_for_each(|line| writeln!(out, "{}", style.heading(line)))
}

/// A source file's path without the part that says nothing to a reader: where Cargo keeps the
/// sources of dependencies.
pub(crate) fn short_path(path: &str) -> String {
    match path.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, in_crate)) => in_crate.to_owned(),
        None => from_the_back(path, usize::MAX),
    }
}

/// Writes a text behind its name, in as many lines as it needs.
pub(crate) fn write_fact(
    out: &mut dyn Write,
    name: &str,
    text: &str,
    columns: usize,
) -> io::Result<()> {
    const NAMES: usize = 14;
    let lines = wrap(text, columns.saturating_sub(NAMES));
    lines.iter().enumerate().try_for_each(|(index, line)| {
        let name = if index == 0 { name } else { "" };
        writeln!(out, "{name:<NAMES$}{line}")
    })
}

/// Breaks a text at spaces into lines of at most `columns`, where its words allow.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable(text).split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(from_the_front(word, columns)),
        }
    }
    lines
}
