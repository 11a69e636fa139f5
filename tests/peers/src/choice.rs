//! Choosing a part of what there is by name.

/// Whether a name has one of some texts in it; where none are given, every name is chosen.
#[must_use]
pub fn has(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
}
