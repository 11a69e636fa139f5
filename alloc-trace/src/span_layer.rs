//! Spans as records, so that the reader can attribute heap events to them.

use std::fmt::{self, Write};
use std::ptr;
#[cfg(feature = "tracing-events")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use alloc_trace_format::SpanId;
#[cfg(feature = "tracing-events")]
use tracing::dispatcher::{Dispatch, WeakDispatch};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "tracing-events")]
use crate::held_spans;
use crate::{mode, recorder};

/// A `tracing_subscriber` layer that records when spans are made, given fields, entered, left and closed.
///
/// An allocation costs nothing more for it: the reader knows which span its thread was in. The layer
/// itself asks nothing of the heap, and while nothing is recorded only remembers which spans each thread is
/// in, as far as the outermost 16. A recording that begins later knows those by name, without the fields that
/// they had by then.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// tracing_subscriber::registry().with(alloc_trace::SpanLayer::new()).init();
/// let _span = tracing::info_span!("request", id = 7).entered();
/// // What is allocated here is attributed to `request`.
/// ```
#[derive(Debug, Default)]
pub struct SpanLayer {
    defined: Defined,
    /// The subscriber that the layer is part of.
    #[cfg(feature = "tracing-events")]
    subscriber: OnceLock<WeakDispatch>,
}

impl SpanLayer {
    /// A layer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            defined: Defined::new(),
            #[cfg(feature = "tracing-events")]
            subscriber: OnceLock::new(),
        }
    }
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    #[cfg(feature = "tracing-events")]
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        let _ = self.subscriber.set(subscriber.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !mode::is_recording() {
            self.defined.insert(id, attributes.metadata(), Defined::IN_NO_RECORDING);
            return;
        }
        let parent = if attributes.is_contextual() {
            context.current_span().id().cloned()
        } else {
            attributes.parent().cloned()
        };
        let mut fields = FieldText::new();
        attributes.record(&mut fields);
        self.define(id, parent.as_ref(), false, attributes.metadata(), fields.as_bytes());
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if !mode::is_recording() || values.is_empty() {
            return;
        }
        self.known(id, &context);
        let mut fields = FieldText::new();
        values.record(&mut fields);
        recorder::span_fields(SpanId(id.into_u64()), fields.as_bytes());
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        #[cfg(feature = "tracing-events")]
        if recorder::is_thread_internal() {
            return;
        }
        let metadata = if mode::is_recording() {
            self.known(id, &context)
        } else {
            self.known_outside_of_recordings(id, &context)
        };
        recorder::span_enter(SpanId(id.into_u64()), metadata);
    }

    #[cfg_attr(
        not(feature = "tracing-events"),
        expect(unused_variables, reason = "nothing is held")
    )]
    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        #[cfg(feature = "tracing-events")]
        {
            if recorder::is_thread_internal() {
                return;
            }
            if held_spans::are_wanted()
                && let Some(subscriber) = self.subscriber.get()
                && context.span(id).is_some()
            {
                held_spans::hold(subscriber, id);
            }
        }
        recorder::span_exit(SpanId(id.into_u64()));
    }

    fn on_close(&self, id: Id, _context: Context<'_, S>) {
        self.defined.remove(&id);
        recorder::span_close(SpanId(id.into_u64()));
    }
}

impl SpanLayer {
    /// What is known for good of a span, of which the recording has a definition afterwards.
    fn known<S>(&self, id: &Id, context: &Context<'_, S>) -> Option<&'static Metadata<'static>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // A span that is older than the recording has no definition in it yet; of others it may be
        // forgotten that they have.
        if let Some(metadata) = self.defined.metadata(id, recorder::session()) {
            return Some(metadata);
        }
        let span = context.span(id)?;
        let parent = span.parent().map(|parent| parent.id());
        self.define(id, parent.as_ref(), true, span.metadata(), &[]);
        Some(span.metadata())
    }

    /// What is known for good of a span while nothing is recorded.
    #[inline]
    fn known_outside_of_recordings<S>(
        &self,
        id: &Id,
        context: &Context<'_, S>,
    ) -> Option<&'static Metadata<'static>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Not asked of the registry, which takes some hundred instructions.
        let known = self.defined.metadata(id, Defined::IN_NO_RECORDING);
        known.or_else(|| {
            let metadata = context.metadata(id)?;
            self.defined.insert(id, metadata, Defined::IN_NO_RECORDING);
            Some(metadata)
        })
    }

    fn define(
        &self,
        id: &Id,
        parent: Option<&Id>,
        again: bool,
        metadata: &'static Metadata<'static>,
        fields: &[u8],
    ) {
        recorder::span(
            SpanId(id.into_u64()),
            parent.map(|parent| SpanId(parent.into_u64())),
            again,
            level(*metadata.level()),
            metadata.name(),
            metadata.target(),
            fields,
        );
        self.defined.insert(id, metadata, recorder::session());
    }
}

/// 1 for ERROR to 5 for TRACE, as the format has it.
pub(crate) fn level(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Which spans the present recording has a definition of, and while there is none, which were made or
/// entered: a table that forgets, since a span defined twice costs bytes and not truth.
#[derive(Debug)]
struct Defined {
    entries: [Entry; Self::ENTRIES],
}

#[derive(Debug)]
struct Entry {
    /// Says which span, and of which recording; 0 for none.
    key: AtomicU64,
    metadata: AtomicPtr<Metadata<'static>>,
}

impl Entry {
    const fn new() -> Self {
        Self { key: AtomicU64::new(0), metadata: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl Defined {
    const ENTRIES: usize = 1024;

    const fn new() -> Self {
        Self { entries: [const { Entry::new() }; Self::ENTRIES] }
    }

    /// In place of a recording's number, which is never this: that of a span which none has a definition of.
    const IN_NO_RECORDING: u64 = u64::MAX;

    /// What is known for good of a span, if the recording has a definition of it.
    #[inline]
    fn metadata(&self, id: &Id, recording: u64) -> Option<&'static Metadata<'static>> {
        let (entry, key) = (self.entry(id), Self::key(id, recording));
        // Acquire pairs with the release in `insert`.
        if entry.key.load(Ordering::Acquire) != key {
            return None;
        }
        let metadata = entry.metadata.load(Ordering::Acquire);
        // Another span may have taken the entry in between.
        let same = entry.key.load(Ordering::Relaxed) == key;
        // SAFETY: null, or what `insert` was given, which lives for ever.
        unsafe { metadata.as_ref() }.filter(|_| same)
    }

    #[inline]
    fn insert(&self, id: &Id, metadata: &'static Metadata<'static>, recording: u64) {
        let entry = self.entry(id);
        entry.key.store(0, Ordering::Relaxed);
        // Release: whoever sees it sees that the entry was another one's before.
        entry.metadata.store(ptr::from_ref(metadata).cast_mut(), Ordering::Release);
        // Release: whoever sees the key sees its metadata.
        entry.key.store(Self::key(id, recording), Ordering::Release);
    }

    /// Forgets a span, whose number may come to be another one's.
    #[inline]
    fn remove(&self, id: &Id) {
        let entry = self.entry(id);
        for recording in [recorder::session(), Self::IN_NO_RECORDING] {
            let key = Self::key(id, recording);
            if entry.key.load(Ordering::Relaxed) == key {
                let _ = entry.key.compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn entry(&self, id: &Id) -> &Entry {
        let spread = id.into_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.entries[(spread >> 54) as usize % Self::ENTRIES]
    }

    /// What the entry of a span has: the recording's number is mixed in, so that a new one finds none of the
    /// old.
    #[inline]
    fn key(id: &Id, recording: u64) -> u64 {
        id.into_u64() ^ recording.rotate_left(48)
    }
}

impl Default for Defined {
    fn default() -> Self {
        Self::new()
    }
}

/// A span's fields as text, held in place; cut where it is full.
struct FieldText {
    bytes: [u8; 256],
    length: usize,
}

impl FieldText {
    const fn new() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let space = if self.length == 0 { "" } else { " " };
        // What does not fit is cut: see `write_str`.
        let _ = write!(self, "{space}{}={value}", field.name());
    }
}

impl Write for FieldText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.length;
        let end = (0..=text.len().min(room)).rev().find(|&end| text.is_char_boundary(end));
        let fitting = &text.as_bytes()[..end.unwrap_or(0)];
        self.bytes[self.length..][..fitting.len()].copy_from_slice(fitting);
        self.length += fitting.len();
        if fitting.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Visit for FieldText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_does_not_fit_is_cut_between_characters() {
        let mut text = FieldText::new();
        assert!(text.write_str(&"ä".repeat(127)).is_ok());
        assert!(text.write_str("bä").is_err());
        assert_eq!(text.as_bytes().len(), 255);
        assert!(std::str::from_utf8(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_closed_span_is_not_known_any_more() {
        let callsite =
            tracing::callsite!(name: "a span", kind: tracing::metadata::Kind::SPAN, fields: id);
        let metadata = tracing::callsite::Callsite::metadata(callsite);
        let defined = Defined::new();
        let id = Id::from_u64(77);
        for recording in [recorder::session(), Defined::IN_NO_RECORDING] {
            assert!(defined.metadata(&id, recording).is_none());
            defined.insert(&id, metadata, recording);
            assert_eq!(defined.metadata(&id, recording).map(Metadata::name), Some("a span"));
            assert!(defined.metadata(&Id::from_u64(78), recording).is_none());
            assert!(defined.metadata(&id, 7 << 32).is_none(), "another recording knows nothing");
            defined.remove(&id);
            assert!(defined.metadata(&id, recording).is_none());
        }
    }
}
