//! A heap whose thread ended waits in the pool; the next thread goes on with it, or another takes
//! over its pages; and all the while others free blocks of those pages. No free is lost, no page has
//! two owners, no heap two threads.
//!
//! What `Heap` does with its pages is done here in its order: one page, whose owner's side is a word
//! that no atomic orders.

use crate::idle::Idle;
use crate::remote::{Inbox, Remote};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, model, thread};

/// The page's number, and its blocks, which are all live.
const PAGE: u32 = 7;
const BLOCKS: u64 = 0b11;

struct Heap {
    inbox: Inbox,
    next_idle: AtomicU32,
    /// Whether a thread has it.
    users: AtomicU32,
}

struct World {
    idle: Idle,
    /// By number, from 1.
    heaps: [Heap; 2],
    /// The heap that owns the page.
    owner: AtomicU32,
    remote: Remote<1>,
    /// The owner's side of the page: what it knows to be free.
    free: AtomicU64,
}

impl World {
    /// The first heap waits, with the page; the second has a thread.
    fn new() -> Arc<Self> {
        let heap = || Heap {
            inbox: Inbox::new(AtomicU32::new(0)),
            next_idle: AtomicU32::new(0),
            users: AtomicU32::new(0),
        };
        let world = Self {
            idle: Idle::new(AtomicU64::new(0)),
            heaps: [heap(), heap()],
            owner: AtomicU32::new(1),
            remote: Remote::new(),
            free: AtomicU64::new(0),
        };
        world.idle.push(1, &world.heap(1).next_idle);
        Arc::new(world)
    }

    fn heap(&self, number: u32) -> &Heap {
        &self.heaps[number as usize - 1]
    }

    fn take(&self) -> Option<u32> {
        let find = |number| (number != 0).then_some(number);
        let number = self.idle.pop(find, |number| &self.heap(number).next_idle)?;
        assert_eq!(self.heap(number).users.fetch_add(1, Ordering::Relaxed), 0, "two threads");
        Some(number)
    }

    fn put(&self, number: u32) {
        self.heap(number).users.fetch_sub(1, Ordering::Relaxed);
        self.idle.push(number, &self.heap(number).next_idle);
    }

    fn post(&self) {
        self.heap(self.owner.load(Ordering::Relaxed)).inbox.post(PAGE, &self.remote);
    }

    /// A thread without the page frees blocks of it.
    fn free(&self, bits: u64) {
        assert!(self.remote.set(0, bits));
        if self.remote.count(bits.count_ones() as i32) {
            self.post();
        }
    }

    /// The thread that has a heap looks into its inbox.
    fn drain(&self, number: u32) {
        if self.heap(number).inbox.take() != PAGE {
            return;
        }
        if self.owner.load(Ordering::Relaxed) != number {
            return self.post();
        }
        self.remote.collect(1, |_, bits| {
            let free = self.free.load(Ordering::Relaxed);
            assert_eq!(free & bits, 0, "freed twice");
            self.free.store(free | bits, Ordering::Relaxed);
        });
    }

    /// The thread of the second heap takes over what the waiting heap has.
    fn adopt(&self) {
        if let Some(waiting) = self.take() {
            self.drain(waiting);
            if self.owner.load(Ordering::Relaxed) == waiting {
                self.owner.store(2, Ordering::Relaxed);
            }
            self.put(waiting);
        }
        self.drain(2);
    }

    /// A new thread goes on with the waiting heap, and ends.
    fn go_on(&self) {
        if let Some(waiting) = self.take() {
            self.drain(waiting);
            self.put(waiting);
        }
    }

    /// Once all threads are quiet, the heaps' next users find every free.
    fn expect_whole(&self) {
        // What was posted to the first owner is passed on to the second.
        self.go_on();
        self.drain(2);
        assert_eq!(self.free.load(Ordering::Relaxed), BLOCKS, "a free was lost");
        assert!(self.remote.is_settled());
    }
}

#[test]
fn a_page_is_taken_over_while_others_free_its_blocks() {
    model(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let freeing = thread::spawn(move || {
            other.free(0b01);
            other.free(0b10);
        });
        world.adopt();
        freeing.join().unwrap();
        world.expect_whole();
    });
}

#[test]
fn two_threads_free_while_a_page_is_taken_over() {
    model(|| {
        let world = World::new();
        let threads = [0b01, 0b10].map(|bits| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.free(bits))
        });
        world.adopt();
        for thread in threads {
            thread.join().unwrap();
        }
        world.expect_whole();
    });
}

#[test]
fn a_new_thread_and_a_takeover_want_the_same_waiting_heap() {
    model(|| {
        let world = World::new();
        world.free(0b01);
        let other = Arc::clone(&world);
        let new = thread::spawn(move || other.go_on());
        world.adopt();
        new.join().unwrap();
        world.free(0b10);
        world.adopt();
        world.expect_whole();
    });
}

#[test]
fn a_stack_that_was_changed_twice_is_not_mistaken_for_itself() {
    model(|| {
        let world = World::new();
        world.idle.push(2, &world.heap(2).next_idle);
        let other = Arc::clone(&world);
        // Slow to take the first, perhaps, while the first and the second go and the first returns.
        let slow = thread::spawn(move || other.take());
        let first = world.take();
        let second = world.take();
        if let Some(first) = first {
            world.put(first);
        }
        let slow = slow.join().unwrap();
        let left = [world.take(), world.take()];
        let mut heaps: Vec<_> = [slow, second, left[0], left[1]].into_iter().flatten().collect();
        heaps.sort_unstable();
        assert_eq!(heaps, [1, 2], "a heap was lost, or is there twice");
    });
}
