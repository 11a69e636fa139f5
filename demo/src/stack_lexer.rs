//! Rust's tokens, counted as they stream by: the stack-only way of the [`lex`](crate::jobs::lex)
//! job.
//!
//! The lexer accepts and rejects exactly what `TokenStream::from_str` of `proc-macro2` does outside
//! of a procedural macro, and counts the tokens that it would give, without building one of them.
//! All of its state is in its frame: a buffer that is refilled by reading, a stack of open
//! delimiters, one identifier and the counts. Nothing here allocates, errors included.
//!
//! Tokens, comments and strings may be of any length: what need not be remembered is checked as it
//! passes. What must be remembered has a bound, stated as a constant, and going past it is an
//! error: [`NESTING_MAX`] and [`IDENTIFIER_MAX_BYTES`](crate::token_counts::IDENTIFIER_MAX_BYTES).
//! The buffer's size is no bound; it only says how often the source is read.
//!
//! Where `proc-macro2` tries one kind of token after another from the same position, this lexer
//! decides from at most eleven bytes of lookahead, and every decision that it cannot take back is
//! one after which `proc-macro2` would reject the whole source as well. The one exception,
//! floating-point numbers that turn out to be integers, is told in `stack_lexer/number.rs`.

use std::fmt;
use std::io::{self, Read};

use unicode_ident::{is_xid_continue, is_xid_start};

use crate::token_counts::{Identifier, IdentifierTooLong, TokenCounts};
use reader::{LOOKAHEAD_BYTES, Reader, SMALLEST_BUFFER_BYTES, first_char};

mod comment;
mod number;
mod reader;
mod text;

/// How deep groups may be nested.
pub const NESTING_MAX: usize = 4096;

/// The size of the buffer that files are read through, in bytes.
pub const BUFFER_BYTES: usize = 32 * 1024;

/// The size of the smallest buffer that [`count_tokens`] takes, in bytes.
pub const BUFFER_MIN_BYTES: usize = SMALLEST_BUFFER_BYTES;

/// What `proc-macro2` takes for one literal: rustc prints it where a macro's expansion failed.
const MACRO_ERROR: &[u8; LOOKAHEAD_BYTES] = b"(/*ERROR*/)";

/// A source that was lexed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LexedSource {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its tokens.
    pub tokens: TokenCounts,
}

/// Why a source has no counts.
#[derive(Debug)]
#[non_exhaustive]
pub enum StackLexError {
    /// The source is not UTF-8, or `proc-macro2` rejects it too.
    Rejected,
    /// Groups are nested deeper than [`NESTING_MAX`].
    NestingTooDeep,
    /// An identifier is longer than
    /// [`IDENTIFIER_MAX_BYTES`](crate::token_counts::IDENTIFIER_MAX_BYTES).
    IdentifierTooLong,
    /// The source could not be read.
    Read(io::Error),
}

impl fmt::Display for StackLexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StackLexError::Rejected => "not made of Rust's tokens",
            StackLexError::NestingTooDeep => "groups are nested too deep",
            StackLexError::IdentifierTooLong => "an identifier is too long",
            StackLexError::Read(_) => "the source cannot be read",
        })
    }
}

impl std::error::Error for StackLexError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StackLexError::Read(error) => Some(error),
            _ => None,
        }
    }
}

impl From<IdentifierTooLong> for StackLexError {
    fn from(IdentifierTooLong: IdentifierTooLong) -> Self {
        StackLexError::IdentifierTooLong
    }
}

/// Counts the tokens of `source`, reading it through `buffer`.
///
/// Interrupted reads are repeated. The answer does not depend on the size of `buffer`, nor on how
/// much each read gives.
///
/// # Errors
///
/// [`StackLexError`] tells them apart. A source that is rejected is not read to its end.
///
/// # Panics
///
/// If `buffer` is shorter than [`BUFFER_MIN_BYTES`].
///
/// # Examples
///
/// ```
/// let mut buffer = [0; demo::stack_lexer::BUFFER_MIN_BYTES];
/// let source = &b"fn answer() -> u8 { 42 } // and a comment"[..];
/// let lexed = demo::stack_lexer::count_tokens(source, &mut buffer)?;
/// assert_eq!(lexed.tokens.identifiers, 3);
/// assert_eq!(lexed.tokens.longest_identifier.as_str(), "answer");
/// # Ok::<(), demo::stack_lexer::StackLexError>(())
/// ```
pub fn count_tokens<R: Read>(source: R, buffer: &mut [u8]) -> Result<LexedSource, StackLexError> {
    let mut lexer = Lexer {
        reader: Reader::new(source, buffer),
        open: [Delimiter::Parenthesis; NESTING_MAX],
        nesting: 0,
        identifier: Identifier::EMPTY,
        counts: TokenCounts::default(),
    };
    lexer.run()?;
    Ok(LexedSource { bytes: lexer.reader.total_bytes(), tokens: lexer.counts })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Parenthesis,
    Brace,
    Bracket,
}

struct Lexer<'b, R> {
    reader: Reader<'b, R>,
    /// The delimiters of the groups that the position lies in: the first `nesting` of them.
    open: [Delimiter; NESTING_MAX],
    nesting: usize,
    /// The identifier being read.
    identifier: Identifier,
    counts: TokenCounts,
}

impl<R: Read> Lexer<'_, R> {
    fn run(&mut self) -> Result<(), StackLexError> {
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        if self.reader.window(BYTE_ORDER_MARK.len())?.starts_with(BYTE_ORDER_MARK) {
            self.reader.advance(BYTE_ORDER_MARK.len());
        }
        while self.token()? {}
        if self.nesting == 0 { Ok(()) } else { Err(StackLexError::Rejected) }
    }

    /// Moves past one token, comment or run of white space; `false` at the end of the source.
    fn token(&mut self) -> Result<bool, StackLexError> {
        let window = self.reader.window(LOOKAHEAD_BYTES)?;
        let Some(&first) = window.first() else {
            return Ok(false);
        };
        match first {
            b' ' | b'\t'..=b'\r' => {
                self.reader.skip_while(|b| matches!(b, b' ' | b'\t'..=b'\r'))?;
            }
            b'(' if window.starts_with(MACRO_ERROR) => {
                self.reader.advance(MACRO_ERROR.len());
                self.counts.literals += 1;
            }
            b'(' => self.open(Delimiter::Parenthesis)?,
            b'{' => self.open(Delimiter::Brace)?,
            b'[' => self.open(Delimiter::Bracket)?,
            b')' => self.close(Delimiter::Parenthesis)?,
            b'}' => self.close(Delimiter::Brace)?,
            b']' => self.close(Delimiter::Bracket)?,
            b'/' if matches!(window.get(1), Some(b'/' | b'*')) => self.comment()?,
            b'~' | b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'-' | b'=' | b'+'
            | b'|' | b';' | b':' | b',' | b'<' | b'.' | b'>' | b'/' | b'?' => {
                self.reader.advance(1);
                self.counts.punctuation += 1;
            }
            b'\'' => self.character_or_lifetime()?,
            b'"' => self.string()?,
            b'0'..=b'9' => self.number()?,
            b'b' | b'c' | b'r' => match text::Prefix::of(window) {
                Some(prefix) => self.prefixed_literal(prefix)?,
                None if window.starts_with(b"r#") => self.raw_identifier()?,
                None => self.identifier()?,
            },
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.identifier()?,
            0x80.. => match first_char(window) {
                Some(ch) if is_whitespace(ch) => self.reader.advance(ch.len_utf8()),
                _ => self.identifier()?,
            },
            _ => return Err(StackLexError::Rejected),
        }
        Ok(true)
    }

    fn open(&mut self, delimiter: Delimiter) -> Result<(), StackLexError> {
        self.reader.advance(1);
        *self.open.get_mut(self.nesting).ok_or(StackLexError::NestingTooDeep)? = delimiter;
        self.nesting += 1;
        self.counts.deepest_nesting = self.counts.deepest_nesting.max(self.nesting as u64);
        Ok(())
    }

    fn close(&mut self, delimiter: Delimiter) -> Result<(), StackLexError> {
        self.reader.advance(1);
        if self.open[..self.nesting].last() != Some(&delimiter) {
            return Err(StackLexError::Rejected);
        }
        self.nesting -= 1;
        match delimiter {
            Delimiter::Parenthesis => self.counts.parenthesis_groups += 1,
            Delimiter::Brace => self.counts.brace_groups += 1,
            Delimiter::Bracket => self.counts.bracket_groups += 1,
        }
        Ok(())
    }

    /// An identifier that is not raw.
    fn identifier(&mut self) -> Result<(), StackLexError> {
        self.identifier.clear();
        self.identifier_start()?;
        self.identifier_rest()
    }

    /// A raw identifier; five words cannot be one.
    fn raw_identifier(&mut self) -> Result<(), StackLexError> {
        self.identifier.clear();
        self.identifier.push(b"r#")?;
        self.reader.advance(2);
        self.identifier_start()?;
        self.identifier_rest()?;
        match self.identifier.as_bytes() {
            b"r#_" | b"r#super" | b"r#self" | b"r#Self" | b"r#crate" => {
                Err(StackLexError::Rejected)
            }
            _ => Ok(()),
        }
    }

    fn identifier_start(&mut self) -> Result<(), StackLexError> {
        let first = self.reader.peek_char()?.filter(|&ch| is_identifier_start(ch));
        let first = first.ok_or(StackLexError::Rejected)?;
        self.identifier.push(first.encode_utf8(&mut [0; 4]).as_bytes())?;
        self.reader.advance(first.len_utf8());
        Ok(())
    }

    /// What is left of an identifier whose beginning was pushed, and counts it.
    fn identifier_rest(&mut self) -> Result<(), StackLexError> {
        loop {
            let window = self.reader.window(1)?;
            let (available, length) = (window.len(), identifier_length(window));
            self.identifier.push(&window[..length])?;
            self.reader.advance(length);
            if length < available || available == 0 {
                break;
            }
        }
        self.count_identifier();
        Ok(())
    }

    fn count_identifier(&mut self) {
        self.counts.identifiers += 1;
        self.counts.longest_identifier.keep_longer(&self.identifier);
    }

    /// The suffix that a literal may have: an identifier of any length.
    fn suffix(&mut self) -> Result<(), StackLexError> {
        if self.reader.peek_char()?.is_some_and(is_identifier_start) {
            self.skip_identifier()?;
        }
        Ok(())
    }

    /// Moves past characters that may continue an identifier.
    fn skip_identifier(&mut self) -> Result<(), StackLexError> {
        loop {
            let window = self.reader.window(1)?;
            let (available, length) = (window.len(), identifier_length(window));
            self.reader.advance(length);
            if length < available || available == 0 {
                return Ok(());
            }
        }
    }
}

/// How many bytes at the beginning of `window` may continue an identifier.
#[inline]
fn identifier_length(window: &[u8]) -> usize {
    let mut length = 0;
    while let Some(&byte) = window.get(length) {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            length += 1;
        } else if byte.is_ascii() {
            break;
        } else {
            match first_char(&window[length..]) {
                Some(ch) if is_xid_continue(ch) => length += ch.len_utf8(),
                _ => break,
            }
        }
    }
    length
}

/// White space to `proc-macro2` and to rustc: the left-to-right and right-to-left marks are.
fn is_whitespace(ch: char) -> bool {
    ch.is_whitespace() || matches!(ch, '\u{200e}' | '\u{200f}')
}

fn is_identifier_start(ch: char) -> bool {
    ch == '_' || is_xid_start(ch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identifiers, literals and punctuation characters, or `None` for a rejected source.
    pub(super) fn leaves(source: &str) -> Option<(u64, u64, u64)> {
        counts(source).map(|counts| (counts.identifiers, counts.literals, counts.punctuation))
    }

    fn counts(source: &str) -> Option<TokenCounts> {
        let mut buffer = [0; BUFFER_MIN_BYTES];
        match count_tokens(source.as_bytes(), &mut buffer) {
            Ok(lexed) => Some(lexed.tokens),
            Err(StackLexError::Rejected) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn groups_are_counted_by_delimiter_and_depth() {
        let counts = counts("a(b[c]{d[e]})[]").unwrap();
        assert_eq!(counts.parenthesis_groups, 1);
        assert_eq!(counts.bracket_groups, 3);
        assert_eq!(counts.brace_groups, 1);
        assert_eq!(counts.deepest_nesting, 3);
    }

    #[test]
    fn delimiters_that_do_not_match_are_rejected() {
        for source in ["(", ")", "(]", "([)]", "{)", "[[]"] {
            assert_eq!(leaves(source), None, "{source}");
        }
    }

    #[test]
    fn one_group_more_than_the_bound_is_an_error() {
        let mut buffer = [0; BUFFER_BYTES];
        let mut lex = |depth: usize| {
            let source = format!("{}{}", "{".repeat(depth), "}".repeat(depth));
            count_tokens(source.as_bytes(), &mut buffer)
        };
        assert_eq!(lex(NESTING_MAX).unwrap().tokens.deepest_nesting, NESTING_MAX as u64);
        assert!(matches!(lex(NESTING_MAX + 1), Err(StackLexError::NestingTooDeep)));
    }

    #[test]
    fn one_byte_order_mark_and_no_shebang_is_skipped() {
        assert_eq!(leaves("\u{feff}fn"), Some((1, 0, 0)));
        assert_eq!(leaves("\u{feff}\u{feff}fn"), None);
        assert_eq!(leaves("fn \u{feff}"), None);
        assert_eq!(leaves("#!/bin/run"), Some((2, 0, 4)));
    }

    #[test]
    fn white_space_is_what_rustc_takes_for_it() {
        let space = "\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{200e}\u{200f}\u{2028}\u{2029}\u{3000}";
        assert_eq!(leaves(&format!("a{space}b")), Some((2, 0, 0)));
        for ch in ['\0', '\u{1c}', '\u{7f}', '\u{200b}'] {
            assert_eq!(leaves(&format!("a{ch}b")), None, "{ch:?}");
        }
    }

    #[test]
    fn identifiers_are_unicodes_and_may_be_raw() {
        for source in ["a", "_", "_1", "été", "名前", "a\u{301}", "r#fn", "r#_a", "r", "br", "c"]
        {
            let counts = counts(source).unwrap();
            assert_eq!(counts.identifiers, 1, "{source}");
            assert_eq!(counts.longest_identifier.as_str(), source);
            assert_eq!(counts.longest_identifier.chars(), source.chars().count() as u64);
        }
        for source in
            ["\u{301}a", "😀", "r#_", "r#self", "r#Self", "r#super", "r#crate", "r#1", "r#"]
        {
            assert_eq!(leaves(source), None, "{source}");
        }
    }

    #[test]
    fn punctuation_is_counted_by_character() {
        assert_eq!(leaves("~!@#$%^&*-=+|;:,<.>/?"), Some((0, 0, 21)));
        assert_eq!(leaves("->..=::"), Some((0, 0, 7)));
        for source in ["\\", "`"] {
            assert_eq!(leaves(source), None, "{source}");
        }
    }

    #[test]
    fn a_failed_expansion_is_a_literal() {
        assert_eq!(leaves("a(/*ERROR*/)b"), Some((2, 1, 0)));
        assert_eq!(leaves("(/*ERROR*/ )"), Some((0, 0, 0)));
    }
}
