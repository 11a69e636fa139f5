//! The helper takes what a sleeping thread's cache holds, while the thread goes on in the middle of an
//! operation or begins another: each block has one owner at the end.
//!
//! What the crate does with a cache is done here in its order. The kernel's barrier for all threads is
//! what it is there: an interruption of the thread between two of its steps, for which whoever asked
//! waits. Each model has both barriers at two given places, and all places are tried.

use loom::sync::mpsc;

use crate::sync::{Arc, AtomicU32, Ordering, model, thread};

/// In place of a top: empty and full at once.
const NO_SLOTS: u32 = 100;

/// Blocks in the cache at first, by number from 1: the one in a slot has the slot's number.
const BLOCKS: u32 = 2;

/// Steps of an operation, between which the kernel may interrupt.
const STEPS: usize = 6;

struct Cache {
    top: AtomicU32,
    busy: AtomicU32,
    slots: [AtomicU32; BLOCKS as usize + 2],
}

impl Cache {
    fn new() -> Arc<Self> {
        let slots = core::array::from_fn(|index| AtomicU32::new(index as u32));
        Arc::new(Self { top: AtomicU32::new(BLOCKS), busy: AtomicU32::new(0), slots })
    }

    /// The thread writes the top. In the crate that is a store, which no memory model puts between what an
    /// exchange reads and what it writes; loom does.
    fn set_top(&self, top: u32) {
        self.top.swap(top, Ordering::Relaxed);
    }

    fn replace(&self, from: u32, to: u32) -> bool {
        self.top.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The helper takes the cache over. Returns the blocks that it has then, if it could.
    fn take_over(&self, barrier: impl Fn()) -> Option<Vec<u32>> {
        let old = self.top.load(Ordering::Relaxed);
        if !self.replace(old, NO_SLOTS) {
            return None;
        }
        barrier();
        if self.busy.load(Ordering::Relaxed) != 0 {
            self.replace(NO_SLOTS, old);
            return None;
        }
        barrier();
        if self.top.load(Ordering::Relaxed) != NO_SLOTS {
            return None;
        }
        Some((1..=old).map(|slot| self.slots[slot as usize].load(Ordering::Relaxed)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Pop,
    Push,
}

/// What the thread has in hand, and whom it answers where.
struct Thread<'cache> {
    cache: &'cache Cache,
    blocks: Vec<u32>,
    step: usize,
    barriers: [usize; 2],
    /// Whether the helper asks; it says so too when it asks no more.
    asked: mpsc::Receiver<bool>,
    passed: mpsc::Sender<()>,
}

impl Thread<'_> {
    /// Between two steps.
    fn step(&mut self) {
        for barrier in self.barriers {
            if barrier == self.step && self.asked.recv().expect("the helper says so") {
                self.passed.send(()).expect("the helper waits");
            }
        }
        self.step += 1;
    }

    /// One operation on the fast path, unless it leaves it.
    fn operate(&mut self, operation: Operation) {
        let cache = self.cache;
        self.step();
        cache.busy.store(1, Ordering::Relaxed);
        self.step();
        let top = cache.top.load(Ordering::Relaxed);
        self.step();
        if top != NO_SLOTS && operation == Operation::Pop && top != 0 {
            self.blocks.push(cache.slots[top as usize].load(Ordering::Relaxed));
            self.step();
            cache.set_top(top - 1);
        } else if top != NO_SLOTS
            && operation == Operation::Push
            && let Some(block) = self.blocks.pop()
        {
            cache.slots[top as usize + 1].store(block, Ordering::Relaxed);
            self.step();
            cache.set_top(top + 1);
        } else {
            self.step();
        }
        self.step();
        cache.busy.store(0, Ordering::Relaxed);
        self.step();
    }
}

/// Everything, with the barriers at these steps of the thread.
fn check_at(operations: &'static [Operation], barriers: [usize; 2]) {
    model(move || {
        let cache = Cache::new();
        let other = Arc::clone(&cache);
        let (ask, asked) = mpsc::channel();
        let (pass, passed) = mpsc::channel();
        let helper = thread::spawn(move || {
            let taken = other.take_over(|| {
                ask.send(true).expect("the thread is there");
                passed.recv().expect("the thread answers");
            });
            for _ in barriers {
                // The thread may be past both places.
                ask.send(false).ok();
            }
            taken
        });
        let mut own =
            Thread { cache: &cache, blocks: Vec::new(), step: 0, barriers, asked, passed: pass };
        for operation in operations {
            own.operate(*operation);
        }
        let taken = helper.join().unwrap();
        let mut blocks = own.blocks;
        let top = cache.top.load(Ordering::Relaxed);
        if let Some(taken) = taken {
            assert_eq!(top, NO_SLOTS, "the thread goes on with what the helper took");
            blocks.extend(taken);
        } else {
            assert_ne!(top, NO_SLOTS, "nobody has what the cache held");
            let rest = (1..=top).map(|slot| cache.slots[slot as usize].load(Ordering::Relaxed));
            blocks.extend(rest);
        }
        blocks.sort_unstable();
        assert_eq!(blocks, [1, 2], "a block was lost, or is there twice");
    });
}

fn check(operations: &'static [Operation]) {
    let steps = operations.len() * STEPS;
    for first in 0..steps {
        for second in first..steps {
            check_at(operations, [first, second]);
        }
    }
}

#[test]
fn a_block_is_taken_while_the_cache_is_taken_over() {
    check(&[Operation::Pop]);
}

#[test]
fn blocks_are_taken_and_given_back_while_the_cache_is_taken_over() {
    check(&[Operation::Pop, Operation::Push]);
}
