//! The first heap events of one span, as the log lines of an ordinary `tracing` subscriber.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter};

/// The target of the recorder's events.
const TARGET: &str = "alloc_trace::heap";

/// Lets the first few heap events of the spans of one name through.
#[derive(Debug)]
pub(crate) struct FirstEvents {
    span: &'static str,
    left: AtomicUsize,
}

impl FirstEvents {
    pub(crate) const fn new(span: &'static str, count: usize) -> Self {
        Self { span, left: AtomicUsize::new(count) }
    }
}

impl<S> Filter<S> for FirstEvents {
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        // Spans pass: the lines name them. Once there are enough events nobody asks for more.
        metadata.is_span() || (metadata.target() == TARGET && self.left.load(Ordering::Relaxed) > 0)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() || metadata.target() == TARGET {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let mut span = InSpan { name: self.span, found: false };
        event.record(&mut span);
        let take = |left: usize| left.checked_sub(1);
        span.found && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Whether an event's field `span` has a name.
struct InSpan {
    name: &'static str,
    found: bool,
}

impl Visit for InSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.found |= field.name() == "span" && value == self.name;
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

/// Keeps log lines until they are shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The lines so far.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock());
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
