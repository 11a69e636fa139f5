//! The emitting thread in the spans of the program's, for subscribers that go by those of the calling
//! thread.

use alloc_trace_format::SpanId;
use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing_subscriber::registry::{LookupSpan, Registry};

/// The spans that the calling thread has entered in place of another one.
#[derive(Debug, Default)]
pub(crate) struct StandIn {
    spans: Vec<SpanId>,
    /// Those of them that are open, each with a reference of its own.
    entered: Vec<(Dispatch, Id)>,
}

impl StandIn {
    /// Whether these spans were entered, as far as they are open, and none besides.
    pub(crate) fn is_in(&self, spans: &[SpanId]) -> bool {
        self.spans == spans
    }

    /// Enters spans, the outermost first; whether any is open. It is in none when that is asked.
    pub(crate) fn enter(&mut self, spans: &[SpanId]) -> bool {
        // Nothing is called with the dispatcher's own look-up under way: what it calls could not look up.
        let dispatch = dispatcher::get_default(Dispatch::clone);
        let Some(registry) = dispatch.downcast_ref::<Registry>() else { return false };
        self.spans.extend_from_slice(spans);
        for span in spans {
            let id = Id::from_u64(span.0);
            // A span of another subscriber, and one that nobody held, is passed over.
            if registry.span_data(&id).is_some() {
                let id = dispatch.clone_span(&id);
                dispatch.enter(&id);
                self.entered.push((dispatch.clone(), id));
            }
        }
        !self.entered.is_empty()
    }

    /// Leaves all spans.
    pub(crate) fn leave(&mut self) {
        self.spans.clear();
        while let Some((dispatch, id)) = self.entered.pop() {
            dispatch.exit(&id);
            dispatch.try_close(id);
        }
    }
}
