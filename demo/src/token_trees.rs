//! The token trees of `proc-macro2`, counted: the heap-heavy way of the [`lex`](crate::jobs::lex)
//! job.
//!
//! Written as programs commonly are: the whole file is read into a `String`, the whole `String`
//! becomes a tree, and a name is looked at by making a `String` of it.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::token_counts::{Identifier, IdentifierTooLong, TokenCounts};

/// The tokens of `source`, or `None` if `proc-macro2` rejects it.
///
/// # Errors
///
/// The counts have no room for an identifier longer than
/// [`IDENTIFIER_MAX_BYTES`](crate::token_counts::IDENTIFIER_MAX_BYTES).
pub fn count_tokens(source: &str) -> Result<Option<TokenCounts>, IdentifierTooLong> {
    match TokenStream::from_str(source) {
        Ok(stream) => count_trees(stream).map(Some),
        Err(_) => Ok(None),
    }
}

/// The streams that are still to be walked wait in a `Vec`: a recursive walk would overflow the
/// call stack on a file that is all brackets, which `proc-macro2` itself reads without trouble.
fn count_trees(stream: TokenStream) -> Result<TokenCounts, IdentifierTooLong> {
    let mut counts = TokenCounts::default();
    let mut longest = String::new();
    let mut longest_chars = 0;
    let mut outer = Vec::new();
    let mut trees = stream.into_iter();
    loop {
        match trees.next() {
            Some(TokenTree::Group(group)) => {
                match group.delimiter() {
                    Delimiter::Parenthesis => counts.parenthesis_groups += 1,
                    Delimiter::Brace => counts.brace_groups += 1,
                    Delimiter::Bracket => counts.bracket_groups += 1,
                    // Made by macros only, and no part of the source: it is walked but not counted.
                    Delimiter::None => {}
                }
                outer.push(trees);
                counts.deepest_nesting = counts.deepest_nesting.max(outer.len() as u64);
                trees = group.stream().into_iter();
            }
            Some(TokenTree::Ident(identifier)) => {
                counts.identifiers += 1;
                let name = identifier.to_string();
                let chars = name.chars().count();
                if chars > longest_chars {
                    longest = name;
                    longest_chars = chars;
                }
            }
            Some(TokenTree::Punct(_)) => counts.punctuation += 1,
            Some(TokenTree::Literal(_)) => counts.literals += 1,
            None => match outer.pop() {
                Some(rest) => trees = rest,
                None => break,
            },
        }
    }
    counts.longest_identifier = Identifier::try_from(longest.as_str())?;
    Ok(counts)
}
