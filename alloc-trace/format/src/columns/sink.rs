//! What becomes of the records of a packed chunk.

use super::plain_run::LONGEST;
use super::unpack::Expected;
use crate::chunk_records::{ChunkRecords, RunEvent};
use crate::decoder::{DecodeState, Decoded, Row};
use crate::encoder::{Encoder, MAX_EVENT_BYTES};
use crate::plain_event::PlainEvent;
use crate::record::{Event, NodeDefinition, Record, Stamp};
use crate::recording::MAX_CHUNK_BYTES;

/// What becomes of the records.
pub(super) trait Sink {
    /// So many are to come at most, of a chunk whose header states a length of `raw_bytes`.
    fn expect(&mut self, records: usize, raw_bytes: u32) -> Result<(), Expected>;

    /// Whether it does without the definitions of call-tree nodes and without stack pointers.
    fn is_in_brief(&self) -> bool;

    /// Where plain events are to be put, before [`Sink::plain_events`] takes them.
    fn run(&mut self) -> &mut [RunEvent; LONGEST];

    /// So many plain events stand at the front of the run; the stamp before the first of them.
    fn plain_events(&mut self, events: usize, before: Stamp) -> Result<(), Expected>;

    fn event(&mut self, event: &Event) -> Result<(), Expected>;

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected>;

    /// Takes the record that `column` begins with, which is neither an event nor a node, brings `state`
    /// behind it, and answers its length.
    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected>;
}

/// A row has three bytes at least. So a chunk has no more records than these, whatever it says.
const MOST_RECORDS: usize = MAX_CHUNK_BYTES as usize / 3;

impl Sink for ChunkRecords {
    fn expect(&mut self, records: usize, raw_bytes: u32) -> Result<(), Expected> {
        if records > MOST_RECORDS {
            return Err("a chunk of a sensible length");
        }
        self.reserve(records.min(raw_bytes as usize / 3));
        Ok(())
    }

    fn is_in_brief(&self) -> bool {
        self.is_in_brief()
    }

    #[inline]
    fn run(&mut self) -> &mut [RunEvent; LONGEST] {
        self.behind()
    }

    #[inline]
    fn plain_events(&mut self, events: usize, _: Stamp) -> Result<(), Expected> {
        self.keep_behind(events);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Expected> {
        self.push_record(Record::Event(*event));
        Ok(())
    }

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected> {
        self.push_record(Record::Node(*node));
        Ok(())
    }

    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected> {
        let (mut length, mut event) = (0, Event::NONE);
        match state.next(column, &mut length, &mut event).map_err(|error| error.expected)? {
            Decoded::Event | Decoded::End | Decoded::Other(Record::Node(_)) => {
                Err("an extended record")
            }
            Decoded::Other(record) => {
                self.push_record(record);
                Ok(length)
            }
        }
    }
}

/// Rows behind what a vector held. It is longer than what is written, so that a record needs no more than
/// one look at how much room there is.
pub(super) struct Rows<'a> {
    bytes: &'a mut Vec<u8>,
    begin: usize,
    written: usize,
    encoder: Encoder,
    run: &'a mut [RunEvent; LONGEST],
}

impl<'a> Rows<'a> {
    /// None yet, and room for as many as a chunk's header states. Plain events come by way of `run`.
    pub(super) fn behind(
        bytes: &'a mut Vec<u8>,
        raw_bytes: u32,
        run: &'a mut [RunEvent; LONGEST],
    ) -> Self {
        let begin = bytes.len();
        let room = raw_bytes.min(MAX_CHUNK_BYTES) as usize + MAX_EVENT_BYTES;
        bytes.resize(begin + room, 0);
        Self { bytes, begin, written: begin, encoder: Encoder::new(), run }
    }

    /// Appends a record.
    #[inline(always)]
    fn append(
        &mut self,
        encode: impl FnOnce(&mut Encoder, &mut [u8; MAX_EVENT_BYTES]) -> Option<usize>,
    ) -> Result<(), Expected> {
        if self.bytes.len() - self.written < MAX_EVENT_BYTES {
            self.make_room(MAX_EVENT_BYTES)?;
        }
        let room = self.bytes.get_mut(self.written..).and_then(<[u8]>::first_chunk_mut);
        let length = room.and_then(|out| encode(&mut self.encoder, out));
        let length = length.ok_or("a record that can be encoded")?;
        self.written += length;
        Ok(())
    }

    /// Appends a record that is encoded already.
    fn extend(&mut self, record: &[u8]) -> Result<(), Expected> {
        if self.bytes.len() - self.written < record.len() {
            self.make_room(record.len())?;
        }
        if let Some(room) = self.bytes.get_mut(self.written..self.written + record.len()) {
            room.copy_from_slice(record);
            self.written += record.len();
        }
        Ok(())
    }

    /// There are more than the header states.
    #[cold]
    fn make_room(&mut self, needed: usize) -> Result<(), Expected> {
        if self.written - self.begin + needed > MAX_CHUNK_BYTES as usize {
            return Err("a chunk of a sensible length");
        }
        let more = (self.written - self.begin).min(1 << 20);
        self.bytes.resize(self.written + needed + more, 0);
        Ok(())
    }

    /// Ends the vector behind the last record.
    pub(super) fn finish(&mut self) {
        self.bytes.truncate(self.written);
    }
}

impl Sink for Rows<'_> {
    fn expect(&mut self, _: usize, _: u32) -> Result<(), Expected> {
        Ok(())
    }

    fn is_in_brief(&self) -> bool {
        false
    }

    fn run(&mut self) -> &mut [RunEvent; LONGEST] {
        self.run
    }

    fn plain_events(&mut self, events: usize, before: Stamp) -> Result<(), Expected> {
        let mut last = before;
        for index in 0..events.min(LONGEST) {
            let RunEvent { stamp, address, size, stack_pointer, node, kind, align_log2 } =
                self.run[index];
            let (tag, ticks) = (kind as u8, stamp - last);
            let event = PlainEvent { tag, align_log2, ticks, size, address, node, stack_pointer };
            self.append(|encoder, out| encoder.plain_event(out, &event))?;
            last = stamp;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Expected> {
        self.append(|encoder, out| encoder.event(out, event))
    }

    fn node(&mut self, node: &NodeDefinition) -> Result<(), Expected> {
        self.append(|encoder, out| encoder.node(out, node))
    }

    fn other(&mut self, column: &[u8], state: &mut DecodeState) -> Result<usize, Expected> {
        let (mut length, mut event) = (0, Event::NONE);
        let found = state.next_row(column, &mut length, &mut event);
        match found.map_err(|error| error.expected)? {
            Row::Context => self.encoder = Encoder::at(state.stamp()),
            Row::Other => self.encoder.advance_to(state.stamp()),
            Row::Event | Row::Node(_) | Row::End => return Err("an extended record"),
        }
        self.extend(column.get(..length).unwrap_or_default())?;
        Ok(length)
    }
}
