//! The file of the present recording: its window's extents, and the log behind them.
//!
//! Threads append to the log without waiting for each other: each reserves its place by advancing
//! the end, and writes there.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use alloc_trace_format::{
    BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec, FILE_HEADER_BYTES,
};

use super::extents::{DEFAULT_WINDOW_BYTES, MAX_EXTENTS, Shape, extent_of};
use super::sys::{self, Errno};
use super::workroom::{Room, Workrooms};
use super::{RECORDER, epoch};

/// Why nothing is written in a process that a signal handler forked within a hook: the file is the
/// parent's.
pub(super) const FORKED: Errno = libc::ECHILD;

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
            windows: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_EXTENTS],
            offsets: [const { AtomicU64::new(0) }; MAX_EXTENTS],
        }
    }

    /// Begins with a new file that may become so long, with a window of that length and chunks
    /// compressed at that level.
    pub(super) fn open(
        &self,
        fd: i32,
        window_bytes: usize,
        level: i32,
        limit_bytes: u64,
    ) -> Result<(), Errno> {
        let identity = sys::identity(fd)?;
        self.device.store(identity.device, Ordering::Relaxed);
        self.inode.store(identity.inode, Ordering::Relaxed);
        self.fd.store(fd, Ordering::Relaxed);
        self.window_bytes.store(window_bytes, Ordering::Relaxed);
        self.level.store(level, Ordering::Relaxed);
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.least_bytes.store(0, Ordering::Relaxed);
        self.torn.store(false, Ordering::Relaxed);
        self.end.store(FILE_HEADER_BYTES as u64, Ordering::Relaxed);
        Ok(())
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

    /// Appends a chunk, compressed where a workroom is free and where that makes it shorter; codec,
    /// lengths and checksum are filled in.
    pub(super) fn append_chunk(&self, header: BlockHeader, payload: &[u8]) -> Result<(), Errno> {
        let raw_bytes = payload.len() as u32;
        let plain = BlockHeader {
            codec: Codec::Plain,
            stored_bytes: u64::from(raw_bytes),
            raw_bytes,
            ..header
        };
        let level = self.level.load(Ordering::Relaxed);
        let entered = if level == 0 {
            None
        } else {
            self.rooms.enter(|room| {
                let Room { packer, space, compressor, output, .. } = room;
                // No longer than the payload: what gains nothing is stored as it is.
                let output = output.get_mut(..payload.len())?;
                let packed =
                    packer.pack(space.lend(), payload, output, |effort, column, out| {
                        compressor.compress(effort, level, column, out)
                    })?;
                let stored = output.get(..packed)?;
                let header =
                    BlockHeader { codec: Codec::Columns, stored_bytes: packed as u64, ..plain };
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
        let shape = self.shape(extent);
        let place = self.windows.get(extent).ok_or(libc::ENOMEM)?;
        // Acquire pairs with the exchange in `map_extent`.
        let window = match NonNull::new(place.load(Ordering::Acquire)) {
            Some(window) => window,
            None => self.map_extent(extent)?,
        };
        let index = (stream - shape.first_stream) as usize;
        let chunk_bytes = shape.chunk_bytes as usize;
        // SAFETY: the index is below the number of the extent's chunks.
        Ok((unsafe { window.add(index * chunk_bytes) }, chunk_bytes))
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
