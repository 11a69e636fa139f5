//! The window through which the stack lexer sees its source.
//!
//! Responsible for refilling a fixed buffer, for checking UTF-8 as the bytes arrive, and for
//! looking ahead across a refill. It knows nothing of Rust's tokens.
//!
//! Invariant: the window always holds whole characters of valid UTF-8. The bytes of a character
//! that has not fully arrived wait behind it, unseen.

use std::io::{ErrorKind, Read};
use std::str;

use super::StackLexError;

/// How far ahead of its position the lexer may look: the eleven bytes of `(/*ERROR*/)`.
pub(super) const LOOKAHEAD_BYTES: usize = 11;

/// The smallest buffer that serves: one byte less than the lookahead, three bytes of a character
/// that is still to be completed, and room for one byte more.
pub(super) const SMALLEST_BUFFER_BYTES: usize = LOOKAHEAD_BYTES - 1 + 3 + 1;

/// A source, seen through a fixed buffer.
#[derive(Debug)]
pub(super) struct Reader<'b, R> {
    source: R,
    buffer: &'b mut [u8],
    /// The lexer's position in `buffer`.
    start: usize,
    /// The end of the whole, checked characters in `buffer`.
    end: usize,
    /// How many bytes of an incomplete character lie behind `end`: at most 3.
    incomplete: usize,
    /// Whether the source has ended.
    ended: bool,
    /// Bytes read from the source.
    total_bytes: u64,
}

impl<'b, R: Read> Reader<'b, R> {
    /// # Panics
    ///
    /// If `buffer` is shorter than [`SMALLEST_BUFFER_BYTES`].
    pub(super) fn new(source: R, buffer: &'b mut [u8]) -> Self {
        assert!(buffer.len() >= SMALLEST_BUFFER_BYTES, "the buffer cannot hold the lookahead");
        Reader { source, buffer, start: 0, end: 0, incomplete: 0, ended: false, total_bytes: 0 }
    }

    /// How many bytes the source has given so far.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The next bytes, as many as are at hand: at least `wanted` unless the source ends before.
    ///
    /// `wanted` is at most [`LOOKAHEAD_BYTES`].
    #[inline]
    pub(super) fn window(&mut self, wanted: usize) -> Result<&[u8], StackLexError> {
        debug_assert!(wanted <= LOOKAHEAD_BYTES);
        while self.end - self.start < wanted && !self.ended {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// The next byte, or `None` at the end of the source.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<u8>, StackLexError> {
        Ok(self.window(1)?.first().copied())
    }

    /// The next character, or `None` at the end of the source.
    #[inline]
    pub(super) fn peek_char(&mut self) -> Result<Option<char>, StackLexError> {
        Ok(first_char(self.window(1)?))
    }

    /// Moves past the next `bytes`, which the window must hold.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.end - self.start);
        self.start += bytes;
    }

    /// Takes the next byte; to a token that is still open the end of the source is a rejection.
    #[inline]
    pub(super) fn take(&mut self) -> Result<u8, StackLexError> {
        let byte = self.peek()?.ok_or(StackLexError::Rejected)?;
        self.advance(1);
        Ok(byte)
    }

    /// Moves past the next byte if it is `byte`, and says whether it was.
    #[inline]
    pub(super) fn take_if(&mut self, byte: u8) -> Result<bool, StackLexError> {
        let is_next = self.peek()? == Some(byte);
        if is_next {
            self.advance(1);
        }
        Ok(is_next)
    }

    /// Moves past bytes as long as `is_wanted` holds of them, and says how many they were.
    ///
    /// `is_wanted` must treat all bytes of a character alike, so that the window still begins with
    /// a whole one.
    #[inline]
    pub(super) fn skip_while(
        &mut self,
        is_wanted: impl Fn(u8) -> bool,
    ) -> Result<u64, StackLexError> {
        let mut skipped = 0;
        loop {
            let window = self.window(1)?;
            let available = window.len();
            let wanted = window.iter().position(|&b| !is_wanted(b)).unwrap_or(available);
            self.advance(wanted);
            skipped += wanted as u64;
            if wanted < available || available == 0 {
                return Ok(skipped);
            }
        }
    }

    #[cold]
    fn refill(&mut self) -> Result<(), StackLexError> {
        self.buffer.copy_within(self.start..self.end + self.incomplete, 0);
        self.end -= self.start;
        self.start = 0;

        let filled = self.end + self.incomplete;
        let read = loop {
            match self.source.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(StackLexError::Read)?,
            }
        };
        self.total_bytes += read as u64;
        if read == 0 {
            self.ended = true;
            return if self.incomplete == 0 { Ok(()) } else { Err(StackLexError::Rejected) };
        }

        let unchecked = &self.buffer[self.end..filled + read];
        let whole = match str::from_utf8(unchecked) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(StackLexError::Rejected),
        };
        self.incomplete = unchecked.len() - whole;
        self.end += whole;
        Ok(())
    }
}

/// The character at the beginning of `window`, which holds whole characters.
#[inline]
pub(super) fn first_char(window: &[u8]) -> Option<char> {
    let &first = window.first()?;
    if first.is_ascii() {
        return Some(char::from(first));
    }
    let length = match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    let text = window.get(..length).and_then(|bytes| str::from_utf8(bytes).ok());
    text.and_then(|text| text.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes at a time, with an interruption before each.
    struct Trickle<'t> {
        text: &'t [u8],
        step: usize,
        interrupt: bool,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.interrupt = !self.interrupt;
            if self.interrupt {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = self.step.min(buffer.len());
            self.text.read(&mut buffer[..length])
        }
    }

    fn read_chars(text: &[u8], buffer_bytes: usize, step: usize) -> Result<String, StackLexError> {
        let mut buffer = vec![0; buffer_bytes];
        let mut reader = Reader::new(Trickle { text, step, interrupt: false }, &mut buffer);
        let mut chars = String::new();
        while let Some(ch) = reader.peek_char()? {
            chars.push(ch);
            reader.advance(ch.len_utf8());
        }
        assert_eq!(reader.total_bytes(), text.len() as u64);
        Ok(chars)
    }

    #[test]
    fn characters_come_whole_through_every_buffer_and_step() {
        let text = "aé€𝄞 a longer run of plain text, then 𝄞𝄞€€éé";
        for buffer_bytes in SMALLEST_BUFFER_BYTES..40 {
            for step in 1..buffer_bytes {
                assert_eq!(read_chars(text.as_bytes(), buffer_bytes, step).unwrap(), text);
            }
        }
    }

    #[test]
    fn the_whole_lookahead_is_visible_at_every_position() {
        let text = "€".repeat(20);
        for step in 1..9 {
            let mut buffer = [0; SMALLEST_BUFFER_BYTES];
            let source = Trickle { text: text.as_bytes(), step, interrupt: false };
            let mut reader = Reader::new(source, &mut buffer);
            for position in (0..text.len()).step_by(3) {
                let left = &text.as_bytes()[position..];
                let wanted = LOOKAHEAD_BYTES.min(left.len());
                assert_eq!(reader.window(LOOKAHEAD_BYTES).unwrap()[..wanted], left[..wanted]);
                reader.advance(3);
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_rejected_wherever_it_is_cut() {
        for bad in [&b"ab\xff"[..], b"ab\xe2\x82", b"ab\xe2\x82x", b"\xed\xa0\x80", b"\xc0\x80"] {
            for step in 1..5 {
                let answer = read_chars(bad, SMALLEST_BUFFER_BYTES, step);
                assert!(matches!(answer, Err(StackLexError::Rejected)), "{bad:?} by {step}");
            }
        }
    }
}
