//! Runs of plain events into columns.
//!
//! Nearly all are compact. A thread whose blocks come from two parts of the address space, as where it frees
//! what another one allocates, writes every few events one that is not: it is part of the run, too, where its
//! numbers are not long.
//!
//! It takes three passes: one takes the words apart and tells when events came, one from where those came
//! whose call site is another one, and one which blocks they obtained and freed. Each needs few columns and
//! little else, so that the processor's registers hold what is used again and again.

use super::pack::{Columns, Packing};
use super::{CONTROL, TICKS, TICKS_HIGH, control};
use crate::compact::{self, Compact, Last, Site};
use crate::decoder::DecodeState;
use crate::fields::{self, Lengths};
use crate::plain_event::PlainEvent;
use crate::record::{NodeId, tag};
use crate::varint;

/// No run is longer: what the first pass finds is still in the nearest cache at the last one.
pub(super) const LONGEST: usize = 256;

/// The kinds of plain events.
const KINDS: [u8; 3] = [tag::ALLOC, tag::ALLOC_ZEROED, tag::FREE];

/// What the passes hand on.
#[derive(Debug)]
pub(super) struct Run {
    addresses: [u64; LONGEST],
    /// Sizes; an event of a longer one is no part of a run.
    sizes: [u16; LONGEST],
    /// Sites that are not the last one of their kind, and of which events they are.
    sites: [(u16, Site); LONGEST],
    events: usize,
    moves: usize,
}

impl Run {
    pub(super) const EMPTY: Self = Self {
        addresses: [0; LONGEST],
        sizes: [0; LONGEST],
        sites: [(0, Site::NONE); LONGEST],
        events: 0,
        moves: 0,
    };
}

impl Packing<'_> {
    /// Packs plain events as long as there are some; `None` where a stamp would not fit 64 bits.
    pub(super) fn plain_events(
        &mut self,
        payload: &[u8],
        offset: &mut usize,
        state: &mut DecodeState,
    ) -> Option<()> {
        if !state.is_placed() {
            return Some(());
        }
        loop {
            // Both know the last site of each kind. They differ where a context made the rows forget.
            let mut agreed = 0;
            for kind in KINDS {
                let same = state.last_mut().site_of(kind).is(&self.model.last(kind).site);
                agreed |= u64::from(same) << same_site(kind);
            }
            let rest = payload.get(*offset..)?;
            let last = state.last_mut();
            let sizes = &mut self.model.sizes;
            let (read, ticks) = take_apart(rest, agreed, last, sizes, self.run, &mut self.columns)?;
            *offset += read;
            state.advance_to(state.stamp().checked_add(ticks)?);
            let events = self.run.events;
            if events > 0 {
                self.sites_of_run();
                self.blocks_of_run(events);
            }
            if events < LONGEST {
                return Some(());
            }
        }
    }

    /// The second pass. The kinds of all events of the run were written last.
    #[inline(never)]
    fn sites_of_run(&mut self) {
        let first = self.columns.lengths[CONTROL] - self.run.events;
        let kind = |columns: &Columns<'_>, event| columns.at(CONTROL, event) & control::KIND_MASK;
        for number in 0..self.run.moves.min(LONGEST) {
            let (event, site) = self.run.sites[number];
            let event = usize::from(event);
            if event > 0 {
                self.model.set_previous(kind(&self.columns, first + event - 1));
            }
            let control = self.columns.at(CONTROL, first + event);
            let tag = control & control::KIND_MASK;
            let size = u64::from(self.run.sizes[event % LONGEST]);
            let (origin, habit) = self.origin(tag, &site);
            let mut control = control | origin << control::SITE_SHIFT;
            if origin == control::SITE_STATED {
                self.site(&site);
            } else if origin == control::SITE_FOLLOWS && tag != tag::FREE {
                let same = if habit == size { control::SAME_SIZE } else { 0 };
                control = control & !control::SAME_SIZE | same;
            }
            self.columns.set(CONTROL, first + event, control);
            if origin != control::SITE_LAST {
                self.model.came_from_site(tag, site, size);
            }
        }
        self.model.set_previous(kind(&self.columns, first + self.run.events - 1));
    }

    /// The second pass, over so many events whose control bytes were written last.
    #[inline(never)]
    fn blocks_of_run(&mut self, events: usize) {
        let first = self.columns.lengths[CONTROL] - events;
        for event in 0..events.min(LONGEST) {
            let (address, size) = (self.run.addresses[event], u64::from(self.run.sizes[event]));
            let control = self.columns.at(CONTROL, first + event);
            let kind = control & control::KIND_MASK;
            let control = if kind == tag::FREE {
                control | self.gone(address, size)
            } else {
                self.size_if(control & control::SAME_SIZE == 0, size);
                self.obtained(control, kind, address, size)
            };
            self.columns.set(CONTROL, first + event, control);
        }
    }
}

/// The bit of a compact event of a kind that states no site. No other event's first bits are one of these.
const fn same_site(kind: u8) -> u32 {
    (kind << 3 | tag::COMPACT) as u32
}

/// The first pass, over plain events at the front of `rows`: writes when they came, and leaves in `run` what
/// the others need. `agreed` has the bits of those kinds whose last site is the model's, too. Answers how long
/// the events are in the rows, and in ticks.
///
/// A control byte says that an event's size is the one that was asked for before by one of its kind, as if its
/// site were the last one or were stated.
#[inline(never)]
fn take_apart(
    rows: &[u8],
    mut agreed: u64,
    last: &mut Last,
    sizes: &mut [u64; 8],
    run: &mut Run,
    columns: &mut Columns<'_>,
) -> Option<(usize, u64)> {
    let (controls, ticks_low, ticks_high) = columns.ends()?;
    let mut rest = rows;
    let (mut events, mut moves, mut long, mut all_ticks) = (0, 0, 0, 0u64);
    while events < LONGEST {
        let Some((word, mut behind)) = rest.split_first_chunk() else { break };
        let word = u64::from_le_bytes(*word);
        let Compact { mut tag, mut ticks, mut size, way } = Compact::of(word);
        let mut address = last.address_of(tag).wrapping_add(way);
        // Of the word the kinds alone count: a shift is by its lowest six bits.
        if agreed >> (word & 63) & 1 == 0 {
            let site = match word as u8 & tag::KIND_MASK {
                tag::COMPACT if KINDS.contains(&tag) => *last.site_of(tag),
                tag::COMPACT_AT_SITE if KINDS.contains(&tag) => {
                    let Some((second, after)) = behind.split_first_chunk() else { break };
                    behind = after;
                    compact::site(last.site(), u64::from_le_bytes(*second))
                }
                _ => {
                    let Some((event, after)) = long_event(rest, last) else { break };
                    behind = after;
                    (tag, ticks, size, address) =
                        (event.tag, event.ticks, event.size, event.address);
                    event.site()
                }
            };
            last.came_from(tag, site, address);
            run.sites[moves % LONGEST] = (events as u16, site);
            moves += 1;
            agreed |= 1 << same_site(tag);
        }
        rest = behind;
        last.came_again(tag, address);
        run.addresses[events] = address;
        run.sizes[events] = size as u16;
        all_ticks += ticks;
        ticks_low[events] = ticks as u8;
        let high = (ticks >> 8) as u8;
        ticks_high[long % (2 * LONGEST)] = high;
        long += usize::from(high > 0);
        if high == 0xff {
            // Nothing is to be added to it.
            ticks_high[long % (2 * LONGEST)] = 0;
            long += 1;
        }
        let kind = usize::from(tag & tag::KIND_MASK);
        let same = (sizes[kind] == size) & (tag != tag::FREE);
        sizes[kind] = size;
        let same = if same { control::SAME_SIZE } else { 0 };
        let long_ticks = if high > 0 { control::LONG_TICKS } else { 0 };
        controls[events] = tag | same | long_ticks;
        events += 1;
    }
    columns.lengths[CONTROL] += events;
    columns.lengths[TICKS] += events;
    columns.lengths[TICKS_HIGH] += long;
    (run.events, run.moves) = (events, moves);
    Some((rows.len() - rest.len(), all_ticks))
}

/// The plain event at the front of `rows` that is not compact, if there is one, and the rows behind it.
#[inline(never)]
fn long_event<'a>(rows: &'a [u8], last: &Last) -> Option<(PlainEvent, &'a [u8])> {
    let [first, lengths @ ..] = *rows.first_chunk::<3>()?;
    let (tag, align_log2) = (first & tag::KIND_MASK, first >> tag::ALIGN_SHIFT);
    let mut lengths = Lengths::new(u16::from_le_bytes(lengths));
    let is_plain = KINDS.contains(&tag) && first & tag::FAILED == 0 && !lengths.has_more();
    if !is_plain || align_log2 == tag::ALIGN_FOLLOWS {
        return None;
    }
    let mut at = 3;
    let mut field = || {
        let length = lengths.next_length();
        let value = fields::read(rows, at, length);
        at += length;
        value
    };
    let (ticks, size) = (field()?, field()?);
    if (ticks | size) >> u16::BITS != 0 {
        return None;
    }
    let site = last.site();
    let address = varint::apply_difference(last.address(), field()?);
    let node = varint::apply_difference(u64::from(site.node.0), field()?);
    let node = NodeId(u32::try_from(node).ok()?);
    let stack_pointer = varint::apply_difference(site.stack_pointer, field()?);
    let event = PlainEvent { tag, align_log2, ticks, size, address, node, stack_pointer };
    Some((event, rows.get(at..)?))
}
