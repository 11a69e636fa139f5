//! Extended records: all that are neither heap events nor nodes. They are seldom, and say how long they are.

use super::Encoder;
use crate::output::Output;
use crate::record::{
    Context, EndReason, NodeId, SpanId, Stamp, ThreadId, end_reason_code, kind, span, tag,
};

impl Encoder {
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
