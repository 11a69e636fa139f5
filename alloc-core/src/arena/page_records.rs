//! What is recorded of the pages of a segment: mapped when its address space is reserved, so that a heap
//! takes no more of a limited one than it needs, and never unmapped. A segment that comes to lie where
//! another one was has that one's.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ARENA_SEGMENTS, Arena, get, slice_index, slice_number};
use crate::hardened::marks::Marks;
use crate::record::{Local, Remote};
use crate::segment::{SEGMENT, SLICES};
use crate::{counters, os};

/// Of each slice of a segment, in dense arrays. All zero is a segment without pages.
#[derive(Debug)]
pub(super) struct PageRecords {
    /// What only a page's owner touches.
    locals: [Local; SLICES as usize],
    /// What other threads write: apart, so that they do not slow the owner down.
    remotes: [Remote; SLICES as usize],
    /// Which blocks the program has: nothing at all but in the hardened build.
    marks: [Marks; SLICES as usize],
}

impl Arena {
    /// # Safety
    ///
    /// - The slice is part of a page, as the caller was told in an ordered way: by
    ///   [`kind`](Arena::kind), or by whoever claimed it.
    #[inline(always)]
    unsafe fn page_records(&self, slice: usize) -> &'static PageRecords {
        let records = &self.pages[slice / SLICES as usize % ARENA_SEGMENTS];
        // SAFETY: `provide` put them there before a slice of the segment could be claimed, and they are
        // never unmapped.
        unsafe { &*records.load(Ordering::Relaxed) }
    }

    /// Where the records of pages lie: the address and bytes of each segment's.
    pub(crate) fn page_records_ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        let addresses = self.pages.iter().map(|records| records.load(Ordering::Relaxed).addr());
        addresses.filter(|address| *address != 0).map(|address| (address, size_of::<PageRecords>()))
    }

    /// The owner's side of the page that begins at a slice.
    ///
    /// # Safety
    ///
    /// - The slice is part of a page, as the caller was told in an ordered way.
    #[inline(always)]
    pub(crate) unsafe fn local(&self, slice: usize) -> &'static Local {
        // SAFETY: passed on.
        let records = unsafe { self.page_records(slice) };
        &records.locals[slice % SLICES as usize]
    }

    /// The other threads' side of it.
    ///
    /// # Safety
    ///
    /// As for [`local`](Self::local).
    #[inline(always)]
    pub(crate) unsafe fn remote(&self, slice: usize) -> &'static Remote {
        // SAFETY: passed on.
        let records = unsafe { self.page_records(slice) };
        &records.remotes[slice % SLICES as usize]
    }

    /// Which of its blocks the program has.
    ///
    /// # Safety
    ///
    /// As for [`local`](Self::local).
    #[inline(always)]
    pub(crate) unsafe fn marks(&self, slice: usize) -> &'static Marks {
        // SAFETY: passed on.
        let records = unsafe { self.page_records(slice) };
        &records.marks[slice % SLICES as usize]
    }
}

/// Maps what is missing of the records of segments that begin at `start`, which are not in use yet. `false`
/// when there is no memory for it.
pub(super) fn provide(start: NonNull<u8>, segments: usize) -> bool {
    let places = || {
        let addresses = (0..segments).map(|index| start.addr().get() + index * SEGMENT);
        addresses
            .filter_map(slice_number)
            .filter_map(|number| {
                let index = slice_index(number) / SLICES as usize;
                get(number).map(|arena| &arena.pages[index % ARENA_SEGMENTS])
            })
            .filter(|place| place.load(Ordering::Relaxed).is_null())
    };
    let missing = places().count();
    if missing == 0 {
        return true;
    }
    let bytes = (missing * size_of::<PageRecords>()).next_multiple_of(os::OS_PAGE);
    let Some(memory) = os::map_sparse(bytes) else { return false };
    counters::METADATA_BYTES.add(bytes);
    let mut next: *mut PageRecords = memory.cast().as_ptr();
    // Only whoever reserved their addresses writes these.
    for place in places() {
        place.store(next, Ordering::Relaxed);
        next = next.wrapping_add(1);
    }
    true
}

const _: () = assert!(align_of::<PageRecords>() <= os::OS_PAGE);
