//! Colours, on a terminal only.

use std::fmt;

/// Whether and how text is set off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// Text for a terminal is set off unless the user asked for none, by `NO_COLOR` or by a
    /// terminal that is `dumb`.
    pub(crate) fn new(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { coloured: terminal && !refused }
    }

    /// A heading.
    pub(crate) fn heading<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        Styled { text, code: self.coloured.then_some("1") }
    }

    /// What must not be overlooked.
    pub(crate) fn warning<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        Styled { text, code: self.coloured.then_some("1;33") }
    }

    /// What matters less.
    pub(crate) fn faint<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        Styled { text, code: self.coloured.then_some("2") }
    }
}

struct Styled<T> {
    text: T,
    code: Option<&'static str>,
}

impl<T: fmt::Display> fmt::Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}
