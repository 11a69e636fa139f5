//! Rows of a chunk that are made to mislead what packs and unpacks them.
//!
//! A program's events would seldom meet in the tables by which both sides foretell what comes next, seldom
//! fill them, and seldom lie where one more byte is needed. Here nearly all do: each seed has a few addresses
//! of one place in the table of blocks, or nodes of one place in that of successions, or sizes at the borders
//! of classes, or blocks that are freed when so many others were obtained as are remembered.

use alloc_trace_format::{
    Anchor, ClassFigures, Context, Encoder, EndReason, Event, EventKind, HeapFigures,
    NodeDefinition, NodeId, SnapshotReason, SpanId, ThreadId,
};

use super::event;

/// How many blocks both sides remember.
const BLOCKS: usize = 1 << 14;
/// A chunk in which blocks are forgotten.
const LONG_BYTES: usize = 24 * BLOCKS;
/// How many events both sides take at a time.
const RUN: usize = 256;

/// Ticks that take a byte, two, or more, or nearly.
const TICKS: [u64; 14] = [
    0,
    1,
    0x7f,
    0xfe,
    0xff,
    0x100,
    0xfeff,
    0xff00,
    0xff01,
    0xffff,
    0x1_0000,
    0xff_ffff,
    1 << 32,
    1 << 40,
];

/// Sizes where classes, columns or compact events end.
const SIZES: [u64; 32] = [
    0,
    1,
    7,
    8,
    9,
    15,
    16,
    17,
    24,
    25,
    254,
    255,
    256,
    257,
    1_000,
    1_007,
    1_008,
    1_009,
    1_016,
    1_017,
    1_023,
    1_024,
    1_025,
    1_279,
    1_280,
    8_191,
    8_192,
    1 << 20,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Numbers that look like chance.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number (Steele, Lea and Flood's SplitMix).
    const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, limit: usize) -> usize {
        (self.any() % limit as u64) as usize
    }

    const fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

/// Addresses that have one place in the table of blocks, each a multiple of eight.
fn of_one_place(random: &mut Random, count: usize) -> Vec<u64> {
    // An odd factor can be undone: its inverse, by Newton's steps, leads from a product to its address.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let inverse = (0..6)
        .fold(FACTOR, |found, _| found.wrapping_mul(2u64.wrapping_sub(FACTOR.wrapping_mul(found))));
    let place = random.any() >> 50 << 50;
    let mut found = Vec::new();
    while found.len() < count {
        let unit = (place | random.any() >> 14).wrapping_mul(inverse);
        // The lowest 61 bits of an address's eighth are all that there is of it.
        if unit >> 61 == 0 {
            found.push(unit << 3);
        }
    }
    found
}

/// What the events of a chunk are chosen from.
struct Choices {
    addresses: Vec<u64>,
    nodes: Vec<u32>,
    stacks: Vec<u64>,
    aligns: Vec<u8>,
    sizes: Vec<u64>,
    ticks: Vec<u64>,
    kinds: Vec<EventKind>,
    /// One in so many events comes from the first node: with many others both sides' tables have it
    /// behind each of those.
    first_node: usize,
    /// One in so many events has something that few have; the same of records that are no events.
    unusual: usize,
    others: usize,
    /// One in so many allocations is given a block that was freed.
    reuse: usize,
}

impl Choices {
    /// Such that a chunk can be as long as it takes to forget blocks: no column is too long for it.
    fn of_a_long_chunk(random: &mut Random) -> Self {
        Self {
            addresses: (0..20_000).map(|number| 0x7f00_0000_0000 + number * 48).collect(),
            stacks: vec![0x7ffc_0000_0000],
            aligns: vec![3],
            sizes: (1..40).map(|number| number * 8).collect(),
            ticks: vec![1, 40, 0x100],
            kinds: vec![EventKind::Alloc, EventKind::Alloc, EventKind::Free],
            first_node: 1,
            unusual: usize::MAX,
            others: usize::MAX,
            reuse: 1,
            ..Self::new(random)
        }
    }

    fn new(random: &mut Random) -> Self {
        let few = 1 + random.below(12);
        let addresses = match random.below(6) {
            0 => of_one_place(random, few),
            1 => {
                let mut two = of_one_place(random, 3);
                two.extend(of_one_place(random, 3));
                two
            }
            2 => (0..few).map(|_| random.any()).collect(),
            3 => vec![0, 8, 16, 1 << 31, 1 << 32, u64::MAX, u64::MAX - 7, 1 << 63, (1 << 63) - 8],
            4 => (0..few as u64).map(|number| 0x7f00_0000_0000 + number * 16).collect(),
            _ => (0..4_096).map(|number| 0x7f00_0000_0000 + number * 48).collect(),
        };
        let nodes = match random.below(4) {
            0 => (0..few as u32).collect(),
            1 => (0..5_000).collect(),
            2 => vec![0, 1, 0x7fff, 0x8000, 0x7f_ffff, 0x80_0000, u32::MAX - 1, u32::MAX],
            _ => (0..few).map(|_| random.any() as u32).collect(),
        };
        let stacks = match random.below(3) {
            0 => vec![0],
            1 => (0..few as u64).map(|number| 0x7ffc_0000_0000 - number * 48).collect(),
            _ => vec![0, 8, 4, 1 << 31, 1 << 32, u64::MAX, 1 << 63, 0x7ffc_0000_0000],
        };
        let sizes = match random.below(4) {
            0 => SIZES.to_vec(),
            1 => vec![random.of(&SIZES), random.of(&SIZES)],
            // One of each class, or two.
            2 => {
                (0..64).map(|step| step * 16 + 8).chain((10..63).map(|log| 5 << log >> 2)).collect()
            }
            _ => (1..40).map(|number| number * 8).collect(),
        };
        let ticks = match random.below(3) {
            0 => vec![0],
            1 => TICKS.to_vec(),
            _ => vec![1, 2, 40, 0xff, 0x100],
        };
        let kinds = match random.below(4) {
            0 => vec![EventKind::Alloc, EventKind::Free],
            1 => vec![EventKind::Alloc, EventKind::Alloc, EventKind::AllocZeroed, EventKind::Free],
            2 => {
                vec![EventKind::Alloc, EventKind::AllocZeroed, EventKind::Realloc, EventKind::Free]
            }
            _ => vec![EventKind::Free],
        };
        let aligns = random.of(&[&[3u8][..], &[0, 3, 4, 7], &[0, 7, 8, 14, 15, 16, 63]]).to_vec();
        Self {
            addresses,
            nodes,
            stacks,
            aligns,
            sizes,
            ticks,
            kinds,
            first_node: 1 + random.below(3),
            unusual: random.of(&[2, 10, 100, usize::MAX]),
            others: random.of(&[2, 10, 100, 1_000, usize::MAX]),
            reuse: 1 + random.below(4),
        }
    }
}

/// The rows of one chunk, as they are made.
struct Chunk {
    random: Random,
    encoder: Encoder,
    rows: Vec<u8>,
    written: usize,
    stamp: u64,
    thread: ThreadId,
    node: u32,
    /// Blocks that were obtained and those that were freed, the last one last.
    obtained: Vec<(u64, u64)>,
    freed: Vec<(u64, u64)>,
}

/// The rows of a chunk, other ones for each seed.
pub(crate) fn rows(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    // Few chunks are long: a short one shows as much of most things, and sooner.
    let (choices, length) = match random.below(16) {
        0 => (Choices::of_a_long_chunk(&mut random), LONG_BYTES),
        1..4 => (Choices::new(&mut random), 64 << 10),
        _ => (Choices::new(&mut random), 1 + random.below(6 << 10)),
    };
    let stamp = random.of(&[0, 1_000, 1 << 40, u64::MAX - (1 << 20)]);
    let mut chunk = Chunk {
        random,
        encoder: Encoder::new(),
        rows: vec![0; length + 8_192],
        written: 0,
        stamp,
        thread: ThreadId(3),
        node: 1,
        obtained: Vec::new(),
        freed: Vec::new(),
    };
    chunk.context();
    while chunk.written < length {
        match chunk.random.below(8) {
            // A run that ends where what is taken at a time does, or nearly.
            0 => {
                let times = 1 + chunk.random.below(3);
                let count = (RUN * times + chunk.random.below(5)).saturating_sub(2);
                for _ in 0..count {
                    if chunk.written < length {
                        chunk.event(&choices, false);
                    }
                }
            }
            _ => {
                for _ in 0..1 + chunk.random.below(40) {
                    let unusual = chunk.random.one_in(choices.unusual);
                    chunk.event(&choices, unusual);
                }
            }
        }
        if chunk.random.one_in(choices.others) {
            for _ in 0..1 + chunk.random.below(4) {
                chunk.other();
            }
        }
    }
    chunk.rows.truncate(chunk.written);
    chunk.rows
}

impl Chunk {
    #[track_caller]
    fn write(&mut self, encode: impl FnOnce(&mut Encoder, &mut [u8]) -> Option<usize>) {
        let written = encode(&mut self.encoder, &mut self.rows[self.written..]);
        self.written += written.expect("room");
    }

    fn context(&mut self) {
        let anchor = Anchor { ticks: self.random.any(), monotonic_ns: self.random.any() };
        let context = Context { thread: self.thread, stamp: self.stamp, anchor };
        self.write(|encoder, out| encoder.context(out, &context));
    }

    /// A block that was obtained, by preference one that is about to be forgotten.
    fn victim(&mut self) -> Option<(u64, u64)> {
        let count = self.obtained.len();
        let age = match self.random.below(8) {
            0..3 => 1,
            3 => self.random.of(&[2, 255, 256, 257, BLOCKS - 1, BLOCKS, BLOCKS + 1]),
            _ => 1 + self.random.below(count.max(1)),
        };
        count.checked_sub(age).map(|index| self.obtained[index])
    }

    /// A block that was freed, mostly one of the last ones.
    fn reused(&mut self) -> Option<(u64, u64)> {
        let depth = 1 + self.random.below(10);
        self.freed.len().checked_sub(depth).map(|index| self.freed[index])
    }

    fn event(&mut self, choices: &Choices, unusual: bool) {
        let random = &mut self.random;
        let kind = random.of(&choices.kinds);
        let before = self.stamp;
        self.stamp = self.stamp.saturating_add(random.of(&choices.ticks));
        let site = Event {
            node: match random.one_in(choices.first_node) {
                true => NodeId(choices.nodes[0]),
                false => NodeId(random.of(&choices.nodes)),
            },
            stack_pointer: random.of(&choices.stacks),
            align_log2: random.of(&choices.aligns),
            failed: unusual && random.one_in(2),
            kept_frames: (unusual && random.one_in(2))
                .then(|| random.any() as u32 >> (random.any() % 32)),
            ..event(
                kind,
                self.thread.0,
                self.stamp,
                random.of(&choices.addresses),
                random.of(&choices.sizes),
            )
        };
        // Behind a context an event is taken to come from nowhere, as the last one of its kind.
        let mut made = match self.random.one_in(16) {
            true => Event { node: NodeId::ROOT, stack_pointer: 0, align_log2: 0, ..site },
            false => site,
        };
        let releases = matches!(kind, EventKind::Free | EventKind::Realloc);
        if releases && let Some((address, size)) = self.victim() {
            // The size may be another one than it was asked for with: a block is not known by its address alone.
            let same = !self.random.one_in(16);
            made = Event { address, size: if same { size } else { site.size }, ..made };
        }
        if kind == EventKind::Realloc {
            let moves = self.random.one_in(2);
            let begin_stamp = self.random.of(&[self.stamp, before, 0]);
            made = Event {
                old_address: made.address,
                old_size: made.size,
                address: if moves { site.address } else { made.address },
                size: site.size,
                begin_stamp,
                ..made
            };
        } else if !releases
            && !self.random.one_in(choices.reuse)
            && let Some((address, size)) = self.reused()
        {
            let same = !self.random.one_in(8);
            made = Event { address, size: if same { size } else { site.size }, ..made };
        }
        if made.failed {
            made.address = 0;
        }
        if releases {
            let (address, size) = match kind {
                EventKind::Realloc => (made.old_address, made.old_size),
                _ => (made.address, made.size),
            };
            self.freed.push((address, size));
        }
        if kind != EventKind::Free && !made.failed {
            self.obtained.push((made.address, made.size));
        }
        self.write(|encoder, out| encoder.event(out, &made));
    }

    /// A record that is no event.
    fn other(&mut self) {
        self.stamp = self.stamp.saturating_add(self.random.of(&TICKS[..5]));
        let stamp = self.stamp;
        let number = self.random.any() >> (self.random.any() % 64);
        let text = &b"0123456789abcdef"[..self.random.below(17)];
        match self.random.below(22) {
            0..2 | 21 => {
                self.thread = ThreadId(self.random.below(4) as u32);
                self.context();
            }
            2..6 => {
                self.node = match self.random.below(4) {
                    0 => 2 + self.random.below(1_000) as u32,
                    1 => u32::MAX - self.random.below(3) as u32,
                    _ => self.node.wrapping_add(1).max(2),
                };
                let parent = match self.random.below(3) {
                    0 => 0,
                    1 => self.node - 1,
                    _ => self.random.any() as u32,
                };
                let definition = NodeDefinition {
                    id: NodeId(self.node),
                    parent: NodeId(parent),
                    address: number,
                };
                self.write(|encoder, out| encoder.node(out, &definition));
            }
            6 => self.write(|encoder, out| encoder.marker(out, stamp, text)),
            7 => self.write(|encoder, out| encoder.lost(out, number)),
            8 => self.write(|encoder, out| encoder.resident(out, stamp, number)),
            9 => self.write(|encoder, out| encoder.span_enter(out, stamp, SpanId(number))),
            10 => self.write(|encoder, out| encoder.span_exit(out, stamp, SpanId(number))),
            11 => self.write(|encoder, out| encoder.span_close(out, stamp, SpanId(number))),
            12 => self.write(|encoder, out| {
                let (id, parent) = (SpanId(number), Some(SpanId(7)));
                encoder.span(out, stamp, id, parent, number.is_multiple_of(2), 3, text, text, text)
            }),
            13 => self.write(|encoder, out| encoder.span_fields(out, stamp, SpanId(number), text)),
            14 => self.write(|encoder, out| {
                encoder.module(out, stamp, number, number, number | 1, text, text)
            }),
            15 => self.write(|encoder, out| encoder.module_unload(out, number, number, NodeId(3))),
            16 => {
                let (thread, os) = (ThreadId(4), number as u32);
                self.write(|encoder, out| {
                    encoder.thread_start(out, thread, os, false, stamp, text)
                });
                self.write(|encoder, out| encoder.thread_name(out, thread, text));
            }
            17 => self.write(|encoder, out| encoder.thread_exit(out, stamp)),
            18 => self.write(|encoder, out| {
                let classes = std::iter::once(ClassFigures::default());
                let figures = HeapFigures::default();
                encoder.heap_snapshot(out, SnapshotReason::Peak, &figures, classes)
            }),
            _ => {
                self.write(|encoder, out| encoder.process(out, 1, 2, text, text));
                self.write(|encoder, out| encoder.end(out, stamp, EndReason::Stopped, number));
            }
        }
    }
}
