//! Stand-ins for what the parts ask of other modules. The memory of a segment is a word for each of its
//! first slices.

/// The abort is a failed test.
pub(crate) mod fatal {
    pub(crate) fn fatal(found: &str, address: usize) -> ! {
        panic!("{found} (address {address:#x})");
    }
}

/// The ordinary build.
pub(crate) mod hardened {
    pub(crate) mod guards {
        pub(crate) const GUARD_SLICES: u32 = 0;

        pub(crate) fn guard(_: *mut u8) {}
    }
}

/// The OS clears the slices that are purged, and may refuse to.
pub(crate) mod os {
    use core::ptr::NonNull;

    use loom::sync::atomic::{AtomicU64, Ordering};

    use crate::segment::{SEGMENT, SLICE, SLICES};

    pub(crate) const OS_PAGE: usize = SLICE;

    /// Segments of a model, the first of them at the address [`SEGMENT`].
    const SEGMENTS: usize = 2;

    /// The first slices of each segment, which have memory.
    pub(crate) const MEMORY: usize = 4;

    loom::lazy_static! {
        /// What the slices hold; not ordered by itself, so that a model sees every disorder.
        static ref CONTENTS: [[AtomicU64; MEMORY]; SEGMENTS] =
            core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0)));
        /// Whether purging is refused.
        pub(crate) static ref REFUSES: AtomicU64 = AtomicU64::new(0);
    }

    pub(crate) fn page_bytes() -> usize {
        OS_PAGE
    }

    /// The contents of a slice, counted from the first segment's first one.
    pub(crate) fn contents(slice: usize) -> &'static AtomicU64 {
        find_contents(slice).expect("a slice that was not free")
    }

    fn find_contents(slice: usize) -> Option<&'static AtomicU64> {
        CONTENTS[slice / SLICES as usize].get(slice % SLICES as usize)
    }

    /// # Safety
    ///
    /// None here.
    pub(crate) unsafe fn purge(start: NonNull<u8>, bytes: usize) -> bool {
        if REFUSES.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let first = (start.addr().get() - SEGMENT) / SLICE;
        for contents in (first..first + bytes / SLICE).filter_map(find_contents) {
            contents.store(0, Ordering::Relaxed);
        }
        true
    }

    pub(crate) fn wait_for_forks() -> bool {
        true
    }

    /// # Safety
    ///
    /// None here.
    pub(crate) unsafe fn unmap(_: NonNull<u8>, _: usize) -> bool {
        true
    }
}

/// Counters that do not count.
pub(crate) mod counters {
    #[derive(Debug)]
    pub(crate) struct Counter;

    impl Counter {
        pub(crate) fn add(&self, _: usize) {}

        pub(crate) fn sub(&self, _: usize) {}
    }

    pub(crate) static DIRTY_SLICES: Counter = Counter;
    pub(crate) static SEGMENTS: Counter = Counter;
}

/// Address space is what it is.
pub(crate) mod arena {
    pub(crate) fn reserve() -> bool {
        false
    }
}

/// One size class, of which an ending thread's cache keeps one block and not two.
pub(crate) mod class {
    /// Blocks of a page.
    pub(crate) const BLOCKS: u32 = 3;

    pub(crate) const CLASSES: usize = 1;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Class;

    pub(crate) struct Shape {
        pub(crate) blocks: u32,
        pub(crate) slices: u32,
        pub(crate) cache_blocks: u32,
    }

    impl Class {
        pub(crate) fn all() -> impl Iterator<Item = Self> {
            core::iter::once(Self)
        }

        pub(crate) fn pick<T>(self, of_classes: &[T; CLASSES]) -> &T {
            let [of_class] = of_classes;
            of_class
        }

        pub(crate) fn size(self) -> usize {
            64 << 10
        }

        pub(crate) fn shape(self) -> &'static Shape {
            &Shape { blocks: BLOCKS, slices: 1, cache_blocks: BLOCKS }
        }
    }
}

/// Time stands still.
pub(crate) mod decay {
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Period(pub(crate) u64);

    pub(crate) fn tick() -> Period {
        Period(1)
    }
}

/// Cells that loom watches: to touch one while another thread may is a failed test.
pub(crate) mod owner {
    use loom::cell::UnsafeCell;

    macro_rules! owner {
        ($name:ident, $number:ty) => {
            #[derive(Debug)]
            pub(crate) struct $name(UnsafeCell<$number>);

            // SAFETY: loom finds out if two threads touch it at once.
            unsafe impl Sync for $name {}

            impl $name {
                pub(crate) fn new(value: $number) -> Self {
                    Self(UnsafeCell::new(value))
                }

                pub(crate) fn get(&self) -> $number {
                    // SAFETY: valid; loom finds out if it is written meanwhile.
                    self.0.with(|cell| unsafe { *cell })
                }

                pub(crate) fn set(&self, value: $number) {
                    // SAFETY: valid; loom finds out if it is touched meanwhile.
                    self.0.with_mut(|cell| unsafe { *cell = value });
                }
            }
        };
    }

    owner!(OwnerU32, u32);
    owner!(OwnerU64, u64);
}

/// Nobody is asked to look after anything: models say who does.
pub(crate) mod purger {
    pub(crate) fn slices_were_freed(_: usize) {}
}
