//! How the helper comes and goes: no need of one is forgotten, one at a time holds the post, and none is
//! there for whoever wants none.

use crate::gate::Gate;
use crate::post::{Claim, Post};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, model, thread};

/// This process, and another one.
const PROCESS: u32 = 5;
const OTHER: u32 = 6;

/// By the clock: what is held until `LATER` is not over at `NOW`.
const NOW: u64 = 100;
const LATER: u64 = 200;

fn gate() -> Gate {
    Gate::new([AtomicU64::new(0), AtomicU64::new(0)])
}

struct World {
    starts: Gate,
    post: Post,
    /// Helpers that live.
    helpers: AtomicU32,
    /// 1 while somebody counts on it that there is none.
    is_alone: AtomicU32,
    /// What there is to do, as whoever has need wrote it down.
    tasks: AtomicU32,
    /// What helpers saw of that.
    seen: AtomicU32,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            starts: gate(),
            post: Post::new(AtomicU64::new(0), AtomicU32::new(0)),
            helpers: AtomicU32::new(0),
            is_alone: AtomicU32::new(0),
            tasks: AtomicU32::new(0),
            seen: AtomicU32::new(0),
        })
    }

    /// A helper in the post.
    fn hire(&self) -> Claim {
        self.helpers.fetch_add(1, Ordering::Relaxed);
        self.post.apply(PROCESS, NOW, LATER).expect("nobody holds the post")
    }

    /// What a helper does from one sleep to its end, with nothing to do.
    fn help(&self, mut claim: Claim) {
        while let Some(renewed) = self.post.renew(claim, LATER + 1) {
            if self.post.take_need() {
                self.seen.fetch_max(self.tasks.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            let Some(again) = self.post.resign(renewed) else { break };
            claim = again;
        }
        self.helpers.fetch_sub(1, Ordering::Release);
    }

    /// A thread has need, and becomes the helper that it starts.
    fn want(&self, task: u32) {
        self.tasks.fetch_max(task, Ordering::Relaxed);
        if !self.starts.enter(PROCESS) {
            return;
        }
        self.post.say_need();
        let claim = self.post.apply(PROCESS, NOW, LATER);
        if claim.is_some() {
            assert_eq!(self.is_alone.load(Ordering::Relaxed), 0, "started for one who wants none");
            self.helpers.fetch_add(1, Ordering::Relaxed);
        }
        self.starts.leave(PROCESS);
        if let Some(claim) = claim {
            self.help(claim);
        }
    }

    /// A thread does what no helper must be there for.
    fn be_alone(&self) {
        self.starts.shut(PROCESS);
        while !self.starts.is_empty(PROCESS) {
            thread::yield_now();
        }
        self.post.dismiss(PROCESS);
        while self.helpers.load(Ordering::Acquire) != 0 {
            thread::yield_now();
        }
        self.is_alone.store(1, Ordering::Relaxed);
        assert_eq!(self.helpers.load(Ordering::Relaxed), 0, "a helper came back");
        self.is_alone.store(0, Ordering::Relaxed);
        self.starts.open(PROCESS);
    }
}

#[test]
fn a_need_is_seen_by_the_helper_that_leaves_or_by_the_next_one() {
    model(|| {
        let world = World::new();
        let claim = world.hire();
        let other = Arc::clone(&world);
        let helper = thread::spawn(move || other.help(claim));
        world.want(1);
        helper.join().unwrap();
        assert!(!world.post.has_need(), "forgotten");
        assert_eq!(world.seen.load(Ordering::Relaxed), 1, "what there was to do was not seen");
    });
}

#[test]
fn two_have_need_and_one_of_them_gets_the_post() {
    model(|| {
        let world = World::new();
        let apply = |world: &World| world.post.apply(PROCESS, NOW, LATER).is_some();
        let other = Arc::clone(&world);
        let first = thread::spawn(move || apply(&other));
        let second = apply(&world);
        assert_ne!(first.join().unwrap(), second);
    });
}

#[test]
fn a_helper_that_is_late_and_its_successor_do_not_both_hold_the_post() {
    model(|| {
        let world = World::new();
        let claim = world.hire();
        let other = Arc::clone(&world);
        let successor =
            thread::spawn(move || other.post.apply(PROCESS, LATER, LATER + 2).is_some());
        let is_renewed = world.post.renew(claim, LATER + 1).is_some();
        assert_ne!(is_renewed, successor.join().unwrap());
    });
}

#[test]
fn nobody_is_started_or_stays_for_one_who_wants_none() {
    model(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let starter = thread::spawn(move || other.want(1));
        world.be_alone();
        starter.join().unwrap();
        // Whoever was turned away comes again, and finds the gate open.
        world.want(2);
        assert_eq!(world.seen.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_dismissed_helper_ends() {
    model(|| {
        let world = World::new();
        let claim = world.hire();
        let other = Arc::clone(&world);
        let helper = thread::spawn(move || other.help(claim));
        world.be_alone();
        helper.join().unwrap();
    });
}

#[test]
fn a_gate_that_is_shut_and_empty_stays_empty() {
    model(|| {
        let gate = Arc::new(gate());
        let contents = Arc::new(AtomicU32::new(0));
        let (its_gate, its_contents) = (Arc::clone(&gate), Arc::clone(&contents));
        let visitor = thread::spawn(move || {
            if its_gate.enter(PROCESS) {
                its_contents.store(1, Ordering::Relaxed);
                its_contents.store(0, Ordering::Relaxed);
                its_gate.leave(PROCESS);
            }
        });
        gate.shut(PROCESS);
        if gate.is_empty(PROCESS) {
            for _ in 0..2 {
                assert_eq!(contents.load(Ordering::Relaxed), 0, "somebody is inside");
            }
        }
        gate.open(PROCESS);
        visitor.join().unwrap();
        assert!(gate.is_empty(PROCESS));
        assert!(gate.enter(PROCESS));
    });
}

#[test]
fn what_another_process_left_counts_for_nothing() {
    model(|| {
        let gate = gate();
        assert!(gate.enter(OTHER));
        gate.shut(OTHER);
        assert!(!gate.enter(OTHER), "it is shut");
        assert!(gate.is_empty(PROCESS) && gate.enter(PROCESS));
        assert!(!gate.is_empty(PROCESS));

        let world = World::new();
        world.post.apply(OTHER, NOW, LATER).expect("nobody holds the post");
        assert!(!world.post.dismiss(PROCESS), "nobody of this process holds it");
        assert!(world.post.apply(PROCESS, NOW, LATER).is_some());
        assert_eq!(world.post.apply(PROCESS, NOW, LATER), None, "it is held");
    });
}
