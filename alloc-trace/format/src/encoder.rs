//! Records into bytes, without allocating and without a panic.
//!
//! Every method writes at the front of the slice that it is given and answers how many bytes the
//! record took, or `None` where the slice is too short: then nothing counts as written, the
//! encoder's state is as before, and the caller begins another chunk with [`Encoder::context`].

mod extended;

pub(crate) use self::extended::extended;
use crate::compact::{self, Last, Site, WORD_BYTES};
use crate::fields::{self, FieldWriter};
use crate::output::Output;
use crate::plain_event::PlainEvent;
use crate::record::{Event, EventKind, NodeDefinition, NodeId, Stamp, tag};
use crate::varint;

/// No event's record is longer, with the room that the writer needs behind it.
pub const MAX_EVENT_BYTES: usize = 1 + (2 + 1 + 5 * 8) + (2 + 8) + (2 + 3 * 8) + 8;

/// What the differences of one chunk's records are taken against.
///
/// A chunk begins with a [`Context`](crate::Context), which resets the state, so that each chunk can be decoded
/// alone.
#[derive(Debug, Clone)]
pub struct Encoder {
    stamp: Stamp,
    last: Last,
    defined: NodeId,
    frame_address: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that has written nothing; its first record must be a context.
    #[must_use]
    pub const fn new() -> Self {
        Self { stamp: 0, last: Last::NONE, defined: NodeId::ROOT, frame_address: 0 }
    }

    /// The last stamp written.
    #[must_use]
    pub const fn last_stamp(&self) -> Stamp {
        self.stamp
    }

    /// The state behind a context.
    pub(crate) const fn at(stamp: Stamp) -> Self {
        Self { stamp, ..Self::new() }
    }

    /// A record that was not written here has this stamp.
    pub(crate) const fn advance_to(&mut self, stamp: Stamp) {
        self.stamp = stamp;
    }

    /// Writes a heap event. Its stamp must not lie before the previous record's; its thread is that
    /// of the last context.
    #[must_use]
    #[inline(always)]
    pub fn event(&mut self, out: &mut [u8], event: &Event) -> Option<usize> {
        let out = out.first_chunk_mut::<MAX_EVENT_BYTES>()?;
        let is_plain =
            event.kind != EventKind::Realloc && !event.failed && event.kept_frames.is_none();
        if is_plain {
            let (node, align_log2) = (event.node, u32::from(event.align_log2));
            let site = Site { node, align_log2, stack_pointer: event.stack_pointer };
            let (tag, stamp) = (event_tag(event.kind), event.stamp);
            return Some(self.plain(out, tag, stamp, event.address, event.size, site));
        }
        Some(self.unusual_event(out, *event))
    }

    /// Writes a plain event, as [`Self::event`] does; `None` where its stamp would not fit 64 bits.
    #[inline(always)]
    pub(crate) fn plain_event(
        &mut self,
        out: &mut [u8; MAX_EVENT_BYTES],
        event: &PlainEvent,
    ) -> Option<usize> {
        let stamp = self.stamp.checked_add(event.ticks)?;
        Some(self.plain(out, event.tag, stamp, event.address, event.size, event.site()))
    }

    /// Writes an event that is no reallocation, did not fail and has nothing unusual.
    #[inline(always)]
    fn plain(
        &mut self,
        out: &mut [u8; MAX_EVENT_BYTES],
        tag: u8,
        stamp: Stamp,
        address: u64,
        size: u64,
        site: Site,
    ) -> usize {
        let ticks = stamp.wrapping_sub(self.stamp);
        let way = address.wrapping_sub(self.last.address_of(tag));
        let Some(word) = compact::word(tag, ticks, size, way) else {
            let Site { node, align_log2, stack_pointer } = site;
            return self.long_event(
                out,
                tag,
                stamp,
                address,
                size,
                node,
                align_log2,
                stack_pointer,
            );
        };
        if self.last.site_of(tag).is(&site) {
            self.stamp = stamp;
            self.last.came_again(tag, address);
            let word = word | u64::from(tag::COMPACT);
            out[..WORD_BYTES].copy_from_slice(&word.to_le_bytes());
            return WORD_BYTES;
        }
        let Some(second) = compact::site_word(self.last.site(), &site) else {
            let Site { node, align_log2, stack_pointer } = site;
            return self.long_event(
                out,
                tag,
                stamp,
                address,
                size,
                node,
                align_log2,
                stack_pointer,
            );
        };
        self.stamp = stamp;
        self.last.came_from(tag, site, address);
        let word = word | u64::from(tag::COMPACT_AT_SITE);
        out[..WORD_BYTES].copy_from_slice(&word.to_le_bytes());
        out[WORD_BYTES..2 * WORD_BYTES].copy_from_slice(&second.to_le_bytes());
        2 * WORD_BYTES
    }

    /// Writes a plain event that is not compact. Its site's fields are arguments one by one: so they are in
    /// registers also where it is not called.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "one argument a field")]
    fn long_event(
        &mut self,
        out: &mut [u8; MAX_EVENT_BYTES],
        tag: u8,
        stamp: Stamp,
        address: u64,
        size: u64,
        node: NodeId,
        align_log2: u32,
        stack_pointer: u64,
    ) -> usize {
        let site = Site { node, align_log2, stack_pointer };
        let ticks = stamp.wrapping_sub(self.stamp);
        let is_short = (ticks | size) >> u16::BITS == 0 && align_log2 < tag::ALIGN_FOLLOWS.into();
        if is_short && self.last.site().is(&site) {
            return self.far_event(out, tag, ticks as u16, address, size as u16, align_log2 as u8);
        }
        let mut out = FieldWriter::new(out);
        self.begin_event(&mut out, tag, 0, 0, stamp, address, size, &site);
        out.written()
    }

    /// Writes an event that is like the last one but for its address, which is far from any: so are one in
    /// five where two threads free each other's blocks. Lengths are the same for each, and not looked at.
    fn far_event(
        &mut self,
        out: &mut [u8; MAX_EVENT_BYTES],
        tag: u8,
        ticks: u16,
        address: u64,
        size: u16,
        align_log2: u8,
    ) -> usize {
        const LENGTHS: u16 = fields::lengths([2, 2, 8, 0, 0]);
        let way = varint::difference(self.last.address(), address);
        let [lengths, ticks_bytes, sizes] = [LENGTHS, ticks, size].map(u16::to_le_bytes);
        out[0] = tag | align_log2 << tag::ALIGN_SHIFT;
        out[1..3].copy_from_slice(&lengths);
        out[3..5].copy_from_slice(&ticks_bytes);
        out[5..7].copy_from_slice(&sizes);
        out[7..15].copy_from_slice(&way.to_le_bytes());
        self.stamp += Stamp::from(ticks);
        let site = *self.last.site();
        self.last.came_from(tag, site, address);
        15
    }

    /// Writes what every event has that is not compact, with these `flags` and those of its lengths.
    #[expect(clippy::too_many_arguments, reason = "one argument a field")]
    fn begin_event<const ROOM: usize>(
        &mut self,
        out: &mut FieldWriter<'_, ROOM>,
        tag: u8,
        flags: u8,
        length_flags: u16,
        stamp: Stamp,
        address: u64,
        size: u64,
        site: &Site,
    ) {
        let align_log2 = site.align_log2 as u8;
        let align = align_log2.min(tag::ALIGN_FOLLOWS);
        let last = *self.last.site();
        out.byte(tag | flags | align << tag::ALIGN_SHIFT);
        out.begin(length_flags);
        if align == tag::ALIGN_FOLLOWS {
            out.byte(align_log2);
        }
        out.field(stamp.wrapping_sub(self.stamp));
        out.field(size);
        out.field(varint::difference(self.last.address(), address));
        out.field(varint::difference(u64::from(last.node.0), u64::from(site.node.0)));
        out.field(varint::difference(last.stack_pointer, site.stack_pointer));
        out.end();
        self.stamp = stamp;
        self.last.came_from(tag, *site, address);
    }

    /// Writes an event that has something that few have.
    #[inline(never)]
    fn unusual_event(&mut self, out: &mut [u8; MAX_EVENT_BYTES], event: Event) -> usize {
        let realloc = event.kind == EventKind::Realloc;
        let (size, address) =
            if realloc { (event.old_size, event.old_address) } else { (event.size, event.address) };
        let failed = if event.failed { tag::FAILED } else { 0 };
        // A failed request other than a reallocation has no address: the state keeps its own.
        let address = if event.failed && !realloc { self.last.address() } else { address };
        let more = if event.kept_frames.is_some() { fields::MORE } else { 0 };
        let (node, align_log2) = (event.node, u32::from(event.align_log2));
        let site = Site { node, align_log2, stack_pointer: event.stack_pointer };
        let (tag, stamp) = (event_tag(event.kind), event.stamp);

        let mut out = FieldWriter::new(out);
        self.begin_event(&mut out, tag, failed, more, stamp, address, size, &site);
        self.rest_of_event(&mut out, &event);
        out.written()
    }

    /// What few events have: the number of kept frames, and a reallocation's other half.
    fn rest_of_event<const ROOM: usize>(&mut self, out: &mut FieldWriter<'_, ROOM>, event: &Event) {
        if let Some(kept) = event.kept_frames {
            out.begin(0);
            out.field(u64::from(kept));
            out.end();
        }
        if event.kind == EventKind::Realloc {
            let old_address = self.last.address();
            let new_address = if event.failed { old_address } else { event.address };
            out.begin(0);
            out.field(event.size);
            out.field(event.stamp.saturating_sub(event.begin_stamp));
            out.field(varint::difference(old_address, new_address));
            out.end();
            self.last.came_again(tag::REALLOC, new_address);
        }
    }

    /// Writes the definition of a node.
    #[must_use]
    pub fn node(&mut self, out: &mut [u8], node: &NodeDefinition) -> Option<usize> {
        let mut out = Output::new(out);
        out.byte(tag::NODE);
        out.varint(varint::difference(u64::from(self.defined.0), u64::from(node.id.0)));
        out.varint(varint::difference(u64::from(node.parent.0), u64::from(node.id.0)));
        out.varint(varint::difference(self.frame_address, node.address));
        let written = out.finish()?;
        self.defined = node.id;
        self.frame_address = node.address;
        Some(written)
    }
}

/// The kind of an event in its first byte.
#[inline(always)]
const fn event_tag(kind: EventKind) -> u8 {
    kind as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;
    use crate::record::{Context, ThreadId};

    #[test]
    fn no_event_is_longer_than_the_stated_maximum() {
        let mut encoder = Encoder::new();
        let event = Event {
            kind: EventKind::Realloc,
            failed: false,
            thread: ThreadId(1),
            stamp: u64::MAX,
            begin_stamp: 0,
            address: 1 << 63,
            size: u64::MAX,
            align_log2: 63,
            old_address: 1 << 62,
            old_size: u64::MAX,
            node: NodeId(u32::MAX),
            stack_pointer: 1 << 63,
            kept_frames: Some(u32::MAX),
        };
        let written = encoder.event(&mut [0; MAX_EVENT_BYTES], &event);
        assert!(written.is_some_and(|bytes| bytes <= MAX_EVENT_BYTES));
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_the_state_as_it_was() {
        let context = Context { thread: ThreadId(7), stamp: 1_000, anchor: Anchor::default() };
        let node = NodeDefinition { id: NodeId(300), parent: NodeId(299), address: 0x55_0000_1234 };
        let mut encoder = Encoder::new();
        let mut whole = [0; 64];
        encoder.context(&mut whole, &context).expect("fits");
        let mut untouched = encoder.clone();
        let length = encoder.node(&mut whole, &node).expect("fits");
        for short in 0..length {
            assert_eq!(untouched.node(&mut vec![0; short], &node), None);
        }
        let mut again = [0; 64];
        assert_eq!(untouched.node(&mut again, &node), Some(length));
        assert_eq!(whole[..length], again[..length]);
    }
}
