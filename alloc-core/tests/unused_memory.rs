//! What becomes of memory that nobody uses any more: it goes back to the OS, or serves others, and none is lost.
//! Each case is a process of its own with a time limit. `CoreAlloc` is the allocator of the whole program.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use alloc_core::CoreAlloc;

mod memory;
mod process;

use memory::resident_bytes;
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

#[test]
fn many_short_threads_leak_nothing() {
    succeed("many_short_threads_leak_nothing", || {
        const THREADS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
        let (send, receive) = mpsc::sync_channel::<Vec<Box<[u8; 48]>>>(4);
        let sink = thread::spawn(move || {
            let mut recent = VecDeque::new();
            for blocks in receive {
                recent.push_back(blocks);
                if recent.len() > 50 {
                    recent.pop_front();
                }
            }
        });
        let run_threads = |count: usize| {
            let mut running = VecDeque::new();
            for _ in 0..count {
                let send = send.clone();
                // Ends with blocks that live on and are freed by the sink.
                running.push_back(thread::spawn(move || {
                    let blocks = (0..20).map(|n| Box::new([n; 48])).collect();
                    send.send(blocks).expect("the sink lives");
                }));
                if running.len() > 16 {
                    let oldest = running.pop_front().expect("there are many");
                    oldest.join().expect("a short thread");
                }
            }
            for thread in running {
                thread.join().expect("a short thread");
            }
        };
        run_threads(1000);
        let before = HEAP.stats();
        run_threads(THREADS);
        let after = HEAP.stats();
        assert!(after.heaps < 30, "{after:?}");
        let more = after.page_bytes.saturating_sub(before.page_bytes);
        // A few heaps more than before keep a page for each class. One block lost for each thread
        // would be 4.8 MB with the threads of a release build; all 20 blocks, 19 MB in any.
        assert!(more < 4 << 20, "from {before:?} to {after:?}");
        drop(send);
        sink.join().expect("the sink");
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn unused_memory_goes_back_to_the_os() {
    succeed("unused_memory_goes_back_to_the_os", || {
        let small: Vec<Box<[u8; 200]>> = (0..400_000).map(|_| Box::new([1; 200])).collect();
        let large: Vec<Vec<u8>> = (0..100).map(|_| vec![1; 1 << 20]).collect();
        let peak = resident_bytes();
        assert!(peak > 180 << 20, "{peak}");
        drop(small);
        drop(large);
        // Kept for a while...
        assert!(resident_bytes() > 150 << 20, "purged at once: {}", resident_bytes());
        // ...and given back by what else goes on, once it was unused for a period or two.
        let start = Instant::now();
        while resident_bytes() > peak / 4 {
            assert!(start.elapsed() < Duration::from_secs(10), "{} resident", resident_bytes());
            thread::sleep(Duration::from_millis(100));
            black_box(vec![1u8; 200_000]);
        }
        // And at once when asked.
        let again: Vec<Vec<u8>> = (0..100).map(|_| vec![1; 1 << 20]).collect();
        assert!(resident_bytes() > 100 << 20);
        drop(again);
        assert!(HEAP.purge() >= 90 << 20);
        assert!(resident_bytes() < peak / 4, "{} resident", resident_bytes());
        // The address space is there for the next ones.
        let before = HEAP.stats().segments;
        let again: Vec<Vec<u8>> = (0..100).map(|_| vec![1; 1 << 20]).collect();
        assert_eq!(HEAP.stats().segments, before);
        drop(again);
    });
}

#[test]
fn idle_heaps_memory_serves_other_threads() {
    succeed("idle_heaps_memory_serves_other_threads", || {
        // Threads, alive together, that each fill 32 MiB and end; the blocks are freed later, into
        // heaps that no thread has.
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let barrier = Arc::clone(&barrier);
                thread::spawn(move || {
                    barrier.wait();
                    (0..32 << 10).map(|_| Box::new([1u8; 1000])).collect::<Vec<_>>()
                })
            })
            .collect();
        let blocks: Vec<_> = threads.into_iter().map(|t| t.join().expect("a thread")).collect();
        drop(blocks);
        let before = HEAP.stats();
        let again: Vec<_> = (0..240 << 10).map(|_| Box::new([1u8; 1000])).collect();
        let after = HEAP.stats();
        assert!(after.segments <= before.segments + 16, "from {before:?} to {after:?}");
        drop(again);
        HEAP.check_all().expect("a whole heap");
    });
}
