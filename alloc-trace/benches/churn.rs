//! What an event costs: 10 M events on one thread, at call depths of 10 to 20 over about 14,400 paths.
//! Prints nanoseconds an event, on standard error. Arguments: the number of events, and after how many
//! of them the path changes (8).
//!
//! Run it without a recording, with `ALLOC_TRACE=FILE,stacks=off`, and with `ALLOC_TRACE=FILE`, in
//! turn, and compare.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

use alloc_trace::TraceAlloc;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// Live blocks, once there are as many.
const LIVE: usize = 5_000;
struct Churn {
    random: u64,
    live: Vec<(*mut u8, Layout)>,
    left: u64,
    /// Events before the path changes.
    events_of_a_path: u64,
}

impl Churn {
    #[inline(always)]
    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn allocate(&mut self) -> (*mut u8, Layout) {
        let size = 8 + self.next(249) as usize;
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        self.left = self.left.saturating_sub(1);
        // SAFETY: the layout is not empty.
        (unsafe { ALLOCATOR.alloc(layout) }, layout)
    }

    #[inline(never)]
    fn work(&mut self) {
        for _ in 0..self.events_of_a_path / 2 {
            if self.left == 0 {
                return;
            }
            if self.live.len() < LIVE {
                let block = self.allocate();
                self.live.push(block);
                continue;
            }
            let index = self.next(LIVE as u64) as usize;
            let (block, layout) = self.live[index];
            self.left -= 1;
            // SAFETY: allocated with this layout, and replaced below.
            unsafe { ALLOCATOR.dealloc(block, layout) };
            self.live[index] = self.allocate();
        }
    }

    #[inline(never)]
    fn descend(&mut self, depth: u32, path: u64) {
        if depth == 0 {
            self.work();
        } else {
            match path % 3 {
                0 => self.first(depth, path),
                1 => self.second(depth, path),
                _ => self.third(depth, path),
            }
        }
        black_box(path);
    }

    #[inline(never)]
    fn first(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 1);
    }

    #[inline(never)]
    fn second(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 2);
    }

    #[inline(never)]
    fn third(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 3);
    }
}

fn main() {
    // Cargo adds an argument of its own, which is no number.
    let mut given = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let events: u64 = given.next().unwrap_or(10_000_000);
    let mut churn = Churn {
        random: 88_172_645_463_325_252,
        live: Vec::with_capacity(LIVE),
        left: events,
        events_of_a_path: given.next().unwrap_or(8),
    };
    let begin = Instant::now();
    while churn.left > 0 {
        let depth = 5 + churn.next(5) as u32;
        let path = churn.next(14_400);
        churn.descend(depth, path);
    }
    let elapsed = begin.elapsed();
    for (block, layout) in churn.live.drain(..) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { ALLOCATOR.dealloc(block, layout) };
    }
    eprintln!("{:.1} ns an event", elapsed.as_nanos() as f64 / events as f64);
}
