//! An allocator that may be asked in a signal handler, and that hands a freed block to whichever
//! thread asks next.
//!
//! Blocks of a power of two are cut from one reservation; free ones are on a lock-free stack for
//! each size (Treiber's, with a count beside the top against reuse in between). The C library's heap
//! may not be asked in signal handlers, and keeps freed blocks with the thread that freed them: this
//! one makes the orders that a recording can get wrong.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The allocator; all of them are one heap.
#[derive(Debug, Default)]
pub struct Pool;

/// What is reserved: more than any scenario asks for.
const RESERVED_BYTES: usize = 4 << 30;
const UNIT_BYTES: usize = 16;
const CLASSES: usize = 30;

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// How many units have been cut.
static CUT: AtomicUsize = AtomicUsize::new(1);
/// For each class the first free block, in units, below a count of changes.
static TOPS: [AtomicU64; CLASSES] = [const { AtomicU64::new(0) }; CLASSES];

/// The signal that interrupts the next reallocation; 0 for none.
static INTERRUPTION: AtomicI32 = AtomicI32::new(0);

impl Pool {
    /// The allocator.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// The next reallocation is interrupted by a signal once it has released the old block.
    pub fn interrupt_next_reallocation(signal: c_int) {
        INTERRUPTION.store(signal, Ordering::Relaxed);
    }
}

// SAFETY: a block is cut once, is on a stack only while it is free, and is as large and as aligned
// as its class, which both ends compute from the layout alike.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, units)) = class(layout) else { return ptr::null_mut() };
        let Some(base) = base() else { return ptr::null_mut() };
        let top = &TOPS[class];
        let mut seen = top.load(Ordering::Acquire);
        while seen as u32 != 0 {
            let next = link(base, seen as u32).load(Ordering::Relaxed);
            let wanted = counted(seen, next);
            match top.compare_exchange_weak(seen, wanted, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return at(base, seen as u32),
                Err(now) => seen = now,
            }
        }
        // Room to align within.
        let first = CUT.fetch_add(2 * units, Ordering::Relaxed).next_multiple_of(units);
        if (first + units) * UNIT_BYTES > RESERVED_BYTES {
            return ptr::null_mut();
        }
        at(base, first as u32)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        // SAFETY: the caller has made sure that the new size is not zero.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            let bytes = layout.size().min(new_size);
            // SAFETY: both blocks are as large, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(block, new_block, bytes) };
            // SAFETY: the caller's promise; the block is not used any more.
            unsafe { self.dealloc(block, layout) };
            interrupt();
        }
        new_block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (Some((class, _)), Some(base)) = (class(layout), base()) else { return };
        let unit = ((block.addr() - base.addr()) / UNIT_BYTES) as u32;
        let top = &TOPS[class];
        let mut seen = top.load(Ordering::Acquire);
        loop {
            link(base, unit).store(seen as u32, Ordering::Relaxed);
            let wanted = counted(seen, unit);
            match top.compare_exchange_weak(seen, wanted, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

/// Raises the signal that was asked for, if one was.
fn interrupt() {
    let signal = INTERRUPTION.swap(0, Ordering::Relaxed);
    if signal != 0 {
        // SAFETY: the call touches no memory; whoever asked for the signal handles it.
        unsafe { libc::raise(signal) };
    }
}

/// The class of a layout, and a block's length in units.
fn class(layout: Layout) -> Option<(usize, usize)> {
    let bytes = layout.size().max(layout.align()).max(UNIT_BYTES).checked_next_power_of_two()?;
    let units = bytes / UNIT_BYTES;
    let class = units.trailing_zeros() as usize;
    (bytes <= RESERVED_BYTES / 4).then_some((class, units))
}

fn counted(seen: u64, unit: u32) -> u64 {
    ((seen >> 32).wrapping_add(1) << 32) | u64::from(unit)
}

fn at(base: *mut u8, unit: u32) -> *mut u8 {
    base.wrapping_add(unit as usize * UNIT_BYTES)
}

/// Where a free block says which one is below it.
fn link<'a>(base: *mut u8, unit: u32) -> &'a AtomicU32 {
    // SAFETY: the block lies in the reservation, which is never given back; of one that was taken in
    // the meantime something may be read that the count of changes lets nobody use.
    unsafe { AtomicU32::from_ptr(at(base, unit).cast()) }
}

/// The reservation, made at the first request; aligned to the largest block.
fn base() -> Option<*mut u8> {
    let known = BASE.load(Ordering::Acquire);
    if !known.is_null() {
        return Some(known);
    }
    let bytes = 2 * RESERVED_BYTES;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous mapping at a place that the kernel chooses touches nothing.
    let made = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return None;
    }
    let made = made.cast::<u8>();
    let aligned = made.wrapping_add(made.align_offset(RESERVED_BYTES));
    match BASE.compare_exchange(ptr::null_mut(), aligned, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(aligned),
        Err(first) => {
            // SAFETY: mapped above, and nobody else has seen it.
            unsafe { libc::munmap(made.cast(), bytes) };
            Some(first)
        }
    }
}
