//! What a walk and the statistics say, held against what a program did: exactly, in a process where
//! nothing else uses the heap. The program's own allocator is the system's.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use alloc_core::CoreAlloc;
use alloc_core::walk::{self, BlockState, Run};

mod model;
mod process;

use model::{Model, Random};
use process::succeed;

const HEAP: CoreAlloc = CoreAlloc::new();

/// A block that is live.
struct Live {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block may be used and freed by any thread.
unsafe impl Send for Live {}

impl Live {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { HEAP.alloc(layout) }).expect("memory");
        Self { start, layout }
    }

    fn usable(&self) -> usize {
        // SAFETY: the block is live.
        unsafe { HEAP.usable_size(self.start) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // SAFETY: the block is live with this layout and given up.
        unsafe { HEAP.dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// All live blocks by address, with their usable bytes, as the walk finds them.
fn live_by_walk() -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    for segment in HEAP.segments() {
        let mut used = 0;
        for run in segment.runs() {
            let (address, bytes) = match run {
                Run::Page(page) => {
                    let live = page.blocks().filter(|block| block.state == BlockState::Live);
                    found.extend(live.map(|block| (block.address, block.bytes)));
                    let free = page.blocks().filter(|block| block.state == BlockState::Free);
                    assert_eq!(free.count(), page.free);
                    (page.address, page.bytes)
                }
                Run::Large(block) => {
                    assert!(block.requested_bytes <= block.bytes);
                    found.insert(block.address, block.bytes);
                    (block.address, block.bytes)
                }
                _ => unreachable!("there are no other runs"),
            };
            for slice in 0..bytes / walk::SLICE_BYTES {
                let bit = (address - segment.address) / walk::SLICE_BYTES + slice;
                assert_eq!(used & (1 << bit), 0, "two runs have one slice");
                used |= 1 << bit;
            }
        }
        assert_eq!(used, segment.used);
        assert_eq!(used & !segment.touched, 0, "a slice in use is not touched");
    }
    found.extend(HEAP.huge_blocks().map(|block| (block.address, block.bytes)));
    found
}

/// The pages of a class by how full they are, block by block.
fn pages_by_fill(class: usize) -> [usize; 4] {
    let mut pages = [0; 4];
    for run in HEAP.segments().flat_map(|segment| segment.runs()) {
        let Run::Page(page) = run else { continue };
        if page.class == class {
            let taken = page.blocks().filter(|block| block.state != BlockState::Free).count();
            let full = taken as f64 / page.capacity as f64;
            let quarter = [0.25, 0.5, 0.75].iter().filter(|&&most| full > most).count();
            pages[quarter] += 1;
        }
    }
    pages
}

fn expect(live: &[Live]) {
    let wanted = live.iter().map(|block| (block.start.addr().get(), block.usable()));
    assert_eq!(live_by_walk(), wanted.collect());
    let stats = HEAP.stats();
    assert_eq!(stats.live_blocks(), live.len());
    assert_eq!(stats.live_bytes(), live.iter().map(Live::usable).sum::<usize>());
    let pages: usize = stats.classes.iter().map(|class| class.pages).sum();
    assert_eq!(pages, stats.pages);
    for (index, class) in stats.classes.iter().enumerate() {
        assert_eq!(class.live + class.cached + class.free, class.capacity);
        assert_eq!(class.pages_by_fill, pages_by_fill(index));
    }
    HEAP.check_all().expect("a whole heap");
}

#[test]
fn a_walk_finds_exactly_the_live_blocks() {
    succeed("a_walk_finds_exactly_the_live_blocks", || {
        let mut random = Random::new(1);
        let mut live = Vec::new();
        for round in 0..20 {
            for _ in 0..500 {
                live.push(Live::new(1 + random.size()));
            }
            expect(&live);
            for _ in 0..300 + 20 * round {
                if !live.is_empty() {
                    live.swap_remove(random.below(live.len()));
                }
            }
            expect(&live);
        }
        live.clear();
        expect(&live);
    });
}

#[test]
fn a_walk_finds_what_other_threads_have_and_left_behind() {
    succeed("a_walk_finds_what_other_threads_have_and_left_behind", || {
        let (send, receive) = mpsc::channel::<Vec<Live>>();
        let (go, wait) = mpsc::channel::<()>();
        let sender = send.clone();
        let waiting = thread::spawn(move || {
            let mut random = Random::new(2);
            sender.send((0..3000).map(|_| Live::new(1 + random.size())).collect()).expect("taken");
            // Alive, with blocks in its caches, while the others are looked at.
            let kept = Live::new(100);
            sender.send(Vec::new()).expect("taken");
            wait.recv().expect("a word to go on");
            drop(kept);
        });
        let mut live = receive.recv().expect("blocks");
        receive.recv().expect("a word that it waits");
        for seed in 3..8 {
            let ended = thread::spawn(move || {
                let mut random = Random::new(seed);
                let mut blocks: Vec<_> = (0..500).map(|_| Live::new(1 + random.size())).collect();
                blocks.truncate(300);
                blocks
            });
            live.extend(ended.join().expect("a thread"));
            HEAP.check_all().expect("a whole heap");
        }
        // Remote frees, not yet taken by the page's owners.
        let mut random = Random::new(9);
        for _ in 0..2000 {
            live.swap_remove(random.below(live.len()));
        }
        assert_eq!(HEAP.stats().live_blocks(), live.len() + 1);
        HEAP.check_all().expect("a whole heap");
        go.send(()).expect("it waits");
        waiting.join().expect("a thread");
        expect(&live);
    });
}

#[test]
fn large_requests_are_known() {
    succeed("large_requests_are_known", || {
        let large = Live::new(100_001);
        let huge = Live::new(5_000_001);
        let stats = HEAP.stats();
        assert_eq!((stats.large_blocks, stats.large_requested_bytes), (1, 100_001));
        assert_eq!((stats.huge_blocks, stats.huge_requested_bytes), (1, 5_000_001));
        assert_eq!((stats.large_bytes, stats.huge_bytes), (large.usable(), huge.usable()));
        drop((large, huge));
        let stats = HEAP.stats();
        assert_eq!((stats.large_requested_bytes, stats.huge_requested_bytes), (0, 0));
    });
}

#[test]
fn resident_bytes_follow_what_is_written() {
    succeed("resident_bytes_follow_what_is_written", || {
        let large = Live::new(3 << 20);
        let huge = Live::new(64 << 20);
        let before = HEAP.resident_bytes();
        // SAFETY: a live block of so many bytes.
        unsafe { huge.start.write_bytes(1, 32 << 20) };
        // SAFETY: as above.
        unsafe { large.start.write_bytes(1, 2 << 20) };
        let after = HEAP.resident_bytes();
        let more = after - before;
        // The first page of each may have been there.
        assert!((33 << 20..=36 << 20).contains(&more), "{more}");
        assert!(HEAP.stats().touched_bytes >= 3 << 20);
        drop(huge);
        if cfg!(not(feature = "hardened")) {
            assert!(HEAP.resident_bytes() > after - (1 << 20), "its mapping is kept");
        }
        HEAP.purge();
        // What looks at the heap touches a little of it.
        assert!(HEAP.resident_bytes() <= after - (31 << 20));
        drop(large);
        HEAP.purge();
        assert!(HEAP.resident_bytes() <= after - (33 << 20));
        assert_eq!(HEAP.stats().touched_bytes & (walk::SLICE_BYTES - 1), 0);
    });
}

#[test]
fn a_walk_ends_while_others_change_everything() {
    succeed("a_walk_ends_while_others_change_everything", || {
        static STOP: AtomicBool = AtomicBool::new(false);
        let threads: Vec<_> = (0..3)
            .map(|seed| {
                thread::spawn(move || {
                    let mut random = Random::new(seed);
                    let mut model = Model::new(HEAP);
                    while !STOP.load(Ordering::Relaxed) {
                        model.step(random.operation(model.live(), 300));
                        if random.below(500) == 0 {
                            model.free_all();
                            HEAP.purge();
                        }
                    }
                    model.free_all();
                })
            })
            .collect();
        for _ in 0..300 {
            for segment in HEAP.segments() {
                let end = segment.address + walk::SEGMENT_BYTES;
                let mut next = segment.address;
                for run in segment.runs() {
                    let (address, bytes) = match run {
                        Run::Page(page) => {
                            assert_eq!(page.blocks().count(), page.capacity);
                            (page.address, page.bytes)
                        }
                        Run::Large(block) => (block.address, block.bytes),
                        _ => unreachable!("there are no other runs"),
                    };
                    assert!(address >= next && address + bytes <= end);
                    next = address + bytes;
                }
            }
            let stats = HEAP.stats();
            for class in &stats.classes {
                assert!(class.live + class.cached + class.free == class.capacity);
            }
        }
        STOP.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a thread");
        }
        HEAP.check_all().expect("a whole heap");
    });
}
