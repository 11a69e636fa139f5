//! Writes a recording of a made-up program, to measure readers with:
//! `synthetic FILE EVENTS [THREADS [LEVEL]]`. With a level, chunks are packed and compressed as a
//! recorder does it.
//!
//! Each thread allocates blocks of 8 to 512 bytes with random lifetimes, about 64 Ki of them live at
//! a time, reallocates every sixteenth, from 4,096 call sites.

use std::path::Path;

use alloc_trace_format::{
    Anchor, EndReason, Event, EventKind, FileHeader, NodeDefinition, NodeId, Record,
    RecordingWriter, ThreadId, ThreadStart, Window,
};

const NODES: u32 = 4_096;
const LIVE_BLOCKS: usize = 64 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, events, rest @ ..] = arguments.as_slice() else {
        return Err("usage: synthetic FILE EVENTS [THREADS [LEVEL]]".into());
    };
    let events: u64 = events.parse()?;
    let threads: u32 = rest.first().map_or(Ok(1), |threads| threads.parse())?;

    let header = FileHeader::of_nanoseconds(1, 1_000);
    let window = Window { slots: threads, ..Window::default() };
    let mut writer = RecordingWriter::create(Path::new(file), &header, window)?;
    if let Some(level) = rest.get(1) {
        writer.pack_chunks(level.parse()?);
    }
    let mut program =
        Program { random: 1, stamp: header.start.ticks, next_address: 0x5555_0000_0000 };
    for thread in 0..threads {
        let record = Record::ThreadStart(ThreadStart {
            thread: ThreadId(thread + 1),
            os_thread: 100 + thread,
            internal: false,
            stamp: program.stamp,
            name: format!("worker {thread}").into(),
        });
        writer.write(thread, &record)?;
    }
    for id in 2..2 + NODES {
        let parent = NodeId(if id < 10 { 0 } else { id / 2 });
        let node =
            NodeDefinition { id: NodeId(id), parent, address: 0x40_0000 + u64::from(id) * 16 };
        writer.write(0, &Record::Node(node))?;
    }
    let mut live: Vec<Vec<(u64, u64)>> = vec![Vec::new(); threads as usize];
    for number in 0..events {
        let thread = (number / 64 % u64::from(threads)) as u32;
        let live = &mut live[thread as usize];
        let event = program.event(ThreadId(thread + 1), live);
        writer.write(thread, &Record::Event(event))?;
    }
    let end = Anchor { ticks: program.stamp, monotonic_ns: program.stamp };
    writer.write(0, &Record::End { stamp: end.ticks, reason: EndReason::Exited, events })?;
    writer.finish(Some(end))?;
    Ok(())
}

struct Program {
    random: u64,
    stamp: u64,
    next_address: u64,
}

impl Program {
    /// The next number of a xorshift generator.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn event(&mut self, thread: ThreadId, live: &mut Vec<(u64, u64)>) -> Event {
        self.stamp += 40 + self.random() % 40;
        let mut event = Event {
            size: 8 + self.random() % 505,
            node: NodeId(2 + (self.random() % u64::from(NODES)) as u32),
            stack_pointer: 0x7fff_0000_0000 + self.random() % 64 * 16,
            ..Event::new(EventKind::Alloc, thread, self.stamp, 0, 0)
        };
        let choice = self.random();
        if live.is_empty() || (live.len() < LIVE_BLOCKS && choice.is_multiple_of(3)) {
            event.address = self.address(event.size);
            live.push((event.address, event.size));
            return event;
        }
        let index = (choice >> 8) as usize % live.len();
        let (address, size) = live[index];
        if choice % 16 == 5 {
            event.kind = EventKind::Realloc;
            (event.old_address, event.old_size) = (address, size);
            event.begin_stamp = event.stamp - 20;
            event.address = self.address(event.size);
            live[index] = (event.address, event.size);
        } else if choice.is_multiple_of(2) {
            event.kind = EventKind::Free;
            (event.address, event.size) = live.swap_remove(index);
        } else {
            event.address = self.address(event.size);
            live.push((event.address, event.size));
        }
        event
    }

    fn address(&mut self, size: u64) -> u64 {
        let address = self.next_address;
        self.next_address += size.next_multiple_of(16);
        address
    }
}
