//! The encoder and the decoder against each other, and the decoder against anything at all.

use alloc_trace_format::{
    Anchor, ClassFigures, Context, Decoder, Encoder, EndReason, Event, EventKind, HeapFigures,
    HeapSnapshot, Module, ModuleUnload, NodeDefinition, NodeId, Process, Record, SnapshotReason,
    Span, SpanId, ThreadId, ThreadStart,
};
use proptest::array::uniform9;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Numbers near each other, as real ones are, and numbers at the ends.
fn number() -> impl Strategy<Value = u64> {
    let place = (0..0x2000_u64).prop_map(|words| 0x7f00_0000_0000 + words * 8);
    prop_oneof![3 => 0..300_u64, 3 => place, 1 => any::<u64>()]
}

fn text() -> impl Strategy<Value = Box<str>> {
    // A zero byte separates a process's arguments.
    "[^\\x00]{0,20}".prop_map(Box::from)
}

fn kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        Just(EventKind::Alloc),
        Just(EventKind::AllocZeroed),
        Just(EventKind::Realloc),
        Just(EventKind::Free)
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let align = prop_oneof![0..8_u8, 0..64_u8];
    let blocks = (number(), number(), number(), number(), align);
    let node = prop_oneof![0..3_u32, 0..u32::MAX];
    let stack = (node, number(), option::weighted(0.2, any::<u32>()));
    (kind(), weighted(0.2), 0..100_u64, blocks, stack).prop_map(
        |(kind, failed, lasted, (address, size, old_address, old_size, align_log2), stack)| {
            let realloc = kind == EventKind::Realloc;
            Event {
                kind,
                failed,
                thread: ThreadId(0),
                stamp: 0,
                // How long it lasted, until the sequence gives it a place.
                begin_stamp: if realloc { lasted } else { 0 },
                address: if failed { 0 } else { address },
                size,
                align_log2,
                old_address: if realloc { old_address } else { 0 },
                old_size: if realloc { old_size } else { 0 },
                node: NodeId(stack.0),
                stack_pointer: stack.1,
                kept_frames: stack.2,
            }
        },
    )
}

fn reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![
        Just(EndReason::Stopped),
        Just(EndReason::Exited),
        Just(EndReason::WriteFailed),
        (4..=255_u8).prop_map(EndReason::Other)
    ]
}

fn class() -> impl Strategy<Value = ClassFigures> {
    uniform9(number()).prop_map(|[block_bytes, pages, capacity, live, cached, fill @ ..]| {
        ClassFigures { block_bytes, pages, capacity, live, cached, pages_by_fill: fill }
    })
}

fn heap_snapshot() -> impl Strategy<Value = HeapSnapshot> {
    let reason = prop_oneof![
        Just(SnapshotReason::Start),
        Just(SnapshotReason::Peak),
        Just(SnapshotReason::End),
        Just(SnapshotReason::Requested),
        (5..=255_u8).prop_map(SnapshotReason::Other)
    ];
    let figures = vec(number(), 14).prop_map(|figures| HeapFigures {
        mapped_bytes: figures[0],
        metadata_bytes: figures[1],
        segments: figures[2],
        touched_bytes: figures[3],
        pages: figures[4],
        page_bytes: figures[5],
        large_blocks: figures[6],
        large_bytes: figures[7],
        large_requested_bytes: figures[8],
        huge_blocks: figures[9],
        huge_bytes: figures[10],
        huge_requested_bytes: figures[11],
        heaps: figures[12],
        purged_bytes: figures[13],
    });
    (reason, figures, vec(class(), 0..5)).prop_map(|(reason, figures, classes)| HeapSnapshot {
        stamp: 0,
        reason,
        figures,
        classes: classes.into(),
    })
}

/// Any record; thread and stamps are filled in by [`place`].
fn record() -> impl Strategy<Value = Record> {
    let thread = ThreadId(0);
    let id = || any::<u64>().prop_map(SpanId);
    prop_oneof![
        8 => event().prop_map(Record::Event),
        3 => (2..u32::MAX, any::<u32>(), number()).prop_map(|(id, parent, address)| {
            Record::Node(NodeDefinition { id: NodeId(id), parent: NodeId(parent), address })
        }),
        1 => (any::<u32>(), number(), number()).prop_map(|(thread, stamp, monotonic_ns)| {
            let anchor = Anchor { ticks: stamp, monotonic_ns };
            Record::Context(Context { thread: ThreadId(thread), stamp: stamp >> 1, anchor })
        }),
        1 => (any::<u32>(), any::<u32>(), any::<bool>(), text()).prop_map(
            |(thread, os_thread, internal, name)| Record::ThreadStart(ThreadStart {
                thread: ThreadId(thread), os_thread, internal, stamp: 0, name,
            })
        ),
        1 => (any::<u32>(), text())
            .prop_map(|(thread, name)| Record::ThreadName { thread: ThreadId(thread), name }),
        1 => Just(Record::ThreadExit { thread, stamp: 0 }),
        1 => (number(), number(), number(), vec(any::<u8>(), 0..21), text()).prop_map(
            |(bias, start, end, build_id, path)| Record::Module(Box::new(Module {
                stamp: 0, bias, start, end, build_id: build_id.into(), path,
            }))
        ),
        1 => (id(), option::of(1..u64::MAX), any::<bool>(), 0u8..64, text(), text(), text()).prop_map(
            |(id, parent, again, level, name, target, fields)| Record::Span(Box::new(Span {
                id, stamp: 0, parent: parent.map(SpanId), again, level, name, target, fields,
            }))
        ),
        1 => (id(), text()).prop_map(move |(span, fields)| Record::SpanFields {
            thread, stamp: 0, span, fields,
        }),
        1 => id().prop_map(move |span| Record::SpanEnter { thread, stamp: 0, span }),
        1 => id().prop_map(move |span| Record::SpanExit { thread, stamp: 0, span }),
        1 => id().prop_map(move |span| Record::SpanClose { stamp: 0, span }),
        1 => text().prop_map(move |text| Record::Marker { thread, stamp: 0, text }),
        1 => (any::<u32>(), any::<u32>(), text(), vec(text(), 0..4)).prop_map(
            |(pid, parent_pid, executable, arguments)| Record::Process(Box::new(Process {
                pid, parent_pid, executable, arguments: arguments.into(),
            }))
        ),
        1 => number().prop_map(|bytes| Record::Resident { stamp: 0, bytes }),
        1 => (number(), number(), 2..u32::MAX).prop_map(|(start, end, first)| {
            let first_node = NodeId(first);
            Record::ModuleUnload(ModuleUnload { stamp: 0, start, end, first_node })
        }),
        1 => heap_snapshot().prop_map(|snapshot| Record::HeapSnapshot(Box::new(snapshot))),
        1 => any::<u64>().prop_map(move |records| Record::Lost { thread, records }),
        1 => (reason(), number())
            .prop_map(|(reason, events)| Record::End { stamp: 0, reason, events }),
    ]
}

/// Gives records the thread and the stamps that they have at their place in a chunk.
fn place(records: &mut [Record], steps: &[u8]) {
    let (mut now, mut current) = (1_000_u64, ThreadId(1));
    // That of the last record that has one of its own.
    let mut last = now;
    for (record, &step) in records.iter_mut().zip(steps) {
        now = now.saturating_add(u64::from(step));
        match record {
            Record::ModuleUnload(unload) => unload.stamp = last,
            Record::HeapSnapshot(snapshot) => snapshot.stamp = last,
            Record::Context(context) => (now, current) = (context.stamp, context.thread),
            Record::Event(event) => {
                event.thread = current;
                event.stamp = now;
                event.begin_stamp = now.saturating_sub(event.begin_stamp);
            }
            Record::ThreadExit { thread, stamp }
            | Record::SpanFields { thread, stamp, .. }
            | Record::SpanEnter { thread, stamp, .. }
            | Record::SpanExit { thread, stamp, .. }
            | Record::Marker { thread, stamp, .. } => (*thread, *stamp) = (current, now),
            Record::SpanClose { stamp, .. }
            | Record::Resident { stamp, .. }
            | Record::End { stamp, .. } => *stamp = now,
            Record::ThreadStart(start) => start.stamp = now,
            Record::Module(module) => module.stamp = now,
            Record::Span(span) => span.stamp = now,
            Record::Lost { thread, .. } => *thread = current,
            _ => {}
        }
        if !matches!(record, Record::Node(_) | Record::ModuleUnload(_) | Record::HeapSnapshot(_)) {
            last = record.stamp().map_or(last, |_| now);
        }
    }
}

/// The records of a whole chunk, the first being its context.
fn chunk() -> impl Strategy<Value = Vec<Record>> {
    (vec(record(), 0..60), vec(any::<u8>(), 60)).prop_map(|(mut records, steps)| {
        let context = Context { thread: ThreadId(1), stamp: 1_000, anchor: Anchor::default() };
        place(&mut records, &steps);
        records.insert(0, Record::Context(context));
        records
    })
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut payload = Vec::new();
    for record in records {
        let mut bytes = [0; 4096];
        let length = encoder.record(&mut bytes, record).expect("it fits");
        payload.extend_from_slice(&bytes[..length]);
    }
    payload
}

/// Decodes as far as possible: the records, and whether the end was reached.
fn decode(payload: &[u8]) -> (Vec<Record>, bool) {
    let mut decoder = Decoder::new(payload);
    let mut records = Vec::new();
    loop {
        match decoder.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, true),
            Err(error) => {
                assert!(error.offset < payload.len() as u64);
                assert_eq!(decoder.next_record(), Err(error), "it stays there");
                return (records, false);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_record_survives_the_round_trip(records in chunk()) {
        let (decoded, whole) = decode(&encode(&records));
        prop_assert_eq!(decoded, records);
        prop_assert!(whole);
    }

    #[test]
    fn a_chunk_cut_anywhere_gives_the_records_before_the_cut(records in chunk()) {
        let payload = encode(&records);
        for cut in 0..payload.len() {
            let (decoded, _) = decode(&payload[..cut]);
            prop_assert!(records.starts_with(&decoded));
            prop_assert!(decoded.len() < records.len());
        }
    }

    #[test]
    fn flipped_bits_never_make_the_decoder_panic(
        records in chunk(),
        flips in vec(any::<proptest::sample::Index>(), 1..8),
    ) {
        let mut payload = encode(&records);
        for flip in flips {
            let bit = flip.index(payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
        }
        let _ = decode(&payload);
    }

    #[test]
    fn random_bytes_never_make_the_decoder_panic(
        bytes in vec(prop_oneof![0..16_u8, any::<u8>()], 0..300),
        with_context in any::<bool>(),
    ) {
        let mut payload = if with_context {
            encode(&[Record::Context(Context { thread: ThreadId(1), stamp: 0, anchor: Anchor::default() })])
        } else {
            Vec::new()
        };
        payload.extend(bytes);
        let (records, _) = decode(&payload);
        prop_assert!(records.len() <= payload.len());
    }
}

#[test]
fn a_chunk_that_does_not_begin_with_a_context_is_refused() {
    let records = [Record::Node(NodeDefinition { id: NodeId(2), parent: NodeId(0), address: 1 })];
    let (decoded, whole) = decode(&encode(&records));
    assert_eq!((decoded.len(), whole), (0, false));
}

#[test]
fn a_snapshot_that_does_not_say_how_full_pages_are_is_read() {
    let context =
        Record::Context(Context { thread: ThreadId(1), stamp: 5, anchor: Anchor::default() });
    let mut payload = encode(std::slice::from_ref(&context));
    let figures = [0; 14];
    payload.extend([0x08, 32, 1 + 14 + 1 + 5, 2]);
    payload.extend(figures);
    payload.extend([1, 16, 2, 100, 40, 5]);
    let (decoded, whole) = decode(&payload);
    let class = ClassFigures {
        block_bytes: 16,
        pages: 2,
        capacity: 100,
        live: 40,
        cached: 5,
        pages_by_fill: [0; 4],
    };
    let snapshot = HeapSnapshot {
        stamp: 5,
        reason: SnapshotReason::Peak,
        figures: HeapFigures::default(),
        classes: [class].into(),
    };
    assert_eq!(decoded, [context, Record::HeapSnapshot(Box::new(snapshot))]);
    assert!(whole);
}

#[test]
fn a_record_of_an_unknown_kind_is_skipped() {
    let context =
        Record::Context(Context { thread: ThreadId(1), stamp: 5, anchor: Anchor::default() });
    let exit = Record::ThreadExit { thread: ThreadId(1), stamp: 6 };
    let mut payload = encode(std::slice::from_ref(&context));
    payload.extend([0x08, 0xc8, 0x01, 3, 1, 2, 3]);
    payload.extend([0x08, 5, 1, 1]);
    let (decoded, whole) = decode(&payload);
    assert_eq!(decoded, [context, Record::Unknown { kind: 200 }, exit]);
    assert!(whole);
}
