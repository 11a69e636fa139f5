//! What is said on standard error: warnings and errors.

use std::io::{self, IsTerminal, Write};

use crate::output::columns;
use crate::printable::printable;
use crate::text::wrap;

/// Prints a message: on a terminal in lines that fit it, else on one line, for a log.
pub(crate) fn print(text: &str) {
    let text = format!("alloc-trace: {text}");
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        eprintln!("{}", printable(&text));
        return;
    }
    let (mut indent, mut stderr) = ("", stderr.lock());
    for line in wrap(&text, columns(terminal_size::terminal_size_of(io::stderr())) - 2) {
        // Nobody is left to be told that this fails.
        let _ = writeln!(stderr, "{indent}{line}");
        indent = "  ";
    }
}
