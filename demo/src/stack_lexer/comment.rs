//! Comments, and the attributes that `proc-macro2` makes of doc comments.

use std::io::Read;

use super::{Lexer, StackLexError};

/// What a comment becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Nothing.
    Plain,
    /// `#[doc = "…"]`.
    OuterDoc,
    /// `#![doc = "…"]`.
    InnerDoc,
}

impl<R: Read> Lexer<'_, R> {
    /// A comment, at its `//` or `/*`. One that does not end rejects the source.
    pub(super) fn comment(&mut self) -> Result<(), StackLexError> {
        let window = self.reader.window(4)?;
        // The opening bytes, without those of the content that the decision looks at.
        let (meaning, opening) = match window {
            [b'/', b'/', b'!', ..] => (Meaning::InnerDoc, 3),
            [b'/', b'/', b'/', b'/', ..] => (Meaning::Plain, 3),
            [b'/', b'/', b'/', ..] => (Meaning::OuterDoc, 3),
            [b'/', b'/', ..] => (Meaning::Plain, 2),
            [b'/', b'*', b'*', b'/', ..] => (Meaning::Plain, 2),
            [b'/', b'*', b'!', ..] => (Meaning::InnerDoc, 3),
            [b'/', b'*', b'*', b'*', ..] => (Meaning::Plain, 2),
            [b'/', b'*', b'*', ..] => (Meaning::OuterDoc, 3),
            _ => (Meaning::Plain, 2),
        };
        let is_line = window.get(1) == Some(&b'/');
        // In a block comment the second asterisk of `/**` may be the first byte of `*/`, but then
        // it is `/**/`, which is plain; and the exclamation mark of `/*!` never is.
        self.reader.advance(opening);
        if is_line {
            self.line_comment_rest(meaning)?;
        } else {
            self.block_comment_rest(meaning)?;
        }
        if meaning != Meaning::Plain {
            self.count_doc_attribute(meaning)?;
        }
        Ok(())
    }

    /// Stops before the line feed. A doc comment may hold a carriage return only as part of the
    /// line's end.
    fn line_comment_rest(&mut self, meaning: Meaning) -> Result<(), StackLexError> {
        if meaning == Meaning::Plain {
            self.reader.skip_while(|b| b != b'\n')?;
            return Ok(());
        }
        self.reader.skip_while(|b| !matches!(b, b'\n' | b'\r'))?;
        if self.reader.take_if(b'\r')? && self.reader.peek()? != Some(b'\n') {
            return Err(StackLexError::Rejected);
        }
        Ok(())
    }

    /// Block comments nest. A doc comment may hold a carriage return only before a line feed.
    fn block_comment_rest(&mut self, meaning: Meaning) -> Result<(), StackLexError> {
        let mut depth = 1_u64;
        while depth > 0 {
            self.reader.skip_while(|b| !matches!(b, b'/' | b'*' | b'\r'))?;
            match self.reader.take()? {
                b'/' if self.reader.take_if(b'*')? => depth += 1,
                b'*' if self.reader.take_if(b'/')? => depth -= 1,
                b'\r' if meaning != Meaning::Plain && self.reader.peek()? != Some(b'\n') => {
                    return Err(StackLexError::Rejected);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `#`, `!` if inner, and a group of `doc`, `=` and a literal.
    fn count_doc_attribute(&mut self, meaning: Meaning) -> Result<(), StackLexError> {
        self.counts.punctuation += if meaning == Meaning::InnerDoc { 3 } else { 2 };
        self.counts.literals += 1;
        self.counts.bracket_groups += 1;
        let nesting = self.nesting as u64 + 1;
        self.counts.deepest_nesting = self.counts.deepest_nesting.max(nesting);
        self.identifier.clear();
        self.identifier.push(b"doc")?;
        self.count_identifier();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::leaves;

    #[test]
    fn plain_comments_are_nothing() {
        for source in [
            "//",
            "// \r x",
            "//// x",
            "////\r",
            "/**/",
            "/***/",
            "/*** x */",
            "/* /* */ */",
            "/*/*/*/ */*/*/",
            "/* \r */",
        ] {
            assert_eq!(leaves(source), Some((0, 0, 0)), "{source:?}");
        }
    }

    #[test]
    fn outer_doc_comments_are_attributes() {
        for source in ["///", "/// x\r\n", "///!", "/** x */", "/** \r\n */", "/**! /* */ */"] {
            assert_eq!(leaves(source), Some((1, 1, 2)), "{source:?}");
        }
    }

    #[test]
    fn inner_doc_comments_are_attributes_with_one_more_character() {
        for source in ["//!", "//!/", "//! x\r\n", "/*!*/", "/*!* x */", "/*! /* */ */"] {
            assert_eq!(leaves(source), Some((1, 1, 3)), "{source:?}");
        }
    }

    #[test]
    fn comments_without_an_end_and_stray_carriage_returns_are_rejected() {
        for source in [
            "/*",
            "/*/",
            "/* /* */",
            "/**",
            "/*!",
            "/***",
            "/// \r x",
            "/// \r",
            "//! \r\r\n",
            "/** \r */",
            "/*!\r*/",
        ] {
            assert_eq!(leaves(source), None, "{source:?}");
        }
    }
}
