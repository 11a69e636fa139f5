//! Spans by name, for rows that refer to them.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::spans::Spans;

/// The name of a span, and of those that it was made in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpanName {
    /// Its name.
    pub name: Arc<str>,
    /// Its target.
    pub target: Arc<str>,
    /// Its fields, where spans are told apart by them (see
    /// [`Options::span_fields`](crate::Options::span_fields)).
    pub fields: Option<Arc<str>>,
    /// Its level: 1 for ERROR to 5 for TRACE, 0 where that is unknown.
    pub level: u8,
    /// The names of the spans that it was made in and its own, outermost first. Of more than 64 the middle
    /// ones are one text that says how many they are, as `[100 more]`.
    pub path: Vec<Arc<str>>,
}

impl SpanName {
    /// The name of a path of [`Spans`].
    pub(crate) fn of(path: u32, spans: &Spans) -> Option<Self> {
        let kind = spans.kind_of(path)?;
        Some(Self {
            name: Arc::clone(&kind.name),
            target: Arc::clone(&kind.target),
            fields: kind.fields.clone(),
            level: kind.level,
            path: spans.names(path),
        })
    }
}

/// The names of the paths that were asked for.
#[derive(Debug, Default)]
pub(crate) struct SpanNames(FxHashMap<u32, SpanName>);

impl SpanNames {
    pub(crate) fn learn(&mut self, path: u32, spans: &Spans) {
        if !self.0.contains_key(&path)
            && let Some(name) = SpanName::of(path, spans)
        {
            self.0.insert(path, name);
        }
    }

    pub(crate) fn get(&self, path: u32) -> Option<&SpanName> {
        self.0.get(&path)
    }
}
