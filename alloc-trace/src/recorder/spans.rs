//! What the recorder is told of `tracing` spans: by records of their own, and, while nothing is recorded, by what each
//! thread remembers of the spans that it is in.

use std::sync::atomic::Ordering;

use alloc_trace_format::SpanId;
use tracing::Metadata;

use super::{RECORDER, THREAD, Thread, epoch};

/// A number of the present recording, for whoever keeps something for its duration.
pub(crate) fn session() -> u64 {
    RECORDER.epoch().load(Ordering::Relaxed)
}

/// Records that a span was made, or, `again`, that there is one which the recording may have.
pub(crate) fn span(
    id: SpanId,
    parent: Option<SpanId>,
    again: bool,
    level: u8,
    name: &str,
    target: &str,
    fields: &[u8],
) {
    let (name, target) = (name.as_bytes(), target.as_bytes());
    RECORDER.write(|encoder, out, stamp| {
        encoder.span(out, stamp, id, parent, again, level, name, target, fields)
    });
}

/// Records that fields of a span were set.
pub(crate) fn span_fields(span: SpanId, fields: &[u8]) {
    RECORDER.write(|encoder, out, stamp| encoder.span_fields(out, stamp, span, fields));
}

/// Records that the calling thread entered a span, or while nothing is recorded, remembers it.
pub(crate) fn span_enter(span: SpanId, metadata: Option<&'static Metadata<'static>>) {
    // Written first: a thread that joins by this record tells the spans that it was in before.
    let written = RECORDER.write(|encoder, out, stamp| encoder.span_enter(out, stamp, span));
    THREAD.with(|thread| {
        if let Some(metadata) = metadata {
            thread.entered.enter((span, metadata));
        }
        if !written {
            thread.tell_spans_later();
        }
    });
}

/// Records that the calling thread left a span, or while nothing is recorded, remembers it.
pub(crate) fn span_exit(span: SpanId) {
    let written = RECORDER.write(|encoder, out, stamp| encoder.span_exit(out, stamp, span));
    THREAD.with(|thread| {
        thread.entered.exit(span);
        if !written {
            thread.tell_spans_later();
        }
    });
}

/// Records that a span closed.
pub(crate) fn span_close(span: SpanId) {
    RECORDER.write(|encoder, out, stamp| encoder.span_close(out, stamp, span));
}

impl Thread {
    /// The spans that the thread is in are told before its next event. An event alone asks for nothing:
    /// so its slot is made to seem one that has yet to join.
    fn tell_spans_later(&self) {
        self.spans_are_untold.set(true);
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        if let Some(slot) = unsafe { self.slot.get().as_ref() } {
            let epoch = slot.epoch.load(Ordering::Relaxed);
            slot.epoch.store(epoch::outdated(epoch), Ordering::Relaxed);
        }
    }
}
