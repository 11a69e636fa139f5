//! The window: its extents in the file, and where they are mapped.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, FILE_HEADER_BYTES};

use super::Log;
use super::into_ring::is_over;
use crate::recorder::extents::{Shape, extent_of};
use crate::recorder::sys::{self, Errno};

impl Log {
    /// Puts ordinary memory where a store to the window found no file; whether the address lies in the
    /// window. Called by a signal handler.
    pub(in crate::recorder) fn patch(&self, address: usize) -> bool {
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
    pub(in crate::recorder) fn part_from_parent(&self) {
        for (extent, place) in self.windows.iter().enumerate() {
            let window = place.load(Ordering::Acquire);
            if !window.is_null() {
                // SAFETY: the whole extent was mapped in one piece; a hook under way finds its chunk
                // empty, which it reads to no end but writing it to the log, and that is refused.
                unsafe { sys::replace(window.cast(), self.shape(extent).bytes()) };
            }
        }
    }

    /// Where the chunk of a stream is mapped, if its extent is.
    pub(in crate::recorder) fn mapped_chunk(&self, stream: u32) -> Option<NonNull<u8>> {
        let extent = extent_of(stream);
        let window = NonNull::new(self.windows.get(extent)?.load(Ordering::Acquire))?;
        Some(self.chunk_in(window, extent, stream).0)
    }

    /// Where the chunk of a stream is mapped, and its length; its extent is mapped if it is not.
    pub(in crate::recorder) fn chunk(&self, stream: u32) -> Result<(NonNull<u8>, usize), Errno> {
        let extent = extent_of(stream);
        let place = self.windows.get(extent).ok_or(libc::ENOMEM)?;
        // Acquire pairs with the exchange in `map_extent`.
        let window = match NonNull::new(place.load(Ordering::Acquire)) {
            Some(window) => window,
            None if self.ring.is_open() => self.map_extent_once(extent)?,
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

    fn shape(&self, extent: usize) -> Shape {
        Shape::of(extent, self.window_bytes.load(Ordering::Relaxed))
    }

    /// As [`Self::map_extent`], for a ring: where threads would add one at the same time, one of them
    /// does, and the others wait for it. What they added in vain would stay in a file that has a limit.
    #[cold]
    fn map_extent_once(&self, extent: usize) -> Result<NonNull<u8>, Errno> {
        let place = self.windows.get(extent).ok_or(libc::ENOMEM)?;
        let mut until = None;
        while !is_over(&mut until) {
            // Acquire pairs with the release below: whoever adds one next finds this one.
            if !self.adds_extent.swap(true, Ordering::Acquire) {
                let mapped = match NonNull::new(place.load(Ordering::Acquire)) {
                    Some(window) => Ok(window),
                    None => self.map_extent(extent),
                };
                self.adds_extent.store(false, Ordering::Release);
                return mapped;
            }
            sys::pause();
        }
        self.map_extent(extent)
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
        if self.ring.is_open() {
            // More threads than were foreseen: the ring has its part of the file, and they need theirs.
            self.check_file_size(begin + reserved)?;
        } else {
            self.check_limit(begin + reserved)?;
        }
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

    /// Gives the space of the window back to the file system: everything is in the log.
    pub(in crate::recorder) fn discard_windows(&self) {
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
    pub(in crate::recorder) unsafe fn unmap(&self) {
        for (extent, place) in self.windows.iter().enumerate() {
            let window = place.swap(ptr::null_mut(), Ordering::AcqRel);
            if let Some(window) = NonNull::new(window) {
                // SAFETY: the whole extent was mapped in one piece; the caller promises the rest.
                unsafe { sys::unmap(window, self.shape(extent).bytes()) };
            }
        }
    }

    /// Forgets where the window was mapped and leaves it mapped: somebody may still use it.
    pub(in crate::recorder) fn abandon_windows(&self) {
        for place in &self.windows {
            place.store(ptr::null_mut(), Ordering::Release);
        }
    }
}
