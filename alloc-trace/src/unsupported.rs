//! In place of the recorder where it does not work: nothing is recorded, and nothing is in the way.
//! Compiled on a supported target with `--cfg alloc_trace_passthrough`, to check it.

use alloc_trace_format::{EndReason, EventKind, Stamp};

use crate::request::Request;

/// Whether a recording can be started on this target.
pub(crate) const SUPPORTED: bool = false;

/// A path that keeps nothing.
#[derive(Debug)]
pub(crate) struct Path;

impl Path {
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &[]
    }
}

/// What a recording would be told.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) path: Path,
    pub(crate) depth: usize,
}

impl Options {
    pub(crate) const DEFAULT: Self = Self { path: Path, depth: 0 };

    pub(crate) const fn set_compression(&mut self, _level: i32) {}

    pub(crate) const fn set_window(&mut self, _bytes: usize) {}

    pub(crate) const fn set_limit(&mut self, _bytes: Option<u64>) {}

    pub(crate) const fn set_ring(&mut self, _ring: bool) {}

    pub(crate) const fn set_pausing(&mut self, _paused: bool, _signal: Option<i32>) {}

    pub(crate) const fn set_snapshot_signal(&mut self, _signal: Option<i32>) {}

    pub(crate) const fn set_threads(&mut self, _pattern: &[u8], _only: bool) -> bool {
        true
    }
}

pub(crate) const fn set_path(_options: &mut Options, _path: &[u8]) -> bool {
    true
}

pub(crate) const MAX_DEPTH: usize = 128;

/// Why a recording did not begin. Never made: [`SUPPORTED`] says so before.
#[derive(Debug)]
#[expect(dead_code, reason = "the recorder makes them")]
pub(crate) enum StartError {
    AlreadyRecording,
    OutOfMemory,
    NotARecording,
    LimitTooLow,
    File(i32),
}

pub(crate) const fn start(_options: &Options) -> Result<(), StartError> {
    Err(StartError::AlreadyRecording)
}

pub(crate) const fn stop(_reason: EndReason) -> bool {
    false
}

pub(crate) const fn pause() -> bool {
    false
}

pub(crate) const fn resume() -> bool {
    false
}

pub(crate) const fn start_from_environment() {}

pub(crate) const fn current_path() -> Option<Path> {
    None
}

pub(crate) fn unrecorded<T>(closure: impl FnOnce() -> T) -> T {
    closure()
}

/// What a backtrace would begin from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers;

pub(crate) const fn record(_request: &Request, _caller: Registers) {}

pub(crate) const fn record_plain(
    _kind: EventKind,
    _address: usize,
    _size: usize,
    _align: usize,
    _caller: Registers,
) -> bool {
    false
}

pub(crate) const fn stamp() -> Stamp {
    0
}

pub(crate) const fn mark(_text: &str) {}

pub(crate) const fn heap_snapshot() -> bool {
    false
}

#[cfg(feature = "tracing-events")]
pub(crate) const fn mark_thread_internal() {}

#[cfg(all(feature = "tracing-events", feature = "span-layer"))]
pub(crate) const fn is_thread_internal() -> bool {
    false
}

#[cfg(feature = "span-layer")]
mod spans {
    use alloc_trace_format::SpanId;

    pub(crate) const fn span(
        _id: SpanId,
        _parent: Option<SpanId>,
        _again: bool,
        _level: u8,
        _name: &str,
        _target: &str,
        _fields: &[u8],
    ) {
    }

    pub(crate) const fn span_enter(
        _span: SpanId,
        _metadata: Option<&'static tracing::Metadata<'static>>,
    ) {
    }

    pub(crate) const fn span_fields(_span: SpanId, _fields: &[u8]) {}

    pub(crate) const fn span_exit(_span: SpanId) {}

    pub(crate) const fn span_close(_span: SpanId) {}

    pub(crate) const fn session() -> u64 {
        0
    }
}

#[cfg(feature = "span-layer")]
pub(crate) use self::spans::{session, span, span_close, span_enter, span_exit, span_fields};
