//! The file of the present recording: its window's extents, and the log behind them.
//!
//! Threads append to the log without waiting for each other: each reserves its place by advancing
//! the end, and writes there.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use alloc_trace_format::{
    BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec, FILE_HEADER_BYTES,
};

use super::digest::LONGEST_CHUNK_BYTES;
use super::extents::{DEFAULT_WINDOW_BYTES, MAX_EXTENTS, Shape, extent_of};
use super::fold::Folds;
use super::options::Options;
use super::ring::{self, For, Place, Ring};
use super::sys::{self, Errno};
use super::workroom::{Room, Workrooms};
use super::{RECORDER, THREAD, epoch};

/// Why nothing is written in a process that a signal handler forked within a hook: the file is the
/// parent's.
pub(super) const FORKED: Errno = libc::ECHILD;

/// How long a ring that nobody makes room in is waited for, in tenths of a millisecond.
const PATIENCE: u32 = 300_000;

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
    ring: Ring,
    folds: Folds,
    /// Where each extent of the window is mapped; null where it is not.
    windows: [AtomicPtr<u8>; MAX_EXTENTS],
    /// Where each mapped extent lies in the file.
    offsets: [AtomicU64; MAX_EXTENTS],
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
            ring: Ring::new(),
            folds: Folds::new(),
            windows: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_EXTENTS],
            offsets: [const { AtomicU64::new(0) }; MAX_EXTENTS],
        }
    }

    /// Begins with a new file, as the options say. `EDOM` where the limit is too low for a ring.
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
        self.end.store(FILE_HEADER_BYTES as u64, Ordering::Relaxed);
        self.ring.close();
        if ring { self.open_ring(limit_bytes) } else { Ok(()) }
    }

    /// Puts a ring behind the first part of the window.
    fn open_ring(&self, limit_bytes: u64) -> Result<(), Errno> {
        self.chunk(0)?;
        let window_end = self.end.load(Ordering::Relaxed);
        let (begin, end) = ring::bounds(window_end, limit_bytes);
        let bytes = self.ring.open(begin, end)?;
        self.write_padding(window_end, begin - BLOCK_HEADER_BYTES as u64)?;
        let header = BlockHeader { stored_bytes: bytes, ..BlockHeader::empty(BlockKind::Ring) };
        self.write_at(begin - BLOCK_HEADER_BYTES as u64, &header.encode())?;
        self.end.store(begin + bytes, Ordering::Relaxed);
        Ok(())
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
        let identity = sys::identity(fd).map_err(|_| libc::EBADF)?;
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

    /// Puts ordinary memory where a store to the window found no file; whether the address lies in the
    /// window. Called by a signal handler.
    pub(super) fn patch(&self, address: usize) -> bool {
        let inside = self.windows.iter().enumerate().any(|(extent, place)| {
            let begin = place.load(Ordering::Acquire).addr();
            begin != 0 && address.wrapping_sub(begin) < self.shape(extent).bytes()
        });
        // SAFETY: the address lies in an extent, which was mapped here and is while it is listed.
        let patched = inside && unsafe { sys::replace_page(address) };
        if patched {
            self.torn.store(true, Ordering::Relaxed);
        }
        patched
    }

    /// Puts ordinary memory where the window is: this is a forked child, and a hook may be under way
    /// in it that writes on. Called by the C library's `fork`.
    pub(super) fn part_from_parent(&self) {
        for (extent, place) in self.windows.iter().enumerate() {
            let window = place.load(Ordering::Acquire);
            if !window.is_null() {
                // SAFETY: the whole extent was mapped in one piece; a hook under way finds its chunk
                // empty, which it reads to no end but writing it to the log, and that is refused.
                unsafe { sys::replace(window.cast(), self.shape(extent).bytes()) };
            }
        }
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
    #[cfg(feature = "heap-snapshots")]
    pub(super) fn in_room<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        self.rooms.enter(|_| work())
    }

    /// Appends a chunk and its digest to the ring, and makes room in it where that is due.
    ///
    /// A chunk without a digest could not be carried on: here it is waited for a room. Those who have
    /// the rooms may be waiting for a fold, which passes over a slot only where it says that it waits.
    fn append_to_ring(
        &self,
        plain: &BlockHeader,
        generation: u32,
        level: i32,
        payload: &[u8],
    ) -> Result<(), Errno> {
        for _ in 0..PATIENCE {
            let entered = self.rooms.enter(|room| {
                set_waits(false);
                let Room { packing, digester, .. } = room;
                let digest = digester.digest(payload).ok_or(libc::EFBIG)?;
                let packed = if level == 0 { None } else { packing.pack(level, payload) };
                let (codec, stored) = match packed {
                    Some(packed) => (Codec::Columns, packed),
                    None => (Codec::Plain, payload),
                };
                let header = BlockHeader { codec, stored_bytes: stored.len() as u64, ..*plain };
                let digest_header = BlockHeader {
                    stored_bytes: digest.bytes.len() as u64,
                    raw_bytes: digest.effect_bytes,
                    events: digest.node_bytes,
                    stream: generation,
                    first_stamp: plain.first_stamp,
                    last_stamp: plain.last_stamp,
                    ..BlockHeader::empty(BlockKind::Digest)
                };
                let bytes = header.span_bytes() + digest_header.span_bytes();
                let place = self.wait_for_place(bytes)?;
                let header = BlockHeader { place: place.place, ..header };
                let digest_place = place.place + header.span_bytes();
                let digest_header = BlockHeader { place: digest_place, ..digest_header };
                self.write_at_place(&place, &header.with_checksum(stored), stored)?;
                let digest_header = digest_header.with_checksum(digest.bytes);
                self.write_at_place(&place, &digest_header, digest.bytes)?;
                drop(place);
                while self.ring.is_due() && self.folds.fold(self)? {}
                Ok(())
            });
            if let Some(result) = entered {
                return result;
            }
            set_waits(true);
            sys::pause();
        }
        set_waits(false);
        Err(libc::ENOMEM)
    }

    /// Reserves a place in the ring for a chunk; where there is none, makes room or waits for whoever
    /// does.
    fn wait_for_place(&self, bytes: u64) -> Result<Place<'_>, Errno> {
        if let Some(place) = self.ring.reserve(bytes, For::Chunk)? {
            return Ok(place);
        }
        set_waits(true);
        let mut result = Err(libc::EDOM);
        for _ in 0..PATIENCE {
            match self.folds.fold(self) {
                Ok(true) => {}
                Ok(false) => sys::pause(),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if let Some(place) = self.ring.reserve(bytes, For::Chunk).transpose() {
                result = place;
                break;
            }
        }
        set_waits(false);
        result
    }

    /// Writes a block of the ring at the place that its header states, which was reserved.
    pub(super) fn write_at_place(
        &self,
        reserved: &Place<'_>,
        header: &BlockHeader,
        payload: &[u8],
    ) -> Result<(), Errno> {
        let offset = reserved.ring.offset(header.place);
        if offset + header.span_bytes() > sys::file_size_limit() {
            return Err(libc::EFBIG);
        }
        sys::write_at(self.fd()?, offset, &header.encode(), payload)
    }

    /// Where the chunk of a stream is mapped, if its extent is.
    pub(super) fn mapped_chunk(&self, stream: u32) -> Option<NonNull<u8>> {
        let extent = extent_of(stream);
        let window = NonNull::new(self.windows.get(extent)?.load(Ordering::Acquire))?;
        Some(self.chunk_in(window, extent, stream).0)
    }

    /// The process was forked: whoever worked here is not in this process.
    pub(super) fn abandon_workrooms(&self) {
        self.rooms.abandon();
    }

    /// The length of the window's first extent.
    pub(super) fn window_bytes(&self) -> usize {
        self.window_bytes.load(Ordering::Relaxed)
    }

    /// The level at which chunks are compressed.
    pub(super) fn level(&self) -> i32 {
        self.level.load(Ordering::Relaxed)
    }

    fn shape(&self, extent: usize) -> Shape {
        Shape::of(extent, self.window_bytes.load(Ordering::Relaxed))
    }

    /// Appends a block; its checksum is filled in.
    fn append(&self, header: BlockHeader, payload: &[u8]) -> Result<(), Errno> {
        let header = header.with_checksum(payload);
        let offset = self.end.fetch_add(header.span_bytes(), Ordering::Relaxed);
        self.check_limit(offset + header.span_bytes())?;
        sys::write_at(self.fd()?, offset, &header.encode(), payload)
    }

    /// Where the chunk of a stream is mapped, and its length; its extent is mapped if it is not.
    pub(super) fn chunk(&self, stream: u32) -> Result<(NonNull<u8>, usize), Errno> {
        let extent = extent_of(stream);
        let place = self.windows.get(extent).ok_or(libc::ENOMEM)?;
        // Acquire pairs with the exchange in `map_extent`.
        let window = match NonNull::new(place.load(Ordering::Acquire)) {
            Some(window) => window,
            None => self.map_extent(extent)?,
        };
        Ok(self.chunk_in(window, extent, stream))
    }

    /// Where in its extent's window the chunk of a stream lies, and how long it is.
    fn chunk_in(&self, window: NonNull<u8>, extent: usize, stream: u32) -> (NonNull<u8>, usize) {
        let shape = self.shape(extent);
        let index = (stream - shape.first_stream) as usize;
        let chunk_bytes = shape.chunk_bytes as usize;
        // SAFETY: the index is below the number of the extent's chunks.
        (unsafe { window.add(index * chunk_bytes) }, chunk_bytes)
    }

    /// Adds an extent to the file and maps it.
    #[cold]
    fn map_extent(&self, extent: usize) -> Result<NonNull<u8>, Errno> {
        let place = self.windows.get(extent).ok_or(libc::ENOMEM)?;
        let shape = self.shape(extent);
        let fd = self.fd()?;
        let os_page = sys::os_page_bytes().max(4096) as u64;
        // Padding before the header lets the chunks begin at an OS page.
        let bytes = shape.bytes() as u64;
        let head = BLOCK_HEADER_BYTES as u64;
        let longest = head + os_page + head + bytes;
        let is_first = self.end.load(Ordering::Relaxed) == FILE_HEADER_BYTES as u64;
        let fits = (FILE_HEADER_BYTES as u64 + head).is_multiple_of(os_page);
        let reserved = if is_first && fits { head + bytes } else { longest };
        let begin = self.end.fetch_add(reserved, Ordering::Relaxed);
        self.check_limit(begin + reserved)?;
        let header_at = if is_first && fits {
            begin
        } else {
            (begin + 2 * head).next_multiple_of(os_page) - head
        };
        sys::allocate(fd, begin, reserved)?;
        if header_at > begin {
            self.write_padding(begin, header_at)?;
        }
        let header = BlockHeader {
            stored_bytes: bytes,
            raw_bytes: shape.chunk_bytes,
            stream: shape.first_stream,
            sequence: shape.slots,
            ..BlockHeader::empty(BlockKind::Extent)
        };
        sys::write_at(fd, header_at, &header.encode(), &[])?;
        let behind = header_at + head + bytes;
        if begin + reserved > behind {
            self.write_padding(behind, begin + reserved)?;
        }
        let mapped = match sys::map_shared(fd, header_at + head, shape.bytes()) {
            // Not every file system can: chunks are then written when they are full, or when the
            // recording ends.
            Err(libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP | libc::EACCES) => {
                if extent == 0 {
                    sys::complain(&[
                        b"the file cannot be mapped: what a killed process recorded last is lost",
                    ]);
                }
                sys::map_anonymous(shape.bytes()).ok_or(libc::ENOMEM)?
            }
            mapped => mapped?,
        };
        let published = place.compare_exchange(
            ptr::null_mut(),
            mapped.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match published {
            Ok(_) => {
                if let Some(offset) = self.offsets.get(extent) {
                    offset.store(header_at + head, Ordering::Relaxed);
                }
                self.least_bytes.fetch_max(behind, Ordering::Release);
                Ok(mapped)
            }
            Err(first) => {
                // Another thread added the same one: this one stays in the file, unused.
                // SAFETY: mapped above, and nobody else has seen it.
                unsafe { sys::unmap(mapped, shape.bytes()) };
                NonNull::new(first).ok_or(libc::ENOMEM)
            }
        }
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

    /// Gives the space of the window back to the file system: everything is in the log.
    pub(super) fn discard_windows(&self) {
        let Ok(fd) = self.fd() else { return };
        for (extent, place) in self.windows.iter().enumerate() {
            if !place.load(Ordering::Relaxed).is_null()
                && let Some(offset) = self.offsets.get(extent)
            {
                let bytes = self.shape(extent).bytes() as u64;
                sys::punch_hole(fd, offset.load(Ordering::Relaxed), bytes);
            }
        }
    }

    /// Unmaps the window.
    ///
    /// # Safety
    ///
    /// No chunk of it is used any more.
    pub(super) unsafe fn unmap(&self) {
        for (extent, place) in self.windows.iter().enumerate() {
            let window = place.swap(ptr::null_mut(), Ordering::AcqRel);
            if let Some(window) = NonNull::new(window) {
                // SAFETY: the whole extent was mapped in one piece; the caller promises the rest.
                unsafe { sys::unmap(window, self.shape(extent).bytes()) };
            }
        }
    }

    /// Forgets where the window was mapped and leaves it mapped: somebody may still use it.
    pub(super) fn abandon_windows(&self) {
        for place in &self.windows {
            place.store(ptr::null_mut(), Ordering::Release);
        }
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

/// Says whether this thread waits, in the middle of a hook, and leaves its chunk as it is meanwhile.
fn set_waits(waits: bool) {
    // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
    let slot = THREAD.with(|thread| unsafe { thread.slot.get().as_ref() });
    if let Some(slot) = slot {
        // Release: whoever sees it finds the chunk as it is left.
        slot.waits.store(waits, Ordering::Release);
    }
}
