//! What a packed chunk defines, without its events: only the columns that tell of it are decompressed,
//! and of an event only its ticks are read. Where there is nothing but events behind the chunk's context,
//! they are counted, and that is all.

use std::collections::VecDeque;

use super::inflate::Inflater;
use super::reading::Columns;
use super::unpack::Expected;
use super::{COLUMNS, CONTROL, DEFINED, FRAME, OTHER, PARENT, TICKS, TICKS_HIGH, control};
use crate::decoder::{DecodeState, Decoded};
use crate::record::{Event, NodeDefinition, NodeId, Record, Stamp, tag};
use crate::varint;

/// How many records are read at a time.
const BATCH: usize = 256;

/// The columns that are needed, in their order.
const NEEDED: [usize; 7] = [CONTROL, TICKS, TICKS_HIGH, DEFINED, PARENT, FRAME, OTHER];

/// Goes through the records of packed chunks that are no events.
#[derive(Debug, Default)]
pub(crate) struct Skim {
    inflater: Inflater,
    /// Where each column begins and ends, and how far it has been read.
    columns: [(usize, usize); COLUMNS],
    state: DecodeState,
    events: u64,
    /// All that there is to give of a chunk.
    context: Option<Record>,
}

impl Skim {
    /// Begins with a chunk.
    pub(crate) fn begin(&mut self, packed: &[u8], raw_bytes: u32) -> Result<(), Expected> {
        self.state = DecodeState::START;
        self.events = 0;
        self.columns = [(0, 0); COLUMNS];
        self.context = self.lone_context(packed, raw_bytes)?;
        if self.context.is_some() {
            return Ok(());
        }
        let needed = |column| NEEDED.contains(&column);
        let (_, lengths) = self.inflater.inflate(packed, raw_bytes, needed)?;
        let mut begin = 0;
        for column in NEEDED {
            let end = begin + lengths[column];
            self.columns[column] = (begin, end);
            begin = end;
        }
        Ok(())
    }

    /// The context that a chunk begins with, if that is all there is but for events, as in nearly every
    /// chunk: then how many those are is known without any of their columns.
    fn lone_context(&mut self, packed: &[u8], raw_bytes: u32) -> Result<Option<Record>, Expected> {
        let (_, lengths) = self.inflater.inflate(packed, raw_bytes, |column| column == OTHER)?;
        // Each node has a byte there.
        if lengths[FRAME] > 0 {
            return Ok(None);
        }
        let column = self.inflater.bytes();
        let (mut state, mut length, mut event) = (self.state, 0, Event::NONE);
        let found = state.next(column, &mut length, &mut event);
        let Ok(Decoded::Other(record @ Record::Context(_))) = found else { return Ok(None) };
        if length < column.len() {
            return Ok(None);
        }
        self.state = state;
        self.events = (lengths[CONTROL] as u64).saturating_sub(1);
        Ok(Some(record))
    }

    /// Appends the next records that are no events, each with the time at which it stands in its
    /// stream, or of a node one before: at most [`BATCH`] of them, none at the end of the chunk.
    ///
    /// # Errors
    ///
    /// Where the columns contradict themselves; the records before are in `records`.
    pub(crate) fn fill(&mut self, records: &mut VecDeque<(Record, Stamp)>) -> Result<(), Expected> {
        if let Some(context) = self.context.take() {
            records.push_back((context, self.state.stamp()));
            return Ok(());
        }
        let mut columns = Columns::at(self.inflater.bytes(), &self.columns);
        let result = skim(&mut columns, &mut self.state, &mut self.events, records);
        // What was read of each column is behind it now; of a broken chunk nothing more is read.
        for ((begin, end), rest) in self.columns.iter_mut().zip(columns.lengths()) {
            *begin = if result.is_ok() { *end - rest } else { *end };
        }
        result
    }

    /// How many events were passed in this chunk.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }
}

/// Reads on by a batch. Ticks are added up where a record needs to know its time, or where the batch ends: events
/// between nodes are few, and together they are added many at a time.
fn skim(
    columns: &mut Columns<'_>,
    state: &mut DecodeState,
    events: &mut u64,
    records: &mut VecDeque<(Record, Stamp)>,
) -> Result<(), Expected> {
    let controls = columns.rest(CONTROL);
    let (mut passed, mut timed, mut untimed) = (0, 0, 0);
    for _ in 0..BATCH {
        let leading = leading_events(controls.get(passed..).unwrap_or_default());
        passed += leading;
        untimed += leading;
        *events += leading as u64;
        let Some(&control) = controls.get(passed) else { break };
        let record = if control & control::KIND_MASK == tag::NODE {
            node(control, columns, state)?
        } else {
            advance(columns, state, &controls[timed..passed], untimed)?;
            (timed, untimed) = (passed, 0);
            other(columns, state)?
        };
        passed += 1;
        records.push_back((record, state.stamp()));
    }
    advance(columns, state, &controls[timed..passed], untimed)?;
    columns.pass(CONTROL, passed);
    Ok(())
}

/// Goes on by the ticks of the events among these, which are so many.
fn advance(
    columns: &mut Columns<'_>,
    state: &mut DecodeState,
    controls: &[u8],
    events: usize,
) -> Result<(), Expected> {
    let ticks = columns.ticks_of_all(controls, events)?;
    let stamp = state.stamp().checked_add(ticks).ok_or("a stamp below 2^64")?;
    state.advance_to(stamp);
    Ok(())
}

#[inline]
const fn is_event(control: u8) -> bool {
    let kind = control & control::KIND_MASK;
    (kind != 0) & (kind != tag::NODE)
}

/// How many records are events before the first that is none: eight are looked at at a time.
fn leading_events(controls: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const KINDS: u64 = u64::from_ne_bytes([control::KIND_MASK; 8]);
    const NODES: u64 = u64::from_ne_bytes([tag::NODE; 8]);
    // The lowest bit is that of the first byte that is 0: a borrow makes others only above it.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = controls.as_chunks::<8>();
    let mut passed = 0;
    for word in words {
        let kinds = u64::from_le_bytes(*word) & KINDS;
        let others = zeros(kinds) | zeros(kinds ^ NODES);
        if others != 0 {
            return passed + others.trailing_zeros() as usize / 8;
        }
        passed += 8;
    }
    passed + rest.iter().take_while(|&&control| is_event(control)).count()
}

fn other(columns: &mut Columns<'_>, state: &mut DecodeState) -> Result<Record, Expected> {
    let column = columns.rest(OTHER);
    let mut length = 0;
    let mut event = Event::NONE;
    let found = state.next(column, &mut length, &mut event).map_err(|error| error.expected)?;
    let Decoded::Other(record) = found else { return Err("an extended record") };
    if matches!(record, Record::Node(_)) {
        return Err("an extended record");
    }
    columns.pass(OTHER, length);
    Ok(record)
}

fn node(
    control: u8,
    columns: &mut Columns<'_>,
    state: &mut DecodeState,
) -> Result<Record, Expected> {
    let node = columns.node(control, state.defined(), state.frame_address())?;
    state.define(&node);
    Ok(Record::Node(node))
}

impl Columns<'_> {
    /// The definition of a node, where the one defined before and its return address are known.
    #[inline]
    pub(super) fn node(
        &mut self,
        control: u8,
        defined: NodeId,
        frame: u64,
    ) -> Result<NodeDefinition, Expected> {
        let u32 = |value: u64| u32::try_from(value).map_err(|_| "a node's number below 2^32");
        let id = if control & control::NEXT_NODE != 0 {
            defined.0.wrapping_add(1)
        } else {
            let way = self.varint(DEFINED)?;
            u32(varint::apply_difference(u64::from(defined.0), way))?
        };
        let parent = if control & control::BELOW_LAST != 0 {
            defined.0
        } else {
            let way = varint::apply_difference(0, self.varint(PARENT)?);
            u32(u64::from(id).wrapping_sub(way))?
        };
        let address = varint::apply_difference(frame, self.varint(FRAME)?);
        Ok(NodeDefinition { id: NodeId(id), parent: NodeId(parent), address })
    }

    /// The ticks since the previous record.
    #[inline(always)]
    pub(super) fn ticks(&mut self, control: u8) -> Result<u64, Expected> {
        let ticks = self.byte(TICKS)?;
        // Whether there are more is anybody's guess: no branch asks.
        let long = u8::from(control & control::LONG_TICKS != 0);
        let high = self.rest(TICKS_HIGH);
        let rest = high.get(usize::from(long)..).ok_or("a longer column of bytes")?;
        let high = high.first().copied().unwrap_or_default() & long.wrapping_neg();
        self.go_on(TICKS_HIGH, rest);
        if high == 0xff {
            return self.many_ticks(ticks);
        }
        Ok(ticks | u64::from(high) << 8)
    }

    #[cold]
    fn many_ticks(&mut self, low: u64) -> Result<u64, Expected> {
        Ok(low | self.varint(TICKS_HIGH)?.wrapping_add(0xff) << 8)
    }

    /// The ticks of the events among records with these control bytes, which are so many, added up.
    fn ticks_of_all(&mut self, controls: &[u8], events: usize) -> Result<u64, Expected> {
        // So many that counts fit a byte and sums 16 bits: then the processor adds many at a time.
        const AT_A_TIME: usize = 128;
        let low = self.rest(TICKS).get(..events).ok_or("a longer column of bytes")?;
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u16::from(byte)).sum::<u16>();
        let mut ticks: u64 = low.chunks(AT_A_TIME).map(|some| u64::from(sum(some))).sum();
        self.pass(TICKS, events);
        let is_long = |control: u8| is_event(control) & (control & control::LONG_TICKS != 0);
        let count =
            |some: &[u8]| some.iter().map(|&control| u8::from(is_long(control))).sum::<u8>();
        let long: usize = controls.chunks(AT_A_TIME).map(|some| usize::from(count(some))).sum();
        for _ in 0..long {
            let mut high = self.byte(TICKS_HIGH)?;
            if high == 0xff {
                high = self.varint(TICKS_HIGH)?.wrapping_add(0xff);
            }
            ticks = ticks.checked_add(high << 8).ok_or("a stamp below 2^64")?;
        }
        Ok(ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_byte_ends_a_row_of_events_wherever_is_found() {
        for control in 0..=u8::MAX {
            for place in 0..20 {
                let mut controls = [control::ALLOC_AT_DEPTH | control::LONG_TICKS; 20];
                controls[place] = control;
                let kind = control & control::KIND_MASK;
                let expected = if kind == 0 || kind == tag::NODE { place } else { 20 };
                assert_eq!(leading_events(&controls), expected, "{control:#x} at {place}");
            }
        }
    }

    #[test]
    fn ticks_of_events_add_up_whatever_stands_between_them() {
        // All controls, in an order in which each has many neighbours.
        let controls: Vec<u8> = (0..1_000_u32).map(|number| (number * number / 3) as u8).collect();
        let (mut low, mut high, mut expected) = (Vec::new(), Vec::new(), 0);
        for (number, &control) in (0..).zip(&controls) {
            if is_event(control) {
                low.push(0xff);
                expected += 0xff;
                if control & control::LONG_TICKS != 0 {
                    high.push((number % 0xff) as u8);
                    expected += (number % 0xff) << 8;
                }
            }
        }
        let mut lengths = [0; COLUMNS];
        (lengths[TICKS], lengths[TICKS_HIGH]) = (low.len(), high.len());
        let events = low.len();
        let bytes = [low, high].concat();
        let mut columns = Columns::new(&bytes, &lengths);
        assert_eq!(columns.ticks_of_all(&controls, events), Ok(expected));
        assert_eq!(columns.lengths(), [0; COLUMNS]);
        assert_eq!(columns.ticks_of_all(&controls, events), Err("a longer column of bytes"));
    }
}
