//! Strings, characters and lifetimes.
//!
//! Once a quote is open, whatever `proc-macro2` does not take for the literal it takes for nothing
//! at all: the source is rejected. So the content is checked as it passes and never kept.

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
    /// The prefix that `window` begins with. None of them can be an identifier instead, not even
    /// where the literal turns out to be wrong; of a single `r#` only the next byte tells.
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

    /// The end of a line after a backslash, and the white space that it swallows: up to something
    /// else.
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

/// Whether a string takes `byte` without looking at it twice: the quote, carriage returns and what
/// the content forbids are not plain. All bytes of a character are alike in this.
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

#[cfg(test)]
mod tests {
    use super::super::tests::leaves;

    #[test]
    fn strings_and_characters_are_one_literal() {
        for source in [
            r#""""#,
            r#""é\n\x7f\u{1_F600}\0\'\"""#,
            "\"\\\n \t\r\n x\"",
            "\"\r\n\"",
            "\"\0\"",
            r#""a"suffix"#,
            r#"b"\xff\0""#,
            r#"c"é\xff\u{e9}""#,
            r#"r"\""#,
            r###"r##"é"#"##"###,
            r##"br#"""#"##,
            r##"cr#"é"#x"##,
            "'a'",
            "'é'",
            "'''",
            "'\\n'",
            r"'\''",
            r"'\u{e9}'",
            "'a'b",
            "b'x'",
            r"b'\xff'",
            "b'''",
            "b'\r'",
        ] {
            assert_eq!(leaves(source), Some((0, 1, 0)), "{source:?}");
        }
    }

    #[test]
    fn wrong_strings_and_characters_are_rejected() {
        for source in [
            "\"",
            "\"\r\"",
            r#""\q""#,
            r#""\x80""#,
            r#""\u{}""#,
            r#""\u{_1}""#,
            r#""\u{0000041}""#,
            r#""\u{d800}""#,
            "\"\\\r x\"",
            "\"\\\n ",
            r#"b"é""#,
            r#"b"\u{41}""#,
            r#"c"\0""#,
            r#"c"\x00""#,
            r#"c"\u{0}""#,
            "c\"\0\"",
            "cr\"\0\"",
            r##"r#"""##,
            "r\"\r\"",
            "r##a",
            "br#a",
            r#"br"é""#,
            "cr#a",
            "''",
            "'",
            "'ab'",
            "b''",
            "b'é'",
            "b'ab'",
            r"b'\u{41}'",
            r"'\x80'",
            "' ",
        ] {
            assert_eq!(leaves(source), None, "{source:?}");
        }
    }

    #[test]
    fn a_raw_string_has_at_most_255_hashes() {
        let raw = |hashes: usize| format!("r{0}\"\"{0}", "#".repeat(hashes));
        assert_eq!(leaves(&raw(255)), Some((0, 1, 0)));
        assert_eq!(leaves(&raw(256)), None);
    }

    #[test]
    fn a_lifetime_is_an_apostrophe_and_its_name() {
        for source in ["'a", "'_", "'static", "'名", "'r#a", "'r", "'br"] {
            assert_eq!(leaves(source), Some((1, 0, 1)), "{source}");
        }
        assert_eq!(leaves("'r#a#"), Some((1, 0, 2)));
        for source in ["'a#", "'r#self", "'r#a'", "'br#\"\"#", "'r##a", "'1"] {
            assert_eq!(leaves(source), None, "{source}");
        }
    }

    #[test]
    fn the_name_of_a_lifetime_may_begin_a_string() {
        for source in [r#"'r"x""#, r#"'b"x""#, r#"'c"x""#, r#"'br"x""#, r#"'cr"x""#] {
            assert_eq!(leaves(source), Some((0, 1, 1)), "{source}");
        }
        assert_eq!(leaves(r#"'a"x""#), Some((1, 1, 1)));
    }
}
