//! CoreAlloc beside the system's allocator, workload by workload, in one process.
//!
//! `cargo bench -p alloc-core` prints the time of an operation under each and the ratio. Rounds of
//! the two are interleaved and the median is taken; results are checked as they are made. A word
//! given on the command line selects the workloads whose name contains it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use alloc_core::CoreAlloc;

/// Rounds of each workload under each allocator.
const ROUNDS: usize = 9;

/// Memory touched and released before measuring: a virtual machine may have handed idle memory
/// back to its host, and whoever touches it first would pay for that.
const WARM_UP_BYTES: usize = 768 << 20;

/// A workload: runs under an allocator, returns how many operations it did.
type Workload = fn(&'static dyn Heap) -> usize;

/// An allocator as the workloads see it. The calls are not inlined for either side.
trait Heap: Sync {
    fn alloc(&self, layout: Layout) -> *mut u8;
    fn free(&self, block: *mut u8, layout: Layout);
    fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8;
}

impl<A: GlobalAlloc + Sync> Heap for A {
    fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no workload asks for a size of 0.
        let block = unsafe { GlobalAlloc::alloc(self, layout) };
        assert!(!block.is_null(), "out of memory");
        // SAFETY: a live block of at least one byte.
        unsafe { block.write(1) };
        block
    }

    fn free(&self, block: *mut u8, layout: Layout) {
        // SAFETY: each workload frees what it allocated, once, with the same layout.
        unsafe { self.dealloc(block, layout) };
    }

    fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `free`, and sizes are small and not 0.
        let block = unsafe { GlobalAlloc::realloc(self, block, layout, size) };
        assert!(!block.is_null(), "out of memory");
        block
    }
}

/// A block on its way to another thread.
struct Sent(*mut u8);

// SAFETY: a block may be freed by any thread, and only the receiver still knows of it.
unsafe impl Send for Sent {}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small layout")
}

/// xorshift64*: the same sequence for both sides.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize
    }
}

fn pairs<const SIZE: usize>(heap: &'static dyn Heap) -> usize {
    const COUNT: usize = 1_000_000;
    for _ in 0..COUNT {
        let block = black_box(heap.alloc(layout(SIZE)));
        heap.free(block, layout(SIZE));
    }
    COUNT
}

fn lifo<const SIZE: usize>(heap: &'static dyn Heap) -> usize {
    const ROUNDS: usize = 500;
    let mut blocks = Vec::with_capacity(1000);
    for _ in 0..ROUNDS {
        for _ in 0..1000 {
            blocks.push(heap.alloc(layout(SIZE)));
        }
        while let Some(block) = blocks.pop() {
            heap.free(block, layout(SIZE));
        }
    }
    ROUNDS * 1000
}

fn random_lives<const LIVE: usize>(heap: &'static dyn Heap) -> usize {
    let count = if LIVE > 100_000 { LIVE } else { 1_000_000 };
    let mut random = Random(42);
    let mut live: Vec<(*mut u8, Layout)> = Vec::with_capacity(LIVE);
    for step in 0..LIVE + count {
        let new = layout(8 + random.next() % 505);
        let block = heap.alloc(new);
        if step < LIVE {
            live.push((block, new));
        } else {
            let (old, old_layout) =
                std::mem::replace(&mut live[random.next() % LIVE], (block, new));
            heap.free(old, old_layout);
        }
    }
    for (block, layout) in live {
        heap.free(block, layout);
    }
    LIVE + count
}

fn random_lives_two_threads(heap: &'static dyn Heap) -> usize {
    let other = thread::spawn(move || random_lives::<10_000>(heap));
    let count = random_lives::<10_000>(heap);
    other.join().expect("the other thread") + count
}

fn remote<const SIZE: usize>(heap: &'static dyn Heap) -> usize {
    // Long batches, so that waking the other thread does not hide the heap.
    const BATCHES: usize = 200;
    const BLOCKS: usize = 2048;
    let (send, receive) = mpsc::sync_channel::<Vec<Sent>>(8);
    let consumer = thread::spawn(move || {
        for batch in receive {
            for Sent(block) in batch {
                heap.free(block, layout(SIZE));
            }
        }
    });
    for _ in 0..BATCHES {
        let batch = (0..BLOCKS).map(|_| Sent(heap.alloc(layout(SIZE)))).collect();
        send.send(batch).expect("the consumer lives");
    }
    drop(send);
    consumer.join().expect("the consumer");
    BATCHES * BLOCKS
}

fn growth(heap: &'static dyn Heap) -> usize {
    const COUNT: usize = 200;
    for _ in 0..COUNT {
        let mut size = 16;
        let mut block = heap.alloc(layout(size));
        while size < 1 << 20 {
            block = heap.realloc(block, layout(size), size * 2);
            // As a `Vec` would: the new half is written.
            // SAFETY: the block has twice `size` bytes.
            unsafe { block.wrapping_add(size).write_bytes(1, size) };
            size *= 2;
        }
        heap.free(black_box(block), layout(size));
    }
    COUNT
}

fn large_blocks(heap: &'static dyn Heap) -> usize {
    const COUNT: usize = 20_000;
    let mut random = Random(7);
    let mut live = [(std::ptr::null_mut::<u8>(), layout(1)); 16];
    for _ in 0..COUNT {
        let new = layout((64 << 10) + random.next() % (1 << 20));
        let place = &mut live[random.next() % 16];
        if !place.0.is_null() {
            heap.free(place.0, place.1);
        }
        *place = (heap.alloc(new), new);
    }
    for (block, layout) in live {
        if !block.is_null() {
            heap.free(block, layout);
        }
    }
    COUNT
}

fn small_vecs(heap: &'static dyn Heap) -> usize {
    const COUNT: usize = 200_000;
    let mut random = Random(3);
    for _ in 0..COUNT {
        let mut size = 32;
        let mut block = heap.alloc(layout(size));
        for _ in 0..random.next() % 4 {
            block = heap.realloc(block, layout(size), size * 2);
            size *= 2;
        }
        heap.free(black_box(block), layout(size));
    }
    COUNT
}

fn short_threads(heap: &'static dyn Heap) -> usize {
    const COUNT: usize = 500;
    for _ in 0..COUNT {
        let work = move || {
            let blocks: Vec<_> = (1..50).map(|n| (heap.alloc(layout(n * 16)), n * 16)).collect();
            for (block, size) in blocks {
                heap.free(block, layout(size));
            }
        };
        thread::spawn(work).join().expect("a short thread");
    }
    COUNT
}

const WORKLOADS: [(&str, Workload); 14] = [
    ("pairs of 16 B", pairs::<16>),
    ("pairs of 64 B", pairs::<64>),
    ("pairs of 1024 B", pairs::<1024>),
    ("1000 last in first out, 32 B", lifo::<32>),
    ("1000 last in first out, 256 B", lifo::<256>),
    ("random size and life, 10 k live", random_lives::<10_000>),
    ("random size and life, 1 M live", random_lives::<1_000_000>),
    ("same, 10 k live, 2 threads", random_lives_two_threads),
    ("remote frees in batches, 64 B", remote::<64>),
    ("remote frees in batches, 512 B", remote::<512>),
    ("growth by doubling to 1 MiB", growth),
    ("large blocks, first byte touched", large_blocks),
    ("small vectors", small_vecs),
    ("short threads", short_threads),
];

fn warm_up() {
    let mut memory = vec![0u8; WARM_UP_BYTES];
    for byte in memory.iter_mut().step_by(4096) {
        *byte = 1;
    }
    black_box(memory);
}

fn nanoseconds(workload: Workload, heap: &'static dyn Heap) -> f64 {
    let start = Instant::now();
    let operations = workload(heap);
    start.elapsed().as_nanos() as f64 / operations as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    static CORE: CoreAlloc = CoreAlloc::new();
    static SYSTEM: System = System;
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|word| name.contains(word));

    if cfg!(feature = "hardened") {
        println!("CoreAlloc in the hardened build");
    }
    println!("{:<36}{:>12}{:>12}{:>8}", "ns per operation, median", "CoreAlloc", "System", "ratio");
    let mut logarithms = Vec::new();
    for (name, workload) in WORKLOADS.into_iter().filter(|(name, _)| is_wanted(name)) {
        warm_up();
        let mut core = Vec::new();
        let mut system = Vec::new();
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                core.push(nanoseconds(workload, &CORE));
                system.push(nanoseconds(workload, &SYSTEM));
            } else {
                system.push(nanoseconds(workload, &SYSTEM));
                core.push(nanoseconds(workload, &CORE));
            }
        }
        let (core, system) = (median(core), median(system));
        logarithms.push((core / system).ln());
        println!("{name:<36}{core:>12.2}{system:>12.2}{:>8.2}", core / system);
    }
    let mean = logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64;
    println!("{:<36}{:>32.2}", "geometric mean of the ratios", mean.exp());
    let stats = CORE.stats();
    println!(
        "{} pages of {} bytes, {} bytes mapped",
        stats.pages, stats.page_bytes, stats.mapped_bytes
    );
}
