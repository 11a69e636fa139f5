//! What the recorder keeps in each thread: constants without destructors, which a hook may touch at any time.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;

#[cfg(feature = "span-layer")]
use super::entered_spans::EnteredSpans;
use super::epoch;
use super::slots::Slot;

/// Stands for the recording that leaves a thread out, where none may.
pub(super) const TAKEN: u64 = u64::MAX;

/// What the recorder keeps in each thread.
pub(super) struct Thread {
    pub(super) slot: Cell<*const Slot>,
    /// Its number in the recording `session`, which knows it by a record of its own in a generation.
    pub(super) number: Cell<u32>,
    pub(super) session: Cell<u64>,
    pub(super) generation: Cell<u32>,
    /// The recording that leaves it out by its name, and how often it would have joined.
    pub(super) left_out: Cell<u64>,
    pub(super) refusals: Cell<u32>,
    /// Set while it takes a slot.
    pub(super) attaching: Cell<bool>,
    /// Whether it exits and has given its slot back: nobody may tell when it is gone, so from here on it
    /// keeps none.
    pub(super) left: Cell<bool>,
    /// Whether it is the recorder's own.
    pub(super) internal: Cell<bool>,
    /// Set while it does the recorder's work: its events are not the program's.
    pub(super) paused: Cell<bool>,
    #[cfg(feature = "span-layer")]
    pub(super) entered: EnteredSpans,
    /// Whether it entered or left spans that the recording was not told of.
    #[cfg(feature = "span-layer")]
    pub(super) spans_are_untold: Cell<bool>,
}

thread_local! {
    pub(super) static THREAD: Thread = const {
        Thread {
            slot: Cell::new(ptr::null()),
            number: Cell::new(0),
            session: Cell::new(0),
            generation: Cell::new(0),
            left_out: Cell::new(0),
            refusals: Cell::new(0),
            attaching: Cell::new(false),
            left: Cell::new(false),
            internal: Cell::new(false),
            paused: Cell::new(false),
            #[cfg(feature = "span-layer")]
            entered: EnteredSpans::new(),
            #[cfg(feature = "span-layer")]
            spans_are_untold: Cell::new(false),
        }
    };
}

/// Runs a closure whose heap events are the recorder's and not the program's: they are not recorded.
pub(crate) fn unrecorded<T>(closure: impl FnOnce() -> T) -> T {
    THREAD.with(|thread| {
        thread.paused.set(true);
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        if let Some(slot) = unsafe { thread.slot.get().as_ref() } {
            // An event finds another epoch and asks to join again, which `paused` refuses.
            slot.epoch.store(epoch::STOPPED, Ordering::Relaxed);
        }
    });
    let result = closure();
    THREAD.with(|thread| thread.paused.set(false));
    result
}

/// Marks the calling thread as the recorder's own.
#[cfg(feature = "tracing-events")]
pub(crate) fn mark_thread_internal() {
    THREAD.with(|thread| thread.internal.set(true));
}

/// Whether the calling thread is the recorder's own.
#[cfg(all(feature = "tracing-events", feature = "span-layer"))]
pub(crate) fn is_thread_internal() -> bool {
    THREAD.with(|thread| thread.internal.get())
}
