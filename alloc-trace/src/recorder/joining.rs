//! How a thread comes to a slot and joins the recording that runs, and how it leaves.

use std::ptr;
use std::sync::atomic::Ordering;

#[cfg(feature = "span-layer")]
use alloc_trace_format::{Encoder, SpanId};
use alloc_trace_format::{Stamp, ThreadId};

use super::backtrace::Registers;
use super::slots::{Slot, State};
use super::sys::{self, Errno, PreserveErrno};
use super::{RECORDER, Recorder, TAKEN, THREAD, Thread, clock, epoch, session};
use crate::request::Request;

impl Recorder {
    /// Takes a slot for the calling thread.
    #[cold]
    pub(super) fn take_slot(&'static self, thread: &Thread) -> Option<&'static Slot> {
        if thread.attaching.replace(true) {
            return None;
        }
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        if let Some(slot) = unsafe { thread.slot.get().as_ref() } {
            // A handler interrupted the way here and took one.
            thread.attaching.set(false);
            return Some(slot);
        }
        let _errno = PreserveErrno::new();
        let slot = self.slots.take();
        if let Some(slot) = slot {
            // Those who have the first slot one after the other write one stream.
            if slot.stream.load(Ordering::Relaxed) != 0 {
                clock::order_among_threads();
            }
            let key = self.exit_key.load(Ordering::Acquire);
            if key != session::NO_KEY && !thread.left.get() {
                let value = ptr::from_ref(slot).cast();
                // SAFETY: the key was made by `pthread_key_create` and is never deleted. Without
                // memory for the value the thread's exit goes unnoticed, and its slot stays taken.
                unsafe { libc::pthread_setspecific(key, value) };
            }
            thread.slot.set(slot);
        }
        thread.attaching.set(false);
        slot
    }

    /// As [`Self::enter`], for a thread that exits and has left before: it takes a slot and gives it back at
    /// once. In the last round of destructors nobody would do so later.
    ///
    /// A signal handler that interrupts this finds the slot, and leaves it to this to give back.
    #[cold]
    pub(super) fn enter_for_once(
        &'static self,
        thread: &Thread,
        request: Option<(&Request, Registers)>,
        write: impl FnOnce(&'static Self, &mut State) -> Result<(), Errno>,
    ) {
        let Some(slot) = self.take_slot(thread) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.enter_slot(thread, slot, request, write);
        let _errno = PreserveErrno::new();
        self.leave(thread, slot);
    }

    /// Joins the recording that runs now: the slot's epoch is another one's. The slot is busy.
    #[cold]
    pub(super) fn join(&'static self, thread: &Thread, slot: &Slot, earliest: Stamp) -> bool {
        if thread.paused.get() {
            return false;
        }
        let _errno = PreserveErrno::new();
        let mut epoch = self.epoch().load(Ordering::Acquire);
        if epoch == epoch::WIPED {
            epoch = self.adopt_child(slot);
        }
        if !epoch::is_recording(epoch) || !self.takes(thread, epoch::recording(epoch)) {
            return false;
        }
        // SAFETY: the slot is this thread's and busy, so nobody else uses its state.
        let state = unsafe { &mut *slot.state.get() };
        match self.join_with(thread, slot, state, epoch, earliest) {
            Ok(()) => true,
            Err(error) => {
                self.fail(error, state);
                false
            }
        }
    }

    /// Whether the recording takes this thread, which is about to join it.
    pub(super) fn takes(&'static self, thread: &Thread, epoch: u64) -> bool {
        let left_out = thread.left_out.get();
        if self.setup.thread_names().takes_all() || left_out == TAKEN {
            return true;
        }
        if left_out != epoch && thread.session.get() == epoch {
            return true;
        }
        if left_out == epoch {
            // It may be given its name only now; asked less and less often.
            let refusals = thread.refusals.get().saturating_add(1);
            thread.refusals.set(refusals);
            if refusals > 64 && !refusals.is_power_of_two() {
                return false;
            }
        }
        self.takes_by_name(thread, epoch)
    }

    /// Whether the recording takes a thread of this one's present name.
    pub(super) fn takes_by_name(&'static self, thread: &Thread, epoch: u64) -> bool {
        let names = self.setup.thread_names();
        let mut buffer = [0; 16];
        if names.takes_all() || names.takes(sys::thread_name(&mut buffer)) {
            thread.left_out.set(0);
            return true;
        }
        if thread.left_out.replace(epoch) != epoch {
            thread.refusals.set(0);
        }
        false
    }

    pub(super) fn join_with(
        &'static self,
        thread: &Thread,
        slot: &Slot,
        state: &mut State,
        epoch: u64,
        earliest: Stamp,
    ) -> Result<(), Errno> {
        let stream = slot.stream.load(Ordering::Relaxed);
        let (recording, generation) = (epoch::recording(epoch), epoch::generation(epoch));
        if state.session != recording {
            let (chunk, bytes) = self.log.chunk(stream)?;
            // SAFETY: the chunk is this slot's alone, and stays mapped until the recording is
            // stopped, which waits for this slot and detaches it.
            unsafe { state.writer.attach(chunk.as_ptr(), bytes, stream) };
            state.session = recording;
            // What was spilled before this recording belongs to none; what a handler spilled since
            // is not told apart in time to be written.
            let begun = self.begun.load(Ordering::Relaxed);
            let mut unwritten = 0;
            let rest = slot.spill.take(|request, _| unwritten += u64::from(request.stamp >= begun));
            if unwritten > 0 {
                self.lost.fetch_add(unwritten + rest.lost, Ordering::Relaxed);
            }
        }
        if state.writer.generation() != generation {
            // What it holds names nodes of its own generation.
            state.writer.drain(&self.log)?;
            state.writer.begin_generation(generation);
        }
        slot.generation.store(generation, Ordering::Relaxed);
        let mut is_new = thread.generation.replace(generation) != generation;
        let is_first = thread.session.get() != recording;
        if is_first {
            is_new = true;
            thread.number.set(self.next_thread.fetch_add(1, Ordering::Relaxed));
            thread.session.set(recording);
        }
        let number = ThreadId(thread.number.get());
        state.backtrace.reset();
        state.os_thread = sys::thread_id();
        state.writer.switch_to(number, earliest, &self.log)?;
        if is_new {
            let internal = thread.internal.get();
            let stamp = state.writer.last_stamp();
            let os_thread = state.os_thread;
            let name = sys::thread_name(&mut state.name);
            state.writer.write(&self.log, |encoder, out| {
                encoder.thread_start(out, number, os_thread, internal, stamp, name)
            })?;
        }
        #[cfg(feature = "span-layer")]
        if is_new || thread.spans_are_untold.get() {
            if !is_first {
                // A reader may know other ones, or the same.
                let stamp = state.writer.last_stamp();
                state.writer.write(&self.log, |encoder, out| {
                    encoder.span_exit(out, stamp, SpanId::EVERY)
                })?;
            }
            self.tell_spans(thread, state)?;
            thread.spans_are_untold.set(false);
        }
        let joined = if thread.paused.get() { epoch::STOPPED } else { epoch };
        slot.epoch.store(joined, Ordering::Relaxed);
        Ok(())
    }

    /// Writes which spans the thread is in: in a recording that it joins, in a ring's new generation, and
    /// where it entered or left some while the recording was paused.
    #[cfg(feature = "span-layer")]
    fn tell_spans(&'static self, thread: &Thread, state: &mut State) -> Result<(), Errno> {
        let mut parent = None;
        for (span, metadata) in thread.entered.iter() {
            let stamp = state.writer.last_stamp();
            let (name, target) = (metadata.name().as_bytes(), metadata.target().as_bytes());
            let level = crate::span_layer::level(*metadata.level());
            let mut write = |encode: &dyn Fn(&mut Encoder, &mut [u8]) -> Option<usize>| {
                state.writer.write(&self.log, encode)
            };
            write(&|encoder, out| {
                encoder.span(out, stamp, span, parent, true, level, name, target, &[])
            })?;
            write(&|encoder, out| encoder.span_enter(out, stamp, span))?;
            parent = Some(span);
        }
        Ok(())
    }

    /// The thread exits: its slot goes on to another one.
    pub(super) fn leave(&'static self, thread: &Thread, slot: &Slot) {
        if !slot.busy.load(Ordering::Relaxed) {
            let joined = slot.epoch.load(Ordering::Relaxed);
            let present = epoch::recording(self.epoch().load(Ordering::Relaxed));
            if epoch::is_recording(joined) && epoch::recording(joined) == present {
                self.with_slot(thread, slot, Stamp::MAX, |recorder, state| {
                    recorder.write_name(state)?;
                    let stamp = clock::now().max(state.writer.last_stamp());
                    state
                        .writer
                        .write(&recorder.log, |encoder, out| encoder.thread_exit(out, stamp))
                });
                // A handler may have interrupted just that.
                self.write_spilled(slot);
            }
        }
        slot.epoch.store(epoch::STOPPED, Ordering::Relaxed);
        thread.slot.set(ptr::null());
        self.slots.give_back(slot);
    }

    /// Writes the calling thread's name if it has another one by now.
    pub(super) fn write_name(&'static self, state: &mut State) -> Result<(), Errno> {
        let mut buffer = [0; 16];
        let name = sys::thread_name(&mut buffer);
        let known = state.name;
        if known.starts_with(name) && known.get(name.len()).is_none_or(|&byte| byte == 0) {
            return Ok(());
        }
        let thread = state.writer.thread();
        state.writer.write(&self.log, |encoder, out| encoder.thread_name(out, thread, name))
    }
}

/// The key's destructor: the thread exits.
///
/// Destructors that run later can make requests again: for each of them the thread takes a slot for once.
pub(super) unsafe extern "C" fn thread_exits(_slot: *mut libc::c_void) {
    let _errno = PreserveErrno::new();
    THREAD.with(|thread| {
        // First: a handler that interrupts the rest takes no slot to keep.
        thread.left.set(true);
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        if let Some(slot) = unsafe { thread.slot.get().as_ref() } {
            RECORDER.leave(thread, slot);
        }
    });
}
