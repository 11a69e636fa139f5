//! Extended records: all that are neither heap events nor nodes. Each says how long it is, so that a reader
//! passes over what it does not know.

use super::{DecodeState, Row};
use crate::clock::Anchor;
use crate::heap_snapshot::HeapSnapshot;
use crate::input::{Fault, Input};
use crate::record::{
    Context, Module, ModuleUnload, NodeId, Process, Record, Span, SpanId, Stamp, ThreadId,
    ThreadStart, end_reason, kind, span,
};

impl DecodeState {
    /// Passes over an extended record.
    pub(super) fn pass_extended(&mut self, input: &mut Input<'_>) -> Result<Row, Fault> {
        let kind = input.varint("a record's kind")?;
        let length = input.varint("a record's length")?;
        let length = usize::try_from(length).map_err(|_| Fault::truncated("a record's body"))?;
        let mut body = Input::at(input.take(length, "a record's body")?, 0);
        let kind = u8::try_from(kind).unwrap_or(0);
        if kind == kind::CONTEXT {
            let thread = ThreadId(body.u32("a thread")?);
            *self = Self { thread, stamp: body.fixed("a stamp")?, placed: true, ..Self::START };
            return Ok(Row::Context);
        }
        if !self.placed {
            return Err(Fault::corrupt("a context, which begins every chunk"));
        }
        if kind::is_stamped(kind) {
            self.advance(&mut body)?;
        }
        Ok(Row::Other)
    }

    /// Decodes an extended record behind its tag.
    pub(super) fn extended(&mut self, input: &mut Input<'_>) -> Result<Record, Fault> {
        let kind = input.varint("a record's kind")?;
        let length = input.varint("a record's length")?;
        let length = usize::try_from(length).map_err(|_| Fault::truncated("a record's body"))?;
        let mut body = Input::at(input.take(length, "a record's body")?, 0);
        if !self.placed && kind != u64::from(kind::CONTEXT) {
            return Err(Fault::corrupt("a context, which begins every chunk"));
        }
        let record = self.body(kind, &mut body);
        // The body is whole: a field that ends too early in it is a contradiction, not a cut.
        record.map_err(Fault::within)
    }

    fn body(&mut self, kind: u64, body: &mut Input<'_>) -> Result<Record, Fault> {
        let Ok(kind) = u8::try_from(kind) else {
            return Ok(Record::Unknown { kind });
        };
        Ok(match kind {
            kind::CONTEXT => {
                let thread = ThreadId(body.u32("a thread")?);
                let stamp = body.fixed("a stamp")?;
                let anchor =
                    Anchor { ticks: body.fixed("a stamp")?, monotonic_ns: body.fixed("a time")? };
                *self = Self { thread, stamp, placed: true, ..Self::START };
                Record::Context(Context { thread, stamp, anchor })
            }
            kind::PROCESS => Record::Process(Box::new(Process {
                pid: body.u32("a process id")?,
                parent_pid: body.u32("a process id")?,
                executable: body.text("a path")?,
                arguments: body.text("arguments")?.split_terminator('\0').map(Box::from).collect(),
            })),
            kind::THREAD_START => {
                let stamp = self.advance(body)?;
                Record::ThreadStart(ThreadStart {
                    stamp,
                    thread: ThreadId(body.u32("a thread")?),
                    os_thread: body.u32("a thread")?,
                    internal: body.byte("a flag")? != 0,
                    name: body.text("a name")?,
                })
            }
            kind::THREAD_NAME => Record::ThreadName {
                thread: ThreadId(body.u32("a thread")?),
                name: body.text("a name")?,
            },
            kind::THREAD_EXIT => {
                Record::ThreadExit { stamp: self.advance(body)?, thread: self.thread }
            }
            kind::MODULE => Record::Module(Box::new(Module {
                stamp: self.advance(body)?,
                bias: body.varint("a load bias")?,
                start: body.varint("an address")?,
                end: body.varint("an address")?,
                build_id: body.bytes("a build id")?.into(),
                path: body.text("a path")?,
            })),
            kind::MODULE_UNLOAD => Record::ModuleUnload(ModuleUnload {
                stamp: self.stamp,
                start: body.varint("an address")?,
                end: body.varint("an address")?,
                first_node: NodeId(body.u32("a call-tree node")?),
            }),
            kind::SPAN => {
                let stamp = self.advance(body)?;
                let id = SpanId(body.varint("a span")?);
                let parent = body.varint("a span")?;
                let level = body.byte("a level")?;
                let (name, target) = (body.text("a name")?, body.text("a target")?);
                let fields = body.text("fields")?;
                if level == span::FIELDS {
                    Record::SpanFields { stamp, thread: self.thread, span: id, fields }
                } else {
                    Record::Span(Box::new(Span {
                        id,
                        stamp,
                        parent: (parent != 0).then_some(SpanId(parent)),
                        again: level & span::AGAIN != 0,
                        level: level & !span::AGAIN,
                        name,
                        target,
                        fields,
                    }))
                }
            }
            kind::SPAN_ENTER => Record::SpanEnter {
                stamp: self.advance(body)?,
                thread: self.thread,
                span: SpanId(body.varint("a span")?),
            },
            kind::SPAN_EXIT => Record::SpanExit {
                stamp: self.advance(body)?,
                thread: self.thread,
                span: SpanId(body.varint("a span")?),
            },
            kind::SPAN_CLOSE => Record::SpanClose {
                stamp: self.advance(body)?,
                span: SpanId(body.varint("a span")?),
            },
            kind::MARKER => Record::Marker {
                stamp: self.advance(body)?,
                thread: self.thread,
                text: body.text("a marker")?,
            },
            kind::RESIDENT => Record::Resident {
                stamp: self.advance(body)?,
                bytes: body.varint("a number of bytes")?,
            },
            kind::HEAP_SNAPSHOT | kind::HEAP_SNAPSHOT_WITHOUT_FILL => {
                let with_fill = kind == kind::HEAP_SNAPSHOT;
                let snapshot = HeapSnapshot::decode(self.stamp, body, with_fill)?;
                Record::HeapSnapshot(Box::new(snapshot))
            }
            kind::LOST => {
                Record::Lost { thread: self.thread, records: body.varint("a number of records")? }
            }
            kind::END => Record::End {
                stamp: self.advance(body)?,
                reason: end_reason(body.byte("a reason")?),
                events: body.varint("a number of events")?,
            },
            other => Record::Unknown { kind: u64::from(other) },
        })
    }

    /// Reads the difference from the previous stamp.
    #[inline]
    fn advance(&mut self, input: &mut Input<'_>) -> Result<Stamp, Fault> {
        self.stamp = self
            .stamp
            .checked_add(input.varint("a stamp")?)
            .ok_or(Fault::corrupt("a stamp below 2^64"))?;
        Ok(self.stamp)
    }
}
