//! How the helper takes what the caches of a sleeping thread hold.
//!
//! A thread's fast path knows of nobody else, and nobody can tell whether the thread sleeps or is about
//! to go on in the middle of an operation. But such an operation says first that its cache is busy, then
//! reads the cache's top, once, and later writes it, unless the cache is empty or full. So the helper,
//! which has hold of the heap:
//!
//! 1. puts a top in the cache's place which is empty and full at once ([`NO_SLOTS`](super::NO_SLOTS));
//! 2. has all threads go through a barrier: those that run are interrupted for it by the kernel
//!    (`membarrier`), and who does not run went through one when it stopped;
//! 3. looks whether the cache is busy. If it is not, an operation that read the old top is over, and
//!    one that begins after the barrier reads the new one: it leaves the fast path, and finds the heap
//!    held. If it is, the old top goes back to its place;
//! 4. has all threads go through another barrier, and looks whether the top is still the new one. If an
//!    operation ended between 2 and 3, it has written its top by now, and the cache is its thread's.
//!
//! The old top can go back at any time: until the end nothing is touched but the top, and an operation
//! that still writes what follows from the old one does so before or after.
//!
//! Where the kernel has no such barrier the caches stay as they are. So do those of the C entry points'
//! own place ([`Place::READS_TOPS_ONCE`](crate::place::Place::READS_TOPS_ONCE)).

use core::ptr::{self, NonNull};

use super::{CLASSES, Class, Heap, Slot, no_slots};
use crate::class::{LONG_CACHES, SHORT_CACHE};
use crate::os;

/// The tops that were taken out of their places, by class; null for none.
struct Taken([*mut Slot; CLASSES]);

impl Taken {
    fn iter_mut(&mut self) -> impl Iterator<Item = (Class, &mut *mut Slot)> {
        Class::all().zip(&mut self.0).filter(|(_, top)| !top.is_null())
    }

    /// Puts the tops back of which `is_wanted` says so. Returns how many those are.
    fn put_back(&mut self, heap: &Heap, is_wanted: impl Fn(Class) -> bool) -> usize {
        let wanted = self.iter_mut().filter(|(class, _)| is_wanted(*class));
        let put_back = wanted.map(|(class, top)| {
            heap.top(class).replace(no_slots(), *top);
            *top = ptr::null_mut();
        });
        put_back.count()
    }
}

impl Heap {
    /// Hands all cached blocks back to their pages, but of caches that the thread is at work on. By the
    /// helper, which has hold; it stops when the thread is back. Says whether it left none that it may take
    /// another time.
    pub(super) fn take_over_caches(&'static self) -> bool {
        if self.reads_tops_once.get() == 0 {
            return true;
        }
        let mut left_none = true;
        let mut taken = Taken([ptr::null_mut(); CLASSES]);
        for (class, place) in Class::all().zip(&mut taken.0) {
            let top = self.top(class).get();
            if class.pick(&self.limits).get() == 0 {
                continue;
            }
            if self.top(class).replace(top, no_slots()) {
                *place = top;
            } else {
                left_none = false;
            }
        }
        if taken.iter_mut().next().is_none() {
            return left_none;
        }
        if !os::barrier() {
            taken.put_back(self, |_| true);
            return true;
        }
        left_none &= taken.put_back(self, |class| self.is_interrupted(class)) == 0;
        if !os::barrier() {
            taken.put_back(self, |_| true);
            return true;
        }
        for (class, top) in taken.iter_mut() {
            if self.hold.is_missed() {
                self.top(class).replace(no_slots(), *top);
                left_none = false;
            } else if ptr::eq(self.top(class).get(), no_slots()) {
                self.hand_back(class, *top);
            } else {
                left_none = false;
            }
        }
        self.purge_slots();
        left_none
    }

    /// Gives back the memory of the slots of caches that are no longer longer than the shortest. Null
    /// slots, as new memory has, are what a cache has there before it becomes so long.
    fn purge_slots(&self) {
        let is_long = |class: Class| class.pick(&self.limits).get() > SHORT_CACHE;
        if Class::all().any(is_long) {
            return;
        }
        let page = os::page_bytes();
        let start = self.slots.get().wrapping_add(LONG_CACHES.start).cast::<u8>();
        let from = start.addr().wrapping_neg() & (page - 1);
        let bytes = (LONG_CACHES.len() * size_of::<Slot>()).saturating_sub(from) & !(page - 1);
        if let Some(range) = NonNull::new(start.wrapping_add(from)).filter(|_| bytes != 0) {
            // SAFETY: the range lies in the heap's own mapping, and begins and ends with an OS page; none of
            // the slots in it is a cache's now.
            unsafe { os::purge(range, bytes) };
        }
    }

    /// Hands the blocks up to what was a cache's top back to their pages. From then on the class has no
    /// cache, as before it was first used.
    fn hand_back(&'static self, class: Class, top: *mut Slot) {
        let bottom = self.bottom(class);
        let count = self.cached_below(class, top);
        let mut next = 1;
        while next <= count {
            // SAFETY: so many blocks are in the slots above `bottom`.
            next += unsafe { self.free_neighbours(bottom.wrapping_add(next), count + 1 - next) };
        }
        self.forget_end(class);
        class.pick(&self.limits).set(0);
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::class::SLOTS;
    use crate::place::Portable;
    use crate::tests::{filter, process};
    use crate::{pool, thread};

    fn class(size: usize) -> Class {
        Class::of_size(size).unwrap()
    }

    /// Whether the kernel has what is tested here.
    fn has_barrier() -> bool {
        os::prepare_barrier();
        let has_barrier = os::barrier();
        if !has_barrier {
            eprintln!("SKIPPED, not tested: the kernel has no barrier for all threads");
        }
        has_barrier
    }

    /// The calling thread's heap.
    fn own_heap() -> &'static Heap {
        thread::dealloc::<Portable>(class(16), thread::alloc::<Portable>(class(16)));
        thread::with_own_heap::<Portable, _>(|heap| heap).unwrap()
    }

    /// What the helper does to a heap; says whether it could.
    fn take_over(heap: &'static Heap) -> bool {
        let is_held = heap.hold.take_as_helper(os::process());
        if is_held {
            heap.take_over_caches();
            heap.hold.let_go();
        }
        is_held
    }

    /// What the helper does to the heap of a thread that sleeps.
    fn tend(heap: &'static Heap) {
        std::thread::spawn(move || heap.tend(os::process())).join().unwrap();
    }

    #[test]
    fn what_a_sleeping_threads_caches_hold_goes_back_but_of_one_in_use() {
        if !has_barrier() {
            return;
        }
        let sleeper = std::thread::spawn(|| {
            let heap = own_heap();
            let classes = [16, 64, 5000, 3000].map(class);
            for class in classes {
                let blocks: Vec<_> = (0..300).map(|_| thread::alloc::<Portable>(class)).collect();
                blocks.into_iter().for_each(|block| thread::dealloc::<Portable>(class, block));
            }
            let cached = classes.map(|class| heap.cached(class));
            assert!(cached[0] > SHORT_CACHE as usize && !cached.contains(&0), "{cached:?}");

            // Interrupted in the middle of an operation: that cache stays, the others go.
            assert!(heap.top(classes[3]).begin());
            tend(heap);
            heap.top(classes[3]).end();
            heap.check().unwrap();
            assert_eq!(classes.map(|class| heap.cached(class)), [0, 0, 0, cached[3]]);
            // SAFETY: a heap has so many slots.
            let is_end =
                |index: &usize| unsafe { &*heap.slots.get().wrapping_add(*index) }.is_end();
            assert_eq!(
                (0..SLOTS).filter(is_end).count(),
                1,
                "a cache's end is where there is none"
            );
            // It goes later, though the thread did nothing that the helper could see.
            tend(heap);
            assert_eq!(heap.cached(classes[3]), 0);

            // The thread goes on with new caches.
            for class in classes {
                let blocks: Vec<_> = (0..300).map(|_| thread::alloc::<Portable>(class)).collect();
                assert!(blocks.iter().all(|block| !block.is_null()));
                blocks.into_iter().for_each(|block| thread::dealloc::<Portable>(class, block));
                assert!(heap.cached(class) != 0);
            }
            heap.check().unwrap();
        });
        sleeper.join().unwrap();
    }

    #[test]
    fn the_slots_of_long_caches_go_back_to_the_os() {
        if !has_barrier() {
            return;
        }
        let sleeper = std::thread::spawn(|| {
            let heap = own_heap();
            for size in [16, 32, 48, 64] {
                let blocks: Vec<_> =
                    (0..3000).map(|_| thread::alloc::<Portable>(class(size))).collect();
                blocks
                    .into_iter()
                    .for_each(|block| thread::dealloc::<Portable>(class(size), block));
            }
            let slots = heap.slots.get().wrapping_add(LONG_CACHES.start).addr();
            let start = slots.next_multiple_of(os::page_bytes());
            let resident = || os::resident_bytes(start, 4 * os::page_bytes());
            assert_ne!(resident(), 0);
            std::thread::spawn(move || assert!(take_over(heap))).join().unwrap();
            assert_eq!(resident(), 0);
        });
        sleeper.join().unwrap();
    }

    /// Fills the calling thread's caches of some classes.
    fn fill_caches() {
        for class in [16, 64, 700, 3000].map(class) {
            let blocks: Vec<_> = (0..300).map(|_| thread::alloc::<Portable>(class)).collect();
            assert!(blocks.iter().all(|block| !block.is_null()));
            blocks.into_iter().for_each(|block| thread::dealloc::<Portable>(class, block));
        }
    }

    #[test]
    fn caches_stay_as_they_are_where_the_barrier_is_forbidden() {
        let module = "heap::takeover::tests";
        let name = "caches_stay_as_they_are_where_the_barrier_is_forbidden";
        process::succeed(&format!("{module}::{name}"), || {
            filter::forbid(&[libc::SYS_membarrier], libc::EPERM);
            assert!(!os::barrier());
            let heap = own_heap();
            fill_caches();
            let tops = || Class::all().map(|class| heap.top(class).get()).collect::<Vec<_>>();
            let before = tops();
            tend(heap);
            assert_eq!(tops(), before);
            assert!(heap.cached(class(16)) != 0);
            heap.check().unwrap();
            fill_caches();
            heap.check().unwrap();
        });
    }

    #[test]
    fn a_child_of_a_fork_in_the_middle_has_whole_heaps_or_lets_go_of_them() {
        let module = "heap::takeover::tests";
        let name = "a_child_of_a_fork_in_the_middle_has_whole_heaps_or_lets_go_of_them";
        process::succeed(&format!("{module}::{name}"), || {
            if has_barrier() {
                fork_beside_the_helper();
            }
        });
    }

    /// Forks again and again while the heaps of sleeping threads, and of this one, are looked after; at last
    /// while a helper has one of them, whatever the machine is busy with.
    fn fork_beside_the_helper() {
        const SLEEPERS: usize = 8;
        const ROUNDS: u32 = 500;
        let turn = Arc::new(Barrier::new(SLEEPERS + 1));
        let sleepers: [_; SLEEPERS] = core::array::from_fn(|_| {
            let turn = Arc::clone(&turn);
            std::thread::spawn(move || {
                while !IS_OVER_FOR_SLEEPERS.load(Ordering::Relaxed) {
                    fill_caches();
                    turn.wait();
                    turn.wait();
                }
            })
        });
        fill_caches();
        for round in 0..ROUNDS {
            turn.wait();
            let helper = std::thread::spawn(move || {
                untended().for_each(|heap| _ = heap.tend(os::process()));
            });
            // At another point each time: it takes some hundred microseconds.
            (0..round * 97 % 3000).for_each(|_| core::hint::spin_loop());
            let found = fork_and_look();
            helper.join().unwrap();
            assert!([0, LOST].contains(&found), "{found}, in round {round}");
            IS_OVER_FOR_SLEEPERS.store(round + 1 == ROUNDS, Ordering::Relaxed);
            fill_caches();
            turn.wait();
        }
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        let process = os::process();
        let taken = pool::all().find(|heap| heap.hold.take_as_helper(process));
        let found = fork_and_look();
        taken.expect("a heap of a thread that ended").hold.let_go();
        assert_eq!(found, LOST, "the child lets go of a heap that the helper had");
    }

    /// All heaps, as if none had been looked after.
    fn untended() -> impl Iterator<Item = &'static Heap> {
        pool::all().inspect(|heap| heap.tended.set(u64::MAX))
    }

    /// What the child of a fork finds: 0, [`LOST`], or a number for what is wrong.
    fn fork_and_look() -> i32 {
        // SAFETY: the child does nothing but what this test is about.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let found = untended().map(look_in_child).max().unwrap_or(0);
            fill_caches();
            let has_heap = thread::with_own_heap::<Portable, _>(|_| ()).is_some();
            // SAFETY: ends the child.
            unsafe { libc::_exit(if has_heap { found } else { 9 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }

    static IS_OVER_FOR_SLEEPERS: AtomicBool = AtomicBool::new(false);

    /// What a child says that found a heap which its parent's helper had.
    const LOST: i32 = 1;

    /// Looks at a heap in the child of a fork: 0 if it is whole, and can be looked after, or [`LOST`].
    fn look_in_child(heap: &'static Heap) -> i32 {
        let process = os::process();
        if !heap.hold.take_as_helper(process) {
            return if heap.hold.is_lost(|| process) { LOST } else { 5 };
        }
        heap.hold.let_go();
        if heap.check().is_err() {
            return 6;
        }
        heap.tend(process);
        let is_empty = Class::all().all(|class| heap.cached(class) == 0);
        if is_empty && heap.check().is_ok() { 0 } else { 7 }
    }

    /// A thread that is at work as fast as it can loses its caches again and again: each block is one
    /// thread's at a time, and none is lost.
    #[test]
    fn a_thread_at_work_and_the_helper_never_have_the_same_block() {
        // Beside other tests their blocks could lie in this heap's pages, and this one's in their caches.
        let module = "heap::takeover::tests";
        let name = "a_thread_at_work_and_the_helper_never_have_the_same_block";
        process::succeed(&format!("{module}::{name}"), work_beside_the_helper);
    }

    fn work_beside_the_helper() {
        static HEAP: AtomicPtr<Heap> = AtomicPtr::new(ptr::null_mut());
        static IS_OVER: AtomicBool = AtomicBool::new(false);

        if !has_barrier() {
            return;
        }
        let rounds = 30_000;
        let worker = std::thread::spawn(move || {
            let heap = own_heap();
            HEAP.store(ptr::from_ref(heap).cast_mut(), Ordering::Release);
            let classes = [16, 64, 700].map(class);
            let mut live = Vec::new();
            let mut state = 1u64;
            for round in 0..rounds * 64 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let which = state >> 33;
                if live.len() < 200 || which.is_multiple_of(2) && live.len() < 2000 {
                    let class = classes[(which / 2 % 3) as usize];
                    let block = thread::alloc::<Portable>(class).cast::<usize>();
                    assert!(!block.is_null());
                    // SAFETY: a new block of at least 16 bytes.
                    unsafe { block.write(round) };
                    live.push((block, class, round));
                } else {
                    let index = which as usize / 2 % live.len();
                    let (block, class, mark) = live.swap_remove(index);
                    // SAFETY: a live block, which was written.
                    assert_eq!(unsafe { block.read() }, mark, "somebody else has it too");
                    // SAFETY: as above; the hardened heap wants it as it got it.
                    unsafe { block.write(0) };
                    thread::dealloc::<Portable>(class, block.cast());
                }
            }
            for (block, class, mark) in live {
                // SAFETY: as above.
                assert_eq!(unsafe { block.read() }, mark, "somebody else has it too");
                // SAFETY: as above.
                unsafe { block.write(0) };
                thread::dealloc::<Portable>(class, block.cast());
            }
            IS_OVER.store(true, Ordering::Release);
            // The helper may be at it for the last time.
            while thread::with_own_heap::<Portable, _>(Heap::trim).is_none() {}
            heap.check().unwrap();
            let pages = Class::all().map(|class| heap.listed(class)).sum::<usize>();
            assert_eq!(pages, 0, "a block was lost");
        });
        while !IS_OVER.load(Ordering::Acquire) {
            let heap = HEAP.load(Ordering::Acquire);
            // SAFETY: null, or a heap, which is never unmapped.
            let taken = unsafe { heap.as_ref() }.is_some_and(take_over);
            if !taken {
                std::thread::yield_now();
            }
        }
        worker.join().unwrap();
        assert!(pool::check().is_ok());
    }
}
