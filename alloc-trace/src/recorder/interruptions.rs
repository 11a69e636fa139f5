//! Signal handlers that interrupt the recorder in their own thread.
//!
//! Such a handler finds its slot busy. So it leaves its requests in the slot's spill, each with its stamp and
//! its backtrace, and the hook that it interrupted writes them next.

use std::ptr;
use std::sync::atomic::Ordering;

use alloc_trace_format::Stamp;

use super::backtrace::{Registers, Shared, Spilled};
use super::slots::{Slot, State};
use super::sys::Errno;
use super::{RECORDER, Recorder, THREAD, clock, stamps};
use crate::request::Request;

/// Whether this is a signal handler that interrupted the recorder in its own thread.
pub(super) fn is_interrupted() -> bool {
    interrupted_slot().is_some()
}

/// The slot of the calling thread, where a hook that this signal handler interrupted has it.
pub(super) fn interrupted_slot() -> Option<&'static Slot> {
    let slot = THREAD.with(|thread| thread.slot.get());
    // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
    unsafe { slot.as_ref() }.filter(|slot| slot.busy.load(Ordering::Relaxed))
}

/// A hook found its own thread's slot busy: a signal handler made the request.
#[cold]
pub(super) fn interrupted(slot: &Slot, request: Option<(&Request, Registers)>) {
    match request {
        Some((request, registers)) => {
            let request = Request { stamp: clock::now(), ..*request };
            slot.spill.add(&request, |backtrace| RECORDER.collect(registers, backtrace));
        }
        None => slot.spill.lose(),
    }
}

impl Recorder {
    /// Writes what signal handlers asked for while the slot was busy.
    #[cold]
    pub(super) fn write_spilled(&'static self, slot: &Slot) {
        let thread = THREAD.with(ptr::from_ref);
        // SAFETY: the thread local has no destructor and so lives as long as the thread, which runs this.
        let thread = unsafe { &*thread };
        while !slot.spill.is_empty() {
            let written = self.with_slot(thread, slot, Stamp::MAX, |recorder, state| {
                let mut result = Ok(());
                let rest = slot.spill.take(|request, backtrace| {
                    if result.is_ok() {
                        result = recorder.write_spilled_event(state, request, backtrace);
                    }
                });
                result?;
                let (log, writer) = (&recorder.log, &mut state.writer);
                if rest.lost > 0 {
                    writer.write(log, |encoder, out| encoder.lost(out, rest.lost))?;
                }
                if rest.snapshot {
                    writer.write_snapshot_or_owe(log, clock::now())?;
                }
                Ok(())
            });
            if !written {
                // The recording was stopped meanwhile: it counts what is left here.
                return;
            }
        }
    }

    /// Writes an event that a signal handler spilled, with the backtrace that it collected.
    fn write_spilled_event(
        &'static self,
        state: &mut State,
        request: &Request,
        backtrace: Option<&Spilled>,
    ) -> Result<(), Errno> {
        state.writer.overtake(request.begin().min(request.stamp), &self.log)?;
        let (stamp, begin_stamp) = stamps(state, request);
        let mut captured = None;
        if let (Some(backtrace), Some(tables)) = (backtrace, self.tables.get()) {
            let (shared, mut sink) = self.means(tables, &mut state.writer, begin_stamp);
            captured = state.backtrace.find_spilled(backtrace, &shared, &mut sink);
            sink.result?;
        }
        let stack_pointer = backtrace.map_or(0, Spilled::stack_pointer);
        self.write_captured(state, request, stamp, begin_stamp, captured, stack_pointer)
    }

    /// Collects the backtrace of a request that interrupted the recorder, unless the options leave
    /// backtraces out.
    fn collect(&'static self, registers: Registers, backtrace: &Spilled) {
        let depth = self.depth.load(Ordering::Relaxed);
        if let Some(tables) = self.tables.get()
            && depth != 0
        {
            let shared = Shared { modules: &self.modules, rules: &tables.rules, depth };
            backtrace.collect(registers, &shared);
        }
    }
}
