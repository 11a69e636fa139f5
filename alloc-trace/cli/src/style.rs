//! Colours, on a terminal unless the user wants it otherwise.

use std::ffi::OsStr;
use std::fmt;

use clap::ValueEnum;

/// When text is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal; NO_COLOR, CLICOLOR and CLICOLOR_FORCE are heeded
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// Whether and how text is set off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// For a terminal or for something else, as the user chose and the environment says.
    pub(crate) fn new(choice: ColorChoice, terminal: bool) -> Self {
        let variable = |name: &str| std::env::var_os(name);
        Self { coloured: is_coloured(choice, terminal, |name| variable(name)) }
    }

    /// Nothing is set off.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { coloured: false }
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

/// What is said on the command line counts, then `NO_COLOR`, then what forces colours, then whether
/// there is a terminal that can have any.
fn is_coloured<T: AsRef<OsStr>>(
    choice: ColorChoice,
    terminal: bool,
    variable: impl Fn(&str) -> Option<T>,
) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.as_ref().is_empty());
    let is = |name, wanted: &str| variable(name).is_some_and(|value| value.as_ref() == wanted);
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if set("NO_COLOR") => false,
        ColorChoice::Auto if set("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0") => true,
        ColorChoice::Auto => terminal && !is("TERM", "dumb") && !is("CLICOLOR", "0"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_counts_before_the_environment_and_that_before_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        let coloured = |choice, terminal, variables: &[(&str, &str)]| {
            is_coloured(choice, terminal, |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(coloured(Auto, true, &[]) && !coloured(Auto, false, &[]));
        assert!(coloured(Always, false, &[("NO_COLOR", "1")]));
        assert!(!coloured(Never, true, &[("CLICOLOR_FORCE", "1")]));
        assert!(coloured(Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!coloured(Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!coloured(Auto, true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(coloured(Auto, true, &[("NO_COLOR", "")]), "empty counts as not set");
        assert!(!coloured(Auto, true, &[("TERM", "dumb")]));
        assert!(!coloured(Auto, true, &[("CLICOLOR", "0")]));
    }
}
