//! What is counted of a source: plain numbers and one identifier, all of fixed size.
//!
//! Both ways fill these types, so that equal answers compare equal. Nothing here allocates,
//! formatting included: that is the caller's writer's affair.

use std::fmt;

use serde::{Serialize, Serializer};

/// The longest identifier that can be held, in bytes, a raw identifier's `r#` included.
pub const IDENTIFIER_MAX_BYTES: usize = 1024;

/// The tokens of one source or of several, by `proc-macro2`'s kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounts {
    /// Identifiers, keywords, `_` and the names of lifetimes.
    pub identifiers: u64,
    /// Literals, a suffix included.
    pub literals: u64,
    /// Punctuation characters, each counted by itself: `->` is two, and the apostrophe of a
    /// lifetime one.
    pub punctuation: u64,
    /// Groups in `()`.
    pub parenthesis_groups: u64,
    /// Groups in `{}`.
    pub brace_groups: u64,
    /// Groups in `[]`, those that doc comments turn into included.
    pub bracket_groups: u64,
    /// How many groups the most deeply nested group lies in, itself included.
    pub deepest_nesting: u64,
    /// The identifier of the most characters; the first one among equals.
    pub longest_identifier: Identifier,
}

impl TokenCounts {
    /// All tokens: leaves and groups, a group's two delimiters being one token.
    pub fn tokens(&self) -> u64 {
        let leaves = self.identifiers + self.literals + self.punctuation;
        leaves + self.parenthesis_groups + self.brace_groups + self.bracket_groups
    }

    /// Adds the counts of a source that comes after those counted here.
    pub fn add(&mut self, later: &TokenCounts) {
        self.identifiers += later.identifiers;
        self.literals += later.literals;
        self.punctuation += later.punctuation;
        self.parenthesis_groups += later.parenthesis_groups;
        self.brace_groups += later.brace_groups;
        self.bracket_groups += later.bracket_groups;
        self.deepest_nesting = self.deepest_nesting.max(later.deepest_nesting);
        self.longest_identifier.keep_longer(&later.longest_identifier);
    }
}

impl fmt::Display for TokenCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} identifiers, {} literals, {} punctuation characters, \
             {} (), {} {{}} and {} [] groups, {} deep, longest identifier `{}` ({} characters)",
            self.identifiers,
            self.literals,
            self.punctuation,
            self.parenthesis_groups,
            self.brace_groups,
            self.bracket_groups,
            self.deepest_nesting,
            self.longest_identifier.as_str(),
            self.longest_identifier.chars(),
        )
    }
}

/// The tokens of a list of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LexedFiles {
    /// Files that were lexed. With `rejected_files` this makes up the list.
    pub files: u64,
    /// Files that are not UTF-8 or not made of Rust's tokens; nothing else here counts them.
    pub rejected_files: u64,
    /// The size of the lexed files, in bytes.
    pub bytes: u64,
    /// Their tokens.
    #[serde(flatten)]
    pub tokens: TokenCounts,
}

impl LexedFiles {
    /// Adds a file of `bytes` bytes that was lexed.
    pub fn add_file(&mut self, bytes: u64, tokens: &TokenCounts) {
        self.files += 1;
        self.bytes += bytes;
        self.tokens.add(tokens);
    }
}

impl fmt::Display for LexedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LexedFiles { files, rejected_files, bytes, tokens } = self;
        write!(f, "{files} files of {bytes} bytes, {rejected_files} rejected: {tokens}")
    }
}

/// An identifier in a buffer of fixed size, [`IDENTIFIER_MAX_BYTES`] long.
///
/// Its length is told in characters, as `proc-macro2` writes it: `r#` counts.
#[derive(Clone)]
pub struct Identifier {
    bytes: [u8; IDENTIFIER_MAX_BYTES],
    len: usize,
    chars: u64,
}

/// An identifier did not fit into [`IDENTIFIER_MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentifierTooLong;

impl fmt::Display for IdentifierTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an identifier is longer than {IDENTIFIER_MAX_BYTES} bytes")
    }
}

impl std::error::Error for IdentifierTooLong {}

impl Identifier {
    /// The empty identifier, which is shorter than any.
    pub const EMPTY: Identifier = Identifier { bytes: [0; IDENTIFIER_MAX_BYTES], len: 0, chars: 0 };

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        // Pieces are pushed as text or as checked, whole characters only, so the alternative never
        // happens; it costs no more than the length of the one identifier that is printed.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The identifier's UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Its length in characters.
    pub fn chars(&self) -> u64 {
        self.chars
    }

    /// Forgets what was pushed.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.chars = 0;
    }

    /// Appends `piece`, which is valid UTF-8 made of whole characters.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), IdentifierTooLong> {
        let free = &mut self.bytes[self.len..];
        free.get_mut(..piece.len()).ok_or(IdentifierTooLong)?.copy_from_slice(piece);
        self.len += piece.len();
        self.chars += piece.iter().map(|&b| u64::from(!is_continuation(b))).sum::<u64>();
        Ok(())
    }

    /// Becomes `other` if that has more characters.
    #[inline]
    pub(crate) fn keep_longer(&mut self, other: &Identifier) {
        if other.chars > self.chars {
            self.bytes[..other.len].copy_from_slice(other.as_bytes());
            self.len = other.len;
            self.chars = other.chars;
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl TryFrom<&str> for Identifier {
    type Error = IdentifierTooLong;

    fn try_from(text: &str) -> Result<Self, IdentifierTooLong> {
        let mut identifier = Identifier::EMPTY;
        identifier.push(text.as_bytes())?;
        Ok(identifier)
    }
}

impl Default for Identifier {
    fn default() -> Self {
        Identifier::EMPTY
    }
}

impl PartialEq for Identifier {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Identifier {}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identifier").field(&self.as_str()).finish()
    }
}

impl Serialize for Identifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(text: &str) -> Identifier {
        Identifier::try_from(text).unwrap()
    }

    #[test]
    fn the_first_of_equally_long_identifiers_is_kept() {
        let mut longest = identifier("été");
        longest.keep_longer(&identifier("abc"));
        assert_eq!(
            longest,
            identifier("été"),
            "three characters each, although five bytes and three"
        );
        longest.keep_longer(&identifier("abcd"));
        assert_eq!(longest, identifier("abcd"));
    }

    #[test]
    fn an_identifier_one_byte_past_the_bound_is_an_error() {
        let mut longest = Identifier::EMPTY;
        longest.push(&[b'a'; IDENTIFIER_MAX_BYTES]).unwrap();
        assert_eq!(longest.chars(), IDENTIFIER_MAX_BYTES as u64);
        assert_eq!(longest.push(b"a"), Err(IdentifierTooLong));
    }

    #[test]
    fn json_is_flat_and_tells_the_identifier_as_text() {
        let mut lexed = LexedFiles::default();
        let tokens = TokenCounts { longest_identifier: identifier("r#type"), ..Default::default() };
        lexed.add_file(7, &tokens);
        let json = serde_json::to_value(&lexed).unwrap();
        assert_eq!(json["bytes"], 7);
        assert_eq!(json["identifiers"], 0);
        assert_eq!(json["longest_identifier"], "r#type");
    }
}
