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
///
/// Spans are mostly left in the order opposite to that in which they were entered: so the innermost is looked
/// at first, and nothing is searched for. A signal handler in the middle of either finds the count, which says
/// where it puts spans of its own, as one that leaves what was there alone.
pub(super) struct EnteredSpans {
    spans: [Cell<Option<EnteredSpan>>; MOST],
    /// How many places are taken.
    count: Cell<usize>,
}

impl EnteredSpans {
    pub(super) const fn new() -> Self {
        Self { spans: [const { Cell::new(None) }; MOST], count: Cell::new(0) }
    }

    /// The thread enters a span.
    #[inline]
    pub(super) fn enter(&self, span: EnteredSpan) {
        let count = self.count.get();
        if let Some(free) = self.spans.get(count) {
            self.count.set(count + 1);
            free.set(Some(span));
        }
    }

    /// The thread leaves a span, in whatever order.
    #[inline]
    pub(super) fn exit(&self, id: SpanId) {
        let Some(last) = self.count.get().checked_sub(1) else { return };
        match self.spans.get(last) {
            Some(innermost) if innermost.get().is_some_and(|it| it.0 == id) => {
                innermost.set(None);
                self.count.set(last);
            }
            _ => self.exit_further_out(id),
        }
    }

    /// The thread leaves a span that is not the innermost one.
    #[cold]
    #[inline(never)]
    fn exit_further_out(&self, id: SpanId) {
        let taken = self.spans.get(..self.count.get()).unwrap_or_default();
        let found = taken.iter().rposition(|place| place.get().is_some_and(|it| it.0 == id));
        let Some(found) = found else { return };
        for (place, next) in taken.iter().zip(taken.iter().skip(1)).skip(found) {
            place.set(next.get());
        }
        if let Some(last) = taken.last() {
            last.set(None);
        }
        self.count.set(taken.len() - 1);
    }

    /// The spans, the outermost first.
    pub(super) fn iter(&self) -> impl Iterator<Item = EnteredSpan> {
        self.spans.iter().take(self.count.get()).filter_map(Cell::get)
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
