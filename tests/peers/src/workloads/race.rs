//! Threads that start together, and the time until the last one is done.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// What all threads together did.
#[derive(Debug, Clone, Copy)]
pub struct Raced {
    /// Operations.
    pub operations: u64,
    /// From when all were ready until the last one was done, in nanoseconds.
    pub wall_ns: u64,
    /// The sum of what they came to.
    pub checksum: u64,
}

/// What one thread did.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Operations.
    pub operations: u64,
    /// What they came to.
    pub checksum: u64,
}

/// Where the threads of a race wait for each other.
#[derive(Debug)]
pub struct Start<'a> {
    barrier: &'a Barrier,
    began: Cell<Option<Instant>>,
}

impl Start<'_> {
    /// Waits until all threads are ready. The time counts from here.
    pub fn ready(&self) {
        self.barrier.wait();
        self.began.set(Some(Instant::now()));
    }
}

/// Runs `work` on some threads at once: the calling one, and as many as are missing. Each gets its
/// number, counted from zero.
///
/// # Panics
///
/// If a thread panics, or never said that it was ready.
pub fn race(threads: usize, work: impl Fn(usize, &Start<'_>) -> Done + Sync) -> Raced {
    let barrier = Barrier::new(threads);
    let run = |index| {
        let start = Start { barrier: &barrier, began: Cell::new(None) };
        let done = work(index, &start);
        let ended = Instant::now();
        (start.began.get().expect("a thread that was ready"), ended, done)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..threads).map(|index| scope.spawn(move || run(index))).collect();
        let first = run(0);
        let others = others.into_iter().map(|thread| thread.join().expect("a thread that ends"));
        std::iter::once(first).chain(others).collect()
    });
    let began = results.iter().map(|(began, ..)| *began).min().expect("one thread");
    let ended = results.iter().map(|(_, ended, _)| *ended).max().expect("one thread");
    Raced {
        operations: results.iter().map(|(.., done)| done.operations).sum(),
        wall_ns: (ended - began).as_nanos() as u64,
        checksum: results.iter().fold(0, |sum, (.., done)| sum.wrapping_add(done.checksum)),
    }
}
