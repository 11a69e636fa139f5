//! The merged order of streams, against the histories that they came from.
//!
//! The histories are those of a simulated heap whose threads take every step apart: a request's
//! memory is obtained before its stamp is taken, a free's stamp is taken before its memory is
//! released, and a reallocation begins, obtains, releases and ends, while other threads go on.

mod support;

use std::collections::BTreeMap;

use EventKind::{Alloc, Free, Realloc};
use alloc_trace_format::{
    Event, EventKind, Record, Recording, RecordingWriter, Step, ThreadId, Window,
};
use proptest::prelude::*;

use support::{event, header};

/// What a thread is doing.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Nothing,
    /// Memory was obtained, the stamp is not yet taken.
    Allocating {
        address: u64,
    },
    /// The stamp was taken, the memory is not yet released.
    Freeing {
        address: u64,
    },
    /// Begun, nothing obtained yet.
    Reallocating {
        old: u64,
        begin: u64,
    },
    /// The new block was obtained, the old one is not yet released.
    Moving {
        old: u64,
        new: u64,
        begin: u64,
    },
    /// The old block was released, or there is only one; the end is not yet stamped.
    Moved {
        old: u64,
        new: u64,
        begin: u64,
    },
}

/// Steps in which a thread finishes whatever it has begun.
const FINISHING: usize = 40;

struct Heap {
    random: u64,
    /// Addresses that nobody has: few, so that each is soon used again.
    free: Vec<u64>,
    /// Blocks that some thread may free or reallocate, each from some time on.
    live: Vec<(u64, u64)>,
    /// What each thread is doing, and when it can take its next stamp.
    threads: Vec<(Doing, u64)>,
    now: u64,
    /// A stamp counts so many steps of the clock, as a power of two.
    ticks_log2: u32,
}

impl Heap {
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % below
    }

    fn obtain(&mut self) -> Option<u64> {
        // The address that was released last is given out next, as heaps do.
        let recent = self.random(3).min(self.free.len().saturating_sub(1));
        self.free.len().checked_sub(1 + recent).map(|index| self.free.swap_remove(index))
    }

    fn take_live(&mut self) -> Option<u64> {
        let index = self.live.len().checked_sub(1).map(|last| self.random(last + 1))?;
        (self.live[index].1 <= self.now).then(|| self.live.swap_remove(index).0)
    }

    /// When a thread can take another stamp that takes one now: reading the clock takes longer than a stamp
    /// counts. What others learn from that thread of a block that it obtained they learn no sooner.
    const fn read(&self) -> u64 {
        self.now + (1 << self.ticks_log2)
    }

    /// One thread takes one step; an event that is to be recorded now.
    fn step(&mut self, thread: usize) -> Option<Event> {
        self.now += 1 + self.random(3) as u64;
        let (present, goes_on) = self.threads[thread];
        let choice = self.random(3);
        // What needs no stamp need not wait for one: a release is seen as soon as its stamp was taken, and whoever
        // takes the block reads the clock only then, so that both can have one stamp.
        let stamps = match present {
            Doing::Nothing => choice != 0,
            Doing::Allocating { .. } | Doing::Moved { .. } => true,
            Doing::Freeing { .. } | Doing::Reallocating { .. } | Doing::Moving { .. } => false,
        };
        if stamps && self.now < goes_on {
            return None;
        }
        let (now, number, read) = (self.now >> self.ticks_log2, thread as u32 + 1, self.read());
        let (doing, recorded) = match present {
            Doing::Nothing => match choice {
                0 => (
                    self.obtain().map_or(Doing::Nothing, |address| Doing::Allocating { address }),
                    None,
                ),
                1 => match self.take_live() {
                    Some(address) => {
                        (Doing::Freeing { address }, Some(event(Free, number, now, address, 8)))
                    }
                    None => (Doing::Nothing, None),
                },
                _ => match self.take_live() {
                    Some(old) => (Doing::Reallocating { old, begin: now }, None),
                    None => (Doing::Nothing, None),
                },
            },
            Doing::Allocating { address } => {
                self.live.push((address, read));
                (Doing::Nothing, Some(event(Alloc, number, now, address, 8)))
            }
            Doing::Freeing { address } => {
                self.free.push(address);
                (Doing::Nothing, None)
            }
            Doing::Reallocating { old, begin } => {
                let new = if self.random(4) == 0 { None } else { self.obtain() };
                match new {
                    Some(new) => (Doing::Moving { old, new, begin }, None),
                    None => (Doing::Moved { old, new: old, begin }, None),
                }
            }
            Doing::Moving { old, new, begin } => {
                self.free.push(old);
                (Doing::Moved { old, new, begin }, None)
            }
            Doing::Moved { old, new, begin } => {
                self.live.push((new, read));
                let event = Event {
                    begin_stamp: begin,
                    old_address: old,
                    old_size: 8,
                    ..event(Realloc, number, now, new, 8)
                };
                (Doing::Nothing, Some(event))
            }
        };
        self.threads[thread] = (doing, if stamps { read } else { goes_on });
        recorded
    }
}

/// The events in merged order, taken in runs of at most `most` where there are any.
fn by_runs(recording: &Recording, most: usize) -> Vec<Event> {
    let mut merged = recording.merged();
    let mut events = Vec::new();
    loop {
        if let Some(run) = merged.next_run(most) {
            assert!((1..=most).contains(&run.events.len()));
            events.extend(run.events.iter().map(|event| event.event(run.thread)));
            continue;
        }
        match merged.advance().expect("readable") {
            Step::Event => events.push(*merged.event()),
            Step::Other(_) => {}
            Step::End => return events,
        }
    }
}

/// Replays the merged order: who is live, and by whom it is left.
fn check(recording: &Recording, expected: usize) -> Result<(), TestCaseError> {
    let mut live: BTreeMap<u64, Event> = BTreeMap::new();
    let mut last_stamps: BTreeMap<ThreadId, u64> = BTreeMap::new();
    let mut merged = recording.merged();
    let mut seen = Vec::new();
    while let Some(record) = merged.next_record().expect("readable") {
        let Record::Event(event) = record else { continue };
        seen.push(event);
        let last = last_stamps.insert(event.thread, event.stamp).unwrap_or(0);
        prop_assert!(last <= event.stamp, "a thread's own order is kept: {event:?}");
        let left = match event.kind {
            Free => Some(event.address),
            Realloc => Some(event.old_address),
            _ => None,
        };
        if let Some(left) = left {
            prop_assert!(live.remove(&left).is_some(), "not live: {event:?}");
        }
        if event.kind != Free {
            let other = live.insert(event.address, event);
            prop_assert!(other.is_none(), "live twice: {other:?} {event:?}");
        }
    }
    prop_assert_eq!(seen.len(), expected);
    prop_assert!(merged.skipped().is_empty());
    for most in [1, 3, usize::MAX] {
        prop_assert!(by_runs(recording, most) == seen, "in runs of {most} at most");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_address_is_live_twice_in_the_merged_order(
        seed in 1..u64::MAX,
        threads in 1..9_usize,
        addresses in 2..24_u64,
        hops in any::<bool>(),
        packed in any::<bool>(),
        ticks_log2 in prop_oneof![Just(0), Just(3)],
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("simulated.trace");
        // A shorter chunk is not worth being packed.
        let chunk_bytes = if packed { 2_048 } else { 512 };
        let window = Window { slots: threads as u32 + 1, chunk_bytes };
        let mut writer = RecordingWriter::create(&path, &header(), window).expect("created");
        if packed {
            writer.pack_chunks(1);
        }
        let mut heap = Heap {
            random: seed,
            free: (1..=addresses).map(|number| number * 0x10).collect(),
            live: Vec::new(),
            threads: vec![(Doing::Nothing, 0); threads],
            now: 1_000 << ticks_log2,
            ticks_log2,
        };
        let mut events = 0;
        for step in 0..3_000 + FINISHING * threads {
            // In the end everybody finishes what was begun: what a killed process was about to
            // record is missing.
            let finishing = step.checked_sub(3_000).map(|step| step / FINISHING);
            let thread = finishing.unwrap_or_else(|| heap.random(threads));
            if finishing.is_some() && matches!(heap.threads[thread].0, Doing::Nothing) {
                continue;
            }
            let Some(event) = heap.step(thread) else { continue };
            // A thread can go on in another stream, as when its chunk is full.
            let stream = if hops && heap.random(8) == 0 { threads } else { thread };
            writer.write(stream as u32, &Record::Event(event)).expect("written");
            events += 1;
        }
        writer.finish(None).expect("finished");
        check(&Recording::open(&path).expect("readable"), events)?;
    }
}

/// The records of each stream, and the order in which their events must come out.
fn merged(streams: &[&[Event]]) -> Vec<(EventKind, u64)> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("merged.trace");
    let mut writer = RecordingWriter::create(&path, &header(), Window::default()).expect("created");
    for (number, stream) in (0..).zip(streams) {
        for event in *stream {
            writer.write(number, &Record::Event(*event)).expect("written");
        }
    }
    writer.finish(None).expect("finished");
    let recording = Recording::open(&path).expect("readable");
    let mut merged = recording.merged();
    let mut order = Vec::new();
    while let Some(record) = merged.next_record().expect("readable") {
        if let Record::Event(event) = record {
            order.push((event.kind, event.address));
        }
    }
    order
}

fn realloc(thread: u32, begin: u64, end: u64, old: u64, new: u64) -> Event {
    Event {
        begin_stamp: begin,
        old_address: old,
        old_size: 8,
        ..event(Realloc, thread, end, new, 8)
    }
}

#[test]
fn a_reallocation_comes_before_whoever_takes_the_address_it_left() {
    let order = merged(&[
        &[event(Alloc, 1, 1_001, 0xa0, 8), realloc(1, 1_010, 1_050, 0xa0, 0xb0)],
        &[event(Alloc, 2, 1_030, 0xa0, 8)],
    ]);
    assert_eq!(order, [(Alloc, 0xa0), (Realloc, 0xb0), (Alloc, 0xa0)]);
}

#[test]
fn a_reallocation_comes_after_whoever_freed_the_address_it_moved_to() {
    let order = merged(&[
        &[event(Alloc, 1, 1_001, 0xa0, 8), realloc(1, 1_010, 1_050, 0xa0, 0xb0)],
        &[event(Alloc, 2, 1_002, 0xb0, 8), event(Free, 2, 1_030, 0xb0, 8)],
    ]);
    assert_eq!(order, [(Alloc, 0xa0), (Alloc, 0xb0), (Free, 0xb0), (Realloc, 0xb0)]);
}

#[test]
fn reallocations_that_follow_each_other_s_addresses_come_in_that_order() {
    // 3 → 4 makes room for 2 → 3, that for 1 → 2, and that for an allocation at 1.
    let order = merged(&[
        &[event(Alloc, 1, 1_001, 0x10, 8), realloc(1, 1_010, 1_090, 0x10, 0x20)],
        &[event(Alloc, 2, 1_002, 0x20, 8), realloc(2, 1_011, 1_091, 0x20, 0x30)],
        &[event(Alloc, 3, 1_003, 0x30, 8), realloc(3, 1_012, 1_092, 0x30, 0x40)],
        &[event(Alloc, 4, 1_050, 0x10, 8)],
    ]);
    let expected = [(Realloc, 0x40), (Realloc, 0x30), (Realloc, 0x20), (Alloc, 0x10)];
    assert_eq!(order[3..], expected);
}

#[test]
fn a_reallocation_that_took_no_time_still_leaves_its_address_first() {
    let order = merged(&[
        &[event(Alloc, 2, 1_050, 0xa0, 8)],
        &[event(Alloc, 1, 1_001, 0xa0, 8), realloc(1, 1_050, 1_050, 0xa0, 0xb0)],
    ]);
    assert_eq!(order, [(Alloc, 0xa0), (Realloc, 0xb0), (Alloc, 0xa0)]);
}

#[test]
fn at_one_stamp_threads_that_share_a_stream_are_merged_as_if_they_did_not() {
    // The first thread takes what the second one leaves, ends, and the second one goes on in its stream.
    let shared = [event(Alloc, 1, 1_030, 0xa0, 8), realloc(2, 1_030, 1_031, 0xa0, 0xb0)];
    let order = merged(&[&shared, &[event(Alloc, 3, 1_001, 0xa0, 8)]]);
    assert_eq!(order, [(Alloc, 0xa0), (Realloc, 0xb0), (Alloc, 0xa0)]);
}

#[test]
fn at_one_stamp_a_thread_s_own_order_is_kept() {
    let order = merged(&[&[
        event(Alloc, 1, 1_001, 0xa0, 8),
        realloc(1, 1_010, 1_050, 0xa0, 0xb0),
        event(Free, 1, 1_050, 0xb0, 8),
        event(Alloc, 1, 1_050, 0xb0, 8),
        event(Free, 1, 1_050, 0xb0, 8),
    ]]);
    let expected = [(Alloc, 0xa0), (Realloc, 0xb0), (Free, 0xb0), (Alloc, 0xb0), (Free, 0xb0)];
    assert_eq!(order, expected);
}

#[test]
fn at_one_stamp_another_thread_s_free_makes_room_for_a_reallocation_s_end() {
    let order = merged(&[
        &[event(Alloc, 1, 1_001, 0xa0, 8), realloc(1, 1_010, 1_050, 0xa0, 0xb0)],
        &[event(Alloc, 2, 1_002, 0xb0, 8), event(Free, 2, 1_050, 0xb0, 8)],
    ]);
    assert_eq!(order, [(Alloc, 0xa0), (Alloc, 0xb0), (Free, 0xb0), (Realloc, 0xb0)]);
}
