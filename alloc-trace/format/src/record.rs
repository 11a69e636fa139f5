//! The records of a recording, as plain values.
//!
//! Numbers of record kinds are part of the format: they are never reused.

use crate::clock::Anchor;
use crate::heap_snapshot::HeapSnapshot;

/// A moment, in ticks of the recording's clock (see [`crate::Clock`]).
pub type Stamp = u64;

/// A thread of the recorded process, numbered from 1 in the order in which the recorder met them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ThreadId(pub u32);

/// A node of the call tree: a backtrace, as its innermost frame and the node of the frames outside.
///
/// Two numbers may name the same backtrace: the recorder's index is a bounded cache that forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root: the empty backtrace. As a parent it says that the outermost frame was reached.
    pub const ROOT: Self = Self(0);
    /// The other root: as a parent it says that the backtrace was cut before its outermost frame.
    pub const CUT: Self = Self(1);
    /// The first number that a recorder gives to a node of its own.
    pub const FIRST: Self = Self(2);

    /// Whether this is one of the two roots, which have no frame.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.0 < Self::FIRST.0
    }
}

/// A `tracing` span, by the number that its subscriber gave it.
///
/// A subscriber may use a number again after the span closed: a later [`Span`] record gives it its
/// new meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl SpanId {
    /// Stands for all spans that a thread is in where it leaves them at once: no subscriber gives this
    /// number.
    pub const EVERY: Self = Self(0);
}

/// What a heap event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// `alloc`.
    Alloc = tag::ALLOC,
    /// `alloc_zeroed`.
    AllocZeroed = tag::ALLOC_ZEROED,
    /// `realloc`.
    Realloc = tag::REALLOC,
    /// `dealloc`.
    Free = tag::FREE,
}

impl EventKind {
    /// The name that every output uses: `alloc`, `alloc_zeroed`, `realloc` or `free`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::AllocZeroed => "alloc_zeroed",
            Self::Realloc => "realloc",
            Self::Free => "free",
        }
    }
}

/// One heap request or free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What was asked.
    pub kind: EventKind,
    /// Whether the request was answered with null.
    pub failed: bool,
    /// The thread that asked.
    pub thread: ThreadId,
    /// When: for a free before the memory was released, for anything else after it was obtained.
    pub stamp: Stamp,
    /// For a reallocation, when it began, before the old block could be released; else `stamp`.
    pub begin_stamp: Stamp,
    /// The block's address; for a reallocation the new block's; 0 for a failed request.
    pub address: u64,
    /// The requested size in bytes; for a reallocation the new one.
    pub size: u64,
    /// The requested alignment, as a power of two.
    pub align_log2: u8,
    /// For a reallocation the old block's address, else 0.
    pub old_address: u64,
    /// For a reallocation the old block's requested size in bytes, else 0.
    pub old_size: u64,
    /// The backtrace.
    pub node: NodeId,
    /// The stack pointer in the allocator's entry, 0 where it was not taken.
    pub stack_pointer: u64,
    /// How many of the outermost frames are unchanged since the thread's previous event, where that
    /// is fewer than the two backtraces share: it proves that the others are new activations.
    pub kept_frames: Option<u32>,
}

impl Event {
    /// What stands where no event has been decoded yet.
    pub(crate) const NONE: Self =
        Self { align_log2: 0, ..Self::new(EventKind::Free, ThreadId(0), 0, 0, 0) };

    /// What a thread did with a block of `size` bytes, aligned to 8: without a backtrace, and of a reallocation
    /// without the old block. For those who write recordings and set what else there is.
    ///
    /// ```
    /// use alloc_trace_format::{Event, EventKind, NodeId, ThreadId};
    ///
    /// let event = Event::new(EventKind::Alloc, ThreadId(1), 1_000, 0x5000, 24);
    /// let of_a_call = Event { node: NodeId(7), ..event };
    /// assert_eq!((of_a_call.size, of_a_call.align(), of_a_call.begin_stamp), (24, 8, 1_000));
    /// ```
    #[must_use]
    #[inline]
    pub const fn new(
        kind: EventKind,
        thread: ThreadId,
        stamp: Stamp,
        address: u64,
        size: u64,
    ) -> Self {
        Self {
            kind,
            failed: false,
            thread,
            stamp,
            begin_stamp: stamp,
            address,
            size,
            align_log2: 3,
            old_address: 0,
            old_size: 0,
            node: NodeId::ROOT,
            stack_pointer: 0,
            kept_frames: None,
        }
    }

    /// The requested alignment in bytes.
    #[must_use]
    pub const fn align(&self) -> u64 {
        1 << (self.align_log2 & 63)
    }
}

/// The state that a chunk's records start from; the first record of every chunk is one.
///
/// Another one in the middle of a chunk says that another thread writes it from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Whose records follow.
    pub thread: ThreadId,
    /// The time from which the following stamps count on; none of them lies before it.
    pub stamp: Stamp,
    /// A reading of both clocks, taken when this was written.
    pub anchor: Anchor,
}

/// A thread's first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadStart {
    /// The recording's number for it.
    pub thread: ThreadId,
    /// The kernel's.
    pub os_thread: u32,
    /// Whether the thread is the recorder's own: its events are not the program's.
    pub internal: bool,
    /// When it was first met.
    pub stamp: Stamp,
    /// The name that it then had.
    pub name: Box<str>,
}

/// A node of the call tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeDefinition {
    /// The node.
    pub id: NodeId,
    /// The node of the frames outside of it.
    pub parent: NodeId,
    /// The return address of the frame: the instruction after the call.
    pub address: u64,
}

/// A loaded executable or shared object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// When it was found loaded.
    pub stamp: Stamp,
    /// What is added to an address in the file to get one in memory.
    pub bias: u64,
    /// The first mapped address.
    pub start: u64,
    /// The address behind the last mapped one.
    pub end: u64,
    /// The GNU build id; empty where there is none.
    pub build_id: Box<[u8]>,
    /// The file it was loaded from.
    pub path: Box<str>,
}

/// A module that was found to be loaded no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleUnload {
    /// When that was found: that of the record before it in its stream.
    pub stamp: Stamp,
    /// The module's first mapped address.
    pub start: u64,
    /// The address behind its last mapped one.
    pub end: u64,
    /// Nodes of addresses in between that have this number or a greater one are of what was loaded
    /// there later.
    pub first_node: NodeId,
}

/// A `tracing` span, when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its number from here on.
    pub id: SpanId,
    /// When it was made.
    pub stamp: Stamp,
    /// The span that it was made in, if any.
    pub parent: Option<SpanId>,
    /// Whether the recording may have the span already: its number, if it stands for an open span,
    /// still stands for the same one.
    pub again: bool,
    /// Its level: 1 for ERROR to 5 for TRACE.
    pub level: u8,
    /// Its name.
    pub name: Box<str>,
    /// Its target.
    pub target: Box<str>,
    /// Its fields as they were when it was made, `key=value` with spaces between; may be cut. Those that
    /// are set later have records of their own ([`Record::SpanFields`]).
    pub fields: Box<str>,
}

/// What the recorded process was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent_pid: u32,
    /// Its executable.
    pub executable: Box<str>,
    /// Its arguments, the first being its name; may be cut.
    pub arguments: Box<[Box<str>]>,
}

/// Why a recording was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The program stopped it.
    Stopped,
    /// The program exited.
    Exited,
    /// The file could not be written any more (disk full, size limit).
    WriteFailed,
    /// A reason that this reader does not know.
    Other(u8),
}

/// How a process ended, as its parent learnt it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A heap event.
    Event(Event),
    /// Whose records follow, from when.
    Context(Context),
    /// A node of the call tree.
    Node(NodeDefinition),
    /// A thread was met.
    ThreadStart(ThreadStart),
    /// A thread has this name now.
    ThreadName {
        /// The thread.
        thread: ThreadId,
        /// Its name.
        name: Box<str>,
    },
    /// A thread exited.
    ThreadExit {
        /// The thread.
        thread: ThreadId,
        /// When.
        stamp: Stamp,
    },
    /// A module was found loaded.
    Module(Box<Module>),
    /// A module was found to be loaded no more.
    ModuleUnload(ModuleUnload),
    /// A span was made.
    Span(Box<Span>),
    /// Fields of a span were set after it was made.
    SpanFields {
        /// When.
        stamp: Stamp,
        /// Which thread set them.
        thread: ThreadId,
        /// The span.
        span: SpanId,
        /// The fields, `key=value` with spaces between; may be cut.
        fields: Box<str>,
    },
    /// A thread entered a span.
    SpanEnter {
        /// The thread.
        thread: ThreadId,
        /// When.
        stamp: Stamp,
        /// The span.
        span: SpanId,
    },
    /// A thread left a span.
    SpanExit {
        /// The thread.
        thread: ThreadId,
        /// When.
        stamp: Stamp,
        /// The span; [`SpanId::EVERY`] for all that the thread is in.
        span: SpanId,
    },
    /// A span closed: its number may be used again.
    SpanClose {
        /// When.
        stamp: Stamp,
        /// The span.
        span: SpanId,
    },
    /// The program marked a moment.
    Marker {
        /// The thread that did.
        thread: ThreadId,
        /// When.
        stamp: Stamp,
        /// What it said.
        text: Box<str>,
    },
    /// How much memory the process had resident.
    Resident {
        /// When.
        stamp: Stamp,
        /// So many bytes, the recorder's own included.
        bytes: u64,
    },
    /// What the heap held.
    HeapSnapshot(Box<HeapSnapshot>),
    /// What the process was.
    Process(Box<Process>),
    /// This many records of the thread could not be written.
    Lost {
        /// The thread.
        thread: ThreadId,
        /// How many.
        records: u64,
    },
    /// The recording was closed.
    End {
        /// When.
        stamp: Stamp,
        /// Why.
        reason: EndReason,
        /// How many heap events had been recorded by then, at least.
        events: u64,
    },
    /// A record of a kind that this reader does not know, skipped.
    Unknown {
        /// The kind's number.
        kind: u64,
    },
}

impl Record {
    /// The time at which the record stands in its stream, where it states one.
    ///
    /// For a reallocation that is when it began.
    #[must_use]
    pub const fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Event(event) => Some(event.begin_stamp),
            Self::Context(Context { stamp, .. })
            | Self::ThreadExit { stamp, .. }
            | Self::SpanFields { stamp, .. }
            | Self::SpanEnter { stamp, .. }
            | Self::SpanExit { stamp, .. }
            | Self::SpanClose { stamp, .. }
            | Self::Marker { stamp, .. }
            | Self::Resident { stamp, .. }
            | Self::End { stamp, .. } => Some(*stamp),
            Self::ThreadStart(start) => Some(start.stamp),
            Self::Module(module) => Some(module.stamp),
            Self::ModuleUnload(unload) => Some(unload.stamp),
            Self::HeapSnapshot(snapshot) => Some(snapshot.stamp),
            Self::Span(span) => Some(span.stamp),
            Self::Node(_)
            | Self::ThreadName { .. }
            | Self::Process(_)
            | Self::Lost { .. }
            | Self::Unknown { .. } => None,
        }
    }
}

/// The byte that begins a record: its low three bits are the kind.
pub(crate) mod tag {
    /// Any kind but the ones below: a varint kind, a varint length and as many bytes follow.
    pub(crate) const EXTENDED: u8 = 0x08;
    pub(crate) const ALLOC: u8 = 1;
    pub(crate) const ALLOC_ZEROED: u8 = 2;
    pub(crate) const REALLOC: u8 = 3;
    pub(crate) const FREE: u8 = 4;
    pub(crate) const NODE: u8 = 5;
    /// A compact event, of one word: its site is that of the last event of its kind.
    pub(crate) const COMPACT: u8 = 6;
    /// A compact event, of two words, the second of which is its site.
    pub(crate) const COMPACT_AT_SITE: u8 = 7;
    pub(crate) const KIND_MASK: u8 = 0x07;

    /// Of an event: the request was answered with null.
    pub(crate) const FAILED: u8 = 0x08;
    /// Of an event: where the alignment, as a power of two, begins.
    pub(crate) const ALIGN_SHIFT: u32 = 4;
    /// Of an event: the alignment has a byte of its own.
    pub(crate) const ALIGN_FOLLOWS: u8 = 15;
}

/// The kinds of extended records.
pub(crate) mod kind {
    pub(crate) const CONTEXT: u8 = 1;
    pub(crate) const PROCESS: u8 = 2;
    pub(crate) const THREAD_START: u8 = 3;
    pub(crate) const THREAD_NAME: u8 = 4;
    pub(crate) const THREAD_EXIT: u8 = 5;
    pub(crate) const MODULE: u8 = 6;
    pub(crate) const MODULE_UNLOAD: u8 = 7;
    pub(crate) const SPAN: u8 = 8;
    pub(crate) const SPAN_ENTER: u8 = 9;
    pub(crate) const SPAN_EXIT: u8 = 10;
    pub(crate) const SPAN_CLOSE: u8 = 11;
    pub(crate) const MARKER: u8 = 12;
    pub(crate) const LOST: u8 = 13;
    pub(crate) const END: u8 = 14;
    pub(crate) const RESIDENT: u8 = 15;
    /// A heap snapshot that does not say how full the pages are; it is read and not written.
    pub(crate) const HEAP_SNAPSHOT_WITHOUT_FILL: u8 = 32;
    pub(crate) const HEAP_SNAPSHOT: u8 = 33;

    /// Whether such a record begins with a stamp, from which the next record's counts on. Only the
    /// kinds of the format's first days do: a reader passes over those that it does not know.
    pub(crate) const fn is_stamped(kind: u8) -> bool {
        matches!(
            kind,
            THREAD_START
                | THREAD_EXIT
                | MODULE
                | SPAN
                | SPAN_ENTER
                | SPAN_EXIT
                | SPAN_CLOSE
                | MARKER
                | END
                | RESIDENT
        )
    }
}

/// Of a span's record.
pub(crate) mod span {
    /// Set in the level: the recording may have the span already.
    pub(crate) const AGAIN: u8 = 0x80;
    /// In place of the level: none is made, and the record has fields that were set later. A reader that
    /// does not know it takes the span for one that it has already, and passes over it.
    pub(crate) const FIELDS: u8 = AGAIN | 0x40;
}

/// The codes of [`EndReason`].
pub(crate) const fn end_reason_code(reason: EndReason) -> u8 {
    match reason {
        EndReason::Stopped => 1,
        EndReason::Exited => 2,
        EndReason::WriteFailed => 3,
        EndReason::Other(code) => code,
    }
}

/// The inverse of [`end_reason_code`].
pub(crate) const fn end_reason(code: u8) -> EndReason {
    match code {
        1 => EndReason::Stopped,
        2 => EndReason::Exited,
        3 => EndReason::WriteFailed,
        other => EndReason::Other(other),
    }
}
