//! Which spans a thread is in, also while nothing is recorded, so that it can be told: in a recording that
//! begins or goes on meanwhile, and in each generation of a ring, whose earlier ones are written over.

use std::cell::Cell;

use alloc_trace_format::SpanId;
use tracing::Metadata;

/// Those further in are not told.
const MOST: usize = 16;

/// A span, and what is known of it for good.
pub(super) type EnteredSpan = (SpanId, &'static Metadata<'static>);

/// The spans that a thread is in, the outermost first.
pub(super) struct EnteredSpans {
    spans: [Cell<Option<EnteredSpan>>; MOST],
}

impl EnteredSpans {
    pub(super) const fn new() -> Self {
        Self { spans: [const { Cell::new(None) }; MOST] }
    }

    /// The thread enters a span.
    pub(super) fn enter(&self, span: EnteredSpan) {
        if let Some(free) = self.spans.iter().find(|place| place.get().is_none()) {
            free.set(Some(span));
        }
    }

    /// The thread leaves a span, in whatever order.
    pub(super) fn exit(&self, id: SpanId) {
        let found = self.spans.iter().rposition(|place| place.get().is_some_and(|it| it.0 == id));
        let Some(found) = found else { return };
        for (place, next) in self.spans.iter().zip(self.spans.iter().skip(1)).skip(found) {
            place.set(next.get());
        }
        if let Some(last) = self.spans.last() {
            last.set(None);
        }
    }

    /// The spans, the outermost first.
    pub(super) fn iter(&self) -> impl Iterator<Item = EnteredSpan> {
        self.spans.iter().map_while(Cell::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_left_in_any_order_and_those_too_deep_are_not_kept() {
        let callsite =
            tracing::callsite!(name: "a span", kind: tracing::metadata::Kind::SPAN, fields: id);
        let metadata = tracing::callsite::Callsite::metadata(callsite);
        let spans = EnteredSpans::new();
        let ids = |spans: &EnteredSpans| spans.iter().map(|(SpanId(id), _)| id).collect::<Vec<_>>();
        for id in 1..=18 {
            spans.enter((SpanId(id), metadata));
        }
        assert!(ids(&spans).into_iter().eq(1..=16));
        for id in [17, 3, 16, 1, 18, 9, 10, 11, 12, 13, 14, 15, 8] {
            spans.exit(SpanId(id));
        }
        assert_eq!(ids(&spans), [2, 4, 5, 6, 7]);
        spans.enter((SpanId(7), metadata));
        spans.exit(SpanId(7));
        assert_eq!(ids(&spans), [2, 4, 5, 6, 7], "the innermost is left first");
    }
}
