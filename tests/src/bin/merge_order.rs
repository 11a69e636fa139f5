//! Eight threads that free each other's blocks, over a heap that gives a freed block to whichever thread
//! asks next; and a reader that finds no address live twice. Also built optimised, for millions of
//! events.
//!
//! `merge_order FILE EVENTS` records at least so many events to the file, reads it, and says how many
//! there were, how many frees were another thread's than the allocation, and how often an address was
//! obtained by another thread than the one that had it before.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;

use alloc_trace::{Recording, Stacks, TraceAlloc};
use alloc_trace_format::{EventKind, Recording as Recorded, Step, ThreadId};
use tests::block::Block;
use tests::pool::Pool;

#[global_allocator]
static ALLOCATOR: TraceAlloc<Pool> = TraceAlloc::new(Pool);

const THREADS: u64 = 8;

fn main() {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().expect("a file");
    let events: u64 = arguments.next().and_then(|text| text.parse().ok()).expect("a number");
    let recording = Recording::builder().output(&path).stacks(Stacks::Depth(2)).start();
    let recording = recording.expect("a recording");
    // Two events a round, and a third where a block is resized.
    run(events / (2 * THREADS) + 1);
    recording.stop();
    check(Path::new(&path), events);
}

fn run(rounds: u64) {
    let table: Arc<[AtomicPtr<usize>]> = (0..16).map(|_| AtomicPtr::default()).collect();
    let threads: Vec<_> = (1..=THREADS)
        .map(|number| {
            let table = Arc::clone(&table);
            thread::spawn(move || exchange(&table, number, rounds))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    for place in table.iter() {
        // SAFETY: whoever takes a block out of the table is alone with it.
        if let Some(block) = unsafe { Block::from_raw(place.load(Ordering::Acquire)) } {
            block.free();
        }
    }
}

/// Puts blocks into the table and frees what was there, an eighth of them resized before.
fn exchange(table: &[AtomicPtr<usize>], seed: u64, rounds: u64) {
    let mut random = seed;
    let mut below = move |limit: usize| {
        // Marsaglia's xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    for round in 0..rounds {
        // Few cores would otherwise let one thread meet mostly its own blocks.
        if round % 8 == 0 {
            thread::yield_now();
        }
        let block = Block::new(16 + below(500), 8).into_raw();
        let found = table[below(table.len())].swap(block, Ordering::AcqRel);
        // SAFETY: whoever takes a block out of the table is alone with it.
        let Some(found) = (unsafe { Block::from_raw(found) }) else { continue };
        if below(8) == 0 {
            found.resize(16 + below(2000)).free();
        } else {
            found.free();
        }
    }
}

/// Reads the recording: every block that is released is live, and none is obtained that is.
fn check(path: &Path, wanted: u64) {
    let recording = Recorded::open(path).expect("a recording");
    let mut live: HashMap<u64, ThreadId> = HashMap::new();
    let mut last: HashMap<u64, ThreadId> = HashMap::new();
    let (mut events, mut remote, mut handed_on) = (0_u64, 0_u64, 0_u64);
    let mut merged = recording.merged();
    loop {
        match merged.advance().expect("readable") {
            Step::Event => {}
            Step::Other(_) => continue,
            Step::End => break,
        }
        let event = *merged.event();
        events += 1;
        if event.failed {
            continue;
        }
        let left = match event.kind {
            EventKind::Free => event.address,
            EventKind::Realloc => event.old_address,
            _ => 0,
        };
        if left != 0 {
            // What is older than the recording is released without having been obtained.
            match live.remove(&left) {
                Some(owner) => remote += u64::from(owner != event.thread),
                None => assert!(!last.contains_key(&left), "released and not live: {event:?}"),
            }
        }
        if event.kind != EventKind::Free {
            let other = live.insert(event.address, event.thread);
            assert_eq!(other, None, "live twice: {event:?}");
            let before = last.insert(event.address, event.thread);
            handed_on += u64::from(before.is_some_and(|thread| thread != event.thread));
        }
    }
    assert_eq!((recording.skipped(), merged.skipped()), (&[][..], &[][..]));
    assert!(events >= wanted, "{events} of {wanted}");
    println!("{events} {remote} {handed_on}");
}
