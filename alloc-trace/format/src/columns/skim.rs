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
    /// stream: at most [`BATCH`] of them, none at the end of the chunk.
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
        let mut result = Ok(());
        for _ in 0..BATCH {
            match skim(&mut columns, &mut self.state, &mut self.events) {
                Ok(Some(record)) => records.push_back((record, self.state.stamp())),
                Ok(None) => break,
                Err(expected) => {
                    result = Err(expected);
                    break;
                }
            }
        }
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

fn skim(
    columns: &mut Columns<'_>,
    state: &mut DecodeState,
    events: &mut u64,
) -> Result<Option<Record>, Expected> {
    let controls = columns.rest(CONTROL);
    let passed = leading_events(controls);
    let ticks = columns.ticks_of_all(&controls[..passed])?;
    let stamp = state.stamp().checked_add(ticks).ok_or("a stamp below 2^64")?;
    state.advance_to(stamp);
    *events += passed as u64;
    columns.pass(CONTROL, passed);
    match columns.next_byte(CONTROL) {
        None => Ok(None),
        Some(control) if control & control::KIND_MASK == tag::NODE => {
            node(control, columns, state).map(Some)
        }
        Some(_) => other(columns, state).map(Some),
    }
}

#[inline]
const fn is_event(control: u8) -> bool {
    let kind = control & control::KIND_MASK;
    kind != 0 && kind != tag::NODE
}

/// How many records are events before the first that is none. Where there are many they are looked at many at
/// a time, without a branch for each; nodes come several at a time, with no event between them.
fn leading_events(controls: &[u8]) -> usize {
    const FEW: usize = 8;
    const AT_A_TIME: usize = 64;
    let count = |controls: &[u8]| controls.iter().take_while(|&&byte| is_event(byte)).count();
    let mut passed = count(controls.get(..FEW).unwrap_or(controls));
    if passed < FEW {
        return passed;
    }
    for some in controls.get(FEW..).unwrap_or_default().chunks_exact(AT_A_TIME) {
        if !some.iter().fold(true, |all, &control| all & is_event(control)) {
            break;
        }
        passed += AT_A_TIME;
    }
    passed + count(controls.get(passed..).unwrap_or_default())
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

    /// The ticks of records with these control bytes, added up.
    fn ticks_of_all(&mut self, controls: &[u8]) -> Result<u64, Expected> {
        let low = self.rest(TICKS).get(..controls.len()).ok_or("a longer column of bytes")?;
        let mut ticks: u64 = low.iter().map(|&byte| u64::from(byte)).sum();
        self.pass(TICKS, controls.len());
        let long = controls.iter().filter(|&&control| control & control::LONG_TICKS != 0).count();
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
