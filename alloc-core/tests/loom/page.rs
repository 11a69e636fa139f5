//! A stand-in for `page` and what is recorded of pages: two of them, a slice each of one segment, with a few
//! blocks. Both sides of a page are the crate's own; a block's memory is a cell that loom watches.

use core::ptr::NonNull;

use crate::class::{BLOCKS, Class};
use crate::owner::{OwnerU32, OwnerU64};
use crate::record::Owner;
use crate::remote::Remote;
use crate::segment::{Placement, SEGMENT, SLICES, Segment};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};

/// Pages that there is room for.
const PAGES: u32 = 2;

/// What the heap's own modules find in `record`.
pub(crate) mod record {
    use crate::owner::OwnerU32;
    use crate::remote::Inbox;

    pub(crate) struct Owner {
        pub(crate) inbox: Inbox,
        pub(crate) index: OwnerU32,
    }
}

pub(crate) struct Local {
    pub(crate) next: OwnerU32,
    pub(crate) previous: OwnerU32,
    pub(crate) free: OwnerU32,
    pub(crate) listed: OwnerU32,
    bits: OwnerU64,
}

struct Record {
    /// 1 while there is a page.
    is_page: AtomicU32,
    owner: AtomicPtr<Owner>,
    local: Local,
    remote: Remote<1>,
    /// The blocks' memory.
    blocks: [OwnerU64; BLOCKS as usize],
}

loom::lazy_static! {
    static ref SEGMENT_OF_PAGES: Segment = {
        let segment = Segment::new();
        segment.install(NonNull::new(core::ptr::without_provenance_mut(SEGMENT)).unwrap());
        assert!(segment.claim_exactly(PAGES, SLICES - PAGES).is_some());
        segment
    };
    static ref RECORDS: [Record; PAGES as usize] = core::array::from_fn(|_| Record {
        is_page: AtomicU32::new(0),
        owner: AtomicPtr::new(core::ptr::null_mut()),
        local: Local {
            next: OwnerU32::new(0),
            previous: OwnerU32::new(0),
            free: OwnerU32::new(0),
            listed: OwnerU32::new(0),
            bits: OwnerU64::new(0),
        },
        remote: Remote::new(),
        blocks: core::array::from_fn(|_| OwnerU64::new(0)),
    });
}

/// Pages that nobody has.
pub(crate) fn unclaimed() -> u32 {
    SEGMENT_OF_PAGES.free().count_ones()
}

/// A page, by its number from 1.
#[derive(Clone, Copy)]
pub(crate) struct Page(u32);

/// A block of a page. Whoever has it may write to it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) page: u32,
    pub(crate) bit: u64,
}

impl Block {
    pub(crate) fn write(&self) {
        let blocks = &RECORDS[self.page as usize - 1].blocks;
        blocks[self.bit.trailing_zeros() as usize].set(1);
    }
}

impl Page {
    pub(crate) fn claim(owner: &'static Owner, class: Class) -> Option<Self> {
        let run = SEGMENT_OF_PAGES.claim(class.shape().slices, 1, Placement::Lowest)?;
        let page = Self(run.first + 1);
        page.set_owner(owner);
        page.record().is_page.store(1, Ordering::Release);
        page.local().bits.set((1 << BLOCKS) - 1);
        page.local().free.set(BLOCKS);
        Some(page)
    }

    pub(crate) fn release(self, is_rested: bool) {
        self.local().bits.set(0);
        self.local().free.set(0);
        self.record().is_page.store(0, Ordering::Release);
        if is_rested {
            SEGMENT_OF_PAGES.release_rested(self.0 - 1, 1);
        } else {
            SEGMENT_OF_PAGES.release(self.0 - 1, 1);
        }
    }

    pub(crate) fn of_slice(number: u32) -> Option<Self> {
        let page = (number != 0).then_some(Self(number))?;
        assert_eq!(page.record().is_page.load(Ordering::Acquire), 1, "no page is there");
        Some(page)
    }

    fn record(self) -> &'static Record {
        &RECORDS[self.0 as usize - 1]
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    #[expect(clippy::unused_self, reason = "it is of one class")]
    pub(crate) fn class(self) -> Class {
        Class
    }

    pub(crate) fn local(self) -> &'static Local {
        &self.record().local
    }

    pub(crate) fn remote(self) -> &'static Remote<1> {
        assert_eq!(
            self.record().is_page.load(Ordering::Relaxed),
            1,
            "touched after it was given up"
        );
        &self.record().remote
    }

    pub(crate) fn owner(self) -> *mut Owner {
        self.record().owner.load(Ordering::Relaxed)
    }

    pub(crate) fn set_owner(self, owner: &'static Owner) {
        self.record().owner.store(core::ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
    }

    pub(crate) fn free(self) -> u32 {
        self.local().free.get()
    }

    pub(crate) fn is_unused(self) -> bool {
        self.free() == BLOCKS && self.remote().is_settled()
    }

    /// Takes the lowest free block.
    pub(crate) fn take(self) -> Block {
        let bits = self.local().bits.get();
        let bit = bits & bits.wrapping_neg();
        assert_ne!(bit, 0, "no block is free");
        self.local().bits.set(bits & !bit);
        self.local().free.set(self.free() - 1);
        Block { page: self.0, bit }
    }

    /// Frees blocks on the owner's side.
    pub(crate) fn set_local_bits(self, bits: u64) {
        assert_eq!(self.local().bits.get() & bits, 0, "freed twice");
        self.local().bits.set(self.local().bits.get() | bits);
        self.local().free.set(self.free() + bits.count_ones());
    }

    /// Frees a block as a thread does whose page this is not.
    pub(crate) fn free_remotely(self, bit: u64) {
        assert!(self.remote().set(0, bit));
        if self.remote().count(1) {
            self.post_to_owner();
        }
    }

    pub(crate) fn post_to_owner(self) {
        // SAFETY: an owner is part of one of the model's heaps, which stay.
        let owner = unsafe { self.owner().as_ref() }.expect("an owner");
        owner.inbox.post(self.number(), self.remote());
    }

    pub(crate) fn collect(self) {
        self.remote().collect(1, |_, bits| self.set_local_bits(bits));
    }

    /// Looks at all that a sweep looks at, and gives nothing back.
    pub(crate) fn sweep(self, _: usize) -> usize {
        self.local().bits.get();
        0
    }
}
