//! The handle on the process's heap, and which way a request goes: by its layout alone to a size
//! class or to the large blocks.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};

use crate::class::Class;
use crate::fatal::fatal;
use crate::hardened::custody;
use crate::heap::Heap;
use crate::large::{self, Fill};
use crate::page::Page;
use crate::place::Portable;
use crate::stats::Stats;
use crate::{arena, check, decay, purger, stats, thread, tool, walk};

/// The heap. A handle without size: all of them are the same process-wide heap.
///
/// It serves every layout that can be served, at any time: before `main`, in signal handlers, in
/// the destructors of an ending thread, in the child of a fork. Blocks may be freed by any thread.
/// A request that cannot be met is answered with null.
///
/// A layout of size 0, which `GlobalAlloc` forbids, gets a block like any other.
///
/// ```
/// use alloc_core::CoreAlloc;
///
/// #[global_allocator]
/// static HEAP: CoreAlloc = CoreAlloc::new();
///
/// let boxed = Box::new([7u8; 100]);
/// assert_eq!(boxed[99], 7);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreAlloc(());

/// What [`CoreAlloc::check`] found wrong with the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage(&'static str);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Damage {}

impl CoreAlloc {
    /// The handle. Nothing is set up before the first request.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    /// What the heap holds at this moment. Allocates nothing, takes no lock and stops nobody; with other
    /// threads at work the figures may be some steps apart from each other.
    ///
    /// It looks at the record of every page, so it takes time in proportion to the heap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::read()
    }

    /// Bytes of the OS's memory behind the heap at this moment: its segments, huge blocks and
    /// metadata. Asks the OS about all of it, so it takes time in proportion to
    /// [`Stats::mapped_bytes`].
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        stats::resident_bytes()
    }

    /// The heap's segments, and through them its pages and blocks. What may be relied on is said in
    /// [`walk`].
    pub fn segments(&self) -> impl Iterator<Item = walk::Segment> + use<> {
        walk::segments()
    }

    /// The live blocks that are mappings of their own, outside of all segments; see [`walk`].
    pub fn huge_blocks(&self) -> impl Iterator<Item = walk::LargeBlock> + use<> {
        walk::huge_blocks()
    }

    /// Gives all unused memory back to the OS now, instead of when it has been unused for a while.
    /// Returns the bytes; 0 where none was unused.
    ///
    /// The memory that other threads keep for their next requests stays, and this thread's cached
    /// blocks are handed to their pages first. What is used again afterwards costs page faults, so
    /// this is for a program that is about to be quiet, or that measures its memory.
    ///
    /// ```
    /// # #[global_allocator]
    /// # static HEAP: alloc_core::CoreAlloc = alloc_core::CoreAlloc::new();
    /// let large = std::hint::black_box(vec![1u8; 1 << 20]);
    /// drop(large);
    /// assert!(HEAP.purge() >= 1 << 20);
    /// ```
    pub fn purge(&self) -> usize {
        thread::with_own_heap::<Portable, _>(Heap::trim);
        decay::purge(true)
    }

    /// Says whether the heap may start a thread that gives memory back; by default it may.
    ///
    /// The program's own threads give unused memory back as they come by for more. Where 8 MiB or more
    /// are free and they may not come, because they sleep, or live on what their caches hold, the heap
    /// starts a thread, which looks at the heap twice a second and ends two seconds after there was
    /// anything to do. It is a bare thread of the kernel's with a small stack and all signals blocked,
    /// and the C library does not know of it.
    ///
    /// It has no capabilities, but the ids of the thread in whose request it was started: for what must
    /// not find it there, see [`without_background_thread`](Self::without_background_thread).
    ///
    /// To be switched off by a program that lives under a filter of system calls which forbids `clone`,
    /// `capset`, `prctl`, `futex`, `membarrier` or `mincore`. If the thread runs, this waits for its end,
    /// though not longer than two seconds.
    pub fn purge_in_background(&self, is_allowed: bool) {
        purger::set_allowed(is_allowed);
    }

    /// Runs `operation` while the heap has no thread: a change of the user or the groups of the process
    /// (`setuid`), which does not reach a thread that the C library does not know, or what a process of
    /// several threads is refused (`unshare` of a user namespace). `operation` should not run long; where it
    /// panics, the heap may have its thread again as after its end.
    ///
    /// If the thread runs, this waits for its end: commonly some microseconds, or what it takes to
    /// purge what is just being purged, though not longer than two seconds. Under `LD_PRELOAD` of
    /// `alloc-core-capi` those functions of the C library do all this themselves.
    ///
    /// ```
    /// # static HEAP: alloc_core::CoreAlloc = alloc_core::CoreAlloc::new();
    /// # fn setuid() -> i32 { 0 }
    /// assert_eq!(HEAP.without_background_thread(|| setuid()), 0);
    /// ```
    pub fn without_background_thread<R>(&self, operation: impl FnOnce() -> R) -> R {
        purger::without_thread(operation)
    }

    /// The bytes that a block really has, at least as many as were asked for. All of them may be
    /// used, but reallocating and freeing still take the layout that was asked for. An address that lies in
    /// no block of the heap ends the process, with one line that names it.
    ///
    /// # Safety
    ///
    /// - `block` was allocated by `CoreAlloc` and is live.
    #[must_use]
    pub unsafe fn usable_size(&self, block: NonNull<u8>) -> usize {
        usable_size(block)
    }

    /// Looks through the calling thread's heap for contradictions: every list, count and bit.
    ///
    /// For tests; it takes time in proportion to the pages that have free blocks. `Ok` where the
    /// thread has no heap, as before its first request.
    ///
    /// # Errors
    ///
    /// The first contradiction found. The heap is damaged then, by a defect of its own or of the
    /// program (a write through a stray pointer), and should not be used further.
    pub fn check(&self) -> Result<(), Damage> {
        thread::with_own_heap::<Portable, _>(Heap::check).unwrap_or(Ok(())).map_err(Damage)
    }

    /// Looks through the whole heap for contradictions: every thread's heap, idle ones included,
    /// every segment, page and large block, and the counters.
    ///
    /// For tests, while no other thread uses the heap: what is under way in one seems to be a
    /// contradiction. So does, in the child of a fork, what another thread was in the middle of
    /// then. It takes time in proportion to pages times threads.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn check_all(&self) -> Result<(), Damage> {
        purger::without(check::all).map_err(Damage)
    }
}

/// The bytes that a block has. Ends the process if it is none of ours.
pub(crate) fn usable_size(block: NonNull<u8>) -> usize {
    let number = arena::slice_number(block.addr().get());
    if let Some(page) = number.and_then(Page::of_slice) {
        return page.class().size();
    }
    let arena = number.and_then(|number| Some((number, arena::get(number)?)));
    let bytes = arena.map_or(0, |(n, arena)| arena.head(arena::slice_index(n)).bytes());
    if bytes == 0 {
        fatal("asked for the size of a block that is not ours", block.addr().get());
    }
    bytes
}

/// Moves a block to one of another class: what a growing vector does, so it is not rare, but more
/// than a caller should have inlined.
///
/// # Safety
///
/// - `block` is a live block of `class` that holds `bytes` bytes of contents, and is given up unless
///   null is returned.
/// - A block of `new_class` holds so many too.
#[inline(never)]
unsafe fn change_class(block: *mut u8, class: Class, new_class: Class, bytes: usize) -> *mut u8 {
    let new_block = thread::alloc::<Portable>(new_class);
    if new_block.is_null() {
        return new_block;
    }
    // SAFETY: both blocks have so many bytes, and a new block overlaps no live one.
    unsafe { ptr::copy_nonoverlapping(block, new_block, bytes) };
    thread::dealloc::<Portable>(class, block);
    new_block
}

/// Allocates, copies, frees: where a large block cannot be resized.
///
/// # Safety
///
/// As for [`GlobalAlloc::realloc`]; `new_layout` is the new size with the old alignment.
#[cold]
#[inline(never)]
unsafe fn move_block(
    heap: CoreAlloc,
    block: *mut u8,
    layout: Layout,
    new_layout: Layout,
) -> *mut u8 {
    let grows = new_layout.size() > layout.size() && Class::of(new_layout).is_none();
    let new_block = if grows {
        let grown = large::alloc_growing::<Portable>(new_layout);
        tool::allocated(grown, new_layout.size());
        grown
    } else {
        // SAFETY: `CoreAlloc` accepts every layout.
        unsafe { heap.alloc(new_layout) }
    };
    if new_block.is_null() {
        return new_block;
    }
    let bytes = layout.size().min(new_layout.size());
    // SAFETY: both blocks have so many bytes, and a new block overlaps no live one.
    unsafe { ptr::copy_nonoverlapping(block, new_block, bytes) };
    // SAFETY: the caller gives up the old block, which has this layout.
    unsafe { heap.dealloc(block, layout) };
    new_block
}

// SAFETY: blocks are disjoint and as large and aligned as asked, or null; nothing unwinds. The
// heap's pages and segments keep each block from being handed out again before it was freed.
unsafe impl GlobalAlloc for CoreAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match Class::of(layout) {
            Some(class) => thread::alloc::<Portable>(class),
            None => large::alloc::<Portable>(layout, Fill::Any),
        };
        tool::allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        tool::freed(block);
        match Class::of(layout) {
            Some(class) => thread::dealloc::<Portable>(class, block),
            None => {
                let Some(block) = NonNull::new(block) else { return };
                custody::take_back_large(block.as_ptr(), Some(layout.size()));
                // SAFETY: by the caller's promise the block has this layout, which `alloc` sends
                // to `large` too, and is given up.
                unsafe { large::dealloc(block) };
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => {
                let block = thread::alloc::<Portable>(class);
                if !block.is_null() {
                    tool::allocated(block, layout.size());
                    // SAFETY: a new block of at least `layout.size()` bytes.
                    unsafe { block.write_bytes(0, layout.size()) };
                }
                block
            }
            None => {
                let block = large::alloc::<Portable>(layout, Fill::Zero);
                tool::cleared(block, layout.size());
                block
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        match (Class::of(layout), Class::of(new_layout)) {
            (Some(class), Some(new_class)) => {
                if class == new_class {
                    tool::resized(block, block, layout.size(), new_size);
                    return block;
                }
                if !tool::IS_TOLD {
                    let bytes = layout.size().min(new_size);
                    // SAFETY: by the caller's promise the block is live with `layout`, whose class
                    // this is, and is given up unless null is returned; the smaller size fits both
                    // classes.
                    return unsafe { change_class(block, class, new_class, bytes) };
                }
            }
            (None, None) => {
                if let Some(block) = NonNull::new(block) {
                    // SAFETY: by the caller's promise the block is live with this layout, which
                    // `alloc` sends to `large` too.
                    let resized = unsafe { large::resize(block, layout.align(), new_size) };
                    if !resized.is_null() {
                        tool::resized(block.as_ptr(), resized, layout.size(), new_size);
                        return resized;
                    }
                }
            }
            _ => {}
        }
        // SAFETY: passed on.
        unsafe { move_block(*self, block, layout, new_layout) }
    }
}
