//! What the records of a recording define, without its heap events.

use std::collections::VecDeque;

use crate::columns::skim::Skim;
use crate::decoder::{DecodeState, Decoder};
use crate::error::ReadError;
use crate::payload::{Loaded, PayloadReader};
use crate::record::{Record, Stamp};
use crate::recording::{Chunk, Recording, Skipped};

/// An iterator over all records but the heap events, stream by stream: not in the order in which
/// they happened.
///
/// It is made for a first pass that gathers nodes, modules and threads, and costs a fraction of what
/// [`Merged`](crate::Merged) does: of packed chunks the events are not even unpacked. Damage that only
/// events have is therefore found by [`Merged`](crate::Merged) alone.
#[derive(Debug)]
pub struct Definitions<'a> {
    recording: &'a Recording,
    reader: PayloadReader,
    /// How many of the records that a ring carries on were given.
    carried: usize,
    next_chunk: usize,
    payload: Vec<u8>,
    /// Where the payload lies in the file.
    payload_offset: u64,
    offset: usize,
    state: DecodeState,
    events: u64,
    stamp: Stamp,
    last_stamp: Stamp,
    skipped: Vec<Skipped>,
    /// A packed chunk, and the records of it that were read already.
    skim: Skim,
    skimming: bool,
    skimmed: VecDeque<(Record, Stamp)>,
}

impl<'a> Definitions<'a> {
    pub(crate) fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            reader: recording.reader(),
            carried: 0,
            next_chunk: 0,
            payload: Vec::new(),
            payload_offset: 0,
            offset: 0,
            state: DecodeState::START,
            events: 0,
            stamp: 0,
            last_stamp: 0,
            skipped: Vec::new(),
            skim: Skim::default(),
            skimming: false,
            skimmed: VecDeque::new(),
        }
    }

    /// The next record that is no heap event; `None` at the end.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file. Damage is no error: see
    /// [`Definitions::skipped`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        if let Some((record, stamp)) = self.recording.carried().definitions.get(self.carried) {
            self.carried += 1;
            self.stamp = *stamp;
            return Ok(Some(record.clone()));
        }
        loop {
            if let Some((record, stamp)) = self.skimmed.pop_front() {
                self.stamp = stamp;
                return Ok(Some(record));
            }
            let found = if self.skimming { self.next_skimmed() } else { self.next_decoded() };
            if found.is_some() {
                return Ok(found);
            }
            if self.skimming {
                continue;
            }
            let recording = self.recording;
            let Some(chunk) = recording.chunks().get(self.next_chunk) else {
                self.payload = Vec::new();
                self.offset = 0;
                return Ok(None);
            };
            self.next_chunk += 1;
            self.begin(chunk)?;
        }
    }

    /// Begins with a chunk.
    fn begin(&mut self, chunk: &Chunk) -> Result<(), ReadError> {
        let loaded = self.reader.load_packed(chunk, &mut self.payload)?;
        self.payload_offset = chunk.offset;
        self.offset = 0;
        self.state = DecodeState::START;
        match loaded {
            Loaded::Rows(damage) => {
                // A cut is known since the recording was opened.
                self.skipped.extend(damage.filter(|damage| !damage.truncated));
            }
            Loaded::Packed { raw_bytes, last_stamp } => {
                self.skimming = true;
                match self.skim.begin(&self.payload, raw_bytes) {
                    Ok(()) => self.last_stamp = self.last_stamp.max(last_stamp),
                    Err(expected) => self.stop_skimming(expected),
                }
            }
        }
        Ok(())
    }

    /// Reads on in a packed chunk. `None`: ask again, or go on to the next chunk.
    fn next_skimmed(&mut self) -> Option<Record> {
        match self.skim.fill(&mut self.skimmed) {
            Ok(()) => {
                if self.skimmed.is_empty() {
                    self.events += self.skim.events();
                    self.skimming = false;
                    self.payload.clear();
                }
            }
            Err(expected) => {
                self.events += self.skim.events();
                self.stop_skimming(expected);
            }
        }
        None
    }

    /// A packed chunk contradicts itself.
    fn stop_skimming(&mut self, expected: &str) {
        self.skimming = false;
        self.skipped.push(Skipped {
            offset: self.payload_offset,
            bytes: self.payload.len() as u64,
            expected: expected.into(),
            truncated: false,
        });
        self.payload.clear();
    }

    /// Decodes on in a chunk that is not packed.
    fn next_decoded(&mut self) -> Option<Record> {
        let mut decoder = Decoder::resume(&self.payload, self.offset, self.state);
        let result = decoder.next_other(&mut self.events);
        (self.offset, self.state) = decoder.position();
        self.stamp = self.state.stamp();
        self.last_stamp = self.last_stamp.max(self.stamp);
        result.unwrap_or_else(|error| {
            self.skipped.push(Skipped {
                offset: self.payload_offset + error.offset,
                bytes: self.payload.len() as u64 - error.offset,
                expected: error.expected.into(),
                truncated: error.truncated,
            });
            self.payload.clear();
            self.offset = 0;
            None
        })
    }

    /// How many heap events have been passed.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The time at which the record that was given last stands in its stream; of a node in a packed chunk
    /// that of a record before it.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The last stamp of all records that have been passed.
    #[must_use]
    pub const fn last_stamp(&self) -> Stamp {
        self.last_stamp
    }

    /// What could not be read so far, beyond what [`Recording::skipped`] lists.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}
