//! The recorder: heap events into the file, from inside the heap requests themselves.
//!
//! There is one recorder a process. A hook finds its thread's slot, unwinds what changed of the
//! backtrace, and encodes one record into the thread's chunk of the window, which is the file.
//!
//! # What must never happen here
//!
//! A hook runs inside an allocation, with any lock held that the program has, in any signal
//! handler, before `main` and after the thread's destructors. So nothing on its way allocates,
//! panics, takes a lock, waits for another thread, calls a subscriber, changes `errno` or is a
//! cancellation point. Thread locals are constants without destructors; a thread's exit is learnt
//! through a `pthread` key.
//!
//! # Who may use a slot
//!
//! Its owner, with the slot's `busy` flag set. A signal handler that finds the flag set leaves its
//! request in the slot's spill, and the interrupted hook writes it next. Whoever stops a recording
//! announces it in the epoch word, passes a barrier on all threads, and waits until no slot is busy:
//! from then on no hook touches the window.
//!
//! What a handler does can be earlier than what the chunk has by the time that it is written, and what a
//! handler wrote can be later than the beginning of a reallocation that it interrupted. Other threads may
//! have had the block since then: so it keeps its stamp, and begins a chunk of its own. A hook's own stamp
//! may be any until it returns: nobody else has the block before.

mod backtrace;
mod bus_error;
mod call_tree;
mod capture;
mod chunk_writer;
mod clock;
mod compressor;
mod destination;
mod digest;
#[cfg(feature = "span-layer")]
mod entered_spans;
mod epoch;
mod extents;
mod fold;
#[cfg_attr(not(feature = "heap-snapshots"), path = "recorder/no_heap_snapshots.rs")]
mod heap_snapshots;
mod interruptions;
mod joining;
mod kinship;
mod log;
mod modules;
mod options;
mod pausing;
mod ring;
mod session;
mod signals;
mod sink;
mod slots;
#[cfg(feature = "span-layer")]
mod spans;
mod spare_stacks;
mod spill;
mod stack;
mod stack_switch;
mod sys;
mod thread;
mod thread_names;
mod unload;
mod unwind_rules;
mod workroom;

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc_trace_format::{Encoder, EndReason, Event, EventKind, NodeId, SnapshotReason, Stamp};

use self::backtrace::Captured;
use self::call_tree::CallTree;
use self::chunk_writer::ChunkWriter;
use self::heap_snapshots::HeapSnapshots;
use self::interruptions::{interrupted, interrupted_slot};
use self::log::Log;
use self::modules::Modules;
use self::slots::{Slot, Slots, State};
use self::spare_stacks::SpareStacks;
use self::sys::{Errno, PreserveErrno};
use self::thread::{TAKEN, THREAD, Thread};
use self::unwind_rules::Rules;

use crate::request::Request;

pub(crate) use self::backtrace::{MAX_DEPTH, Registers};
pub(crate) use self::options::Options;
pub(crate) use self::pausing::{pause, resume};
pub(crate) use self::session::{
    StartError, current_path, set_path, start, start_from_environment, stop,
};
#[cfg(feature = "span-layer")]
pub(crate) use self::spans::{session, span, span_close, span_enter, span_exit, span_fields};
#[cfg(all(feature = "tracing-events", feature = "span-layer"))]
pub(crate) use self::thread::is_thread_internal;
#[cfg(feature = "tracing-events")]
pub(crate) use self::thread::mark_thread_internal;
pub(crate) use self::thread::unrecorded;

/// Whether a recording can be started on this target.
pub(crate) const SUPPORTED: bool = true;

/// The process's recorder.
static RECORDER: Recorder = Recorder::new();

impl Request {
    /// When it began: for all but a reallocation that is not before it is written.
    #[inline]
    fn begin(&self) -> Stamp {
        if self.kind == EventKind::Realloc { self.begin } else { Stamp::MAX }
    }
}

/// The time now, between what the thread has done and what it does next.
#[inline]
pub(crate) fn stamp() -> Stamp {
    clock::now()
}

/// What is shared by all threads.
struct Recorder {
    slots: Slots,
    log: Log,
    modules: Modules,
    heap_snapshots: HeapSnapshots,
    spare_stacks: SpareStacks,
    tables: OnceLock<Tables>,
    /// The word that says which recording runs; it lies in a page that a forked child finds zeroed.
    epoch: AtomicPtr<AtomicU64>,
    state: AtomicU32,
    /// Counts recordings.
    sessions: AtomicU64,
    next_thread: AtomicU32,
    /// Records of threads that have no slot.
    lost: AtomicU64,
    /// When the present recording began.
    begun: AtomicU64,
    /// Whether a hook that has no chunk found that the recording could not be written any more.
    failure_is_untold: AtomicBool,
    depth: AtomicUsize,
    check: AtomicBool,
    exit_key: AtomicU32,
    setup: session::Setup,
}

/// The large tables, made when the first recording begins.
#[derive(Debug)]
struct Tables {
    call_tree: CallTree,
    rules: Rules,
}

/// What the epoch pointer leads to before any recording.
static NO_EPOCH: AtomicU64 = AtomicU64::new(epoch::STOPPED);

/// Records a request that obtained a block, or that is about to release one. Where its thread cannot write
/// at once it does nothing and answers `false`: then [`record`] knows why.
#[inline(always)]
pub(crate) fn record_plain(
    kind: EventKind,
    address: usize,
    size: usize,
    align: usize,
    registers: Registers,
) -> bool {
    let thread = THREAD.with(ptr::from_ref);
    // SAFETY: the thread local has no destructor and so lives as long as the thread, which runs this.
    let thread = unsafe { &*thread };
    // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
    let Some(slot) = (unsafe { thread.slot.get().as_ref() }) else { return false };
    if slot.busy.load(Ordering::Relaxed) {
        return false;
    }
    slot.enter();
    if !RECORDER.is_joined(slot) {
        slot.leave();
        return false;
    }
    // SAFETY: the slot is this thread's and busy, so nobody else uses its state.
    let state = unsafe { &mut *slot.state.get() };
    let request = Request { kind, address, size, align, ..Request::EMPTY };
    if let Err(error) = RECORDER.write_event(state, &request, registers) {
        RECORDER.fail(error, state);
    }
    slot.leave();
    if !slot.spill.is_empty() {
        RECORDER.write_spilled(slot);
    }
    true
}

/// Records a heap event of the calling thread, whose innermost frame has the registers given.
#[inline(always)]
pub(crate) fn record(request: &Request, registers: Registers) {
    let Registers { program_counter, stack_pointer, frame_pointer } = registers;
    RECORDER.enter(Some((request, registers)), |_, state| {
        write_called(state, request, program_counter, stack_pointer, frame_pointer)
    });
}

/// Writes a heap event with its backtrace. The caller's registers are arguments one by one: so they
/// are handed on in registers.
#[inline(never)]
fn write_called(
    state: &mut State,
    request: &Request,
    program_counter: u64,
    stack_pointer: u64,
    frame_pointer: u64,
) -> Result<(), Errno> {
    let registers = Registers { program_counter, stack_pointer, frame_pointer };
    state.writer.overtake(request.begin(), &RECORDER.log)?;
    RECORDER.write_event(state, request, registers)
}

/// Records a marker.
pub(crate) fn mark(text: &str) {
    RECORDER.write(|encoder, out, stamp| encoder.marker(out, stamp, text.as_bytes()));
}

/// Records what the heap of `alloc-core` holds; whether a recording runs that could take it.
pub(crate) fn heap_snapshot() -> bool {
    crate::mode::is_recording()
        && RECORDER.snapshot(|writer, log| {
            heap_snapshots::take(writer, log, SnapshotReason::Requested)?;
            Ok(true)
        })
}

impl Recorder {
    const fn new() -> Self {
        Self {
            slots: Slots::new(),
            log: Log::new(),
            modules: Modules::new(),
            heap_snapshots: HeapSnapshots::new(),
            spare_stacks: SpareStacks::new(),
            tables: OnceLock::new(),
            epoch: AtomicPtr::new((&raw const NO_EPOCH).cast_mut()),
            state: AtomicU32::new(session::IDLE),
            sessions: AtomicU64::new(1),
            next_thread: AtomicU32::new(1),
            lost: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            failure_is_untold: AtomicBool::new(false),
            depth: AtomicUsize::new(MAX_DEPTH),
            check: AtomicBool::new(false),
            exit_key: AtomicU32::new(session::NO_KEY),
            setup: session::Setup::new(),
        }
    }

    /// The word that says which recording runs.
    #[inline]
    fn epoch(&self) -> &AtomicU64 {
        // Acquire pairs with the release when the word is moved to its page.
        let place = self.epoch.load(Ordering::Acquire);
        // SAFETY: it points to a static, or to a page that is never given back.
        unsafe { &*place }
    }

    /// Lets `write` use the calling thread's slot, if a recording runs and the slot is not busy. A
    /// `request` that finds it busy is spilled; anything else is counted as lost.
    #[inline(always)]
    fn enter(
        &'static self,
        request: Option<(&Request, Registers)>,
        write: impl FnOnce(&'static Self, &mut State) -> Result<(), Errno>,
    ) {
        let thread = THREAD.with(ptr::from_ref);
        // SAFETY: the thread local has no destructor and so lives as long as the thread, which runs
        // this.
        let thread = unsafe { &*thread };
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        let slot = match unsafe { thread.slot.get().as_ref() } {
            Some(slot) => slot,
            None if thread.left.get() => return self.enter_for_once(thread, request, write),
            None => match self.take_slot(thread) {
                Some(slot) => slot,
                None => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            },
        };
        self.enter_slot(thread, slot, request, write);
    }

    /// As [`Self::enter`], with a slot that the thread has.
    #[inline(always)]
    fn enter_slot(
        &'static self,
        thread: &Thread,
        slot: &Slot,
        request: Option<(&Request, Registers)>,
        write: impl FnOnce(&'static Self, &mut State) -> Result<(), Errno>,
    ) {
        if slot.busy.load(Ordering::Relaxed) {
            interrupted(slot, request);
            return;
        }
        let earliest = request.map_or(Stamp::MAX, |(request, _)| request.begin());
        self.with_slot(thread, slot, earliest, write);
        if !slot.spill.is_empty() {
            self.write_spilled(slot);
        }
    }

    /// Lets `write` use the calling thread's slot, which is not busy. What it writes does not begin
    /// before `earliest`. `false` where no recording runs.
    #[inline(always)]
    fn with_slot(
        &'static self,
        thread: &Thread,
        slot: &Slot,
        earliest: Stamp,
        write: impl FnOnce(&'static Self, &mut State) -> Result<(), Errno>,
    ) -> bool {
        slot.enter();
        let joined = self.is_joined(slot) || self.join(thread, slot, earliest);
        if joined {
            // SAFETY: the slot is this thread's and busy, so nobody else uses its state.
            let state = unsafe { &mut *slot.state.get() };
            if let Err(error) = write(self, state) {
                self.fail(error, state);
            }
        }
        slot.leave();
        joined
    }

    /// Lets `take` write a snapshot of the heap at this moment. Where the recorder was interrupted, it
    /// does so itself as soon as it can. Whether there is a snapshot, or will be.
    fn snapshot(
        &'static self,
        take: impl FnOnce(&mut ChunkWriter, &Log) -> Result<bool, Errno>,
    ) -> bool {
        if let Some(slot) = interrupted_slot() {
            slot.spill.ask_for_snapshot();
            return true;
        }
        let mut taken = false;
        self.enter(None, |recorder, state| {
            state.writer.write_resident(&recorder.log, clock::now())?;
            taken = take(&mut state.writer, &recorder.log)?;
            Ok(())
        });
        taken
    }

    /// Writes a snapshot of the heap in a signal handler; whether there is one, or will be.
    #[cfg(feature = "heap-snapshots")]
    fn snapshot_in_handler(&'static self) -> bool {
        self.snapshot(|writer, log| {
            heap_snapshots::take_in_room(writer, log, SnapshotReason::Requested)
        })
    }

    /// Whether a slot, which is busy, writes to the present recording.
    #[inline(always)]
    fn is_joined(&self, slot: &Slot) -> bool {
        slot.epoch.load(Ordering::Relaxed) == self.epoch().load(Ordering::Relaxed)
    }

    /// Writes a record that is no heap event, with the time now; whether it did.
    fn write(
        &'static self,
        encode: impl Fn(&mut Encoder, &mut [u8], Stamp) -> Option<usize>,
    ) -> bool {
        let mut written = false;
        if crate::mode::is_recording() {
            self.enter(None, |recorder, state| {
                let stamp = clock::now().max(state.writer.last_stamp());
                state.writer.write(&recorder.log, |encoder, out| encode(encoder, out, stamp))?;
                written = true;
                Ok(())
            });
        }
        written
    }

    /// Writes a heap event with its backtrace.
    #[inline(always)]
    fn write_event(
        &'static self,
        state: &mut State,
        request: &Request,
        registers: Registers,
    ) -> Result<(), Errno> {
        let (stamp, begin_stamp) = stamps(state, request);
        let captured = self.capture(state, registers, begin_stamp)?;
        let stack_pointer = if captured.is_some() { registers.stack_pointer } else { 0 };
        self.write_captured(state, request, stamp, begin_stamp, captured, stack_pointer)
    }

    /// Writes a heap event whose backtrace is known.
    #[inline(always)]
    fn write_captured(
        &'static self,
        state: &mut State,
        request: &Request,
        stamp: Stamp,
        begin_stamp: Stamp,
        captured: Option<Captured>,
        stack_pointer: u64,
    ) -> Result<(), Errno> {
        let event = Event {
            kind: request.kind,
            failed: request.failed,
            thread: state.writer.thread(),
            stamp,
            begin_stamp,
            address: request.address as u64,
            size: request.size as u64,
            align_log2: request.align.trailing_zeros() as u8,
            old_address: request.old_address as u64,
            old_size: request.old_size as u64,
            node: captured.map_or(NodeId::ROOT, Captured::node),
            stack_pointer,
            kept_frames: captured.and_then(Captured::kept_frames),
        };
        state.writer.write_event(&self.log, &event)
    }

    /// The recording cannot be written any more: it ends, and the program runs on.
    #[cold]
    fn fail(&'static self, error: Errno, state: &mut State) {
        if error == libc::E2BIG || error == log::FORKED {
            // One record was too large; the next one will not be. Or it was the parent's: the next
            // one begins the child's own recording.
            return;
        }
        let _errno = PreserveErrno::new();
        if self.begin_failure() {
            sys::complain(&[b"the recording ends here: ", sys::describe(error)]);
            if state.writer.is_attached() {
                state.writer.write_end(EndReason::WriteFailed, state.writer.events());
            } else {
                self.failure_is_untold.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// When a request was answered and when it began, the latter as all but a reallocation is.
#[inline(always)]
fn stamps(state: &State, request: &Request) -> (Stamp, Stamp) {
    let stamp = if request.stamp == 0 { clock::now() } else { request.stamp };
    let stamp = stamp.max(state.writer.last_stamp());
    let realloc = request.kind == EventKind::Realloc;
    (stamp, if realloc { request.begin.min(stamp) } else { stamp })
}
