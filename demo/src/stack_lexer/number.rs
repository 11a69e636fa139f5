//! Integer and floating-point literals.
//!
//! `proc-macro2` tries a floating-point number first, and on failure begins again with an integer.
//! The second attempt may end where the first has passed: then what was read is more than one
//! token. Since only digits, underscores, a point, an `e` and a sign can have been passed, those
//! tokens follow from what was seen, and nothing has to be read twice.

use std::io::Read;

use unicode_ident::is_xid_continue;

use super::{Lexer, StackLexError, first_char, is_identifier_start};

/// Digits and underscores after an exponent's sign.
#[derive(Clone, Copy, Debug)]
struct DigitRun {
    /// Whether the first of them is an underscore.
    begins_identifier: bool,
    has_digit: bool,
    /// Whether there was room for all of them.
    fits: bool,
}

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
        self.reader.skip_while(|b| b == b'_')?;
        if self.reader.take_if(b'+')? || self.reader.take_if(b'-')? {
            return self.signed_exponent(has_point);
        }
        let has_value = self.reader.peek()?.is_some_and(|b| b.is_ascii_digit());
        if !has_value {
            self.counts.literals += 1;
            return self.skip_identifier();
        }
        self.skip_digits()?;
        if !self.is_at_continuation_only()? {
            return self.number_end();
        }
        // An integer, whose suffix is the `e` with all that follows.
        self.count_integer_and_point(has_point);
        self.counts.literals += 1;
        self.skip_identifier()
    }

    /// What follows the sign: digits, or else what makes the number end at the `e`, its suffix.
    fn signed_exponent(&mut self, has_point: bool) -> Result<(), StackLexError> {
        let run = self.take_digit_run()?;
        if run.has_digit {
            if !self.is_at_continuation_only()? {
                return self.number_end();
            }
            if !run.begins_identifier {
                return Err(StackLexError::Rejected);
            }
            self.count_integer_and_point(has_point);
        }
        self.counts.literals += 1;
        self.counts.punctuation += 1;
        if run.begins_identifier {
            if !run.fits {
                return Err(StackLexError::IdentifierTooLong);
            }
            self.identifier_rest()?;
        }
        Ok(())
    }

    /// Where a number with a point is no float, what stands before its second half: the integer and
    /// the point.
    fn count_integer_and_point(&mut self, has_point: bool) {
        if has_point {
            self.counts.literals += 1;
            self.counts.punctuation += 1;
        }
    }

    /// Takes digits and underscores, and keeps them as the beginning of an identifier. Only if they
    /// become one does it matter whether they fit.
    fn take_digit_run(&mut self) -> Result<DigitRun, StackLexError> {
        self.identifier.clear();
        let begins_identifier = self.reader.peek()? == Some(b'_');
        let mut run = DigitRun { begins_identifier, has_digit: false, fits: true };
        while let Some(byte @ (b'0'..=b'9' | b'_')) = self.reader.peek()? {
            self.reader.advance(1);
            run.has_digit |= byte != b'_';
            run.fits &= self.identifier.push(&[byte]).is_ok();
        }
        Ok(run)
    }

    /// Whether the next character can continue an identifier but not begin one: no token begins
    /// with it, and no number ends before it.
    fn is_at_continuation_only(&mut self) -> Result<bool, StackLexError> {
        let next = self.reader.peek_char()?;
        Ok(next.is_some_and(|ch| is_xid_continue(ch) && !is_identifier_start(ch)))
    }

    /// A number after its last digit: a suffix or nothing, but no character that can only continue
    /// an identifier.
    fn number_end(&mut self) -> Result<(), StackLexError> {
        if self.is_at_continuation_only()? {
            return Err(StackLexError::Rejected);
        }
        self.counts.literals += 1;
        self.suffix()
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::leaves;

    #[test]
    fn numbers_are_one_literal() {
        for source in [
            "0",
            "1_000",
            "1u8",
            "1.0",
            "1.",
            "1.0f32",
            "1e5",
            "1E-5",
            "1e_+_5",
            "1.0e5f32",
            "0xF_f",
            "0b10",
            "0o17u8",
            "1if",
            "1e",
            "1.0ee5",
            "1e__x",
            "0b1e5",
            "1e5\u{301}",
            "0_.0",
        ] {
            assert_eq!(leaves(source), Some((0, 1, 0)), "{source}");
        }
    }

    #[test]
    fn a_point_may_end_an_integer() {
        assert_eq!(leaves("1..2"), Some((0, 2, 2)));
        assert_eq!(leaves("1.foo"), Some((1, 1, 1)));
        assert_eq!(leaves("1.e5"), Some((1, 1, 1)));
        assert_eq!(leaves("1._5"), Some((1, 1, 1)));
        assert_eq!(leaves("1.é"), Some((1, 1, 1)));
        assert_eq!(leaves("1.0.5"), Some((0, 2, 1)));
        assert_eq!(leaves("0x1.0"), Some((0, 2, 1)));
    }

    #[test]
    fn a_sign_without_a_value_is_punctuation() {
        assert_eq!(leaves("1e+"), Some((0, 1, 1)));
        assert_eq!(leaves("1.0e+-5"), Some((0, 2, 2)));
        assert_eq!(leaves("1.0e+__x"), Some((1, 1, 1)));
        assert_eq!(leaves("0x1e+5"), Some((0, 2, 1)));
    }

    #[test]
    fn a_float_that_ends_wrong_is_read_as_integers() {
        assert_eq!(leaves("1.0e5\u{301}"), Some((0, 2, 1)));
        assert_eq!(leaves("1e+_1\u{301}"), Some((1, 1, 1)));
        assert_eq!(leaves("1.0e+_1\u{301}"), Some((1, 2, 2)));
    }

    #[test]
    fn wrong_numbers_are_rejected() {
        for source in [
            "0x",
            "0x_",
            "0xg",
            "0b",
            "0b12",
            "0o8",
            "0oa",
            "1\u{301}",
            "1.0\u{301}",
            "1.\u{301}",
            "1e+5\u{301}",
            "1.0e+5\u{301}",
        ] {
            assert_eq!(leaves(source), None, "{source}");
        }
    }
}
