//! Where a thread keeps which heap it uses: two pointers in thread-local memory.
//!
//! One is what the next operation finds, and is taken out and put back by each; the other is the
//! thread's own heap, and is only written when the thread gets or loses it. An operation that
//! succeeded was on the own heap, so it puts back a copy of the other pointer: to put back what it
//! took out would make each operation wait for the one before, through memory.
//!
//! There are two such places, because how fast thread-local memory is depends on what is linked.
//! [`Portable`] is `thread_local!`: in a program's executable, which is where Rust's requests come
//! from, one instruction finds it; in a shared library it is a function call. [`InitialExec`] is
//! found by one load in both, at a price that only a library loaded at the start can pay without
//! asking, so only the C entry points use it. Stable Rust has no way to choose the TLS model of a
//! `thread_local!`, and a feature that changed it would change it for a whole workspace.
//!
//! A thread that uses both has two heaps. Blocks may go from one to the other.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::heap::{Heap, UNSET};
use crate::unload;

/// One kind of place. Its pointers are never null, and begin as [`UNSET`]. Only its thread uses them
/// and signal handlers on that thread, so `Relaxed` and compiler fences order them.
pub(crate) trait Place: Copy {
    /// This thread's.
    fn here() -> Self;

    /// What the next operation finds.
    fn load(self) -> *mut Heap;

    /// Lets the next operation find another heap.
    fn store(self, heap: *mut Heap);

    /// Lets the next operation find the thread's own heap.
    fn put_back(self);

    /// Says which heap is the thread's own, if any is.
    fn set_own(self, heap: *mut Heap);

    /// The number plus one of the key that tells when a thread which has a heap in such a place
    /// ends; 0 while there is none.
    fn key() -> &'static AtomicU32;

    /// Makes sure that the code which the key leads to stays. Asked once.
    fn keep_library();
}

/// What a place holds.
#[derive(Debug)]
#[repr(C)]
struct Pointers {
    current: AtomicPtr<Heap>,
    own: AtomicPtr<Heap>,
}

thread_local! {
    static POINTERS: Pointers = const {
        let unset = (&raw const UNSET).cast_mut();
        Pointers { current: AtomicPtr::new(unset), own: AtomicPtr::new(unset) }
    };
}

/// A `thread_local!`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable(*const Pointers);

impl Portable {
    #[inline(always)]
    fn pointers(self) -> &'static Pointers {
        // SAFETY: `here` took the address of a thread local without destructor, which lives as long
        // as its thread. The pointer makes this type neither `Send` nor `Sync`, and the reference
        // does not leave this thread: the callers below use it at once.
        unsafe { &*self.0 }
    }
}

impl Place for Portable {
    #[inline(always)]
    fn here() -> Self {
        Self(POINTERS.with(ptr::from_ref))
    }

    #[inline(always)]
    fn load(self) -> *mut Heap {
        self.pointers().current.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn store(self, heap: *mut Heap) {
        self.pointers().current.store(heap, Ordering::Relaxed);
    }

    #[inline(always)]
    fn put_back(self) {
        self.store(self.pointers().own.load(Ordering::Relaxed));
    }

    fn set_own(self, heap: *mut Heap) {
        self.pointers().own.store(heap, Ordering::Relaxed);
    }

    fn key() -> &'static AtomicU32 {
        static KEY: AtomicU32 = AtomicU32::new(0);
        &KEY
    }

    fn keep_library() {
        unload::keep_library();
    }
}

/// The place of the C entry points.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub(crate) type ForC = initial_exec::InitialExec;

/// The place of the C entry points.
#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
pub(crate) type ForC = Portable;

/// Two pointers in the thread-local memory that is laid out when the program starts, at an offset from
/// the thread pointer which the dynamic loader writes into the global offset table. The linker turns
/// the load from that table into a constant where it links an executable.
///
/// A library with such memory can be loaded later too, as long as the C library has room left in
/// what it set aside (glibc: 1664 bytes by default; this takes 16).
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod initial_exec {
    use core::arch::{asm, global_asm};

    use super::{AtomicU32, Heap, Place, UNSET};

    /// The pointers' symbol. The version is in its name because two versions of this crate can be
    /// linked together.
    macro_rules! symbol {
        () => {
            concat!(
                "alloc_core_",
                env!("CARGO_PKG_VERSION_MAJOR"),
                "_",
                env!("CARGO_PKG_VERSION_MINOR"),
                "_",
                env!("CARGO_PKG_VERSION_PATCH"),
                "_heap_for_c"
            )
        };
    }

    // In `.tdata` rather than `.tbss`: the first thing that is found is `UNSET`, whose caches are
    // empty and full at once, so that the fast path needs no comparison with null.
    global_asm!(
        ".pushsection .tdata, \"awT\", @progbits",
        ".balign 8",
        concat!(".globl ", symbol!()),
        concat!(".hidden ", symbol!()),
        concat!(".type ", symbol!(), ", @object"),
        concat!(".size ", symbol!(), ", 16"),
        concat!(symbol!(), ":"),
        ".quad {unset}",
        ".quad {unset}",
        ".popsection",
        unset = sym UNSET,
    );

    /// The offset of the pointers from the thread pointer: the same for all threads.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct InitialExec(usize);

    impl Place for InitialExec {
        #[inline(always)]
        fn here() -> Self {
            let offset;
            // SAFETY: reads the entry of the global offset table for the symbol above, which the
            // dynamic loader or the linker filled in before any code of this library ran.
            unsafe {
                asm!(
                    concat!("mov {offset}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
                    offset = out(reg) offset,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            Self(offset)
        }

        #[inline(always)]
        fn load(self) -> *mut Heap {
            let heap;
            // SAFETY: at this offset from the thread pointer are this thread's two pointers, in
            // memory that is there before the thread's first instruction and as long as the thread.
            unsafe {
                asm!(
                    "mov {heap}, qword ptr fs:[{offset}]",
                    heap = out(reg) heap,
                    offset = in(reg) self.0,
                    options(readonly, nostack, preserves_flags),
                );
            }
            heap
        }

        #[inline(always)]
        fn store(self, heap: *mut Heap) {
            // SAFETY: as in `load`; nothing else is kept in these eight bytes.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset}], {heap}",
                    heap = in(reg) heap,
                    offset = in(reg) self.0,
                    options(nostack, preserves_flags),
                );
            }
        }

        #[inline(always)]
        fn put_back(self) {
            let own;
            // SAFETY: as in `load`, the second pointer.
            unsafe {
                asm!(
                    "mov {own}, qword ptr fs:[{offset} + 8]",
                    own = out(reg) own,
                    offset = in(reg) self.0,
                    options(readonly, nostack, preserves_flags),
                );
            }
            self.store(own);
        }

        fn set_own(self, heap: *mut Heap) {
            // SAFETY: as in `store`, the second pointer.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset} + 8], {heap}",
                    heap = in(reg) heap,
                    offset = in(reg) self.0,
                    options(nostack, preserves_flags),
                );
            }
        }

        fn key() -> &'static AtomicU32 {
            static KEY: AtomicU32 = AtomicU32::new(0);
            &KEY
        }

        /// Nothing: the loader itself may be asking for memory, and cannot be asked in turn. A
        /// library that exports the C entry points is linked with `-z nodelete`.
        fn keep_library() {}
    }
}
