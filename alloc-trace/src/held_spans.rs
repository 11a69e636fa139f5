//! Spans that are kept from closing until the heap events that happened in them have been emitted.
//!
//! An event is emitted some milliseconds after it happened. By then its span would often have closed, and a
//! subscriber would know nothing of it. So a thread that leaves a span makes one reference more to it, which
//! the emitting thread gives back. While a thread is in a span, the program itself keeps it open.
//!
//! No hook comes here, and no subscriber is called with the lock held. That is the standard library's: a
//! thread of the program's that waits for it asks for no memory.

use std::collections::VecDeque;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloc_trace_format::Stamp;
use tracing::Dispatch;
use tracing::dispatcher::WeakDispatch;
use tracing::span::Id;

use crate::recorder;

/// No more references are held at a time: where a subscriber is slow, events wait in the file, and spans
/// would take memory without bound. Of a span that is not held its events have the name alone.
const MOST: usize = 1 << 16;

/// The process that emits events, 0 for none: a forked child has nobody who gives spans back.
static EMITTING: AtomicU32 = AtomicU32::new(0);

/// The spans, in the order in which they were left.
static HELD: Mutex<VecDeque<Held>> = Mutex::new(VecDeque::new());

/// A reference to a span.
struct Held {
    dispatch: Dispatch,
    id: Id,
    /// When it was left: it is wanted until what happened by then has been emitted.
    left: Stamp,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dispatch.try_close(self.id.clone());
    }
}

/// Spans are held from now on.
pub(crate) fn begin() {
    EMITTING.store(process::id(), Ordering::Relaxed);
}

/// No more spans are held, and all are given back.
pub(crate) fn end() {
    EMITTING.store(0, Ordering::Relaxed);
    release(Stamp::MAX);
}

/// Whether spans are held.
pub(crate) fn are_wanted() -> bool {
    // Asked for the process only where somebody emits.
    let emitting = EMITTING.load(Ordering::Relaxed);
    emitting != 0 && emitting == process::id()
}

/// Holds a span that the calling thread leaves, and that is still open.
pub(crate) fn hold(dispatch: &WeakDispatch, id: &Id) {
    let Some(dispatch) = dispatch.upgrade() else { return };
    let id = dispatch.clone_span(id);
    let mut all = lock();
    let held = Held { dispatch, id, left: recorder::stamp() };
    // Where nobody emits any more nobody would give it back.
    if !are_wanted() || all.len() >= MOST {
        drop(all);
        return;
    }
    if all.len() == all.capacity() {
        // The program did not ask for that.
        recorder::unrecorded(|| all.reserve(1));
    }
    all.push_back(held);
}

/// Gives back the spans that were left by then.
pub(crate) fn release(until: Stamp) {
    let due: Vec<Held> = {
        let mut all = lock();
        let end = all.iter().position(|held| held.left > until).unwrap_or(all.len());
        all.drain(..end).collect()
    };
    // Now that nobody is kept from leaving others: a subscriber does as it likes when a span closes.
    drop(due);
}

fn lock() -> MutexGuard<'static, VecDeque<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tracing::dispatcher;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::{LookupSpan, Registry};

    use super::*;

    #[test]
    fn a_span_stays_open_until_it_is_given_back_and_no_more_are_held_than_there_is_room_for() {
        let dispatch = Dispatch::new(Registry::default().with(crate::SpanLayer::new()));
        let span = dispatcher::with_default(&dispatch, || tracing::info_span!("held"));
        let id = span.id().expect("it is enabled");
        let is_open = || {
            let registry = dispatch.downcast_ref::<Registry>().expect("the registry");
            registry.span_data(&id).is_some()
        };
        hold(&dispatch.downgrade(), &id);
        assert!(lock().is_empty(), "nobody emits");
        begin();
        for _ in 0..MOST + 10 {
            hold(&dispatch.downgrade(), &id);
        }
        assert_eq!(lock().len(), MOST);
        drop(span);
        end();
        assert!(!is_open());
        assert!(lock().is_empty());

        let span = dispatcher::with_default(&dispatch, || tracing::info_span!("held"));
        let id = span.id().expect("it is enabled");
        begin();
        hold(&dispatch.downgrade(), &id);
        drop(span);
        let until = lock().back().map_or(0, |held| held.left);
        release(until - 1);
        let registry = dispatch.downcast_ref::<Registry>().expect("the registry");
        assert!(registry.span_data(&id).is_some());
        release(until);
        assert!(registry.span_data(&id).is_none());
        end();
    }
}
