//! Strings, characters and lifetimes.
//!
//! Once a quote is open, whatever `proc-macro2` does not take for the literal it takes for nothing at
//! all: the source is rejected. So the content is checked as it passes and never kept.

use std::io::Read;

use super::{Lexer, StackLexError, first_char};

/// The most `#` that may surround a raw string.
const RAW_HASHES_MAX: u64 = 255;

/// What a string holds, which decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Any text.
    Text,
    /// ASCII, and any byte by escape.
    Bytes,
    /// Text and bytes by escape, but never a zero.
    CString,
}

/// How a literal begins that does not begin with its quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// `b'`
    Byte,
    /// `b"` or `c"`
    Cooked(Content),
    /// `r`, `br` or `cr`, before `"` or `#`
    Raw(Content),
}

impl Prefix {
    /// The prefix that `window` begins with. None of them can be an identifier instead, not even where
    /// the literal turns out to be wrong; of a single `r#` only the next byte tells.
    pub(super) fn of(window: &[u8]) -> Option<Prefix> {
        match window {
            [b'b', b'\'', ..] => Some(Prefix::Byte),
            [b'b', b'"', ..] => Some(Prefix::Cooked(Content::Bytes)),
            [b'c', b'"', ..] => Some(Prefix::Cooked(Content::CString)),
            [b'r', b'"', ..] | [b'r', b'#', b'"' | b'#', ..] => Some(Prefix::Raw(Content::Text)),
            [b'b', b'r', b'"' | b'#', ..] => Some(Prefix::Raw(Content::Bytes)),
            [b'c', b'r', b'"' | b'#', ..] => Some(Prefix::Raw(Content::CString)),
            _ => None,
        }
    }
}

impl<R: Read> Lexer<'_, R> {
    /// A string without a prefix, at its quote.
    pub(super) fn string(&mut self) -> Result<(), StackLexError> {
        self.reader.advance(1);
        self.cooked_string_rest(Content::Text)
    }

    /// A literal at its prefix.
    pub(super) fn prefixed_literal(&mut self, prefix: Prefix) -> Result<(), StackLexError> {
        match prefix {
            Prefix::Byte => {
                self.reader.advance(2);
                self.byte_rest()
            }
            Prefix::Cooked(content) => {
                self.reader.advance(2);
                self.cooked_string_rest(content)
            }
            Prefix::Raw(content) => {
                self.reader.advance(if content == Content::Text { 1 } else { 2 });
                self.raw_string_rest(content)
            }
        }
    }

    /// A character literal, or the apostrophe of a lifetime and what must be known of its name.
    pub(super) fn character_or_lifetime(&mut self) -> Result<(), StackLexError> {
        // The apostrophe, a character of up to four bytes, and the closing apostrophe.
        let window = self.reader.window(6)?;
        let ch = first_char(&window[1..]).ok_or(StackLexError::Rejected)?;
        if ch == '\\' {
            self.reader.advance(2);
            self.escape(Content::Text)?;
            return self.quote_and_suffix(b'\'');
        }
        if window.get(1 + ch.len_utf8()) == Some(&b'\'') {
            self.reader.advance(1 + ch.len_utf8());
            return self.quote_and_suffix(b'\'');
        }
        self.lifetime()
    }

    /// An apostrophe and, as a token of its own, a name that no apostrophe follows.
    fn lifetime(&mut self) -> Result<(), StackLexError> {
        self.reader.advance(1);
        self.counts.punctuation += 1;
        let window = self.reader.window(3)?;
        match window {
            // The name ends before the quote, and what has this name is then read as a string.
            [b'b' | b'c' | b'r', b'"', ..] | [b'b' | b'c', b'r', b'"', ..] => return Ok(()),
            [b'r', b'#', ..] => self.raw_identifier()?,
            _ => {
                self.identifier()?;
                if self.reader.peek()? == Some(b'#') {
                    return Err(StackLexError::Rejected);
                }
            }
        }
        if self.reader.peek()? == Some(b'\'') { Err(StackLexError::Rejected) } else { Ok(()) }
    }

    /// A byte literal after `b'`.
    fn byte_rest(&mut self) -> Result<(), StackLexError> {
        match self.reader.take()? {
            b'\\' => self.escape(Content::Bytes)?,
            byte if byte.is_ascii() => {}
            _ => return Err(StackLexError::Rejected),
        }
        self.quote_and_suffix(b'\'')
    }

    /// The closing quote of a literal that must end here, and its suffix.
    fn quote_and_suffix(&mut self, quote: u8) -> Result<(), StackLexError> {
        if self.reader.take()? != quote {
            return Err(StackLexError::Rejected);
        }
        self.counts.literals += 1;
        self.suffix()
    }

    /// A string with escapes, after its opening quote.
    fn cooked_string_rest(&mut self, content: Content) -> Result<(), StackLexError> {
        loop {
            self.reader.skip_while(|b| is_plain(b, content) && b != b'\\')?;
            match self.reader.peek()? {
                Some(b'\\') => {
                    self.reader.advance(1);
                    if matches!(self.reader.peek()?, Some(b'\n' | b'\r')) {
                        self.line_continuation()?;
                    } else {
                        self.escape(content)?;
                    }
                }
                Some(b'\r') => {
                    self.reader.advance(1);
                    self.line_feed()?;
                }
                _ => return self.quote_and_suffix(b'"'),
            }
        }
    }

    /// A raw string after its prefix, at the first `#` or the quote.
    fn raw_string_rest(&mut self, content: Content) -> Result<(), StackLexError> {
        let hashes = self.reader.skip_while(|b| b == b'#')?;
        if hashes > RAW_HASHES_MAX || self.reader.take()? != b'"' {
            return Err(StackLexError::Rejected);
        }
        loop {
            self.reader.skip_while(|b| is_plain(b, content))?;
            match self.reader.take()? {
                b'"' => {
                    let mut closing = 0;
                    while closing < hashes && self.reader.take_if(b'#')? {
                        closing += 1;
                    }
                    if closing == hashes {
                        self.counts.literals += 1;
                        return self.suffix();
                    }
                }
                b'\r' => self.line_feed()?,
                _ => return Err(StackLexError::Rejected),
            }
        }
    }

    /// The line feed that must follow a carriage return.
    fn line_feed(&mut self) -> Result<(), StackLexError> {
        if self.reader.take()? == b'\n' { Ok(()) } else { Err(StackLexError::Rejected) }
    }

    /// The end of a line after a backslash, and the white space that it swallows: up to something else.
    fn line_continuation(&mut self) -> Result<(), StackLexError> {
        loop {
            self.reader.skip_while(|b| matches!(b, b' ' | b'\t' | b'\n'))?;
            if !self.reader.take_if(b'\r')? {
                return Ok(());
            }
            self.line_feed()?;
        }
    }

    /// An escape after its backslash.
    fn escape(&mut self, content: Content) -> Result<(), StackLexError> {
        let is_right = match (self.reader.take()?, content) {
            (b'n' | b'r' | b't' | b'\\' | b'\'' | b'"', _) => true,
            (b'0', content) => content != Content::CString,
            (b'x', content) => {
                let high = hex_digit(self.reader.take()?);
                let low = hex_digit(self.reader.take()?);
                match (high, low, content) {
                    (Some(high), Some(_), Content::Text) => high < 8,
                    (Some(high), Some(low), Content::CString) => (high, low) != (0, 0),
                    (Some(_), Some(_), Content::Bytes) => true,
                    _ => false,
                }
            }
            (b'u', Content::Text) => self.unicode_escape()?.is_some(),
            (b'u', Content::CString) => self.unicode_escape()?.is_some_and(|ch| ch != '\0'),
            _ => false,
        };
        if is_right { Ok(()) } else { Err(StackLexError::Rejected) }
    }

    /// The braces of `\u{…}`, and in them one to six digits with underscores behind the first.
    fn unicode_escape(&mut self) -> Result<Option<char>, StackLexError> {
        if self.reader.take()? != b'{' {
            return Ok(None);
        }
        let (mut value, mut digits) = (0_u32, 0);
        loop {
            match self.reader.take()? {
                b'_' if digits > 0 => {}
                b'}' if digits > 0 => return Ok(char::from_u32(value)),
                byte => match hex_digit(byte) {
                    Some(digit) if digits < 6 => {
                        value = value * 16 + digit;
                        digits += 1;
                    }
                    _ => return Ok(None),
                },
            }
        }
    }
}

/// Whether a string takes `byte` without looking at it twice: the quote, carriage returns and what the
/// content forbids are not plain. All bytes of a character are alike in this.
#[inline]
fn is_plain(byte: u8, content: Content) -> bool {
    match byte {
        b'"' | b'\r' => false,
        0 => content != Content::CString,
        0x80.. => content != Content::Bytes,
        _ => true,
    }
}

fn hex_digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}
