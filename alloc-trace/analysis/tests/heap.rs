//! What the process had resident and what its heap held, of recordings written by hand.

mod support;

use alloc_trace_analysis::HeapReason;
use alloc_trace_format::{ClassFigures, HeapFigures, HeapSnapshot, Record, SnapshotReason};

use self::support::{Script, alloc};

fn snapshot(stamp: u64, reason: SnapshotReason, touched_bytes: u64) -> Record {
    let class = |block_bytes, capacity, live, cached| ClassFigures {
        block_bytes,
        pages: 2,
        capacity,
        live,
        cached,
        pages_by_fill: [1, 0, 0, 1],
    };
    Record::HeapSnapshot(Box::new(HeapSnapshot {
        stamp,
        reason,
        figures: HeapFigures {
            mapped_bytes: 20_000,
            metadata_bytes: 10,
            segments: 3,
            touched_bytes,
            pages: 4,
            page_bytes: 3_000,
            large_blocks: 1,
            large_bytes: 500,
            large_requested_bytes: 450,
            huge_blocks: 2,
            huge_bytes: 7_000,
            huge_requested_bytes: 6_000,
            heaps: 5,
            purged_bytes: 6,
        },
        classes: [class(16, 60, 40, 5), class(100, 20, 3, 0)].into(),
    }))
}

#[test]
fn a_snapshot_has_the_moment_of_the_record_before_and_the_sums_of_its_classes() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    script.record(1, Record::Resident { stamp: 1_000, bytes: 70 });
    script.record(1, snapshot(1_000, SnapshotReason::Start, 5_000));
    script.event(alloc(1, 0x1000, 8));
    // Another thread's stream, written later and read first or last: by time it comes in between.
    script.thread(2, "worker", false);
    script.record(2, Record::Resident { stamp: 1_005, bytes: 90 });
    script.record(1, Record::Resident { stamp: 1_020, bytes: 80 });
    script.record(1, snapshot(1_020, SnapshotReason::Peak, 9_000));
    script.record(1, snapshot(1_020, SnapshotReason::Requested, 9_000));
    script.now = 1_020;
    script.end();
    let memory = script.summary().memory;

    let resident: Vec<_> =
        memory.resident.iter().map(|resident| (resident.time_ns, resident.bytes)).collect();
    assert_eq!(resident, [(0, 70), (5, 90), (20, 80)]);
    let taken: Vec<_> =
        memory.heap_snapshots.iter().map(|heap| (heap.time_ns, heap.reason)).collect();
    let expected = [(0, HeapReason::Start), (20, HeapReason::Peak), (20, HeapReason::Requested)];
    assert_eq!(taken, expected);
    let heap = memory.largest().expect("there are some");
    assert_eq!((heap.reason, heap.touched_bytes), (HeapReason::Peak, 9_000));
    assert_eq!((heap.live_blocks, heap.live_bytes), (43 + 3, 40 * 16 + 300 + 500 + 7_000));
    assert_eq!((heap.cached_bytes, heap.free_bytes), (80, 3_000 - 640 - 300 - 80));
    assert_eq!(heap.classes.iter().map(|class| class.free).collect::<Vec<_>>(), [15, 17]);
    assert_eq!(heap.sparse(), (2, 30 * 16 + 10 * 100));
    assert!((heap.occupancy() - 940.0 / 3_000.0).abs() < 1e-9, "{}", heap.occupancy());
}

#[test]
fn figures_that_contradict_each_other_are_no_panic() {
    let mut script = Script::new();
    script.thread(1, "main", false);
    let most = ClassFigures {
        block_bytes: u64::MAX,
        pages: u64::MAX,
        capacity: 0,
        live: u64::MAX,
        cached: u64::MAX,
        pages_by_fill: [u64::MAX; 4],
    };
    script.record(
        1,
        Record::HeapSnapshot(Box::new(HeapSnapshot {
            stamp: 1_000,
            reason: SnapshotReason::Other(77),
            figures: HeapFigures::default(),
            classes: [most, most].into(),
        })),
    );
    script.end();
    let memory = script.summary().memory;
    let heap = memory.largest().expect("one");
    assert_eq!((heap.reason, heap.live_bytes, heap.free_bytes), (HeapReason::Other, u64::MAX, 0));
    assert_eq!(heap.classes[0].free, 0);
    assert_eq!(heap.sparse(), (u64::MAX, 0));
}
