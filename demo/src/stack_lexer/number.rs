//! Integer and floating-point literals.
//!
//! `proc-macro2` tries a floating-point number first, and on failure begins again with an integer. The
//! second attempt may end where the first has passed: then what was read is more than one token. Since
//! only digits, underscores, a point, an `e` and a sign can have been passed, those tokens follow from
//! what was seen, and nothing has to be read twice.

use std::io::Read;

use unicode_ident::is_xid_continue;

use super::{Lexer, StackLexError, first_char, is_identifier_start};

impl<R: Read> Lexer<'_, R> {
    /// A number, at its first digit.
    pub(super) fn number(&mut self) -> Result<(), StackLexError> {
        match self.reader.window(2)? {
            [b'0', b'x', ..] => return self.integer_with_base(16),
            [b'0', b'o', ..] => return self.integer_with_base(8),
            [b'0', b'b', ..] => return self.integer_with_base(2),
            _ => {}
        }
        self.skip_digits()?;
        let mut has_point = false;
        // The point and a character of up to four bytes.
        if let [b'.', after @ ..] = self.reader.window(5)? {
            if first_char(after).is_some_and(|ch| ch == '.' || is_identifier_start(ch)) {
                // A range, a method or a field: the integer ends here.
                self.counts.literals += 1;
                return Ok(());
            }
            has_point = true;
            self.reader.advance(1);
            self.skip_digits()?;
        }
        if self.reader.take_if(b'e')? || self.reader.take_if(b'E')? {
            self.exponent(has_point)
        } else {
            self.number_end()
        }
    }

    /// What follows the `e`: an exponent, or the rest of a suffix that begins with `e`.
    fn exponent(&mut self, has_point: bool) -> Result<(), StackLexError> {
        self.skip_underscores()?;
        let has_sign = self.reader.take_if(b'+')? || self.reader.take_if(b'-')?;
        let underscores = if has_sign { self.skip_underscores()? } else { 0 };
        let has_value = self.reader.peek()?.is_some_and(|b| b.is_ascii_digit());
        match (has_sign, has_value) {
            (true, true) => {
                self.skip_digits()?;
                self.number_end()
            }
            // A number with the suffix `e`, a sign, and underscores that begin an identifier.
            (true, false) => {
                self.counts.literals += 1;
                self.counts.punctuation += 1;
                self.identifier_after_underscores(underscores)
            }
            (false, true) => {
                self.skip_digits()?;
                let next = self.reader.peek_char()?;
                if next.is_some_and(|ch| is_xid_continue(ch) && !is_identifier_start(ch)) {
                    // Not a float, so an integer; with a point, followed by it and by another
                    // integer, whose suffix is the `e` with all that follows.
                    if has_point {
                        self.counts.literals += 1;
                        self.counts.punctuation += 1;
                    }
                    self.counts.literals += 1;
                    self.skip_identifier()
                } else {
                    self.number_end()
                }
            }
            (false, false) => {
                self.counts.literals += 1;
                self.skip_identifier()
            }
        }
    }

    /// The identifier that begins with underscores which were passed, if there were any.
    fn identifier_after_underscores(&mut self, underscores: u64) -> Result<(), StackLexError> {
        if underscores == 0 {
            return Ok(());
        }
        self.identifier.clear();
        for _ in 0..underscores {
            self.identifier.push(b"_")?;
        }
        self.identifier_rest()
    }

    /// A number after its last digit: a suffix or nothing, but no character that can only continue an
    /// identifier.
    fn number_end(&mut self) -> Result<(), StackLexError> {
        match self.reader.peek_char()? {
            Some(ch) if is_identifier_start(ch) => self.skip_identifier()?,
            Some(ch) if is_xid_continue(ch) => return Err(StackLexError::Rejected),
            _ => {}
        }
        self.counts.literals += 1;
        Ok(())
    }

    /// An integer at its `0x`, `0o` or `0b`.
    fn integer_with_base(&mut self, base: u8) -> Result<(), StackLexError> {
        self.reader.advance(2);
        let mut has_digit = false;
        while let Some(byte) = self.reader.peek()? {
            match byte {
                b'0'..=b'9' if byte - b'0' >= base => return Err(StackLexError::Rejected),
                b'0'..=b'9' => has_digit = true,
                b'a'..=b'f' | b'A'..=b'F' if base == 16 => has_digit = true,
                b'_' => {}
                _ => break,
            }
            self.reader.advance(1);
        }
        if has_digit { self.number_end() } else { Err(StackLexError::Rejected) }
    }

    fn skip_digits(&mut self) -> Result<u64, StackLexError> {
        self.reader.skip_while(|b| b.is_ascii_digit() || b == b'_')
    }

    fn skip_underscores(&mut self) -> Result<u64, StackLexError> {
        self.reader.skip_while(|b| b == b'_')
    }
}
