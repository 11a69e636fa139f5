//! The life of a recording: how it begins, how it ends, and what a forked child does.

mod ending;
mod fork;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc_trace_format::{Architecture, EndReason, FileHeader, SnapshotReason, Stamp};

use super::call_tree::CallTree;
use super::destination::Destination;
use super::kinship::ProcessStat;
use super::modules::{Identity, Module};
use super::options::{Options, Path, Refused, VARIABLE, Wrong};
use super::slots::State;
use super::sys::{self, Errno, PreserveErrno};
use super::thread_names::ThreadNames;
use super::unwind_rules::Rules;
use super::{
    RECORDER, Recorder, THREAD, Tables, bus_error, clock, epoch, heap_snapshots, pausing, unload,
};
use crate::mode;

/// No recording.
pub(super) const IDLE: u32 = 0;
/// One is being set up, or put away.
const CHANGING: u32 = 1;
/// One runs.
pub(super) const ACTIVE: u32 = 2;
/// One could not be written any more, and has not been put away.
const FAILED: u32 = 3;

/// Stands for a `pthread` key that was not made.
pub(super) const NO_KEY: u32 = u32::MAX;

/// How long a stopped recording waits for hooks that are under way: in units of a tenth of a
/// millisecond.
const PATIENCE: u32 = 5_000;

unsafe extern "C" {
    /// As `getenv`, but null in a program with raised rights.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// What is done once a process, and what only the thread that sets a recording up touches.
pub(super) struct Setup {
    done: AtomicBool,
    /// Whether [`sys::barrier`] works.
    barrier: AtomicBool,
    path: UnsafeCell<Path>,
    /// When the first recording began of the run of programs that this process is part of, as far as is known, in
    /// nanoseconds since the Unix epoch.
    run_began_ns: AtomicU64,
    names: UnsafeCell<ThreadNames>,
    scratch: UnsafeCell<[u8; 4096]>,
}

// SAFETY: the cells are touched only by the thread that moved the recorder's state to `CHANGING`, or
// by the one that adopts a forked child.
unsafe impl Sync for Setup {}

impl Setup {
    pub(super) const fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            barrier: AtomicBool::new(false),
            path: UnsafeCell::new(Path::EMPTY),
            run_began_ns: AtomicU64::new(0),
            names: UnsafeCell::new(ThreadNames::ALL),
            scratch: UnsafeCell::new([0; 4096]),
        }
    }

    /// Which threads the present recording takes.
    #[inline]
    pub(super) fn thread_names(&self) -> &ThreadNames {
        // SAFETY: written before the recording's epoch is, and not while a hook is under way.
        unsafe { &*self.names.get() }
    }
}

/// Why a recording did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartError {
    /// Another one runs.
    AlreadyRecording,
    /// Memory is short.
    OutOfMemory,
    /// At the path there is something that is no recording.
    NotARecording,
    /// The limit is too low for a ring.
    LimitTooLow,
    /// The file cannot be made or written.
    File(Errno),
}

/// Begins a recording as the environment says, if it says so. Called once, by the process's first
/// heap request.
#[cold]
pub(crate) fn start_from_environment() {
    let _errno = PreserveErrno::new();
    // SAFETY: the name is a C string. `secure_getenv` gives nothing to programs with raised rights.
    let text = unsafe { secure_getenv(VARIABLE.as_ptr()) };
    if text.is_null() {
        return;
    }
    // SAFETY: a C string of the environment, which nobody changes this early in the program.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    if text.is_empty() {
        return;
    }
    let told = |option: &[u8], wrong| match wrong {
        Wrong::NoOption => {
            sys::complain(&[b"ALLOC_TRACE: not an option, passed over: ", option]);
        }
        Wrong::Value(allowed) => {
            let allowed = allowed.as_bytes();
            sys::complain(&[b"ALLOC_TRACE: passed over: ", option, b"; there is ", allowed]);
        }
    };
    let mut link = [0; 512];
    let name = program_name(&mut link);
    match Options::parse(text, sys::pid(), name, told) {
        Ok(options) => {
            if let Err(error) = start_as(&options, Origin::Environment) {
                complain_of_start(&error, &options.path);
            }
        }
        Err(Refused::NoPath) => {
            sys::complain(&[b"ALLOC_TRACE: no usable path; nothing is recorded"]);
        }
        Err(Refused::NoLimit) => {
            sys::complain(&[b"ALLOC_TRACE: no usable limit; nothing is recorded"]);
        }
    }
}

/// Sets the file of a recording that the program asks for, in whose path `{pid}` and `{name}` stand for the
/// process; `false` where that is too long, or has a zero byte.
pub(crate) fn set_path(options: &mut Options, path: &[u8]) -> bool {
    let mut link = [0; 512];
    let name = program_name(&mut link);
    options.path = Path::EMPTY;
    options.path.push_template(path, sys::pid(), name)
}

/// The program's name: that of its file.
fn program_name(link: &mut [u8; 512]) -> &[u8] {
    let path = sys::read_link(c"/proc/self/exe", link).unwrap_or_default();
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn complain_of_start(error: &StartError, path: &Path) {
    let reason = match error {
        StartError::AlreadyRecording => b"a recording runs already".as_slice(),
        StartError::OutOfMemory => b"out of memory",
        StartError::NotARecording => b"exists and is not a recording",
        StartError::LimitTooLow => {
            b"the limit is too low: a ring needs 16 MiB at most, others the window and some more"
        }
        StartError::File(error) => sys::describe(*error),
    };
    sys::complain(&[b"nothing is recorded: ", path.as_bytes(), b": ", reason]);
}

/// Begins a recording, as the program asks.
pub(crate) fn start(options: &Options) -> Result<(), StartError> {
    start_as(options, Origin::Program)
}

/// Who begins a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The environment, with the process's first request: what is loaded then stays.
    Environment,
    /// The program, at any time.
    Program,
    /// A forked child, which knows the modules from its parent.
    Fork,
}

fn start_as(options: &Options, origin: Origin) -> Result<(), StartError> {
    let _errno = PreserveErrno::new();
    let recorder = &RECORDER;
    recorder
        .state
        .compare_exchange(IDLE, CHANGING, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| StartError::AlreadyRecording)?;
    let result = recorder.prepare().and_then(|()| recorder.begin(options, origin));
    let state = if result.is_ok() { ACTIVE } else { IDLE };
    recorder.state.store(state, Ordering::Release);
    if result.is_ok() {
        if let Some(signal) = options.signal {
            pausing::handle(signal);
        }
        if let Some(signal) = options.snapshot_signal {
            heap_snapshots::handle(signal);
        }
        if !options.paused {
            mode::begin_recording();
        }
    }
    result
}

/// Ends the recording that runs, if one does; whether one did.
pub(crate) fn stop(reason: EndReason) -> bool {
    let _errno = PreserveErrno::new();
    let recorder = &RECORDER;
    let claim = |from| {
        let claimed =
            recorder.state.compare_exchange(from, CHANGING, Ordering::Acquire, Ordering::Relaxed);
        claimed.is_ok()
    };
    if claim(ACTIVE) {
        recorder.end(Some(reason));
    } else if claim(FAILED) {
        recorder.end(None);
    } else {
        return false;
    }
    recorder.state.store(IDLE, Ordering::Release);
    true
}

/// The file that the present recording is written to.
pub(crate) fn current_path() -> Option<Path> {
    let state = RECORDER.state.load(Ordering::Acquire);
    // SAFETY: while a recording runs nobody changes its path but a forked child's first hook, in
    // its own memory, before the child can ask.
    (state == ACTIVE || state == FAILED).then(|| unsafe { *RECORDER.setup.path.get() })
}

/// Runs when the process exits.
extern "C" fn process_exits() {
    stop(EndReason::Exited);
}

impl Recorder {
    /// Does what is done once a process.
    fn prepare(&'static self) -> Result<(), StartError> {
        if self.setup.done.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.tables.get().is_none() {
            let call_tree = CallTree::new().ok_or(StartError::OutOfMemory)?;
            let rules = Rules::new().ok_or(StartError::OutOfMemory)?;
            // Nobody else sets it: the state is `CHANGING`.
            let _ = self.tables.set(Tables { call_tree, rules });
        }
        unload::keep_library();
        let bytes = sys::os_page_bytes();
        let page = sys::map_anonymous(bytes).ok_or(StartError::OutOfMemory)?;
        let word = page.cast::<AtomicU64>();
        // SAFETY: the page is fresh, zeroed and never given back.
        unsafe { word.as_ref() }.store(epoch::STOPPED, Ordering::Relaxed);
        // A child that is cloned behind the C library's back is told by the page alone.
        sys::wipe_on_fork(page, bytes);
        // SAFETY: the handler is a function of this library, which is not unloaded from here on.
        unsafe { libc::pthread_atfork(None, None, Some(fork::child_begins)) };
        // Release: pairs with the acquire in `epoch`.
        self.epoch.store(word.as_ptr(), Ordering::Release);
        let mut key = 0;
        // SAFETY: the destructor stays in memory, and `key` is written.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(super::joining::thread_exits)) }
            == 0
        {
            self.exit_key.store(key, Ordering::Release);
        }
        // SAFETY: the handler takes nothing and stays in memory.
        unsafe { libc::atexit(process_exits) };
        self.setup.barrier.store(sys::register_barrier(), Ordering::Relaxed);
        self.setup.done.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the file and its first records, then lets the hooks in. A forked child goes on from
    /// what its parent knew of the modules.
    fn begin(&'static self, options: &Options, origin: Origin) -> Result<(), StartError> {
        let Some(tables) = self.tables.get() else { return Err(StartError::OutOfMemory) };
        let clock = clock::choose();
        let start = clock::anchor();
        let realtime = sys::clock_ns(libc::CLOCK_REALTIME);
        let run_began_ns = &self.setup.run_began_ns;
        let known = (origin == Origin::Fork).then(|| run_began_ns.load(Ordering::Relaxed));
        let destination = Destination::open(&options.path, known).map_err(|error| match error {
            libc::EEXIST => StartError::NotARecording,
            error => StartError::File(error),
        })?;
        run_began_ns.store(destination.run_began_ns.unwrap_or(realtime), Ordering::Relaxed);
        self.keep_path(&destination.path);
        if let Err(error) = self.log.open(destination.fd, options) {
            self.log.abandon_windows();
            self.log.close();
            let _ = sys::unlink(destination.path.as_c_str());
            return Err(match error {
                libc::EDOM => StartError::LimitTooLow,
                error => StartError::File(error),
            });
        }
        // SAFETY: as above; a hook reads it only when it has seen the epoch that is published below.
        unsafe { *self.setup.names.get() = options.threads };
        bus_error::handle();
        self.depth.store(options.depth, Ordering::Relaxed);
        self.check.store(options.check, Ordering::Relaxed);
        self.next_thread.store(1, Ordering::Relaxed);
        self.lost.store(0, Ordering::Relaxed);
        self.begun.store(start.ticks, Ordering::Relaxed);
        let epoch = self.sessions.fetch_add(1, Ordering::Relaxed) * epoch::FIRST;
        if epoch != epoch::FIRST {
            tables.call_tree.clear();
            tables.rules.clear();
        }
        let mut header = FileHeader {
            pid: sys::pid(),
            architecture: if cfg!(target_arch = "x86_64") {
                Architecture::X86_64
            } else {
                Architecture::Aarch64
            },
            clock,
            start,
            ready: start,
            start_realtime_ns: realtime,
            process_start_ticks: ProcessStat::read(sys::pid()).map_or(0, |stat| stat.start_ticks),
            end: None,
        };
        let write_header = |header: &FileHeader| self.log.write_at(0, &header.encode());
        let written = write_header(&header).and_then(|()| self.write_first_records(epoch, origin));
        let written = written.and_then(|()| {
            header.ready = clock::anchor();
            write_header(&header)
        });
        if let Err(error) = written {
            self.log.abandon_windows();
            self.log.close();
            // An empty recording helps nobody.
            let _ = sys::unlink(destination.path.as_c_str());
            return Err(StartError::File(error));
        }
        // Release: a hook that sees the epoch sees all of the above.
        self.epoch().store(epoch, Ordering::Release);
        Ok(())
    }

    /// Keeps the path of the recording's file: whole, since the program may go to another directory before it
    /// asks for it, or before it forks a child whose file lies beside this one.
    fn keep_path(&'static self, path: &Path) {
        // SAFETY: only the thread that sets the recording up touches it.
        let scratch = unsafe { &mut *self.setup.scratch.get() };
        // SAFETY: as above.
        let kept = unsafe { &mut *self.setup.path.get() };
        *kept = *path;
        if let Some(directory) = sys::working_directory(scratch) {
            kept.make_absolute(directory);
        }
    }

    /// Writes what the process is and which modules it has, as the calling thread's first records.
    fn write_first_records(&'static self, epoch: u64, origin: Origin) -> Result<(), Errno> {
        THREAD.with(|thread| {
            // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
            let slot = match unsafe { thread.slot.get().as_ref() } {
                Some(slot) => slot,
                None => self.take_slot(thread).ok_or(libc::ENOMEM)?,
            };
            let was_busy = slot.busy.swap(true, Ordering::Relaxed);
            // SAFETY: the slot is this thread's and busy; a hook that adopts its forked child holds
            // no reference to the state yet.
            let state = unsafe { &mut *slot.state.get() };
            let result = self.join_with(thread, slot, state, epoch, Stamp::MAX).and_then(|()| {
                self.write_process(state)?;
                self.write_modules(state, origin)?;
                self.heap_snapshots.begin(sys::resident_bytes().unwrap_or(0));
                state.writer.sample(&self.log, 0)?;
                heap_snapshots::take(&mut state.writer, &self.log, SnapshotReason::Start)
            });
            if !self.takes_by_name(thread, epoch) {
                // What it writes here is the recording's; its events are left out.
                slot.epoch.store(epoch::STOPPED, Ordering::Relaxed);
            }
            slot.busy.store(was_busy, Ordering::Release);
            result
        })
    }

    fn write_process(&'static self, state: &mut State) -> Result<(), Errno> {
        // SAFETY: only the thread that sets the recording up touches it.
        let scratch = unsafe { &mut *self.setup.scratch.get() };
        let (first, second) = scratch.split_at_mut(2048);
        let executable = sys::read_link(c"/proc/self/exe", first).unwrap_or_default();
        let arguments = sys::read_file(c"/proc/self/cmdline", second).unwrap_or_default();
        let (pid, parent_pid) = (sys::pid(), sys::parent_pid());
        state.writer.write(&self.log, |encoder, out| {
            encoder.process(out, pid, parent_pid, executable, arguments)
        })
    }

    fn write_modules(&'static self, state: &mut State, origin: Origin) -> Result<(), Errno> {
        // SAFETY: only the thread that sets the recording up touches it.
        let scratch = unsafe { &mut *self.setup.scratch.get() };
        let executable = sys::read_link(c"/proc/self/exe", scratch).unwrap_or_default();
        let mut result = Ok(());
        let mut write = |module: &Module, identity: Identity<'_>| {
            // The loader calls the program itself by no name.
            let path = if identity.path.is_empty() { executable } else { identity.path };
            let stamp = clock::now().max(state.writer.last_stamp());
            let Module { bias, start, end, .. } = *module;
            let written = state.writer.write(&self.log, |encoder, out| {
                encoder.module(out, stamp, bias, start, end, identity.build_id, path)
            });
            result = result.and(written);
        };
        if origin == Origin::Fork {
            self.modules.list_known(&mut write);
        } else {
            self.modules.list(origin == Origin::Environment, &mut write);
        }
        result
    }

    /// The recording could not be written; whether this is the first to find that.
    pub(super) fn begin_failure(&'static self) -> bool {
        let failed =
            self.state.compare_exchange(ACTIVE, FAILED, Ordering::AcqRel, Ordering::Relaxed);
        if failed.is_ok() {
            mode::end_recording();
            self.epoch().store(epoch::STOPPED, Ordering::Release);
        }
        failed.is_ok()
    }

    /// Has every thread's stores be seen; whether the kernel could do that.
    pub(super) fn barrier(&'static self) -> bool {
        self.setup.barrier.load(Ordering::Relaxed) && sys::barrier()
    }
}
