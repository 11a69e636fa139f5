//! Stand-ins for what `segment` asks of other modules. The memory of the segment is a word for each
//! of its first slices.

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

    use crate::segment::{SEGMENT, SLICE};

    pub(crate) const OS_PAGE: usize = SLICE;

    /// Slices that have memory.
    pub(crate) const MEMORY: usize = 4;

    loom::lazy_static! {
        /// What the slices hold; not ordered by itself, so that a model sees every disorder.
        pub(crate) static ref CONTENTS: [AtomicU64; MEMORY] =
            core::array::from_fn(|_| AtomicU64::new(0));
        /// Whether purging is refused.
        pub(crate) static ref REFUSES: AtomicU64 = AtomicU64::new(0);
    }

    /// The contents of a slice.
    pub(crate) fn contents(slice: usize) -> &'static AtomicU64 {
        &CONTENTS[slice]
    }

    /// # Safety
    ///
    /// None here.
    pub(crate) unsafe fn purge(start: NonNull<u8>, bytes: usize) -> bool {
        if REFUSES.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let first = start.addr().get() % SEGMENT / SLICE;
        for slice in first..first + bytes / SLICE {
            contents(slice).store(0, Ordering::Relaxed);
        }
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
