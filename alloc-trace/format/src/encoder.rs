//! Records into bytes, without allocating and without a panic.
//!
//! Every method writes at the front of the slice that it is given and answers how many bytes the
//! record took, or `None` where the slice is too short: then nothing counts as written, the
//! encoder's state is as before, and the caller begins another chunk with [`Encoder::context`].

use crate::compact::{self, Last, Site, WORD_BYTES};
use crate::decoder::PlainEvent;
use crate::fields::{self, FieldWriter};
use crate::record::{
    Context, EndReason, Event, EventKind, NodeDefinition, NodeId, SpanId, Stamp, ThreadId,
    end_reason_code, kind, span, tag,
};
use crate::varint;

/// No event's record is longer, with the room that the writer needs behind it.
pub const MAX_EVENT_BYTES: usize = 1 + (2 + 1 + 5 * 8) + (2 + 8) + (2 + 3 * 8) + 8;

/// Texts (names, paths, markers, a span's fields) are cut to this many bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// What the differences of one chunk's records are taken against.
///
/// A chunk begins with a [`Context`], which resets the state, so that each chunk can be decoded
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

    /// Begins a chunk, or another thread's part of one, and resets the state.
    #[must_use]
    pub fn context(&mut self, out: &mut [u8], context: &Context) -> Option<usize> {
        let written = extended(out, kind::CONTEXT, |out| {
            out.varint(u64::from(context.thread.0));
            out.bytes(&context.stamp.to_le_bytes());
            out.bytes(&context.anchor.ticks.to_le_bytes());
            out.bytes(&context.anchor.monotonic_ns.to_le_bytes());
        })?;
        *self = Self { stamp: context.stamp, ..Self::new() };
        Some(written)
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

    /// Writes what the process is. `arguments` are separated by zero bytes.
    #[must_use]
    pub fn process(
        &mut self,
        out: &mut [u8],
        pid: u32,
        parent_pid: u32,
        executable: &[u8],
        arguments: &[u8],
    ) -> Option<usize> {
        extended(out, kind::PROCESS, |out| {
            out.varint(u64::from(pid));
            out.varint(u64::from(parent_pid));
            out.text(executable);
            out.text(arguments);
        })
    }

    /// Writes that a thread was met at `stamp`.
    #[must_use]
    pub fn thread_start(
        &mut self,
        out: &mut [u8],
        thread: ThreadId,
        os_thread: u32,
        internal: bool,
        stamp: Stamp,
        name: &[u8],
    ) -> Option<usize> {
        self.stamped(out, kind::THREAD_START, stamp, |out| {
            out.varint(u64::from(thread.0));
            out.varint(u64::from(os_thread));
            out.byte(u8::from(internal));
            out.text(name);
        })
    }

    /// Writes a thread's present name.
    #[must_use]
    pub fn thread_name(&mut self, out: &mut [u8], thread: ThreadId, name: &[u8]) -> Option<usize> {
        extended(out, kind::THREAD_NAME, |out| {
            out.varint(u64::from(thread.0));
            out.text(name);
        })
    }

    /// Writes that the context's thread exited.
    #[must_use]
    pub fn thread_exit(&mut self, out: &mut [u8], stamp: Stamp) -> Option<usize> {
        self.stamped(out, kind::THREAD_EXIT, stamp, |_| ())
    }

    /// Writes that a module was found loaded.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one argument a field; the writer has no value")]
    pub fn module(
        &mut self,
        out: &mut [u8],
        stamp: Stamp,
        bias: u64,
        start: u64,
        end: u64,
        build_id: &[u8],
        path: &[u8],
    ) -> Option<usize> {
        self.stamped(out, kind::MODULE, stamp, |out| {
            out.varint(bias);
            out.varint(start);
            out.varint(end);
            out.text(build_id);
            out.text(path);
        })
    }

    /// Writes that the module from `start` to `end` was found to be loaded no more, at the last stamp
    /// written; nodes from `first_node` on are not of it.
    #[must_use]
    pub fn module_unload(
        &mut self,
        out: &mut [u8],
        start: u64,
        end: u64,
        first_node: NodeId,
    ) -> Option<usize> {
        extended(out, kind::MODULE_UNLOAD, |out| {
            out.varint(start);
            out.varint(end);
            out.varint(u64::from(first_node.0));
        })
    }

    /// Writes that a span was made, or, `again`, that there is one which the recording may have
    /// already. `level` is 1 for ERROR to 5 for TRACE.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one argument a field; the writer has no value")]
    pub fn span(
        &mut self,
        out: &mut [u8],
        stamp: Stamp,
        id: SpanId,
        parent: Option<SpanId>,
        again: bool,
        level: u8,
        name: &[u8],
        target: &[u8],
        fields: &[u8],
    ) -> Option<usize> {
        self.stamped(out, kind::SPAN, stamp, |out| {
            out.varint(id.0);
            out.varint(parent.map_or(0, |parent| parent.0));
            out.byte(if again { level | span::AGAIN } else { level });
            out.text(name);
            out.text(target);
            out.text(fields);
        })
    }

    /// Writes that the context's thread set fields of a span that was made before.
    #[must_use]
    pub fn span_fields(
        &mut self,
        out: &mut [u8],
        stamp: Stamp,
        span: SpanId,
        fields: &[u8],
    ) -> Option<usize> {
        self.stamped(out, kind::SPAN, stamp, |out| {
            out.varint(span.0);
            out.varint(0);
            out.byte(span::FIELDS);
            out.text(&[]);
            out.text(&[]);
            out.text(fields);
        })
    }

    /// Writes that the context's thread entered a span.
    #[must_use]
    pub fn span_enter(&mut self, out: &mut [u8], stamp: Stamp, span: SpanId) -> Option<usize> {
        self.stamped(out, kind::SPAN_ENTER, stamp, |out| out.varint(span.0))
    }

    /// Writes that the context's thread left a span, or with [`SpanId::EVERY`] all.
    #[must_use]
    pub fn span_exit(&mut self, out: &mut [u8], stamp: Stamp, span: SpanId) -> Option<usize> {
        self.stamped(out, kind::SPAN_EXIT, stamp, |out| out.varint(span.0))
    }

    /// Writes that a span closed.
    #[must_use]
    pub fn span_close(&mut self, out: &mut [u8], stamp: Stamp, span: SpanId) -> Option<usize> {
        self.stamped(out, kind::SPAN_CLOSE, stamp, |out| out.varint(span.0))
    }

    /// Writes a marker of the program.
    #[must_use]
    pub fn marker(&mut self, out: &mut [u8], stamp: Stamp, text: &[u8]) -> Option<usize> {
        self.stamped(out, kind::MARKER, stamp, |out| out.text(text))
    }

    /// Writes how much memory the process has resident.
    #[must_use]
    pub fn resident(&mut self, out: &mut [u8], stamp: Stamp, bytes: u64) -> Option<usize> {
        self.stamped(out, kind::RESIDENT, stamp, |out| out.varint(bytes))
    }

    /// Writes that `records` records of the context's thread could not be written.
    #[must_use]
    pub fn lost(&mut self, out: &mut [u8], records: u64) -> Option<usize> {
        extended(out, kind::LOST, |out| out.varint(records))
    }

    /// Writes the closing record: `events` heap events were recorded, at least.
    #[must_use]
    pub fn end(
        &mut self,
        out: &mut [u8],
        stamp: Stamp,
        reason: EndReason,
        events: u64,
    ) -> Option<usize> {
        self.stamped(out, kind::END, stamp, |out| {
            out.byte(end_reason_code(reason));
            out.varint(events);
        })
    }

    /// An extended record that begins with the difference from the previous stamp.
    fn stamped(
        &mut self,
        out: &mut [u8],
        kind: u8,
        stamp: Stamp,
        body: impl FnOnce(&mut Output<'_>),
    ) -> Option<usize> {
        let written = extended(out, kind, |out| {
            out.varint(stamp.wrapping_sub(self.stamp));
            body(out);
        })?;
        self.stamp = stamp;
        Some(written)
    }
}

/// The kind of an event in its first byte.
#[inline(always)]
const fn event_tag(kind: EventKind) -> u8 {
    kind as u8
}

/// Writes an extended record: the tag, its kind, its length in two bytes (a varint that is padded,
/// since the length is known only afterwards) and its body.
pub(crate) fn extended(
    out: &mut [u8],
    kind: u8,
    body: impl FnOnce(&mut Output<'_>),
) -> Option<usize> {
    const HEAD_BYTES: usize = 4;
    let (head, rest) = out.split_first_chunk_mut::<HEAD_BYTES>()?;
    let mut rest = Output::new(rest);
    body(&mut rest);
    let length = rest.finish()?;
    if length > 0x3fff {
        return None;
    }
    *head = [tag::EXTENDED, kind, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
    Some(HEAD_BYTES + length)
}

/// A place to write to, which remembers that it was too short.
pub(crate) struct Output<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Output<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.length += bytes.len();
    }

    /// A length and as many bytes; cut to [`MAX_TEXT_BYTES`].
    fn text(&mut self, text: &[u8]) {
        let text = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
        self.varint(text.len() as u64);
        self.bytes(text);
    }

    /// How many bytes were written; `None` where there was no room for some.
    #[inline]
    pub(crate) fn finish(self) -> Option<usize> {
        (self.length <= self.bytes.len()).then_some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;

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
