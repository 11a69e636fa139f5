//! Filters that name a thread, a span, a call site or a time that the recording does not have.
//!
//! Nearly all pick nothing, which looks like a program that did nothing: so whoever shows figures must tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloc_trace_format::{ReadError, Record, Recording};
use serde::Serialize;

use crate::definitions::Definitions;
use crate::filter::Filter;
use crate::sites::{SiteIndex, Sites};
use crate::times::Times;

/// What a filter asks for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilterKind {
    /// A thread.
    Thread,
    /// A span.
    Span,
    /// A call site.
    Site,
    /// The time from which on: it is behind the recording's end.
    From,
    /// The time up to which: it is before the one from which on.
    To,
    /// The time at which blocks were live: it is behind the recording's end, and picks what was never freed.
    LiveAt,
}

/// A value of a filter that nothing in the recording has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnmatchedFilter {
    /// What it asks for.
    pub filter: FilterKind,
    /// What it was given.
    pub value: String,
    /// Names in the recording that are most like it, the nearest first; at most three. Where none is
    /// like it they are the first ones in the order of the alphabet.
    pub near: Vec<String>,
}

/// How many names are given in place of one that there is not.
const NEAR: usize = 3;

/// The values of a filter that match nothing.
pub(crate) fn find(
    filter: &Filter,
    times: &Times,
    recording: &Recording,
    definitions: &Definitions,
    sites: &Sites,
) -> Result<Vec<UnmatchedFilter>, ReadError> {
    let end_ns = recording.clock().ns(definitions.last_stamp);
    let mut unmatched = of_times(filter, times, end_ns);
    let threads = || definitions.threads.iter().filter(|thread| !thread.internal);
    for value in filter.threads() {
        let name = |thread: &str| thread == value;
        let is =
            |id: u32, thread: Option<&str>| value.parse() == Ok(id) || thread.is_some_and(name);
        if !definitions.threads.iter().any(|thread| is(thread.id.0, thread.name.as_deref())) {
            let names = threads().map(|thread| match &thread.name {
                Some(name) => name.to_string(),
                None => thread.id.0.to_string(),
            });
            unmatched.push(near(FilterKind::Thread, value, names));
        }
    }
    if filter.has_spans() {
        let names = span_names(recording)?;
        for value in filter.spans().iter().filter(|&value| !names.contains(value.as_str())) {
            unmatched.push(near(FilterKind::Span, value, names.iter().map(ToString::to_string)));
        }
    }
    let all = || (0..sites.len() as SiteIndex).filter_map(|index| sites.get(index));
    for pattern in filter.sites() {
        if !all().any(|site| Filter::matches_site(pattern, site)) {
            let names = all().map(|site| site.function.to_string());
            unmatched.push(near(FilterKind::Site, pattern.as_str(), names));
        }
    }
    Ok(unmatched)
}

/// Times behind the end of the recording, and a `to` before the `from`.
fn of_times(filter: &Filter, times: &Times, end_ns: u64) -> Vec<UnmatchedFilter> {
    let from_ns = times.from_ns.unwrap_or_default();
    let [from, to, live_at] = filter.moments();
    [
        (FilterKind::From, from, from_ns > end_ns),
        (FilterKind::To, to, times.to_ns.is_some_and(|to| to < from_ns)),
        (FilterKind::LiveAt, live_at, times.live_at_ns.is_some_and(|at| at > end_ns)),
    ]
    .into_iter()
    .filter(|&(.., is_empty)| is_empty)
    .filter_map(|(filter, moment, _)| {
        let value = moment.as_ref()?.to_string();
        Some(UnmatchedFilter { filter, value, near: Vec::new() })
    })
    .collect()
}

fn span_names(recording: &Recording) -> Result<BTreeSet<Arc<str>>, ReadError> {
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut records = recording.definitions();
    while let Some(record) = records.next_record()? {
        if let Record::Span(span) = record
            && !names.contains(&*span.name)
        {
            names.insert(Arc::from(&*span.name));
        }
    }
    Ok(names)
}

fn near(filter: FilterKind, value: &str, names: impl Iterator<Item = String>) -> UnmatchedFilter {
    let wanted = value.to_lowercase();
    let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
    let mut ranked: Vec<(u32, String)> =
        names.into_iter().map(|name| (unlikeness(&wanted, &name.to_lowercase()), name)).collect();
    // What is equally unlike stays in the order of the alphabet.
    ranked.sort_by_key(|(unlikeness, _)| *unlikeness);
    if ranked.iter().any(|&(unlikeness, _)| unlikeness < UNLIKE) {
        ranked.retain(|&(unlikeness, _)| unlikeness < UNLIKE);
    }
    let near = ranked.into_iter().take(NEAR).map(|(_, name)| name).collect();
    UnmatchedFilter { filter, value: value.to_owned(), near }
}

/// From here on, in thousandths, two names have nothing to do with each other.
const UNLIKE: u32 = 700;

/// How little one name is like another, in thousandths.
///
/// By the pairs of letters that they share, as Dice counts them: unlike a distance by letters that
/// finds a short name within a long path.
fn unlikeness(wanted: &str, name: &str) -> u32 {
    if name.contains(wanted) {
        return 0;
    }
    let pairs =
        |text: &str| -> Vec<(char, char)> { text.chars().zip(text.chars().skip(1)).collect() };
    // The last part of a path is what a person has in mind.
    let last = name.rsplit("::").next().unwrap_or(name);
    [name, last].into_iter().map(|name| dice(&pairs(wanted), &pairs(name))).min().unwrap_or(1000)
}

fn dice(one: &[(char, char)], other: &[(char, char)]) -> u32 {
    let mut rest = other.to_vec();
    let mut shared = 0;
    for pair in one {
        if let Some(index) = rest.iter().position(|known| known == pair) {
            rest.swap_remove(index);
            shared += 1;
        }
    }
    let all = (one.len() + other.len()) as u32;
    1000 - 2000 * shared / all.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_are_most_like_a_misspelt_one_come_first() {
        let names = ["worker-1", "main", "reaper"].map(str::to_owned);
        let found = near(FilterKind::Thread, "wroker-1", names.clone().into_iter());
        assert_eq!(found.near, ["worker-1"]);
        let found = near(FilterKind::Thread, "zzz", names.into_iter());
        assert_eq!(found.near, ["main", "reaper", "worker-1"], "none is like it");
        let names = ["app::parser::parse_line", "app::lexer::next", "core::fmt::write"];
        let found = near(FilterKind::Site, "parse_lines", names.map(str::to_owned).into_iter());
        assert_eq!(found.near, ["app::parser::parse_line"]);
        assert_eq!(near(FilterKind::Span, "x", std::iter::empty()).near, [""; 0]);
    }
}
