//! Which heap a thread uses: at first none, then its own, after its exit a borrowed one. It is kept
//! in a [`Place`] of the thread's.
//!
//! # Interrupted operations
//!
//! A signal handler may allocate while its thread is inside the heap. So each operation says at its
//! beginning that it is under way, and at its end that it is over; see [`place`](crate::place) for how.
//! A handler in between leaves the fast path. It finds the heap whole where it runs before the one or
//! after the other. On the slow path the handler acts like another thread: it borrows an idle heap for
//! one allocation, and frees remotely.
//!
//! # Exit
//!
//! A place has no destructor; a `pthread_key` made once tells when a thread ends. Its
//! destructor runs after Rust's and C++'s thread-local ones, and hands the heap to the pool. What
//! the thread does after that (other keys' destructors, in any number of rounds) goes through
//! borrowed heaps, so nothing has to be handed back again. The main thread's heap stays its own.

use core::ffi::c_void;
use core::mem;
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use crate::class::{CacheIndex, Class};
use crate::fatal::fatal;
use crate::hardened::{IS_HARDENED, custody};
use crate::heap::{self, BUSY, Heap, Role, UNSET};
use crate::place::Place;
use crate::top::Top;
use crate::{os, pool, purger, window};

static DETACHED: Heap = Heap::stand_in(Role::Detached);

/// Runs one operation on the thread's heap, which it has, marking it busy meanwhile.
fn with_heap<P: Place, R>(operation: impl FnOnce(&'static Heap) -> R) -> R {
    let place = P::here();
    let heap = place.take();
    // A handler runs at some point of this thread's instructions; these fences keep the operation's
    // ones between the two stores.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a place only ever holds a stand-in or a heap from the pool, all of which are
    // `'static`.
    let result = operation(unsafe { &*heap });
    compiler_fence(Ordering::SeqCst);
    place.put_back(heap);
    result
}

/// Allocates a block of a class. Null when memory is out.
#[inline(always)]
pub(crate) fn alloc<P: Place>(class: Class) -> *mut u8 {
    let block = alloc_cached(P::here(), CacheIndex::of(class));
    if block.is_null() {
        return alloc_slow::<P>(class);
    }
    block
}

/// Allocates a block of at least `size` bytes if the thread's cache has one; null says nothing about
/// memory.
#[inline(always)]
pub(crate) fn alloc_cached_of_size<P: Place>(size: usize) -> *mut u8 {
    let place = P::here();
    if !place.admits_size(size) {
        return ptr::null_mut();
    }
    // SAFETY: what a place admits is below the limit.
    alloc_admitted(place, unsafe { CacheIndex::of_size(size) })
}

/// Allocates a block of a class if the thread's cache has one.
#[inline(always)]
fn alloc_cached<P: Place>(place: P, cache: CacheIndex) -> *mut u8 {
    if place.admits_size(0) { alloc_admitted(place, cache) } else { ptr::null_mut() }
}

#[inline(always)]
fn alloc_admitted<P: Place>(place: P, cache: CacheIndex) -> *mut u8 {
    let take = |top: &Top| {
        if P::READS_TOPS_ONCE { top.pop_once(P::FETCHES_NEXT) } else { top.pop() }
    };
    let block = place.operate(|heap| heap.top_of(cache), take, ptr::null_mut());
    if let Some(class) = cache.class() {
        custody::hand_out(class, block);
    }
    block
}

/// Frees a block of a class.
#[inline(always)]
pub(crate) fn dealloc<P: Place>(class: Class, block: *mut u8) {
    custody::take_back(class, block);
    let (place, cache) = (P::here(), CacheIndex::of(class));
    let is_cached = place.admits_size(0)
        && place.operate(|heap| heap.top_at(cache), |top| top.push(block), false);
    if !is_cached {
        dealloc_slow::<P>(block, class);
    }
}

/// The kind of the page that a block lies in, if the window shows it: to free the block, or to ask how
/// large it is. No page's for null, and for a block that is large.
///
/// # Safety
///
/// - `block` is null or a live block of this heap.
#[inline(always)]
pub(crate) unsafe fn kind_in_window<P: Place>(block: *mut u8) -> Option<u8> {
    // SAFETY: by the caller's promise; nothing of the heap's lies where null does.
    unsafe { window::kind_byte(P::here().index_in_window(block)) }
}

/// Frees a block that lies in a page, if its thread's cache has room; `false` when it has not, or the
/// block is the last one that was freed, or lies in no page that is quickly found.
///
/// # Safety
///
/// - `block` is null or a live block of this heap.
#[inline(always)]
pub(crate) unsafe fn dealloc_cached<P: Place>(block: *mut u8) -> bool {
    // SAFETY: passed on.
    let Some(kind) = (unsafe { kind_in_window::<P>(block) }) else { return false };
    // SAFETY: passed on; that is its kind.
    unsafe { dealloc_cached_of_kind::<P>(block, kind) }
}

/// [`dealloc_cached`] of a block whose kind is known.
///
/// # Safety
///
/// - `block` is null or a live block of this heap, and `kind` what [`kind_in_window`] said.
#[inline(always)]
pub(crate) unsafe fn dealloc_cached_of_kind<P: Place>(block: *mut u8, kind: u8) -> bool {
    let (place, kind) = (P::here(), kind.into());
    if IS_HARDENED || !place.admits_kind(kind) {
        return false;
    }
    // SAFETY: what a place admits is below the limit.
    let cache = unsafe { CacheIndex::of_kind(kind) };
    place.operate(|heap| heap.top_of(cache), |top| top.push_other(block, P::READS_TOPS_ONCE), false)
}

/// Frees a block of a class off the fast path; the block freed last is not freed again.
pub(crate) fn dealloc_checked<P: Place>(class: Class, block: *mut u8) {
    custody::take_back(class, block);
    dealloc_slow::<P>(block, class);
}

/// Allocates a block of a larger class, from what the thread's heap has free: for when memory is
/// out. Whoever frees it has to find its class from its address.
#[cold]
pub(crate) fn alloc_larger<P: Place>(class: Class) -> *mut u8 {
    with_own_heap::<P, _>(|heap| heap.pop_larger(class)).unwrap_or(ptr::null_mut())
}

/// Gives up what the thread's heap and those that wait for a thread keep for small blocks, for when memory
/// is out. `false` if nothing of it can have gone, as the thread has no heap or is in the middle of an
/// operation on it.
#[cold]
pub(crate) fn give_up_unused<P: Place>() -> bool {
    if !matches!(P::here().role(), Role::Live) {
        return false;
    }
    with_own_heap::<P, _>(Heap::trim);
    heap::trim_idle_heaps();
    true
}

#[cold]
#[inline(never)]
fn alloc_slow<P: Place>(class: Class) -> *mut u8 {
    let allocate = |heap: &'static Heap| {
        // The cache may have blocks: it is another heap's now, or a signal handler filled it.
        let top = heap.top(class);
        let block = top.pop();
        if block.is_null() && heap.refill(class) { top.pop() } else { block }
    };
    let block = with_own_cache::<P, _>(class, allocate).unwrap_or_else(|| {
        let Some(heap) = pool::take_or_make() else { return ptr::null_mut() };
        let block = allocate(heap);
        pool::put(heap);
        block
    });
    custody::hand_out(class, block);
    block
}

#[cold]
#[inline(never)]
fn dealloc_slow<P: Place>(block: *mut u8, class: Class) {
    let is_done = with_own_cache::<P, _>(class, |heap| {
        let top = heap.top(class);
        if top.is_newest(block) {
            fatal("a block was freed twice", block.addr());
        }
        // A thread that just got its heap, or whose handler flushed it, has room.
        if !top.push(block) {
            heap.make_room(class);
            top.push(block);
        }
    });
    if is_done.is_none() {
        heap::free_remotely(block);
    }
}

/// Whether the thread has a heap that it can use now; gets it one if it never had.
fn has_heap<P: Place>() -> bool {
    match P::here().role() {
        Role::Live => true,
        Role::Busy | Role::Detached => false,
        Role::Unset => attach::<P>(),
    }
}

/// Gives a thread its heap, and makes sure that its exit will be known. A thread whose exit would
/// not be known borrows instead.
fn attach<P: Place>() -> bool {
    // A handler in the middle of this borrows.
    P::here().set(&BUSY);
    let attached = exit_key::<P>().and_then(attach_with::<P>);
    P::here().set(attached.unwrap_or(&UNSET));
    attached.is_some()
}

fn attach_with<P: Place>(key: libc::pthread_key_t) -> Option<&'static Heap> {
    // SAFETY: the key was made by `exit_key` and is never deleted.
    let known: *const Heap = unsafe { libc::pthread_getspecific(key) }.cast();
    // SAFETY: only heaps from the pool are stored under the key, and those are `'static`.
    if let Some(heap) = unsafe { known.as_ref() } {
        // A handler gave the thread this heap just before `with_heap` put `UNSET` back.
        return Some(heap);
    }
    let heap = pool::take_or_make()?;
    heap.set_reads_tops_once(P::READS_TOPS_ONCE);
    heap.hold.let_go();
    // The C library may allocate to store the value, from a borrowed heap then.
    // SAFETY: as above; any value may be stored.
    let status = unsafe { libc::pthread_setspecific(key, ptr::from_ref(heap).cast()) };
    if status == 0 {
        return Some(heap);
    }
    pool::push(heap);
    None
}

/// The key whose destructor tells of a thread's exit, made by the first thread.
fn exit_key<P: Place>() -> Option<libc::pthread_key_t> {
    let known = P::key().load(Ordering::Relaxed);
    if known != 0 {
        return Some(known - 1);
    }
    let mut key = 0;
    let destructor: extern "C-unwind" fn(*mut c_void) = on_exit::<P>;
    // SAFETY: the same but for what it says of unwinding, which it does not.
    let destructor: extern "C" fn(*mut c_void) = unsafe { mem::transmute(destructor) };
    // SAFETY: `key` is valid for writes; the destructor is a function for any value set.
    let status = unsafe { libc::pthread_key_create(&raw mut key, Some(destructor)) };
    if status != 0 {
        return None;
    }
    match P::key().compare_exchange(0, key.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            P::keep_library();
            purger::set_possible();
            Some(key)
        }
        Err(first) => {
            // SAFETY: this key lost the race and nobody else has seen it.
            unsafe { libc::pthread_key_delete(key) };
            Some(first - 1)
        }
    }
}

/// The exiting thread hands its heap back.
extern "C-unwind" fn on_exit<P: Place>(heap: *mut c_void) {
    if P::here().role() == Role::Busy {
        // Cancelled in the middle of an operation: the heap is not whole and is let go.
        return;
    }
    P::here().set(&DETACHED);
    compiler_fence(Ordering::SeqCst);
    // SAFETY: only heaps from the pool are stored under the key, and those are `'static`.
    if let Some(heap) = unsafe { heap.cast::<Heap>().cast_const().as_ref() } {
        heap.forget_interrupted();
        heap.hand_on();
    }
}

/// Runs `operation` on the thread's own heap, like [`with_own_heap`], if it does not interrupt one on
/// that class's cache.
fn with_own_cache<P: Place, R>(
    class: Class,
    operation: impl FnOnce(&'static Heap) -> R,
) -> Option<R> {
    with_own_heap::<P, _>(|heap| (!heap.is_interrupted(class)).then(|| operation(heap))).flatten()
}

/// Runs `operation` on the thread's own heap, if it has one that nobody else looks after just now.
pub(crate) fn with_own_heap<P: Place, R>(operation: impl FnOnce(&'static Heap) -> R) -> Option<R> {
    if !has_heap::<P>() {
        return None;
    }
    let mut is_lost = false;
    let result = with_heap::<P, _>(|heap| {
        if !heap.hold.take() {
            heap.hold.miss();
            is_lost = heap.hold.is_lost(os::process);
            return None;
        }
        let result = operation(heap);
        heap.hold.let_go();
        Some(result)
    });
    if is_lost {
        abandon::<P>();
    }
    result
}

/// Lets go of a heap that the helper looked after while its thread forked: here, in the child, it
/// stays as the helper left it. The thread gets another one.
#[cold]
fn abandon<P: Place>() {
    let Some(key) = exit_key::<P>() else { return };
    P::here().set(&BUSY);
    // SAFETY: the key was made by `exit_key`; any value may be stored.
    unsafe { libc::pthread_setspecific(key, ptr::null()) };
    P::here().set(&UNSET);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Portable;
    use crate::tests::process;

    #[test]
    fn a_cache_in_the_middle_of_an_operation_is_left_alone() {
        // Beside other tests the helper may be looking after the heap just now: its thread borrows another.
        let name = "thread::tests::a_cache_in_the_middle_of_an_operation_is_left_alone";
        process::succeed(name, || {
            let class = |size| Class::of_size(size).unwrap();
            let (class, other) = (class(48), class(64));
            let test = std::thread::spawn(move || {
                for class in [class, other] {
                    let block = alloc::<Portable>(class);
                    dealloc::<Portable>(class, block);
                }
                let (place, cache) = (Portable::here(), CacheIndex::of(class));
                let heap = with_own_heap::<Portable, _>(|heap| heap).unwrap();
                let top = heap.top_of(cache);
                assert!(top.begin());
                let cached = heap.cached(class);
                assert!(cached > 0);

                // What a signal handler could do now.
                assert!(!place.operate(|heap| heap.top_of(cache), |_| true, false));
                let block = alloc::<Portable>(class);
                assert!(
                    !block.is_null() && !heap.cached_blocks(class).any(|cached| cached == block)
                );
                dealloc::<Portable>(class, block);
                assert_eq!(heap.cached(class), cached);
                let of_other = heap.cached(other);
                let block = alloc::<Portable>(other);
                assert_eq!(heap.cached(other), of_other - 1);
                dealloc::<Portable>(other, block);
                with_own_heap::<Portable, _>(Heap::trim).unwrap();
                assert_eq!((heap.cached(class), heap.cached(other)), (cached, 0));
                assert!(heap.check().is_err());

                top.end();
                heap.check().unwrap();
                let block = alloc::<Portable>(class);
                assert_eq!(heap.cached(class), cached - 1);
                dealloc::<Portable>(class, block);

                // The thread is cancelled in the middle of another one: the next thread can use it all.
                assert!(top.begin());
                ptr::from_ref(heap).addr()
            });
            let address = test.join().unwrap();
            let heap = pool::all().find(|heap| ptr::from_ref(*heap).addr() == address).unwrap();
            assert!(!heap.is_interrupted(class));
        });
    }
}
