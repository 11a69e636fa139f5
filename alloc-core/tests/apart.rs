//! Threads keep out of each other's way: a thread's large blocks lie with its others.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::mpsc::channel;
use std::thread;

use alloc_core::CoreAlloc;
use alloc_core::walk::SEGMENT_BYTES;

mod process;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// The segment that a new block of this size lies in.
fn segment_of_new(bytes: usize) -> usize {
    let layout = Layout::from_size_align(bytes, 16).expect("a layout");
    // SAFETY: the layout has a size.
    let block = unsafe { HEAP.alloc(layout) };
    assert!(!block.is_null(), "out of memory");
    block.addr() / SEGMENT_BYTES
}

#[test]
fn a_threads_large_blocks_lie_together_although_there_is_room_with_anothers() {
    process::succeed(
        "a_threads_large_blocks_lie_together_although_there_is_room_with_anothers",
        || {
            const THREADS: usize = 8;
            const MOST: usize = SEGMENT_BYTES / 4 * 3;
            // This thread's, in the first segments that the heap looks into, and with room behind.
            let of_main = [segment_of_new(MOST), segment_of_new(MOST)];
            let (sender, together) = channel();
            let (keep, kept) = channel::<()>();
            let kept = std::sync::Mutex::new(kept);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    let (sender, kept) = (sender.clone(), &kept);
                    scope.spawn(move || {
                        let first = segment_of_new(MOST);
                        let second = segment_of_new(SEGMENT_BYTES / 64);
                        sender.send([first, second]).expect("a receiver");
                        // All live at once, so that no two have the same stack.
                        let _ = kept.lock().expect("a lock").recv();
                    });
                }
                let found: Vec<_> = together.iter().take(THREADS).collect();
                drop(keep);
                assert!(found.iter().all(|[first, _]| !of_main.contains(first)));
                // Which threads count as one is a matter of chance, but hardly all of them do.
                let apart = found.iter().filter(|[first, second]| first == second).count();
                assert!(apart > THREADS / 2, "{apart}");
            });
        },
    );
}
