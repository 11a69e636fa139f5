//! Writes recordings with plain file operations: for tests, and for tools that convert or cut them.
//!
//! It is not what a recorded program runs: it allocates, and it knows each record before it writes.
//! What it writes is laid out as a recorder would: records go into the chunks of a window, one
//! chunk at a time for each stream, and a chunk that is full moves to the log behind the window.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::block::{BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};
use crate::chunk::{CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkState};
use crate::clock::{Anchor, Clock};
use crate::columns::pack::{HeapSpace, Packer};
use crate::encoder::Encoder;
use crate::header::{FILE_HEADER_BYTES, FileHeader};
use crate::record::{Context, Record, Stamp, ThreadId};
use crate::recording::MAX_CHUNK_BYTES;

/// How the window of a written recording is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many chunks it has, and so how many streams there can be.
    pub slots: u32,
    /// The length of each chunk, its header included.
    pub chunk_bytes: u32,
}

impl Default for Window {
    /// 64 chunks of 64 KiB.
    fn default() -> Self {
        Self { slots: 64, chunk_bytes: 64 << 10 }
    }
}

/// Writes a recording, record by record.
///
/// ```
/// use alloc_trace_format::{
///     Anchor, EndReason, FileHeader, Record, Recording, RecordingWriter, Window,
/// };
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("empty.trace");
/// let header = FileHeader::of_nanoseconds(1, 1_000);
/// let mut writer = RecordingWriter::create(&path, &header, Window::default())?;
/// writer.write(0, &Record::End { stamp: 2_000, reason: EndReason::Exited, events: 0 })?;
/// writer.finish(Some(Anchor { ticks: 2_000, monotonic_ns: 2_000 }))?;
/// assert_eq!(Recording::open(&path)?.clock().ns(2_000), 1_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RecordingWriter {
    file: File,
    /// The time that goes with a stamp, for the contexts.
    clock: Clock,
    start: Anchor,
    window: Window,
    /// Where the window's first chunk begins.
    window_offset: u64,
    /// Where the next block of the log begins.
    log_offset: u64,
    /// What packs the log's chunks, if they are packed.
    packing: Option<Packing>,
    streams: Vec<Option<Stream>>,
}

/// What packs chunks.
struct Packing {
    packer: Box<Packer>,
    space: HeapSpace,
    compressor: zstd_safe::CCtx<'static>,
    level: i32,
    output: Vec<u8>,
}

impl std::fmt::Debug for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packing").field("level", &self.level).finish_non_exhaustive()
    }
}

/// One stream's present chunk.
#[derive(Debug)]
struct Stream {
    encoder: Encoder,
    thread: ThreadId,
    sequence: u32,
    /// A whole chunk's room, of which the first `length` bytes are written.
    payload: Vec<u8>,
    length: usize,
    events: u32,
    first_stamp: Option<Stamp>,
}

impl RecordingWriter {
    /// Creates the file, replacing what was there, and writes its header and an empty window.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written, or where the window's chunks are longer than a reader
    /// takes or too short for any record.
    pub fn create(path: &Path, header: &FileHeader, window: Window) -> io::Result<Self> {
        const SHORTEST_BYTES: u32 = 256;
        if !(SHORTEST_BYTES..=MAX_CHUNK_BYTES).contains(&window.chunk_bytes) {
            let bounds = format!("a chunk takes {SHORTEST_BYTES} to {MAX_CHUNK_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, bounds));
        }
        let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
        let window_bytes = u64::from(window.slots) * u64::from(window.chunk_bytes);
        let extent = BlockHeader {
            stored_bytes: window_bytes,
            raw_bytes: window.chunk_bytes,
            sequence: window.slots,
            ..BlockHeader::empty(BlockKind::Extent)
        };
        let extent_offset = FILE_HEADER_BYTES as u64;
        file.write_all(&header.encode())?;
        file.seek(SeekFrom::Start(extent_offset))?;
        file.write_all(&extent.encode())?;
        let log_offset = extent_offset + extent.span_bytes();
        file.set_len(log_offset)?;
        Ok(Self {
            file,
            clock: Clock::new(header.start, header.ready),
            start: header.start,
            window,
            window_offset: extent_offset + BLOCK_HEADER_BYTES as u64,
            log_offset,
            packing: None,
            streams: (0..window.slots).map(|_| None).collect(),
        })
    }

    /// Writes a record to a stream. The stream's first record, and each of another thread than the
    /// one before, is preceded by a context.
    ///
    /// Records without a thread are taken for the thread whose records came before. The file shows
    /// what was written when a chunk is full, and after [`RecordingWriter::flush`].
    ///
    /// # Errors
    ///
    /// Where there is no such stream, where the record cannot be encoded (it is
    /// [`Record::Unknown`], or longer than a chunk), or where the file cannot be written.
    pub fn write(&mut self, stream: u32, record: &Record) -> io::Result<()> {
        let slots = self.window.slots;
        let no_stream = || {
            let message = format!("stream {stream} of a window with {slots} chunks");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let room = self.room();
        let slot = self.streams.get_mut(stream as usize).ok_or_else(no_stream)?;
        let mut current = slot.take().unwrap_or_else(|| Stream::new(room));
        let result = self.append(stream, &mut current, record);
        if let Some(slot) = self.streams.get_mut(stream as usize) {
            *slot = Some(current);
        }
        result
    }

    /// Packs the chunks that go to the log from now on, as a recorder does: into columns that are
    /// compressed at a level of zstd's.
    pub fn pack_chunks(&mut self, level: i32) {
        self.packing = Some(Packing {
            packer: Box::default(),
            space: HeapSpace::default(),
            compressor: zstd_safe::CCtx::create(),
            level,
            output: Vec::new(),
        });
    }

    /// Writes the chunks that are not full to the window, as they would be found in the file of a
    /// process that is running or was killed now.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        for (slot, stream) in (0u64..).zip(&self.streams) {
            let Some(stream) = stream else { continue };
            let state =
                ChunkState { sequence: stream.sequence, committed_bytes: stream.length as u32 };
            let mut chunk = [0; CHUNK_HEADER_BYTES].to_vec();
            chunk[..4].copy_from_slice(&CHUNK_MAGIC.to_le_bytes());
            chunk[ChunkHeader::STREAM_OFFSET..][..4].copy_from_slice(&(slot as u32).to_le_bytes());
            chunk[ChunkHeader::STATE_OFFSET..][..8].copy_from_slice(&state.to_bits().to_le_bytes());
            chunk.extend_from_slice(stream.written());
            let offset = self.window_offset + slot * u64::from(self.window.chunk_bytes);
            self.file.seek(SeekFrom::Start(offset))?;
            self.file.write_all(&chunk)?;
        }
        Ok(())
    }

    /// Moves a stream's chunk to the log although it is not full.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn drain(&mut self, stream: u32) -> io::Result<()> {
        let Some(slot) = self.streams.get_mut(stream as usize) else { return Ok(()) };
        let Some(mut current) = slot.take() else { return Ok(()) };
        let result = self.log(stream, &mut current);
        if let Some(slot) = self.streams.get_mut(stream as usize) {
            *slot = Some(current);
        }
        result
    }

    /// Writes what is left to the window and, in a recording that was closed, the closing reading
    /// of the clock.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn finish(mut self, end: Option<Anchor>) -> io::Result<()> {
        self.flush()?;
        if let Some(end) = end {
            let (offset, bytes) = FileHeader::encode_end(end);
            self.file.seek(SeekFrom::Start(offset))?;
            self.file.write_all(&bytes)?;
        }
        self.file.flush()
    }

    /// How many bytes of records a chunk takes.
    const fn room(&self) -> usize {
        self.window.chunk_bytes as usize - CHUNK_HEADER_BYTES
    }

    /// Appends the record, in the next chunk where it does not fit the present one.
    fn append(&mut self, number: u32, stream: &mut Stream, record: &Record) -> io::Result<()> {
        if matches!(record, Record::Unknown { .. }) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record of unknown kind"));
        }
        // No chunk holds what began before its last record, or at its moment where that is another thread's:
        // readers merge on that.
        let last = stream.encoder.last_stamp();
        let is_same_thread = thread(record).is_none_or(|thread| thread == stream.thread);
        let in_order = stream.length == 0
            || record.stamp().is_none_or(|stamp| stamp > last || stamp == last && is_same_thread);
        if in_order && self.try_append(stream, record) {
            return Ok(());
        }
        self.log(number, stream)?;
        if self.try_append(stream, record) {
            return Ok(());
        }
        let message = format!("a record longer than a chunk's {} bytes", self.room());
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Appends the record if it fits; else the stream is as before.
    fn try_append(&self, stream: &mut Stream, record: &Record) -> bool {
        let saved = (stream.encoder.clone(), stream.thread, stream.first_stamp);
        match self.encode(stream, stream.length, record) {
            Some(length) => {
                stream.length = length;
                stream.events += u32::from(matches!(record, Record::Event(_)));
                true
            }
            None => {
                (stream.encoder, stream.thread, stream.first_stamp) = saved;
                false
            }
        }
    }

    /// Encodes the record and the context that it needs; answers the payload's new length.
    fn encode(&self, stream: &mut Stream, mut length: usize, record: &Record) -> Option<usize> {
        let thread = thread(record).unwrap_or(stream.thread);
        let explicit = matches!(record, Record::Context(_));
        if (length == 0 || thread != stream.thread) && !explicit {
            let last = stream.encoder.last_stamp();
            let stamp = record.stamp().unwrap_or(last);
            // A chunk that begins before the one before it ended does not follow it.
            let is_apart = length == 0 && thread != stream.thread && stamp == last;
            let context = self.context(thread, stamp.saturating_sub(Stamp::from(is_apart)));
            length += stream.encoder.context(stream.payload.get_mut(length..)?, &context)?;
            if stream.first_stamp.is_none() {
                stream.first_stamp = Some(context.stamp);
            }
            stream.thread = thread;
        }
        if let Record::Context(context) = record {
            stream.thread = context.thread;
            if length == 0 {
                stream.first_stamp = Some(context.stamp);
            }
        }
        let out = stream.payload.get_mut(length..)?;
        Some(length + stream.encoder.record(out, record)?)
    }

    fn context(&self, thread: ThreadId, stamp: Stamp) -> Context {
        let monotonic_ns = self.start.monotonic_ns + self.clock.ns(stamp);
        Context { thread, stamp, anchor: Anchor { ticks: stamp, monotonic_ns } }
    }

    /// Appends the stream's chunk to the log and begins its next one.
    fn log(&mut self, number: u32, stream: &mut Stream) -> io::Result<()> {
        let header = BlockHeader {
            raw_bytes: stream.length as u32,
            stream: number,
            sequence: stream.sequence,
            events: stream.events,
            first_stamp: stream.first_stamp.unwrap_or_default(),
            last_stamp: stream.encoder.last_stamp(),
            ..BlockHeader::empty(BlockKind::Chunk)
        };
        let packed = self.packing.as_mut().and_then(|packing| packing.pack(stream.written()));
        let (codec, payload) = match packed {
            Some(packed) => (Codec::Columns, packed),
            None => (Codec::Plain, stream.written()),
        };
        let header = BlockHeader { codec, stored_bytes: payload.len() as u64, ..header }
            .with_checksum(payload);
        self.file.seek(SeekFrom::Start(self.log_offset))?;
        self.file.write_all(&header.encode())?;
        self.file.write_all(payload)?;
        self.log_offset += header.span_bytes();
        debug_assert_eq!(self.log_offset % BLOCK_ALIGN_BYTES, 0);
        // Stamps count on from the last chunk's, for records that carry none.
        let context = self.context(stream.thread, stream.encoder.last_stamp());
        let mut scratch = [0; CHUNK_HEADER_BYTES];
        let _ = stream.encoder.context(&mut scratch, &context);
        stream.sequence += 1;
        stream.length = 0;
        stream.events = 0;
        stream.first_stamp = None;
        Ok(())
    }
}

impl Packing {
    /// The packed payload, where it is shorter.
    fn pack(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.output.resize(payload.len(), 0);
        let (compressor, level) = (&mut self.compressor, self.level);
        let packed =
            self.packer.pack(self.space.lend(), payload, &mut self.output, |_, column, out| {
                compressor.compress(out, column, level).ok()
            })?;
        self.output.get(..packed)
    }
}

impl Stream {
    fn new(room: usize) -> Self {
        Self {
            encoder: Encoder::new(),
            thread: ThreadId::default(),
            sequence: 0,
            payload: vec![0; room],
            length: 0,
            events: 0,
            first_stamp: None,
        }
    }

    fn written(&self) -> &[u8] {
        self.payload.get(..self.length).unwrap_or_default()
    }
}

/// The thread whose context a record stands in, where that is decided by the record.
const fn thread(record: &Record) -> Option<ThreadId> {
    match record {
        Record::Event(event) => Some(event.thread),
        Record::Context(context) => Some(context.thread),
        Record::ThreadStart(start) => Some(start.thread),
        Record::ThreadExit { thread, .. }
        | Record::SpanFields { thread, .. }
        | Record::SpanEnter { thread, .. }
        | Record::SpanExit { thread, .. }
        | Record::Marker { thread, .. }
        | Record::Lost { thread, .. } => Some(*thread),
        _ => None,
    }
}

impl Encoder {
    /// Writes any record by the method that is made for its kind.
    ///
    /// It allocates for some of them, unlike those. `None` for [`Record::Unknown`] too, which has
    /// no encoding.
    #[must_use]
    pub fn record(&mut self, out: &mut [u8], record: &Record) -> Option<usize> {
        let encoder = self;
        match record {
            Record::Event(event) => encoder.event(out, event),
            Record::Context(context) => encoder.context(out, context),
            Record::Node(node) => encoder.node(out, node),
            Record::ThreadStart(start) => encoder.thread_start(
                out,
                start.thread,
                start.os_thread,
                start.internal,
                start.stamp,
                start.name.as_bytes(),
            ),
            Record::ThreadName { thread, name } => {
                encoder.thread_name(out, *thread, name.as_bytes())
            }
            Record::ThreadExit { stamp, .. } => encoder.thread_exit(out, *stamp),
            Record::Module(module) => encoder.module(
                out,
                module.stamp,
                module.bias,
                module.start,
                module.end,
                &module.build_id,
                module.path.as_bytes(),
            ),
            Record::ModuleUnload(unload) => {
                encoder.module_unload(out, unload.start, unload.end, unload.first_node)
            }
            Record::Span(span) => encoder.span(
                out,
                span.stamp,
                span.id,
                span.parent,
                span.again,
                span.level,
                span.name.as_bytes(),
                span.target.as_bytes(),
                span.fields.as_bytes(),
            ),
            Record::SpanFields { stamp, span, fields, .. } => {
                encoder.span_fields(out, *stamp, *span, fields.as_bytes())
            }
            Record::SpanEnter { stamp, span, .. } => encoder.span_enter(out, *stamp, *span),
            Record::SpanExit { stamp, span, .. } => encoder.span_exit(out, *stamp, *span),
            Record::SpanClose { stamp, span } => encoder.span_close(out, *stamp, *span),
            Record::Marker { stamp, text, .. } => encoder.marker(out, *stamp, text.as_bytes()),
            Record::Process(process) => {
                let mut arguments = String::new();
                for argument in &process.arguments {
                    arguments.push_str(argument);
                    arguments.push('\0');
                }
                encoder.process(
                    out,
                    process.pid,
                    process.parent_pid,
                    process.executable.as_bytes(),
                    arguments.as_bytes(),
                )
            }
            Record::Resident { stamp, bytes } => encoder.resident(out, *stamp, *bytes),
            Record::HeapSnapshot(snapshot) => encoder.heap_snapshot(
                out,
                snapshot.reason,
                &snapshot.figures,
                snapshot.classes.iter().copied(),
            ),
            Record::Lost { records, .. } => encoder.lost(out, *records),
            Record::End { stamp, reason, events } => encoder.end(out, *stamp, *reason, *events),
            Record::Unknown { .. } => None,
        }
    }
}
