//! Columns into rows, or into what rows would be decoded to. Every byte is doubted, and no input makes
//! it allocate more than a few times the length that the chunk's header states, or than a chunk can have.

use std::error::Error;
use std::fmt;

use super::inflate::Inflater;
use super::model::{BLOCKS, Block, Blocks, Model};
use super::pack::on_heap;
use super::plain_run::LONGEST;
use super::reading::Columns;
use super::sink::{Rows, Sink};
use super::stated_sites::StatedSites;
use super::{
    ADDRESS_0, ADDRESS_1, ADDRESS_HIGH, AGE_0, AGE_1, COLUMNS, CONTROL, DEFINED, DEPTH, FRAME,
    OTHER, PARENT, REALLOC, STACK, UNUSUAL, control, unusual,
};
use crate::chunk_records::{ChunkRecords, RunEvent};
use crate::compact::Site;
use crate::decoder::DecodeState;
use crate::record::{Event, EventKind, tag};
use crate::varint;

/// What should have stood in the columns.
pub(crate) type Expected = &'static str;

/// Why a packed chunk could not be unpacked, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnpackError {
    /// What should have stood in its columns.
    pub expected: &'static str,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt columns: expected {}", self.expected)
    }
}

impl Error for UnpackError {}

/// Brings the records back that a [`Packer`](crate::Packer) packed. What it works in is kept from one
/// chunk to the next.
#[derive(Default)]
pub struct Unpacker {
    model: Option<Box<Model>>,
    blocks: Option<Box<[Block; BLOCKS]>>,
    inflater: Inflater,
    /// Of rows: a run of plain events before they are encoded.
    run: Option<Box<[RunEvent; LONGEST]>>,
    /// The control bytes of what is no node, where nodes are left out.
    controls: Vec<u8>,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Appends the payload of a packed chunk to `rows`, which its header says to be `raw_bytes` long.
    ///
    /// # Errors
    ///
    /// Where the columns contradict themselves; the records before are in `rows`.
    pub fn unpack(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        rows: &mut Vec<u8>,
    ) -> Result<(), UnpackError> {
        self.rows(packed, raw_bytes, rows).map_err(|expected| UnpackError { expected })
    }

    fn rows(&mut self, packed: &[u8], raw_bytes: u32, rows: &mut Vec<u8>) -> Result<(), Expected> {
        let mut run = self.run.take().unwrap_or_else(|| on_heap(RunEvent::NONE));
        let mut rows = Rows::behind(rows, raw_bytes, &mut run);
        let result = self.rebuild(packed, raw_bytes, &mut rows);
        rows.finish();
        self.run = Some(run);
        result
    }

    /// Adds the records of a packed chunk to `records`: what [`Unpacker::unpack`] makes rows of, as far as it
    /// takes them.
    ///
    /// # Errors
    ///
    /// Where the columns contradict themselves; the records before are in `records`.
    pub(crate) fn unpack_records(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        records: &mut ChunkRecords,
    ) -> Result<(), UnpackError> {
        self.rebuild(packed, raw_bytes, records).map_err(|expected| UnpackError { expected })
    }

    fn rebuild(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        sink: &mut impl Sink,
    ) -> Result<(), Expected> {
        let in_brief = sink.is_in_brief();
        let needed = |column| !in_brief || !matches!(column, DEFINED | PARENT | FRAME | STACK);
        let (rounding, mut lengths) = self.inflater.inflate(packed, raw_bytes, needed)?;
        let model = self.model.get_or_insert_with(Model::boxed);
        model.reset(rounding);
        let blocks = self.blocks.get_or_insert_with(|| on_heap(Block::NONE));
        let known = Known { model, blocks: Blocks::new(blocks) };
        // Each node has a byte there.
        let leave_out = in_brief && lengths[FRAME] > 0;
        for column in (0..COLUMNS).filter(|&column| !needed(column)) {
            lengths[column] = 0;
        }
        let mut columns = Columns::new(self.inflater.bytes(), &lengths);
        if leave_out {
            leave_nodes_out(columns.rest(CONTROL), &mut self.controls);
            columns.go_on(CONTROL, &self.controls);
        }
        // Each has a control byte.
        sink.expect(columns.rest(CONTROL).len(), raw_bytes)?;
        let state = DecodeState::START;
        Rebuild { known, state, sink, stacks: !in_brief }.records(&mut columns)
    }
}

/// The control bytes of what is no node.
fn leave_nodes_out(controls: &[u8], kept: &mut Vec<u8>) {
    // What was there is written over.
    kept.resize(controls.len(), 0);
    let mut length = 0;
    for &control in controls {
        if let Some(place) = kept.get_mut(length) {
            *place = control;
        }
        // Which is one is anybody's guess: no branch asks.
        length += usize::from(control & control::KIND_MASK != tag::NODE);
    }
    kept.truncate(length);
}

/// The records as they come back.
pub(super) struct Rebuild<'a, S> {
    pub(super) known: Known<'a>,
    /// Of it the stamp, the thread and the node defined last are kept.
    pub(super) state: DecodeState,
    pub(super) sink: &'a mut S,
    /// Whether stack pointers are wanted.
    pub(super) stacks: bool,
}

impl<S: Sink> Rebuild<'_, S> {
    fn records(&mut self, columns: &mut Columns<'_>) -> Result<(), Expected> {
        loop {
            self.plain_events(columns)?;
            let Some(control) = columns.next_byte(CONTROL) else { return Ok(()) };
            match control & control::KIND_MASK {
                0 => self.other(columns)?,
                tag::NODE => self.node(control, columns)?,
                kind => self.any_event(kind, control, columns)?,
            }
        }
    }

    /// An event of any kind.
    #[inline(never)]
    fn any_event(
        &mut self,
        kind: u8,
        control: u8,
        columns: &mut Columns<'_>,
    ) -> Result<(), Expected> {
        let at_depth = kind == control::ALLOC_AT_DEPTH;
        let kind = if at_depth { tag::ALLOC } else { kind };
        let event_kind = match kind {
            tag::ALLOC => EventKind::Alloc,
            tag::ALLOC_ZEROED => EventKind::AllocZeroed,
            tag::REALLOC => EventKind::Realloc,
            tag::FREE => EventKind::Free,
            _ => return Err("a known kind of record"),
        };
        if !self.state.is_placed() {
            return Err("a context, which begins every chunk");
        }
        let ticks = columns.ticks(control)?;
        let stamp = self.state.stamp().checked_add(ticks).ok_or("a stamp below 2^64")?;
        self.state.advance_to(stamp);

        let mut habit = self.known.model.last(kind);
        let mut failed = false;
        let mut kept_frames = None;
        match control >> control::SITE_SHIFT {
            control::SITE_LAST => {}
            control::SITE_FOLLOWS => habit = self.known.model.follower(kind),
            origin => {
                habit.site = self.site(columns)?;
                if origin == control::SITE_UNUSUAL {
                    let flags = columns.byte(UNUSUAL)? as u8;
                    if flags & !unusual::ALL != 0 {
                        return Err("known flags");
                    }
                    failed = flags & unusual::FAILED != 0;
                    if flags & unusual::KEPT_FRAMES != 0 {
                        let kept = u32::try_from(columns.varint(UNUSUAL)?);
                        kept_frames = Some(kept.map_err(|_| "a number of frames below 2^32")?);
                    }
                }
            }
        }
        let Site { node, align_log2, stack_pointer } = habit.site;
        let align_log2 = align_log2 as u8;
        let mut event = Event {
            kind: event_kind,
            failed,
            thread: self.state.thread(),
            stamp,
            begin_stamp: stamp,
            node,
            align_log2,
            stack_pointer,
            kept_frames,
            ..Event::NONE
        };
        match event_kind {
            EventKind::Alloc | EventKind::AllocZeroed => {
                let same = control & control::SAME_SIZE != 0;
                event.size = if same { habit.size } else { columns.size()? };
                if !failed {
                    event.address = self.known.obtained(control, event.size, columns)?;
                }
            }
            EventKind::Free => {
                let (address, size) =
                    self.known.gone(control, columns, |columns| columns.size())?;
                (event.address, event.size) = (if failed { 0 } else { address }, size);
            }
            EventKind::Realloc => {
                (event.old_address, event.old_size) =
                    self.known.gone(control, columns, |columns| columns.size())?;
                event.size = columns.varint(REALLOC)?;
                event.begin_stamp = stamp.saturating_sub(columns.varint(REALLOC)?);
                if !failed {
                    let way = columns.varint(REALLOC)?;
                    event.address = varint::apply_difference(event.old_address, way);
                    let class = self.known.model.class(event.size);
                    self.known.model.list(class).obtain(event.address);
                    self.known.blocks.obtain(event.address, event.size);
                }
            }
        }
        self.known.came_from(kind, control >> control::SITE_SHIFT, &habit.site, event.size);
        self.sink.event(&event)
    }

    /// A call site that is stated.
    fn site(&self, columns: &mut Columns<'_>) -> Result<Site, Expected> {
        let mut sites = StatedSites::of(columns);
        let previous = self.known.model.previous();
        let site = if self.stacks {
            sites.next::<true>(previous, columns)?
        } else {
            sites.next::<false>(previous, columns)?
        };
        sites.pass(columns);
        Ok(site)
    }

    fn node(&mut self, control: u8, columns: &mut Columns<'_>) -> Result<(), Expected> {
        let node = columns.node(control, self.state.defined(), self.state.frame_address())?;
        self.state.define(&node);
        self.sink.node(&node)
    }

    fn other(&mut self, columns: &mut Columns<'_>) -> Result<(), Expected> {
        let length = self.sink.other(columns.rest(OTHER), &mut self.state)?;
        columns.pass(OTHER, length);
        Ok(())
    }
}

/// What the chunk has told so far.
pub(super) struct Known<'a> {
    pub(super) model: &'a mut Model,
    blocks: Blocks<'a>,
}

impl Known<'_> {
    #[inline(always)]
    fn came_from(&mut self, tag: u8, origin: u8, site: &Site, size: u64) {
        if origin == control::SITE_LAST {
            self.model.came_from_last(tag, size);
        } else {
            self.model.came_from(tag, *site, size);
        }
    }

    /// The block that an allocation was given.
    #[inline(always)]
    pub(super) fn obtained(
        &mut self,
        control: u8,
        size: u64,
        columns: &mut Columns<'_>,
    ) -> Result<u64, Expected> {
        let list = self.model.list(self.model.class(size));
        let expected = "a freed block of this chunk";
        let address = if control & control::KIND_MASK == control::ALLOC_AT_DEPTH {
            let depth = columns.byte(DEPTH)? as u8;
            let address = list.at(depth).ok_or(expected)?;
            list.obtain_at(depth, address);
            address
        } else if control & control::KNOWN_BLOCK != 0 {
            let address = list.at(0).ok_or(expected)?;
            list.obtain_last(address);
            address
        } else {
            let address = address(columns, list.last_obtained())?;
            list.obtain(address);
            address
        };
        self.blocks.obtain(address, size);
        Ok(address)
    }

    /// The address and the size of the block that was freed; `stated_size` gives that of one which is not known.
    #[inline(always)]
    pub(super) fn gone(
        &mut self,
        control: u8,
        columns: &mut Columns<'_>,
        stated_size: impl FnOnce(&mut Columns<'_>) -> Result<u64, Expected>,
    ) -> Result<(u64, u64), Expected> {
        let (address, size, class);
        if control & control::KNOWN_BLOCK != 0 {
            let age = (columns.byte(AGE_0)? | columns.byte(AGE_1)? << 8) + 1;
            let block = self.blocks.aged(age as u32).ok_or("a block of this chunk")?;
            (address, size) = (block.address, block.size);
            class = self.model.class(size);
        } else {
            size = stated_size(columns)?;
            class = self.model.class(size);
            address = self::address(columns, self.model.list(class).last_freed())?;
        }
        self.model.list(class).free(address);
        Ok((address, size))
    }
}

#[inline]
fn address(columns: &mut Columns<'_>, from: u64) -> Result<u64, Expected> {
    let way = columns.split(ADDRESS_0, ADDRESS_1, ADDRESS_HIGH)?;
    Ok(varint::apply_difference(from, way))
}
