//! Blocks asked of the global allocator directly, with layouts that the caller chooses: the events
//! that a test knows by construction.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;
use std::ptr::NonNull;

/// A block of the global allocator. It is not freed when it is dropped: [`Block::free`] does that.
#[derive(Debug)]
#[must_use = "a block that is not freed leaks"]
pub struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is memory that its holder alone refers to.
unsafe impl Send for Block {}

impl Block {
    /// Asks for a block with `alloc`.
    ///
    /// # Panics
    ///
    /// Where there is no memory.
    pub fn new(size: usize, align: usize) -> Self {
        Self::try_new(size, align).expect("memory")
    }

    /// Asks for a block with `alloc`; `None` where the request fails.
    pub fn try_new(size: usize, align: usize) -> Option<Self> {
        let layout = layout(size, align);
        // SAFETY: `layout` has made sure that the size is not zero.
        let start = unsafe { alloc(layout) };
        Self::taken(start, layout)
    }

    /// Asks for a block with `alloc_zeroed`.
    ///
    /// # Panics
    ///
    /// Where there is no memory, or where it is not zero.
    pub fn zeroed(size: usize, align: usize) -> Self {
        let layout = layout(size, align);
        // SAFETY: `layout` has made sure that the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let block = Self::taken(start, layout).expect("memory");
        // SAFETY: the last byte lies within the block.
        let last = unsafe { block.start.add(size - 1) };
        // SAFETY: as above, and the allocator has set it.
        let last = unsafe { last.read() };
        assert_eq!(last, 0);
        block
    }

    /// Gives the block another size with `realloc`.
    ///
    /// # Panics
    ///
    /// Where there is no memory.
    pub fn resize(self, size: usize) -> Self {
        let wanted = layout(size, self.layout.align());
        // SAFETY: the block came from the global allocator with this layout, and `layout` has made
        // sure that the new size is not zero.
        let start = unsafe { realloc(self.start.as_ptr(), self.layout, size) };
        Self::taken(start, wanted).expect("memory")
    }

    /// Frees the block.
    pub fn free(self) {
        // SAFETY: the block came from the global allocator with this layout, and is not used again.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }

    /// The requested size in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.layout.size()
    }

    /// The block as a pointer that an atomic can hold; its size is kept in its first bytes.
    ///
    /// # Panics
    ///
    /// Where it is too small for that, or not aligned for it.
    #[must_use]
    pub fn into_raw(self) -> *mut usize {
        let start = self.start.cast::<usize>();
        assert!(self.layout.size() >= size_of::<usize>());
        assert_eq!(self.layout.align(), align_of::<usize>());
        // SAFETY: the block is as large and as aligned as a `usize`, as has been made sure of.
        unsafe { start.write(self.layout.size()) };
        start.as_ptr()
    }

    /// The block that [`Block::into_raw`] gave.
    ///
    /// # Safety
    ///
    /// - `start` came from [`Block::into_raw`], and is given here once.
    ///
    /// # Panics
    ///
    /// Where the size at its beginning was overwritten.
    pub unsafe fn from_raw(start: *mut usize) -> Option<Self> {
        let start = NonNull::new(start)?;
        // SAFETY: `into_raw` wrote a size there.
        let size = unsafe { start.read() };
        Some(Self { start: start.cast(), layout: layout(size, align_of::<usize>()) })
    }

    fn taken(start: *mut u8, layout: Layout) -> Option<Self> {
        // The optimiser may leave out a request whose block nobody looks at.
        let start = NonNull::new(black_box(start))?;
        assert!(start.addr().get().is_multiple_of(layout.align()), "{start:?} for {layout:?}");
        // SAFETY: the block has a first byte.
        unsafe { start.write_volatile(0) };
        Some(Self { start, layout })
    }
}

/// The alignment of a trail's blocks, which nothing else has.
pub const TRAIL_ALIGN: usize = 32;

/// Makes `count` blocks, each freed before the next: the one numbered `n` has `base + n` bytes.
pub fn trail(base: usize, count: usize) {
    for number in 0..count {
        Block::new(base + number, TRAIL_ALIGN).free();
    }
}

fn layout(size: usize, align: usize) -> Layout {
    assert_ne!(size, 0);
    Layout::from_size_align(size, align).expect("a layout")
}
