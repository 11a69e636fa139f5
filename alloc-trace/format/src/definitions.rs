//! What the records of a recording define, without its heap events.

use crate::decoder::{DecodeState, Decoder};
use crate::error::ReadError;
use crate::record::{Record, Stamp};
use crate::recording::{Recording, Skipped};

/// An iterator over all records but the heap events, stream by stream: not in the order in which
/// they happened.
///
/// It is made for a first pass that gathers nodes, modules and threads, and costs a third of what
/// [`Merged`](crate::Merged) does.
#[derive(Debug)]
pub struct Definitions<'a> {
    recording: &'a Recording,
    next_chunk: usize,
    payload: Vec<u8>,
    /// Where the payload lies in the file.
    payload_offset: u64,
    offset: usize,
    state: DecodeState,
    events: u64,
    last_stamp: Stamp,
    skipped: Vec<Skipped>,
}

impl<'a> Definitions<'a> {
    pub(crate) const fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            next_chunk: 0,
            payload: Vec::new(),
            payload_offset: 0,
            offset: 0,
            state: DecodeState::START,
            events: 0,
            last_stamp: 0,
            skipped: Vec::new(),
        }
    }

    /// The next record that is no heap event; `None` at the end.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file. Damage is no error: see
    /// [`Definitions::skipped`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let mut decoder = Decoder::resume(&self.payload, self.offset, self.state);
            let result = decoder.next_other(&mut self.events);
            (self.offset, self.state) = decoder.position();
            self.last_stamp = self.last_stamp.max(self.state.stamp());
            match result {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) => {
                    self.skipped.push(Skipped {
                        offset: self.payload_offset + error.offset,
                        bytes: self.payload.len() as u64 - error.offset,
                        expected: error.expected.into(),
                        truncated: error.truncated,
                    });
                }
            }
            let Some(chunk) = self.recording.chunks().get(self.next_chunk) else {
                self.payload = Vec::new();
                self.offset = 0;
                return Ok(None);
            };
            self.next_chunk += 1;
            let damage = self.recording.load(chunk, &mut self.payload)?;
            // A cut is known since the recording was opened.
            self.skipped.extend(damage.filter(|damage| !damage.truncated));
            self.payload_offset = chunk.offset;
            self.offset = 0;
            self.state = DecodeState::START;
        }
    }

    /// How many heap events have been passed.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The time at which the record that was given last stands in its stream.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.state.stamp()
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
