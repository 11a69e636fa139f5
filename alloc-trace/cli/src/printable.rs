//! Texts from a recording as a terminal may get them.
//!
//! The names of files, threads, spans and modules are somebody else's: a control character in one could
//! clear the screen, set the window's title or have a line look like another.

use std::borrow::Cow;

/// Writes what a terminal would obey as Rust writes it: `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_obeyed(c) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters, what turns the direction of writing or ends a line, and what is no character: no
/// picture may have that, which is XML.
pub(crate) fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}');
    let ends_or_none = matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
    c.is_control() || turns || ends_or_none || matches!(c, '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(printable("app::größe<日本>"), "app::größe<日本>");
        assert_eq!(printable("\x1b[2J\n\r\t\u{9b}"), r"\u{1b}[2J\n\r\t\u{9b}");
        assert_eq!(printable("\u{fffe}\u{ffff}\u{fffd}"), "\\u{fffe}\\u{ffff}\u{fffd}");
        assert_eq!(printable("a\u{202e}b\u{2066}"), r"a\u{202e}b\u{2066}");
    }
}
