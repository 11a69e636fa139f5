//! Where a thread keeps which heap it uses: a few words of thread-local memory.
//!
//! There are two kinds of places, because how fast thread-local memory is depends on what is linked.
//! [`Portable`] is `thread_local!`: in a program's executable, which is where Rust's requests come
//! from, one instruction finds it; in a shared library it is a function call. [`InitialExec`] is
//! found by one load in both, at a price that only a library loaded at the start can pay without
//! asking, so only the C entry points use it. Stable Rust has no way to choose the TLS model of a
//! `thread_local!`, and a feature that changed it would change it for a whole workspace.
//!
//! Both see to it that a signal handler in the middle of an operation finds that out, each in the way
//! that costs its callers least:
//!
//! - Rust's requests know their class, and compare nothing. So an operation says of its class's cache
//!   that it is busy, in the line of memory that it changes anyway: see [`top`](crate::top). Only off
//!   the fast path the heap is taken out of the place, and [`BUSY`] found there, all of whose caches
//!   are busy.
//! - C's requests compare a size, or the kind of a page, with a limit. So the limit is the second
//!   word, and 0 while the heap is busy or there is none; the comparison is made anyway.
//!
//! A thread that uses both has two heaps. Blocks may go from one to the other.
//!
//! [`InitialExec`]: initial_exec::InitialExec

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::class::{CACHED_KINDS, CACHED_SIZES};
use crate::heap::{BUSY, Heap, Role, UNSET};
use crate::top::Top;
use crate::{hardened, unload, window};

/// One kind of place. Its heap is never null, and begins as [`UNSET`]. Only its thread uses it and
/// signal handlers on that thread, so `Relaxed` and compiler fences order what is in it.
pub(crate) trait Place: Copy {
    /// Whether an allocation has the processor fetch the next one's block.
    const FETCHES_NEXT: bool;

    /// Whether an operation on a cache says first that the class's cache is busy, and reads the cache's
    /// top once: then the helper can tell what becomes of a cache that it takes over.
    const READS_TOPS_ONCE: bool;

    /// This thread's.
    fn here() -> Self;

    /// Whether an operation may begin that is for a size; if so, it is below [`CACHED_SIZES`].
    fn admits_size(self, size: usize) -> bool;

    /// Whether an operation may begin that is for a kind of page; if so, it is below
    /// [`CACHED_KINDS`]. It is a byte.
    fn admits_kind(self, kind: usize) -> bool;

    /// How many slices after the window's first one an address lies; any number past its last if that
    /// is outside, or the thread has no heap yet.
    fn index_in_window(self, block: *mut u8) -> usize;

    /// Does an operation on a cache that was admitted, on the fast path: `find` finds the cache's top in
    /// the heap. Answers `refused` if it would interrupt another one, and of what stands for a heap.
    fn operate<R>(
        self,
        find: impl FnOnce(&'static Heap) -> &'static Top,
        operation: impl FnOnce(&'static Top) -> R,
        refused: R,
    ) -> R;

    /// Begins an operation off the fast path: the heap, which is busy from now on.
    fn take(self) -> *mut Heap;

    /// Ends an operation off the fast path, on a heap that [`take`](Self::take) told.
    fn put_back(self, heap: *mut Heap);

    /// What the heap is for, or [`Role::Busy`] in the middle of an operation that keeps all of it busy.
    fn role(self) -> Role;

    /// Lets the next operation find another heap.
    fn set(self, heap: &'static Heap);

    /// The number plus one of the key that tells when a thread which has a heap in such a place
    /// ends; 0 while there is none.
    fn key() -> &'static AtomicU32;

    /// Makes sure that the code which the key leads to stays. Asked once.
    fn keep_library();
}

/// What a heap is for that a place holds.
fn role_of(heap: *mut Heap) -> Role {
    // SAFETY: a place only ever holds a stand-in or a heap from the pool, all of which are `'static`.
    unsafe { &*heap }.role()
}

thread_local! {
    static HEAP: AtomicPtr<Heap> = const { AtomicPtr::new((&raw const UNSET).cast_mut()) };
}

/// A `thread_local!`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable(*const AtomicPtr<Heap>);

impl Portable {
    #[inline(always)]
    fn pointer(self) -> &'static AtomicPtr<Heap> {
        // SAFETY: `here` took the address of a thread local without destructor, which lives as long
        // as its thread. The pointer makes this type neither `Send` nor `Sync`, and the reference
        // does not leave this thread: the callers below use it at once.
        unsafe { &*self.0 }
    }

    #[inline(always)]
    fn heap(self) -> *mut Heap {
        self.pointer().load(Ordering::Relaxed)
    }
}

impl Place for Portable {
    const FETCHES_NEXT: bool = !hardened::IS_HARDENED;
    const READS_TOPS_ONCE: bool = true;

    #[inline(always)]
    fn here() -> Self {
        Self(HEAP.with(ptr::from_ref))
    }

    #[inline(always)]
    fn admits_size(self, size: usize) -> bool {
        size < CACHED_SIZES
    }

    #[inline(always)]
    fn admits_kind(self, kind: usize) -> bool {
        kind < CACHED_KINDS
    }

    #[inline(always)]
    fn index_in_window(self, block: *mut u8) -> usize {
        window::index(block)
    }

    #[inline(always)]
    fn operate<R>(
        self,
        find: impl FnOnce(&'static Heap) -> &'static Top,
        operation: impl FnOnce(&'static Top) -> R,
        refused: R,
    ) -> R {
        // SAFETY: a place only ever holds a stand-in or a heap from the pool, all of which are
        // `'static`.
        let top = find(unsafe { &*self.heap() });
        if !top.begin() {
            return refused;
        }
        let result = operation(top);
        top.end();
        result
    }

    fn take(self) -> *mut Heap {
        let heap = self.heap();
        self.put_back((&raw const BUSY).cast_mut());
        heap
    }

    fn put_back(self, heap: *mut Heap) {
        self.pointer().store(heap, Ordering::Relaxed);
    }

    fn role(self) -> Role {
        role_of(self.heap())
    }

    fn set(self, heap: &'static Heap) {
        self.put_back(ptr::from_ref(heap).cast_mut());
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

/// Three words in the thread-local memory that is laid out when the program starts, at an offset from
/// the thread pointer which the dynamic loader writes into the global offset table. The linker turns
/// the load from that table into a constant where it links an executable.
///
/// A library with such memory can be loaded later too, as long as the C library has room left in
/// what it set aside (glibc: 1664 bytes by default; this takes 24).
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod initial_exec {
    use core::arch::{asm, global_asm};
    use core::sync::atomic::compiler_fence;

    use super::{AtomicU32, CACHED_SIZES, Heap, Ordering, Place, Role, Top, UNSET, role_of};
    use crate::unit::SLICE_SHIFT;
    use crate::{arena, window};

    /// The words' symbol. The version is in its name because two versions of this crate can be
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

    // The heap, the limit of what may use its caches, and where the window begins.
    global_asm!(
        ".pushsection .tdata, \"awT\", @progbits",
        ".balign 8",
        concat!(".globl ", symbol!()),
        concat!(".hidden ", symbol!()),
        concat!(".type ", symbol!(), ", @object"),
        concat!(".size ", symbol!(), ", 24"),
        concat!(symbol!(), ":"),
        ".quad {unset}",
        ".quad 0",
        ".quad {nowhere}",
        ".popsection",
        unset = sym UNSET,
        nowhere = const window::NOWHERE,
    );

    /// The offset of the words from the thread pointer: the same for all threads.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct InitialExec(usize);

    impl InitialExec {
        #[inline(always)]
        fn heap(self) -> *mut Heap {
            let heap;
            // SAFETY: at this offset from the thread pointer are this thread's three words, in memory
            // that is there before the thread's first instruction and as long as the thread.
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

        fn set_heap(self, heap: *mut Heap) {
            // SAFETY: as in `heap`, the first word, of which nothing else is kept.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset}], {heap}",
                    heap = in(reg) heap,
                    offset = in(reg) self.0,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Tells the thread where the window lies.
        fn set_window(self, first: usize) {
            // SAFETY: as in `heap`, the third word, of which nothing else is kept.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset} + 16], {first}",
                    first = in(reg) first,
                    offset = in(reg) self.0,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Lets operations begin.
        #[inline(always)]
        fn open(self) {
            // SAFETY: as in `heap`, the second word, of which nothing else is kept.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset} + 8], {limit}",
                    offset = in(reg) self.0,
                    limit = const CACHED_SIZES,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Lets no operation begin.
        #[inline(always)]
        fn close(self) {
            // SAFETY: as in `open`.
            unsafe {
                asm!(
                    "mov qword ptr fs:[{offset} + 8], 0",
                    offset = in(reg) self.0,
                    options(nostack, preserves_flags),
                );
            }
        }
    }

    impl Place for InitialExec {
        const FETCHES_NEXT: bool = false;
        const READS_TOPS_ONCE: bool = false;

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
        fn admits_size(self, size: usize) -> bool {
            // SAFETY: as in `heap`, the second word.
            unsafe {
                asm!(
                    "cmp {size}, qword ptr fs:[{offset} + 8]",
                    "jae {refused}",
                    size = in(reg) size,
                    offset = in(reg) self.0,
                    refused = label { return false },
                    options(readonly, nostack),
                );
            }
            true
        }

        /// Compares with the limit's lowest byte: see [`CACHED_SIZES`].
        #[inline(always)]
        fn admits_kind(self, kind: usize) -> bool {
            // SAFETY: as in `heap`, the second word.
            unsafe {
                asm!(
                    "cmp {kind:l}, byte ptr fs:[{offset} + 8]",
                    "jae {refused}",
                    kind = in(reg) kind,
                    offset = in(reg) self.0,
                    refused = label { return false },
                    options(readonly, nostack),
                );
            }
            true
        }

        #[inline(always)]
        fn index_in_window(self, block: *mut u8) -> usize {
            let mut index = block.addr() >> SLICE_SHIFT;
            // SAFETY: as in `heap`, the third word.
            unsafe {
                asm!(
                    "sub {index}, qword ptr fs:[{offset} + 16]",
                    index = inout(reg) index,
                    offset = in(reg) self.0,
                    options(readonly, nostack),
                );
            }
            index
        }

        #[inline(always)]
        fn operate<R>(
            self,
            find: impl FnOnce(&'static Heap) -> &'static Top,
            operation: impl FnOnce(&'static Top) -> R,
            _: R,
        ) -> R {
            // SAFETY: as a place holds it.
            let result = operation(find(unsafe { &*self.take() }));
            compiler_fence(Ordering::SeqCst);
            self.open();
            result
        }

        #[inline(always)]
        fn take(self) -> *mut Heap {
            let heap = self.heap();
            self.close();
            compiler_fence(Ordering::SeqCst);
            heap
        }

        fn put_back(self, _: *mut Heap) {
            self.open();
        }

        fn role(self) -> Role {
            match role_of(self.heap()) {
                Role::Live if !self.admits_size(0) => Role::Busy,
                role => role,
            }
        }

        fn set(self, heap: &'static Heap) {
            self.close();
            self.set_heap(core::ptr::from_ref(heap).cast_mut());
            if matches!(heap.role(), Role::Live) {
                // The kernel places segments near to the heap's own mapping.
                if let Some(number) = arena::slice_number(core::ptr::from_ref(heap).addr()) {
                    window::lay_around(number);
                }
                self.set_window(window::first());
                self.open();
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
