//! Which backtrace an event has, and with the option `check` whether that is the right one.

use std::sync::atomic::Ordering;

use alloc_trace_format::Stamp;

use super::backtrace::{Backtrace, Captured, Registers, Shared};
use super::chunk_writer::ChunkWriter;
use super::sink::Sink;
use super::slots::State;
use super::sys::{self, Errno};
use super::{Recorder, Tables};

impl Recorder {
    /// Captures the backtrace of an event that begins at `stamp`, unless the options leave backtraces
    /// out.
    #[inline(always)]
    pub(super) fn capture(
        &'static self,
        state: &mut State,
        registers: Registers,
        stamp: Stamp,
    ) -> Result<Option<Captured>, Errno> {
        if self.depth.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let Some(tables) = self.tables.get() else { return Ok(None) };
        let find = |path, parent| tables.call_tree.find(path, parent);
        let in_place = state.backtrace.capture_in_place(registers, &tables.rules, find);
        if in_place.is_some() && !self.check.load(Ordering::Relaxed) {
            return Ok(in_place);
        }
        let mut written = Ok(());
        let captured =
            self.capture_anywhere(state, registers, stamp, tables, in_place, &mut written);
        written.map(|()| Some(captured))
    }

    /// Captures a backtrace that could not be captured `in_place`, and checks it if that is asked. What
    /// was discovered is `written`, or not.
    #[inline(never)]
    fn capture_anywhere(
        &'static self,
        state: &mut State,
        registers: Registers,
        stamp: Stamp,
        tables: &Tables,
        in_place: Option<Captured>,
        written: &mut Result<(), Errno>,
    ) -> Captured {
        let (shared, mut sink) = self.means(tables, &mut state.writer, stamp);
        let captured =
            in_place.unwrap_or_else(|| state.backtrace.capture(registers, &shared, &mut sink));
        if self.check.load(Ordering::Relaxed) {
            check_backtrace(&state.backtrace, registers, &shared, &mut sink);
        }
        *written = sink.result;
        captured
    }

    /// What a backtrace of an event that begins at `stamp` is found by, and where what is met with it goes.
    #[inline(always)]
    pub(super) fn means<'a>(
        &'static self,
        tables: &'a Tables,
        writer: &'a mut ChunkWriter,
        stamp: Stamp,
    ) -> (Shared<'a>, Sink<'a>) {
        let depth = self.depth.load(Ordering::Relaxed);
        let shared = Shared { modules: &self.modules, rules: &tables.rules, depth };
        let stamp = stamp.max(writer.last_stamp());
        let (tree, log) = (&tables.call_tree, &self.log);
        (shared, Sink { tree, stamp, writer, log, result: Ok(()) })
    }
}

/// Compares a backtrace with a full unwind and ends the process where they differ.
#[cold]
fn check_backtrace(
    incremental: &Backtrace,
    registers: Registers,
    shared: &Shared<'_>,
    sink: &mut Sink<'_>,
) {
    // On memory of its own: the caller's stack may be a small one.
    let bytes = size_of::<Backtrace>().next_multiple_of(4096);
    let Some(memory) = sys::map_anonymous(bytes) else { return };
    // SAFETY: the mapping is large enough, and zeroed memory is a backtrace of no frames.
    let full = unsafe { memory.cast::<Backtrace>().as_mut() };
    full.reset();
    full.capture(registers, shared, sink);
    let equal = incremental.addresses().eq(full.addresses());
    // SAFETY: mapped above, and not used below.
    unsafe { sys::unmap(memory, bytes) };
    if !equal {
        sys::complain(&[b"a backtrace differs from a full unwind; please report this"]);
        // SAFETY: ends the process, as the option `check` promises.
        unsafe { libc::abort() };
    }
}
