//! The file of the present recording: its window's extents, and the log behind them.
//!
//! Threads append to the log without waiting for each other: each reserves its place by advancing
//! the end, and writes there.

mod into_ring;
mod windows;

use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use alloc_trace_format::{
    BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec, FILE_HEADER_BYTES,
};

use super::digest::LONGEST_CHUNK_BYTES;
use super::extents::{DEFAULT_WINDOW_BYTES, MAX_EXTENTS};
use super::fold::Folds;
use super::options::Options;
use super::ring::Ring;
use super::sys::{self, Errno};
use super::workroom::Workrooms;
use super::{RECORDER, epoch};

/// Why nothing is written in a process that a signal handler forked within a hook: the file is the
/// parent's.
pub(super) const FORKED: Errno = libc::ECHILD;

/// How long a ring is waited for in which nobody makes room or adds a part of the window.
const PATIENCE_NS: u64 = 30_000_000_000;

/// How long a recording with a ring may become, if nobody says.
const DEFAULT_RING_BYTES: u64 = 256 << 20;

/// A ring's window is no longer: its chunks have digests.
const LONGEST_RING_WINDOW_BYTES: usize = 16 * LONGEST_CHUNK_BYTES;

/// The open file of a recording.
#[derive(Debug)]
pub(super) struct Log {
    fd: AtomicI32,
    /// Which file that was when it was opened: a program may close descriptors that it did not open,
    /// and open its own files under their numbers.
    device: AtomicU64,
    inode: AtomicU64,
    /// Where the next block goes.
    end: AtomicU64,
    /// The length of the window's first extent.
    window_bytes: AtomicUsize,
    /// How long the file may become.
    limit_bytes: AtomicU64,
    /// How long it is at least: it has the window.
    least_bytes: AtomicU64,
    /// Whether somebody truncated it, so that parts of the window are ordinary memory.
    torn: AtomicBool,
    /// When the process's resident memory was asked for last, in nanoseconds of `CLOCK_MONOTONIC`.
    sampled_ns: AtomicU64,
    /// The level at which chunks are compressed; 0 for as they are.
    level: AtomicI32,
    rooms: Workrooms,
    /// Of a ring: how often a workroom was left, and how many wait for that.
    rooms_left: AtomicU32,
    wait_for_rooms: AtomicU32,
    ring: Ring,
    folds: Folds,
    /// Where each extent of the window is mapped; null where it is not.
    windows: [AtomicPtr<u8>; MAX_EXTENTS],
    /// Where each mapped extent lies in the file.
    offsets: [AtomicU64; MAX_EXTENTS],
    /// Whether somebody adds an extent to the file of a ring.
    adds_extent: AtomicBool,
}

impl Log {
    pub(super) const fn new() -> Self {
        Self {
            fd: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            end: AtomicU64::new(0),
            window_bytes: AtomicUsize::new(DEFAULT_WINDOW_BYTES),
            limit_bytes: AtomicU64::new(u64::MAX),
            least_bytes: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            sampled_ns: AtomicU64::new(0),
            level: AtomicI32::new(0),
            rooms: Workrooms::new(),
            rooms_left: AtomicU32::new(0),
            wait_for_rooms: AtomicU32::new(0),
            ring: Ring::new(),
            folds: Folds::new(),
            windows: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_EXTENTS],
            offsets: [const { AtomicU64::new(0) }; MAX_EXTENTS],
            adds_extent: AtomicBool::new(false),
        }
    }

    /// Begins with a new file, as the options say. `EDOM` where the limit is too low for
    /// the first part of the window, or for a ring.
    pub(super) fn open(&self, fd: i32, options: &Options) -> Result<(), Errno> {
        let Options { window_bytes, level, limit_bytes, ring, .. } = *options;
        let identity = sys::identity(fd)?;
        self.device.store(identity.device, Ordering::Relaxed);
        self.inode.store(identity.inode, Ordering::Relaxed);
        self.fd.store(fd, Ordering::Relaxed);
        let longest = if ring { LONGEST_RING_WINDOW_BYTES } else { usize::MAX };
        self.window_bytes.store(window_bytes.min(longest), Ordering::Relaxed);
        self.level.store(level, Ordering::Relaxed);
        let unlimited = ring && limit_bytes == u64::MAX;
        let limit_bytes = if unlimited { DEFAULT_RING_BYTES } else { limit_bytes };
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.least_bytes.store(0, Ordering::Relaxed);
        self.torn.store(false, Ordering::Relaxed);
        // A fork may have left the thread behind that did.
        self.adds_extent.store(false, Ordering::Relaxed);
        self.end.store(FILE_HEADER_BYTES as u64, Ordering::Relaxed);
        self.ring.close();
        if ring { self.open_ring(limit_bytes) } else { self.chunk(0).map(drop) }
    }

    /// The ring, which may not be open.
    pub(super) const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Whether the last part is kept.
    pub(super) fn is_ring(&self) -> bool {
        self.ring.is_open()
    }

    /// The file's descriptor, if it is still the file's.
    fn fd(&self) -> Result<i32, Errno> {
        let fd = self.fd.load(Ordering::Relaxed);
        // Before the file is asked: another thread may be making it longer. Acquire pairs with the
        // release in `map_extent`.
        let least_bytes = self.least_bytes.load(Ordering::Acquire);
        let identity = sys::identity(fd)?;
        let same = identity.device == self.device.load(Ordering::Relaxed)
            && identity.inode == self.inode.load(Ordering::Relaxed);
        if !same {
            return Err(libc::EBADF);
        }
        if identity.bytes < least_bytes {
            self.torn.store(true, Ordering::Relaxed);
        }
        if RECORDER.epoch().load(Ordering::Relaxed) == epoch::WIPED {
            return Err(FORKED);
        }
        if self.is_torn() { Err(libc::ESTALE) } else { Ok(fd) }
    }

    /// Whether somebody truncated the file.
    pub(super) fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Relaxed)
    }

    /// How much memory the process has resident; `None` where somebody asked less than so long ago.
    pub(super) fn resident_bytes(&self, interval_ns: u64) -> Option<u64> {
        let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
        let last = self.sampled_ns.load(Ordering::Relaxed);
        if now.saturating_sub(last) < interval_ns {
            return None;
        }
        let claimed =
            self.sampled_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        claimed.ok().and_then(|_| sys::resident_bytes())
    }

    /// How long the file may become.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Writes at a fixed place.
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        sys::write_at(self.fd()?, offset, bytes, &[])
    }

    /// Reads what was written at a place in the file; behind its end there are zeros.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let read = sys::read_at(self.fd.load(Ordering::Relaxed), offset, buffer)?;
        buffer.get_mut(read..).unwrap_or_default().fill(0);
        Ok(())
    }

    /// Appends a chunk of a generation, compressed where a workroom is free and where that makes it
    /// shorter; codec, lengths and checksum are filled in.
    pub(super) fn append_chunk(
        &self,
        header: BlockHeader,
        generation: u32,
        payload: &[u8],
    ) -> Result<(), Errno> {
        let raw_bytes = payload.len() as u32;
        let plain = BlockHeader {
            codec: Codec::Plain,
            stored_bytes: u64::from(raw_bytes),
            raw_bytes,
            ..header
        };
        let level = self.level.load(Ordering::Relaxed);
        if self.ring.is_open() {
            return self.append_to_ring(&plain, generation, level, payload);
        }
        let entered = if level == 0 {
            None
        } else {
            self.rooms.enter(|room| {
                let stored = room.packing.pack(level, payload)?;
                let stored_bytes = stored.len() as u64;
                let header = BlockHeader { codec: Codec::Columns, stored_bytes, ..plain };
                Some(self.append(header, stored))
            })
        };
        match entered.flatten() {
            Some(result) => result,
            None => self.append(plain, payload),
        }
    }

    /// Does some work on the stack of a workroom; `None` where all are taken. The work must not panic.
    pub(super) fn in_room<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        self.rooms.enter(|_| work())
    }

    /// The process was forked: whoever worked here is not in this process.
    pub(super) fn abandon_workrooms(&self) {
        self.rooms.abandon();
        self.wait_for_rooms.store(0, Ordering::Relaxed);
    }

    /// The length of the window's first extent.
    pub(super) fn window_bytes(&self) -> usize {
        self.window_bytes.load(Ordering::Relaxed)
    }

    /// The level at which chunks are compressed.
    pub(super) fn level(&self) -> i32 {
        self.level.load(Ordering::Relaxed)
    }

    /// Appends a block; its checksum is filled in.
    fn append(&self, header: BlockHeader, payload: &[u8]) -> Result<(), Errno> {
        let header = header.with_checksum(payload);
        let offset = self.end.fetch_add(header.span_bytes(), Ordering::Relaxed);
        self.check_limit(offset + header.span_bytes())?;
        sys::write_at(self.fd()?, offset, &header.encode(), payload)
    }

    fn write_padding(&self, from: u64, to: u64) -> Result<(), Errno> {
        let stored_bytes = to - from - BLOCK_HEADER_BYTES as u64;
        let header = BlockHeader { stored_bytes, ..BlockHeader::empty(BlockKind::Padding) };
        self.write_at(from, &header.encode())
    }

    /// Refuses to write where the kernel would kill the process for it.
    fn check_limit(&self, end: u64) -> Result<(), Errno> {
        if end > self.limit_bytes.load(Ordering::Relaxed) {
            return Err(libc::EDOM);
        }
        self.check_file_size(end)
    }

    fn check_file_size(&self, end: u64) -> Result<(), Errno> {
        if end > sys::file_size_limit() { Err(libc::EFBIG) } else { Ok(()) }
    }

    /// Closes the file.
    pub(super) fn close(&self) {
        self.torn.store(false, Ordering::Relaxed);
        self.least_bytes.store(0, Ordering::Relaxed);
        let fd = self.fd();
        self.fd.store(-1, Ordering::Relaxed);
        // What has taken the descriptor's number since is not ours to close.
        if let Ok(fd) = fd {
            sys::close(fd);
        }
    }
}

const _: () = assert!((FILE_HEADER_BYTES as u64).is_multiple_of(BLOCK_ALIGN_BYTES));
