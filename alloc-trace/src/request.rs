//! What the allocator tells of a request.

use alloc_trace_format::{EventKind, Stamp};

/// A request as the allocator's hook saw it, answered or, for a free, about to be carried out.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(alloc_trace_passthrough, expect(dead_code, reason = "the recorder reads all fields"))]
pub(crate) struct Request {
    pub(crate) kind: EventKind,
    /// Whether it was answered with null.
    pub(crate) failed: bool,
    /// The block's address; for a reallocation the new block's.
    pub(crate) address: usize,
    /// The requested size in bytes; for a reallocation the new one.
    pub(crate) size: usize,
    /// The requested alignment in bytes.
    pub(crate) align: usize,
    /// For a reallocation: the old block's address, else 0.
    pub(crate) old_address: usize,
    /// For a reallocation: the old block's size in bytes, else 0.
    pub(crate) old_size: usize,
    /// For a reallocation: when it began.
    pub(crate) begin: Stamp,
    /// When it was made, if that is known already; else 0.
    pub(crate) stamp: Stamp,
}

impl Request {
    /// Nothing asked for.
    pub(crate) const EMPTY: Self = Self {
        kind: EventKind::Free,
        failed: false,
        address: 0,
        size: 0,
        align: 1,
        old_address: 0,
        old_size: 0,
        begin: 0,
        stamp: 0,
    };
}
