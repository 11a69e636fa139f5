//! The next chunks of the log, read and unpacked by a thread of their own.
//!
//! Unpacking takes about as long as all that is done with the events, so where there is a second
//! processor a pass over a long recording takes little more than half of the time. Chunks are read in the
//! order of their first stamps, which is nearly the one in which they are asked for; what comes too early
//! waits, and what is never asked for is never more than the streams' next chunks.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use crate::block::BlockHeader;
use crate::chunk_records::ChunkRecords;
use crate::error::ReadError;
use crate::payload::PayloadReader;
use crate::recording::{Recording, Skipped};

/// How many chunks are kept ready.
const READY: usize = 4;
/// For fewer chunks a thread is not worth its while.
const FEWEST_CHUNKS: usize = 32;

/// What a chunk came to.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) records: ChunkRecords,
    pub(crate) damage: Result<Option<Skipped>, ReadError>,
}

/// A thread that reads chunks ahead.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// `None` once nobody wants any more.
    arrivals: Option<Receiver<(usize, Arrived)>>,
    /// Records that have passed, whose memory is to be filled again.
    used: Option<Sender<ChunkRecords>>,
    /// What was not asked for yet.
    waiting: HashMap<usize, Arrived>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Begins to read a recording's log by the `reader` that is made for it; `None` where that would not help,
    /// or cannot be.
    pub(crate) fn begin(
        recording: &Recording,
        reader: impl FnOnce() -> PayloadReader,
    ) -> Option<Self> {
        let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Elsewhere two threads cannot read one file at a time.
        if processors < 2 || !cfg!(unix) {
            return None;
        }
        let mut order: Vec<(usize, u64, BlockHeader)> = recording.logged().collect();
        if order.len() < FEWEST_CHUNKS {
            return None;
        }
        order.sort_by_key(|(index, _, header)| (header.first_stamp, *index));
        let mut reader = reader();
        let (sender, arrivals): (SyncSender<(usize, Arrived)>, _) = mpsc::sync_channel(READY);
        let (used, to_fill) = mpsc::channel::<ChunkRecords>();
        let work = move || {
            for (index, offset, header) in order {
                let mut records = to_fill.try_recv().unwrap_or_default();
                let damage = reader.load_logged(offset, &header, &mut records);
                if sender.send((index, Arrived { records, damage })).is_err() {
                    return;
                }
            }
        };
        let builder = thread::Builder::new().name("alloc-trace read".into());
        let thread = builder.spawn(work).ok()?;
        Some(Self {
            arrivals: Some(arrivals),
            used: Some(used),
            waiting: HashMap::new(),
            thread: Some(thread),
        })
    }

    /// The chunk of an index, with `used` to be filled again; `None` where the thread does not have it.
    pub(crate) fn take(&mut self, index: usize, used: ChunkRecords) -> Option<Arrived> {
        if let Some(sender) = &self.used {
            // Nobody fills any more at the end.
            drop(sender.send(used));
        }
        if let Some(arrived) = self.waiting.remove(&index) {
            return Some(arrived);
        }
        let arrivals = self.arrivals.as_ref()?;
        while let Ok((arrived_index, arrived)) = arrivals.recv() {
            if arrived_index == index {
                return Some(arrived);
            }
            self.waiting.insert(arrived_index, arrived);
        }
        None
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The thread ends at its next chunk.
        self.arrivals = None;
        self.used = None;
        if let Some(thread) = self.thread.take() {
            // What it panicked with was printed; there is nobody to tell.
            drop(thread.join());
        }
    }
}
