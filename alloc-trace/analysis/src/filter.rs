//! What part of a recording an analysis is to look at.
//!
//! A filter picks *requests*: `alloc`, `alloc_zeroed` and `realloc`. What is released, by a free or by
//! a reallocation, goes with the request that obtained it, whoever releases it and when. So live
//! bytes, peaks and leaks are those of the picked blocks alone, and what belongs to no picked request
//! (a free of a block older than the recording, too) counts nowhere.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use alloc_trace_format::EventKind;
use regex::Regex;

use crate::call_site::CallSite;

/// A moment of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// So many nanoseconds after its beginning.
    Ns(u64),
    /// When the program's live bytes were first at their peak.
    Peak,
    /// When the program first set a marker with this text.
    Marker(String),
}

/// Picks the requests that an analysis looks at; by default all.
///
/// Conditions of several kinds must all hold; of several values for one of them, any.
///
/// ```
/// use alloc_trace_analysis::{Filter, Moment};
///
/// let filter = Filter::default().thread("worker").sizes(4096..).to(Moment::Peak);
/// assert!(!filter.is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Filter {
    threads: Vec<String>,
    spans: Vec<String>,
    sites: Vec<Regex>,
    kinds: Vec<EventKind>,
    sizes: Option<Range>,
    lifetimes: Option<Range>,
    from: Option<Moment>,
    to: Option<Moment>,
    live_at: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range(Bound<u64>, Bound<u64>);

impl Range {
    fn of(range: &impl RangeBounds<u64>) -> Self {
        Self(range.start_bound().cloned(), range.end_bound().cloned())
    }

    fn contains(&self, value: u64) -> bool {
        (self.0, self.1).contains(&value)
    }
}

impl Filter {
    /// Requests by this thread, by its number or its name, or by another one that was named so.
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.threads.push(thread.into());
        self
    }

    /// Requests in spans of this name, and in those made in such a span.
    #[must_use]
    pub fn span(mut self, name: impl Into<String>) -> Self {
        self.spans.push(name.into());
        self
    }

    /// Requests whose call site matches: its function, or its `file:line`.
    #[must_use]
    pub fn site(mut self, pattern: Regex) -> Self {
        self.sites.push(pattern);
        self
    }

    /// Requests of this kind. A free has none: with [`EventKind::Free`] alone only
    /// [`Events`](crate::Events) gives anything.
    #[must_use]
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Requests for so many bytes.
    #[must_use]
    pub fn sizes(mut self, bytes: impl RangeBounds<u64>) -> Self {
        self.sizes = Some(Range::of(&bytes));
        self
    }

    /// Requests whose block lived for so many nanoseconds, until it was freed or reallocated. One
    /// that never was lived until the end of the recording. A failed request obtained none.
    ///
    /// Reading takes one pass more then, and unless there is a [`Filter::live_at`] too, from four million
    /// requests on a temporary file of one bit for each: 125 MB for a billion.
    #[must_use]
    pub fn lifetimes(mut self, ns: impl RangeBounds<u64>) -> Self {
        self.lifetimes = Some(Range::of(&ns));
        self
    }

    /// Requests from this moment on.
    #[must_use]
    pub fn from(mut self, moment: Moment) -> Self {
        self.from = Some(moment);
        self
    }

    /// Requests up to and at this moment. What they obtained is followed on to its release.
    #[must_use]
    pub fn to(mut self, moment: Moment) -> Self {
        self.to = Some(moment);
        self
    }

    /// Requests whose block was live at this moment: obtained by then, and released later.
    #[must_use]
    pub fn live_at(mut self, moment: Moment) -> Self {
        self.live_at = Some(moment);
        self
    }

    /// Whether every request is picked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
            && self.spans.is_empty()
            && self.sites.is_empty()
            && self.kinds.is_empty()
            && self.sizes.is_none()
            && self.lifetimes.is_none()
            && self.from.is_none()
            && self.to.is_none()
            && self.live_at.is_none()
    }

    pub(crate) fn picks_thread(&self, number: u32, name: Option<&str>) -> bool {
        let is = |wanted: &String| {
            wanted.parse() == Ok(number) || name.is_some_and(|name| name == wanted)
        };
        self.threads.is_empty() || self.threads.iter().any(is)
    }

    pub(crate) fn picks_site(&self, site: &CallSite) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|pattern| Self::matches_site(pattern, site))
    }

    /// Whether a pattern matches a call site's function, or its `file:line`.
    pub(crate) fn matches_site(pattern: &Regex, site: &CallSite) -> bool {
        let place = site.file.as_deref().map(|file| match site.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        });
        pattern.is_match(&site.function)
            || place.as_deref().is_some_and(|place| pattern.is_match(place))
    }

    pub(crate) fn threads(&self) -> &[String] {
        &self.threads
    }

    /// From which time on, up to which time, and when blocks are to be live.
    pub(crate) fn moments(&self) -> [&Option<Moment>; 3] {
        [&self.from, &self.to, &self.live_at]
    }

    pub(crate) fn spans(&self) -> &[String] {
        &self.spans
    }

    pub(crate) fn sites(&self) -> &[Regex] {
        &self.sites
    }

    pub(crate) fn picks_span(&self, name: &str) -> bool {
        self.spans.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn has_spans(&self) -> bool {
        !self.spans.is_empty()
    }

    pub(crate) fn picks_kind(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    pub(crate) fn picks_size(&self, bytes: u64) -> bool {
        self.sizes.is_none_or(|sizes| sizes.contains(bytes))
    }

    pub(crate) fn picks_lifetime(&self, ns: u64) -> bool {
        self.lifetimes.is_none_or(|lifetimes| lifetimes.contains(ns))
    }

    /// Whether what becomes of a block decides whether its request is picked.
    pub(crate) fn asks_for_the_future(&self) -> bool {
        self.lifetimes.is_some() || self.live_at.is_some()
    }
}

impl fmt::Display for Moment {
    /// As a filter is given it on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ns(ns) => write!(f, "{ns}ns"),
            Self::Peak => f.write_str("peak"),
            Self::Marker(text) => f.write_str(text),
        }
    }
}
