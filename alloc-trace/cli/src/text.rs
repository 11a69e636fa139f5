//! Texts that fit.

use crate::table::{from_the_back, from_the_front};

/// A source file's path without the part that says nothing to a reader: where Cargo keeps the
/// sources of dependencies.
pub(crate) fn short_path(path: &str) -> String {
    match path.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, in_crate)) => in_crate.to_owned(),
        None => from_the_back(path, usize::MAX),
    }
}

/// Breaks a text at spaces into lines of at most `columns`, where its words allow.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
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
