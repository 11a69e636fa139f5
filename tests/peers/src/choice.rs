//! Choosing a part of what there is by name.

use std::io;

/// Whether a name has one of some texts in it; where none are given, every name is chosen.
#[must_use]
pub fn has(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
}

/// Makes sure that each text chooses something.
///
/// # Errors
///
/// If no name has one of them in it; says which names there are.
pub fn check<'a>(
    wanted: &[String],
    what: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> io::Result<()> {
    let names: Vec<_> = names.into_iter().collect();
    let is_unknown = |part: &&String| !names.iter().any(|name| name.contains(part.as_str()));
    let Some(part) = wanted.iter().find(is_unknown) else { return Ok(()) };
    let message = format!("no {what} has {part:?} in its name; there are: {}", names.join("; "));
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_chooses_nothing_is_an_error_beside_others_that_do() {
        let check = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|&part| part.to_owned()).collect();
            check(&wanted, "program", ["git", "perl"])
        };
        assert!(check(&[]).is_ok());
        assert!(check(&["per", "git"]).is_ok());
        let error = check(&["git", "prel"]).expect_err("no name has it");
        assert_eq!(error.to_string(), "no program has \"prel\" in its name; there are: git; perl");
    }
}
