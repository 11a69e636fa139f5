//! What is recorded of each slice: what begins there, and if it is a page, both sides of its blocks' bits.
//!
//! These are the records alone, as [`arena`](crate::arena) has them in dense arrays; what is done with them
//! is told in [`page`](crate::page) and [`large`](crate::large). All zero, as fresh memory is, they say that
//! there is nothing.

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use crate::class::{CACHED_KINDS, Class, class_of_kind, kind_of_class};
use crate::fatal::fatal;
use crate::owner::{OwnerU32, OwnerU64};
use crate::remote::{self, Inbox};
use crate::segment::SLICE;

/// Most blocks of a page, as words of bits.
pub(crate) const WORDS: usize = SLICE / 16 / 64;

/// Whose pages are: what a page knows of a heap.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Where other threads post its pages: the only part of a heap that they write.
    pub(crate) inbox: Inbox,
    /// The heap's index in the pool.
    pub(crate) index: OwnerU32,
}

/// What begins at a slice. Kept as one byte, all that freeing without a layout has to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing of ours begins here.
    None,
    /// A page, or a later slice of one.
    Page(Class),
    /// A large block: a run of slices.
    Large,
    /// A huge block: a mapping of its own.
    Huge,
}

impl Kind {
    const LARGE: u8 = 0xfe;
    const HUGE: u8 = 0xff;

    /// As a byte: 0 for nothing, what [`kind_of_class`] says, or one of those above.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Page(class) => kind_of_class(class),
            Self::Large => Self::LARGE,
            Self::Huge => Self::HUGE,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Self {
        match (byte, class_of_kind(byte)) {
            (0, _) => Self::None,
            (_, Some(class)) => Self::Page(class),
            (Self::LARGE, _) => Self::Large,
            (Self::HUGE, _) => Self::Huge,
            (other, _) => fatal("a slice of unknown kind", other.into()),
        }
    }
}

const _: () = assert!(CACHED_KINDS <= Kind::LARGE as usize);

/// What any thread may ask about a slice, beside its [`Kind`]. Written by the slice's owner before
/// it hands out a block there; a thread that has a pointer to a block has been told of it in some
/// ordered way, so it sees this too.
#[derive(Debug)]
pub(crate) struct Head {
    /// Whose the page is. Changes when a live heap takes over an idle one's pages.
    owner: AtomicPtr<Owner>,
    /// Usable bytes of a large or huge block.
    bytes: AtomicUsize,
    /// Bytes that the program asked of it.
    requested: AtomicUsize,
    /// How many slices before this one the page begins.
    back: AtomicU8,
}

impl Head {
    /// Usable bytes of the large or huge block that begins here.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that the program asked of the large or huge block that begins here.
    pub(crate) fn requested(&self) -> usize {
        self.requested.load(Ordering::Relaxed)
    }

    pub(crate) fn set_requested(&self, bytes: usize) {
        self.requested.store(bytes, Ordering::Relaxed);
    }

    /// The owner of the page that the slice is part of.
    pub(crate) fn owner(&self) -> *mut Owner {
        self.owner.load(Ordering::Relaxed)
    }

    pub(crate) fn set_owner(&self, owner: &'static Owner) {
        self.owner.store(core::ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
    }

    /// How many slices before this one the page begins.
    pub(crate) fn back(&self) -> u8 {
        self.back.load(Ordering::Relaxed)
    }

    pub(crate) fn describe_page(&self, owner: &'static Owner, back: u32) {
        self.set_owner(owner);
        self.back.store(back as u8, Ordering::Relaxed);
    }
}

/// The owner's side of a page. A page of few blocks needs only the first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Local {
    /// Neighbours in the owner's list of pages with free blocks; 0 for none.
    pub(crate) next: OwnerU32,
    pub(crate) previous: OwnerU32,
    /// Blocks free by `bits`.
    pub(crate) free: OwnerU32,
    /// No bit is set in words before this one.
    pub(crate) lowest: OwnerU32,
    /// Whether the page is in the list.
    pub(crate) listed: OwnerU32,
    /// Blocks that were free when it was swept last; see [`Page::sweep`](crate::page::Page::sweep).
    pub(crate) swept: OwnerU32,
    pub(crate) bits: [OwnerU64; WORDS],
}

/// The side of a page that other threads write.
pub(crate) type Remote = remote::Remote<WORDS>;
