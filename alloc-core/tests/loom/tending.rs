//! The helper looks after the heaps of threads that sleep, while those wake, end and hand their heaps on:
//! nobody touches what another has hold of, and no heap is lost.
//!
//! What the crate does with a heap is done here in its order. What lies behind the caches is a number
//! that no atomic orders, and that everybody who has hold counts up.

use crate::hold::Hold;
use crate::idle::{Idle, Waiting};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, model, thread};

const PROCESS: u32 = 5;
const CHILD: u32 = 6;

struct Heap {
    number: u32,
    hold: Hold,
    next_idle: AtomicU32,
    contents: AtomicU64,
    /// How often it was counted up, by whoever did.
    counted: AtomicU64,
}

impl Waiting for Heap {
    fn number(&self) -> u32 {
        self.number
    }

    fn link(&self) -> &AtomicU32 {
        &self.next_idle
    }

    fn hold(&self) -> &Hold {
        &self.hold
    }
}

impl Heap {
    fn new(number: u32) -> Self {
        Self {
            number,
            hold: Hold::new([AtomicU32::new(0), AtomicU32::new(0)]),
            next_idle: AtomicU32::new(0),
            contents: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        }
    }

    /// Does something behind the caches.
    fn touch(&self) {
        let contents = self.contents.load(Ordering::Relaxed);
        self.contents.store(contents + 1, Ordering::Relaxed);
        self.counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Its thread leaves the fast path.
    fn serve(&self) {
        if self.hold.take() {
            self.touch();
            self.hold.let_go();
        } else {
            self.hold.miss();
            assert!(!self.hold.is_lost(|| PROCESS), "it is held by this process's helper");
        }
    }

    /// The helper looks after it.
    fn tend(&self) {
        if self.hold.take_as_helper(PROCESS) {
            self.touch();
            if !self.hold.is_missed() {
                self.touch();
            }
            self.hold.let_go();
        }
    }

    fn expect_whole(&self) {
        let counted = self.counted.load(Ordering::Relaxed);
        assert_eq!(self.contents.load(Ordering::Relaxed), counted, "two had hold at once");
        assert!(self.hold.take(), "somebody did not let go");
        self.hold.let_go();
    }
}

struct World {
    idle: Idle,
    /// By number, from 1.
    heaps: [Heap; 2],
}

impl World {
    /// The first heap has a thread; the second waits.
    fn new() -> Arc<Self> {
        let world =
            Self { idle: Idle::new(AtomicU64::new(0)), heaps: [Heap::new(1), Heap::new(2)] };
        world.push(2);
        Arc::new(world)
    }

    fn heap(&self, number: u32) -> &Heap {
        &self.heaps[number as usize - 1]
    }

    fn push(&self, number: u32) {
        self.idle.push(self.heap(number));
    }

    /// The first heap's thread ends.
    fn end_thread(&self) {
        let heap = self.heap(1);
        if heap.hold.take() {
            heap.touch();
            heap.hold.let_go();
        }
        self.push(1);
    }

    fn take(&self) -> Option<&Heap> {
        self.idle.take(|number| self.heaps.get((number as usize).checked_sub(1)?))
    }

    /// A thread borrows a heap for one request.
    fn borrow(&self) {
        if let Some(heap) = self.take() {
            heap.touch();
            self.idle.put(heap);
        }
    }

    fn tend(&self) {
        for heap in &self.heaps {
            heap.tend();
        }
    }

    /// Once all is quiet and no heap has a thread, both wait.
    fn expect_whole(&self) {
        let mut waiting = [(); 3].map(|()| self.take().map(|heap| heap.number));
        waiting.sort_unstable();
        assert_eq!(waiting, [None, Some(1), Some(2)], "a heap was lost, or is there twice");
        for heap in &self.heaps {
            heap.hold.let_go();
            heap.expect_whole();
        }
    }
}

#[test]
fn a_thread_wakes_while_its_heap_is_looked_after() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let other = Arc::clone(&heap);
        let helper = thread::spawn(move || {
            other.tend();
            other.tend();
        });
        heap.serve();
        heap.serve();
        helper.join().unwrap();
        heap.expect_whole();
    });
}

#[test]
fn two_helpers_do_not_look_after_one_heap() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let other = Arc::clone(&heap);
        let helper = thread::spawn(move || other.tend());
        heap.tend();
        helper.join().unwrap();
        heap.expect_whole();
    });
}

#[test]
fn a_thread_ends_while_its_heap_is_looked_after() {
    model(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let helper = thread::spawn(move || other.tend());
        world.end_thread();
        world.borrow();
        helper.join().unwrap();
        world.expect_whole();
    });
}

#[test]
fn a_heap_is_borrowed_while_a_thread_ends_and_the_helper_looks_around() {
    model(|| {
        let world = World::new();
        let [first, second] = [(); 2].map(|()| Arc::clone(&world));
        let ending = thread::spawn(move || first.end_thread());
        let helper = thread::spawn(move || second.heap(1).tend());
        world.borrow();
        ending.join().unwrap();
        helper.join().unwrap();
        world.expect_whole();
    });
}

#[test]
fn a_helper_stops_for_those_who_miss_the_heap_while_it_has_it() {
    model(|| {
        let heap = Heap::new(1);
        heap.hold.miss();
        assert!(heap.hold.take_as_helper(PROCESS));
        assert!(!heap.hold.is_missed(), "that was before");
        heap.serve();
        assert!(heap.hold.is_missed());
        heap.hold.let_go();
        heap.expect_whole();
    });
}

#[test]
fn a_child_knows_what_its_parents_helper_holds_for_lost() {
    model(|| {
        let hold = Heap::new(1).hold;
        assert!(!hold.is_lost(|| CHILD), "nobody has it");
        assert!(hold.take_as_helper(PROCESS));
        assert!(!hold.is_lost(|| PROCESS) && hold.is_lost(|| CHILD));
        hold.let_go();
        assert!(hold.take());
        assert!(!hold.is_lost(|| CHILD), "a thread has it, and lets go");
    });
}
