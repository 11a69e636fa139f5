//! Columns into runs of plain events, as nearly all are.
//!
//! They come back as they were packed, in three passes: one tells when they came, one from where and what
//! was asked for, and one which blocks they obtained and freed. Each needs few columns and little else, so that
//! the processor's registers hold what is used again and again.

use super::model::{Habit, Model};
use super::reading::Columns;
use super::sink::Sink;
use super::stated_sites::StatedSites;
use super::unpack::{Expected, Known, Rebuild};
use super::{CONTROL, SIZE, SIZE_HIGH, TICKS, TICKS_HIGH, control};
use crate::chunk_records::RunEvent;
use crate::compact::Site;
use crate::plain_event::{PLAIN_KINDS, PlainEvent};
use crate::record::{Stamp, tag};

/// No run is longer: what the first pass finds is still in the nearest cache at the last one.
pub(super) const LONGEST: usize = 256;

/// The tag of the plain event that each control byte begins, with [`STATES_SIZE`] where a size is stated of it; 0
/// where it begins none. A look into a table takes fewer instructions than asking for each bit.
const PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let mut index = 0;
    while index < plain.len() {
        let control = index as u8;
        let kind = control & control::KIND_MASK;
        let tag = if kind == control::ALLOC_AT_DEPTH { tag::ALLOC } else { kind };
        let is_unusual = control >> control::SITE_SHIFT == control::SITE_UNUSUAL;
        if 1 << tag & PLAIN_KINDS != 0 && !is_unusual {
            let is_known = if tag == tag::FREE { control::KNOWN_BLOCK } else { control::SAME_SIZE };
            plain[index] = tag | if control & is_known == 0 { STATES_SIZE } else { 0 };
        }
        index += 1;
    }
    plain
};

/// In [`PLAIN`], beside a tag.
const STATES_SIZE: u8 = 0x08;

/// How many events a pass got through, and what should have stood where it ended early.
type Passed = (usize, Option<Expected>);

impl<S: Sink> Rebuild<'_, S> {
    /// Brings plain events back as long as some come.
    pub(super) fn plain_events(&mut self, columns: &mut Columns<'_>) -> Result<(), Expected> {
        if !self.state.is_placed() {
            return Ok(());
        }
        loop {
            let controls = columns.rest(CONTROL);
            let before = self.state.stamp();
            let run = self.sink.run();
            let (found, late) = times(controls, columns, before, run);
            // Where a pass ends early the others bring the events before that back.
            let controls = controls.get(..found).unwrap_or_default();
            let requests = if self.stacks { requests::<true> } else { requests::<false> };
            let (found, unasked) = requests(controls, columns, self.known.model, run);
            let controls = controls.get(..found).unwrap_or_default();
            let (found, unknown) = blocks(controls, columns, &mut self.known, run);
            if let Some(last) = run.get(..found).and_then(<[_]>::last) {
                self.state.advance_to(last.stamp);
                self.sink.plain_events(found, before)?;
            }
            if let Some(expected) = unknown.or(unasked).or(late) {
                return Err(expected);
            }
            columns.pass(CONTROL, found);
            if found < LONGEST {
                return Ok(());
            }
        }
    }
}

/// The first pass, over the plain events at the front of `controls`.
#[inline(never)]
fn times(
    controls: &[u8],
    columns: &mut Columns<'_>,
    mut stamp: Stamp,
    run: &mut [RunEvent; LONGEST],
) -> Passed {
    let low_column = columns.rest(TICKS);
    let mut low_column = low_column.iter();
    let high_column = columns.rest(TICKS_HIGH);
    let (mut found, mut highs) = (0, 0);
    let fault = 'run: {
        for (event, &control) in run.iter_mut().zip(controls) {
            if PLAIN[usize::from(control)] == 0 {
                break;
            }
            let Some(&low) = low_column.next() else { break 'run Some("a longer column of bytes") };
            // Whether there are more is anybody's guess: no branch asks.
            let long = u8::from(control & control::LONG_TICKS != 0);
            let high = match high_column.get(highs) {
                Some(&high) => high & long.wrapping_neg(),
                None if long == 0 => 0,
                None => break 'run Some("a longer column of bytes"),
            };
            highs += usize::from(long);
            let mut ticks = u64::from(low) | u64::from(high) << 8;
            if high == 0xff {
                let Some((rest, length)) = many_ticks(high_column, highs) else {
                    break 'run Some("a longer column of numbers");
                };
                ticks = u64::from(low) | rest << 8;
                highs += length;
            }
            let Some(at) = stamp.checked_add(ticks) else { break 'run Some("a stamp below 2^64") };
            stamp = at;
            event.stamp = at;
            found += 1;
        }
        None
    };
    columns.pass(TICKS, found);
    columns.pass(TICKS_HIGH, highs);
    (found, fault)
}

/// All of a number of ticks but the low byte, behind a byte that says that there is more, and how long it is.
#[cold]
fn many_ticks(column: &[u8], at: usize) -> Option<(u64, usize)> {
    let (value, length) = crate::varint::read(column.get(at..)?)?;
    Some((value.wrapping_add(0xff), length))
}

/// The second pass. Of a free whose block is known the size comes with that.
///
/// Stack pointers are read where they are wanted: elsewhere all are 0.
#[inline(never)]
fn requests<const STACKS: bool>(
    controls: &[u8],
    columns: &mut Columns<'_>,
    model: &mut Model,
    run: &mut [RunEvent; LONGEST],
) -> Passed {
    let sizes = columns.rest(SIZE);
    let mut sites = StatedSites::of(columns);
    // The previous event, which the next one is told from, is known without the model.
    let (mut kind, mut previous) = (model.previous_kind(), *model.previous());
    let (mut found, mut stated) = (0, 0);
    let fault = 'run: {
        for (event, &control) in run.iter_mut().zip(controls) {
            let plain = PLAIN[usize::from(control)];
            let tag = plain & tag::KIND_MASK;
            let origin = control >> control::SITE_SHIFT;
            let mut habit = model.last(tag);
            if origin == control::SITE_FOLLOWS {
                habit = *model.follower_of(previous.node, tag);
            } else if origin != control::SITE_LAST {
                match sites.next::<STACKS>(&previous, columns) {
                    Ok(site) => habit.site = site,
                    Err(expected) => break 'run Some(expected),
                }
            }
            if !STACKS {
                habit.site.stack_pointer = 0;
            }
            let Habit { site, mut size } = habit;
            if plain & STATES_SIZE != 0 {
                let Some(&low) = sizes.get(stated) else {
                    break 'run Some("a longer column of bytes");
                };
                stated += 1;
                size = u64::from(low);
                if low == 0xff {
                    match columns.varint(SIZE_HIGH) {
                        Ok(rest) => size = rest.wrapping_add(size),
                        Err(expected) => break 'run Some(expected),
                    }
                }
            }
            if origin != control::SITE_LAST {
                *model.follower_of(previous.node, tag) = Habit::of(tag, site, size);
                model.set_site(tag, site);
            }
            model.set_size(tag, size);
            (kind, previous) = (tag, site);
            let Site { node, align_log2, stack_pointer } = site;
            event.size = size;
            event.stack_pointer = stack_pointer;
            event.node = node;
            event.kind = PlainEvent::kind_of(tag);
            event.align_log2 = align_log2 as u8;
            found += 1;
        }
        None
    };
    model.set_previous(kind);
    sites.pass(columns);
    columns.pass(SIZE, stated);
    (found, fault)
}

/// The third pass.
#[inline(never)]
fn blocks(
    controls: &[u8],
    columns: &mut Columns<'_>,
    known: &mut Known<'_>,
    run: &mut [RunEvent; LONGEST],
) -> Passed {
    for (number, (event, &control)) in run.iter_mut().zip(controls).enumerate() {
        let size = event.size;
        let found = if control & control::KIND_MASK == tag::FREE {
            known.gone(control, columns, |_| Ok(size))
        } else {
            known.obtained(control, size, columns).map(|address| (address, size))
        };
        match found {
            Ok(block) => (event.address, event.size) = block,
            Err(expected) => return (number, Some(expected)),
        }
    }
    (controls.len(), None)
}
