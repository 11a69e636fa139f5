//! A recording opened for reading: its header, and where each chunk of each stream lies.
//!
//! Opening reads the window (which is small) and the headers of the log's blocks, never their
//! payloads: memory grows with the number of chunks, not with events.

use std::cmp::Reverse;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::block::{BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};
use crate::carried::{Carried, CheckpointBlock};
use crate::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::clock::{Anchor, Clock};
use crate::decoder::Decoder;
use crate::definitions::Definitions;
use crate::error::ReadError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, HeaderError};
use crate::merged::Merged;
use crate::payload::PayloadReader;
use crate::read_progress::ReadProgress;
use crate::record::{ExitStatus, Record, Stamp};
use crate::ring::Commit;

/// No chunk's payload is longer once decoded: a length beyond it is a lie.
pub(crate) const MAX_CHUNK_BYTES: u32 = 16 << 20;

/// A part of a recording that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes were passed over, as far as that is known.
    pub bytes: u64,
    /// What should have stood there.
    pub expected: String,
    /// Whether the file merely ends too early, rather than contradicting itself.
    pub truncated: bool,
}

impl Skipped {
    /// Counts no byte that a file of this length does not have: headers that are damaged promise any.
    pub fn keep_within(&mut self, file_bytes: u64) {
        self.offset = self.offset.min(file_bytes);
        self.bytes = self.bytes.min(file_bytes - self.offset);
    }
}

/// A recording opened for reading.
///
/// ```no_run
/// use alloc_trace_format::{Record, Recording};
///
/// let recording = Recording::open("app.trace".as_ref())?;
/// let mut merged = recording.merged();
/// let mut frees = 0;
/// while let Some(record) = merged.next_record()? {
///     if let Record::Event(event) = record {
///         frees += u64::from(event.kind == alloc_trace_format::EventKind::Free);
///     }
/// }
/// println!("{frees} frees");
/// # Ok::<(), alloc_trace_format::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Recording {
    path: Arc<Path>,
    header: FileHeader,
    clock: Clock,
    chunks: Vec<Chunk>,
    skipped: Vec<Skipped>,
    exit_status: Option<ExitStatus>,
    file: Arc<File>,
    file_bytes: u64,
    progress: Arc<ReadProgress>,
    /// Of a ring that was written over: where what is known begins.
    horizon: Option<Stamp>,
    carried: Carried,
}

/// How often a ring is read again that is being written over meanwhile.
const ATTEMPTS: usize = 8;

/// Where one chunk's payload is.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) stream: u32,
    pub(crate) sequence: u32,
    /// Where the payload begins in the file.
    pub(crate) offset: u64,
    /// The earliest time in it.
    pub(crate) first_stamp: Stamp,
    pub(crate) payload: Payload,
}

#[derive(Debug)]
pub(crate) enum Payload {
    /// In the log, to be read when it is needed.
    Logged { header: BlockHeader },
    /// In the window, read when the recording was opened.
    Windowed { bytes: Box<[u8]> },
}

impl Chunk {
    const fn is_logged(&self) -> bool {
        matches!(self.payload, Payload::Logged { .. })
    }

    /// The last stamp in it; `None` for one in the window, whose header does not say.
    pub(crate) const fn last_stamp(&self) -> Option<Stamp> {
        match &self.payload {
            Payload::Logged { header } => Some(header.last_stamp),
            Payload::Windowed { .. } => None,
        }
    }

    /// The number of the codec that it is packed by, if this reader does not know it.
    const fn unknown_codec(&self) -> Option<u8> {
        match &self.payload {
            Payload::Logged { header: BlockHeader { codec: Codec::Other(found), .. } } => {
                Some(*found)
            }
            _ => None,
        }
    }

    /// Whether this is the window's whole copy of a chunk that the log has only in part.
    fn makes_up_for(&self, logged: &BlockHeader) -> bool {
        let same = self.stream == logged.stream && self.sequence == logged.sequence;
        same && !self.is_logged() && self.payload_bytes() >= u64::from(logged.raw_bytes)
    }

    /// The length of the records, decoded.
    const fn payload_bytes(&self) -> u64 {
        match &self.payload {
            Payload::Logged { header } => header.raw_bytes as u64,
            Payload::Windowed { bytes } => bytes.len() as u64,
        }
    }
}

impl Recording {
    /// Opens a recording, finished or still being written.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, is no recording, is of a later version, has chunks of a codec
    /// that this reader does not know, or ends or contradicts itself within its header. Damage behind
    /// the header is no error: it is passed over and listed by [`Recording::skipped`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |attempt: &str, source| ReadError::io(path, attempt, source);
        let metadata = std::fs::metadata(path).map_err(|error| io("open", error))?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(|error| io("open", error))?;
        let header = read_header(&mut file, path)?;
        let mut commit = last_commit(&mut file, path)?;
        let mut attempts = 0;
        let scan = loop {
            let mut scan = Scan::new(path, &mut file, metadata.len(), Rings::Since(commit));
            // The window first: a chunk that moves to the log meanwhile is then found twice, not never.
            scan.run()?;
            let now = last_commit(scan.file, path)?;
            attempts += 1;
            if now == commit || attempts == ATTEMPTS {
                break scan;
            }
            // A part was written over while it was read.
            commit = now;
        };
        let Scan { mut chunks, mut skipped, exit_status, last_anchor, cut_chunk, .. } = scan;
        let blocks = scan.checkpoint;
        if let Some(found) = chunks.iter().find_map(Chunk::unknown_codec) {
            // Its header's checksum was right: this is no damage, and no other command would do better.
            return Err(ReadError::UnsupportedCodec { path: path.to_owned(), found });
        }
        if let Some((index, cut)) = cut_chunk
            && chunks.iter().any(|chunk| chunk.makes_up_for(&cut))
        {
            // It was being moved to the log when the process died: nothing is missing.
            skipped.remove(index);
        }
        // A chunk that stands in the window and in the log was being moved when the process died or
        // when the file was read: the window's copy is whole, unless records were added since.
        chunks.sort_by_key(|chunk| {
            (chunk.stream, chunk.sequence, Reverse(chunk.payload_bytes()), chunk.is_logged())
        });
        chunks.dedup_by_key(|chunk| (chunk.stream, chunk.sequence));
        note_gaps(&chunks, commit.is_some(), &mut skipped);
        skipped.iter_mut().for_each(|skip| skip.keep_within(metadata.len()));
        let furthest = [Some(header.ready), last_anchor, header.end]
            .into_iter()
            .flatten()
            .max_by_key(|anchor| anchor.ticks)
            .unwrap_or(header.ready);
        let clock = Clock::new(header.start, furthest);
        let (path, file): (Arc<Path>, _) = (Arc::from(path), Arc::new(file));
        let mut carried = Carried::default();
        if let Some(commit) = commit {
            if blocks.len() != commit.blocks as usize {
                skipped.push(Skipped {
                    offset: FILE_HEADER_BYTES as u64,
                    bytes: 0,
                    expected: format!(
                        "{} blocks of checkpoint {}, found {}",
                        commit.blocks,
                        commit.number,
                        blocks.len()
                    ),
                    truncated: false,
                });
            }
            let mut reader =
                PayloadReader::new(Arc::clone(&file), Arc::clone(&path), Arc::default());
            let Commit { horizon, .. } = commit;
            let start = header.start;
            carried = Carried::gather(&blocks, &chunks, horizon, start, &mut reader, &mut skipped)?;
        }
        skipped.sort_by_key(|skip| skip.offset);
        let horizon = commit.map(|commit| commit.horizon);
        let (file_bytes, progress) = (metadata.len(), Arc::default());
        Ok(Self {
            path,
            header,
            clock,
            chunks,
            skipped,
            exit_status,
            file,
            file_bytes,
            progress,
            horizon,
            carried,
        })
    }

    /// Where what is known begins, in a recording that keeps its last part and has written over an
    /// earlier one; `None` where the recording has everything.
    ///
    /// Of what was before only the blocks are known that were live then: each is given as the request
    /// that obtained it, at its own time, with its call site and thread. All later events are there.
    #[must_use]
    pub const fn horizon(&self) -> Option<Stamp> {
        self.horizon
    }

    pub(crate) const fn carried(&self) -> &Carried {
        &self.carried
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long the file was when it was opened.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How far it has been read.
    #[must_use]
    pub const fn progress(&self) -> &Arc<ReadProgress> {
        &self.progress
    }

    /// How many bytes of chunks its log promises: what [`ReadProgress::bytes`] comes to in a pass.
    #[must_use]
    pub fn logged_bytes(&self) -> u64 {
        self.logged().fold(0, |sum, (_, _, header)| sum.saturating_add(header.stored_bytes))
    }

    /// The header of the file.
    #[must_use]
    pub const fn header(&self) -> &FileHeader {
        &self.header
    }

    /// From stamps to nanoseconds.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What was passed over when the recording was opened; [`Merged::skipped`] tells of the rest.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How the process ended, where whoever waited for it appended that.
    #[must_use]
    pub const fn exit_status(&self) -> Option<ExitStatus> {
        self.exit_status
    }

    /// How many heap events the log's chunk headers promise; those in the window are not counted.
    #[must_use]
    pub fn logged_events(&self) -> u64 {
        let events = |chunk: &Chunk| match &chunk.payload {
            Payload::Logged { header } => u64::from(header.events),
            Payload::Windowed { .. } => 0,
        };
        self.chunks.iter().map(events).sum()
    }

    /// How many heap events the recording holds: those in the log by their chunks' headers, those in
    /// the window counted. A log that is damaged behind its headers holds fewer.
    #[must_use]
    pub fn events(&self) -> u64 {
        let in_window = |chunk: &Chunk| match &chunk.payload {
            Payload::Logged { .. } => 0,
            Payload::Windowed { bytes } => {
                let mut decoder = Decoder::new(bytes);
                let mut events = 0;
                while let Ok(Some(record)) = decoder.next_record() {
                    events += u64::from(matches!(record, Record::Event(_)));
                }
                events
            }
        };
        let held = self.carried.events.len() as u64;
        self.logged_events() + self.chunks.iter().map(in_window).sum::<u64>() + held
    }

    /// All records of all streams, merged by time.
    #[must_use]
    pub fn merged(&self) -> Merged<'_> {
        self.progress.begin();
        Merged::new(self)
    }

    /// All records but the heap events, stream by stream.
    #[must_use]
    pub fn definitions(&self) -> Definitions<'_> {
        self.progress.begin();
        Definitions::new(self)
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks of the log: the index of each, where its payload is, and its header.
    pub(crate) fn logged(&self) -> impl Iterator<Item = (usize, u64, BlockHeader)> {
        self.chunks.iter().enumerate().filter_map(|(index, chunk)| match chunk.payload {
            Payload::Logged { header } => Some((index, chunk.offset, header)),
            Payload::Windowed { .. } => None,
        })
    }

    /// What reads the chunks' payloads.
    pub(crate) fn reader(&self) -> PayloadReader {
        let (file, path) = (Arc::clone(&self.file), Arc::clone(&self.path));
        PayloadReader::new(file, path, Arc::clone(&self.progress))
    }
}

/// Appends how the recorded process ended, as its parent learnt it.
///
/// # Errors
///
/// Where the file is no recording or cannot be written.
pub fn append_exit_status(path: &Path, status: ExitStatus) -> Result<(), ReadError> {
    let io = |attempt: &str, source| ReadError::io(path, attempt, source);
    let mut file =
        OpenOptions::new().read(true).write(true).open(path).map_err(|error| io("open", error))?;
    read_header(&mut file, path)?;
    let end = file.metadata().map_err(|error| io("examine", error))?.len();
    // Behind the last block's stated end: a process that was killed can leave that block cut short,
    // and whatever lay within its length would not be found.
    let mut scan = Scan::new(path, &mut file, end, Rings::PassedOver);
    scan.run()?;
    let stated_end = scan.stated_end;
    // A ring that was not filled ends behind the end of the file, however long it is.
    let plausible = scan.in_ring || stated_end.saturating_sub(end) <= u64::from(MAX_CHUNK_BYTES);
    let place = if plausible { end.max(stated_end) } else { end };
    let place = place.next_multiple_of(BLOCK_ALIGN_BYTES);
    let (kind, value) = match status {
        ExitStatus::Code(code) => (0u32, code),
        ExitStatus::Signal(signal) => (1, signal),
    };
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&kind.to_le_bytes());
    payload[4..].copy_from_slice(&value.to_le_bytes());
    let header = BlockHeader {
        stored_bytes: payload.len() as u64,
        raw_bytes: payload.len() as u32,
        ..BlockHeader::empty(BlockKind::ExitStatus)
    }
    .with_checksum(&payload);
    let block = [&header.encode()[..], &payload].concat();
    file.seek(SeekFrom::Start(place)).map_err(|error| io("seek", error))?;
    file.write_all(&block).map_err(|error| io("append", error))
}

/// Whether an extent's chunks have a length that chunks can have, and fit the extent: what a reader
/// sets aside for them is then bounded by the file.
pub(crate) fn is_sound_extent(header: &BlockHeader) -> bool {
    let chunk_bytes = u64::from(header.raw_bytes);
    header.raw_bytes <= MAX_CHUNK_BYTES
        && chunk_bytes > CHUNK_HEADER_BYTES as u64
        && u64::from(header.sequence) * chunk_bytes <= header.stored_bytes
}

fn decode_exit_status(payload: &[u8]) -> Option<ExitStatus> {
    let payload: &[u8; 8] = payload.first_chunk()?;
    let (kind, value) = payload.split_first_chunk::<4>()?;
    let value = i32::from_le_bytes(*value.first_chunk()?);
    match u32::from_le_bytes(*kind) {
        0 => Some(ExitStatus::Code(value)),
        1 => Some(ExitStatus::Signal(value)),
        _ => None,
    }
}

/// Reads and decodes the header of the file.
pub(crate) fn read_header(file: &mut File, path: &Path) -> Result<FileHeader, ReadError> {
    let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
    file.take(FILE_HEADER_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| ReadError::io(path, "read the file header", error))?;
    let path = path.to_owned();
    let truncated = |expected| ReadError::Truncated {
        path: path.clone(),
        offset: bytes.len() as u64,
        expected,
    };
    let header = FileHeader::decode(&bytes).map_err(|error| match error {
        HeaderError::NotARecording => ReadError::NotARecording { path: path.clone() },
        HeaderError::UnsupportedVersion { found } => {
            ReadError::UnsupportedVersion { path: path.clone(), found }
        }
        HeaderError::Truncated { expected } => truncated(expected),
        HeaderError::Corrupt { offset, expected } => {
            ReadError::Corrupt { path: path.clone(), offset, expected }
        }
    })?;
    if bytes.len() < FILE_HEADER_BYTES {
        return Err(truncated("the file header"));
    }
    Ok(header)
}

/// The last commit of a ring, if the file has one.
fn last_commit(file: &mut File, path: &Path) -> Result<Option<Commit>, ReadError> {
    let mut read = || {
        let mut bytes = Vec::with_capacity(512);
        file.seek(SeekFrom::Start(0))?;
        file.take(512).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| ReadError::io(path, "read the file header", error))?;
    Ok(Commit::last(&bytes))
}

/// What is read of a ring.
#[derive(Debug, Clone, Copy)]
enum Rings {
    /// What counts by its last commit.
    Since(Option<Commit>),
    /// Nothing.
    PassedOver,
}

/// One pass over the blocks of the file.
struct Scan<'a> {
    path: &'a Path,
    file: &'a mut File,
    file_bytes: u64,
    chunks: Vec<Chunk>,
    skipped: Vec<Skipped>,
    exit_status: Option<ExitStatus>,
    last_anchor: Option<Anchor>,
    /// Where the last block ends by its own statement, which may be behind the end of the file.
    stated_end: u64,
    /// The chunk that the file ends in, and which of `skipped` says so.
    cut_chunk: Option<(usize, BlockHeader)>,
    rings: Rings,
    /// Whether the last block was a ring.
    in_ring: bool,
    checkpoint: Vec<CheckpointBlock>,
}

impl<'a> Scan<'a> {
    fn new(path: &'a Path, file: &'a mut File, file_bytes: u64, rings: Rings) -> Self {
        Self {
            path,
            file,
            file_bytes,
            chunks: Vec::new(),
            skipped: Vec::new(),
            exit_status: None,
            last_anchor: None,
            stated_end: 0,
            cut_chunk: None,
            rings,
            in_ring: false,
            checkpoint: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), ReadError> {
        let mut offset = FILE_HEADER_BYTES as u64;
        loop {
            if offset >= self.file_bytes && !self.has_grown()? {
                return Ok(());
            }
            let bytes = self.read_at(offset, BLOCK_HEADER_BYTES)?;
            let Some(header) = BlockHeader::decode(&bytes) else {
                let next = self.next_block(offset)?;
                self.note_hole(offset, next.unwrap_or(self.file_bytes), next.is_none())?;
                offset = next.unwrap_or(self.file_bytes);
                continue;
            };
            let payload = offset + BLOCK_HEADER_BYTES as u64;
            match header.kind {
                BlockKind::Extent => self.extent(payload, &header)?,
                BlockKind::Chunk => self.chunk(payload, header),
                BlockKind::ExitStatus => {
                    let bytes = self.read_at(payload, 8)?;
                    if crc32fast::hash(&bytes) == header.checksum {
                        self.exit_status = decode_exit_status(&bytes);
                    }
                }
                BlockKind::Ring => {
                    if let Rings::Since(commit) = self.rings {
                        self.ring(payload, header.stored_bytes, commit)?;
                    }
                }
                _ => {}
            }
            self.in_ring = header.kind == BlockKind::Ring;
            let end = payload.saturating_add(header.stored_bytes);
            self.stated_end = end;
            // A ring is as long as it may become.
            if end > self.file_bytes && !self.in_ring {
                if header.kind == BlockKind::Chunk {
                    self.cut_chunk = Some((self.skipped.len(), header));
                }
                self.skipped.push(Skipped {
                    offset: self.file_bytes,
                    bytes: end - self.file_bytes,
                    expected: format!("the rest of the block at offset {offset}"),
                    truncated: true,
                });
            }
            offset = offset.saturating_add(header.span_bytes());
        }
    }

    /// Whether the file has become longer since it was last asked: a chunk that left the window
    /// before the window was read is in the log by now.
    fn has_grown(&mut self) -> Result<bool, ReadError> {
        let metadata = self.file.metadata();
        let length = metadata.map_err(|error| ReadError::io(self.path, "examine", error))?.len();
        let grown = length > self.file_bytes;
        self.file_bytes = self.file_bytes.max(length);
        Ok(grown)
    }

    /// Reads the headers of the blocks that count of a ring, and the checkpoint's payloads.
    ///
    /// What stands between them was written on earlier rounds; a block says itself where it belongs.
    fn ring(&mut self, begin: u64, bytes: u64, commit: Option<Commit>) -> Result<(), ReadError> {
        const STEP_BYTES: u64 = 1 << 16;
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_ALIGN_BYTES) {
            return Ok(());
        }
        let tail = commit.map_or(0, |commit| commit.tail) & !(BLOCK_ALIGN_BYTES - 1);
        let end = tail.saturating_add(bytes);
        let mut place = tail;
        let mut buffer = Vec::new();
        let mut buffered = 0..0;
        while place < end {
            let in_ring = place % bytes;
            let offset = begin.saturating_add(in_ring);
            if offset >= self.file_bytes && !self.has_grown()? {
                // The rest of a round that was never written.
                place = place.saturating_add(bytes - in_ring);
                continue;
            }
            if !buffered.contains(&place) {
                let length = STEP_BYTES.min(bytes - in_ring);
                buffer = self.read_at(offset, length as usize)?;
                buffered = place..place.saturating_add(buffer.len().max(1) as u64);
            }
            let from = (place - buffered.start) as usize;
            let found = BlockHeader::decode(buffer.get(from..).unwrap_or_default());
            let header = match found.filter(|header| header.place == place) {
                Some(header) if header.span_bytes() <= bytes => header,
                _ => {
                    place = place.saturating_add(BLOCK_ALIGN_BYTES);
                    continue;
                }
            };
            let payload = offset + BLOCK_HEADER_BYTES as u64;
            match header.kind {
                BlockKind::Chunk => {
                    if payload.saturating_add(header.stored_bytes) > self.file_bytes {
                        self.cut_chunk = Some((self.skipped.len(), header));
                        self.skipped.push(Skipped {
                            offset: self.file_bytes,
                            bytes: payload + header.stored_bytes - self.file_bytes,
                            expected: format!("the rest of the block at offset {offset}"),
                            truncated: true,
                        });
                    }
                    self.chunk(payload, header);
                }
                BlockKind::Checkpoint
                    if commit.is_some_and(|commit| commit.number == header.stream) =>
                {
                    let payload_bytes = self.read_at(payload, header.stored_bytes as usize)?;
                    if crc32fast::hash(&payload_bytes) == header.checksum {
                        let block = CheckpointBlock { offset: payload, payload: payload_bytes };
                        self.checkpoint.push(block);
                    }
                }
                _ => {}
            }
            place = place.saturating_add(header.span_bytes());
        }
        Ok(())
    }

    fn chunk(&mut self, payload: u64, header: BlockHeader) {
        self.chunks.push(Chunk {
            stream: header.stream,
            sequence: header.sequence,
            offset: payload,
            first_stamp: header.first_stamp,
            payload: Payload::Logged { header },
        });
    }

    /// Reads the chunks of an extent of the window, as far as the file has them.
    fn extent(&mut self, payload: u64, header: &BlockHeader) -> Result<(), ReadError> {
        let chunk_bytes = u64::from(header.raw_bytes);
        if !is_sound_extent(header) {
            self.skipped.push(Skipped {
                offset: payload,
                bytes: header.stored_bytes,
                expected: "an extent with chunks of a sensible length".into(),
                truncated: false,
            });
            return Ok(());
        }
        for slot in 0..u64::from(header.sequence) {
            let offset = payload.saturating_add(slot.saturating_mul(chunk_bytes));
            if offset >= self.file_bytes {
                break;
            }
            let bytes = self.read_at(offset, CHUNK_HEADER_BYTES)?;
            let Some(mut chunk) = ChunkHeader::decode(&bytes) else {
                if bytes.iter().any(|&byte| byte != 0) {
                    self.skipped.push(Skipped {
                        offset,
                        bytes: chunk_bytes,
                        expected: "a chunk's header".into(),
                        truncated: bytes.len() < CHUNK_HEADER_BYTES,
                    });
                }
                continue;
            };
            let room = chunk_bytes - CHUNK_HEADER_BYTES as u64;
            let begin = offset + CHUNK_HEADER_BYTES as u64;
            let bytes = loop {
                let committed = u64::from(chunk.state.committed_bytes).min(room);
                let bytes = self.read_at(begin, committed as usize)?;
                // A process that is running may have begun its next chunk here meanwhile; what was
                // read is then of two chunks, and the first one is in the log by now.
                match ChunkHeader::decode(&self.read_at(offset, CHUNK_HEADER_BYTES)?) {
                    Some(after) if after.state.sequence != chunk.state.sequence => chunk = after,
                    _ => break bytes.into_boxed_slice(),
                }
            };
            let committed = u64::from(chunk.state.committed_bytes);
            if committed > room {
                self.skipped.push(Skipped {
                    offset: offset + ChunkHeader::STATE_OFFSET as u64,
                    bytes: chunk_bytes,
                    expected: format!("a chunk of at most {room} bytes"),
                    truncated: false,
                });
                continue;
            }
            // The cut itself is noted with the extent; here only the records before it count.
            let mut first_stamp = 0;
            if let Ok(Some(Record::Context(context))) = Decoder::new(&bytes).next_record() {
                first_stamp = context.stamp;
                self.anchor(context.anchor);
            }
            // An empty one still tells that those before it must be in the log.
            if committed > 0 || chunk.state.sequence > 0 {
                self.chunks.push(Chunk {
                    stream: chunk.stream,
                    sequence: chunk.state.sequence,
                    offset: begin,
                    first_stamp,
                    payload: Payload::Windowed { bytes },
                });
            }
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: Anchor) {
        if self.last_anchor.is_none_or(|last| last.ticks < anchor.ticks) {
            self.last_anchor = Some(anchor);
        }
    }

    /// Notes a hole, unless it is all zero: the space that a killed thread had reserved and not
    /// written. Its chunk is still in the window then.
    fn note_hole(&mut self, from: u64, to: u64, last: bool) -> Result<(), ReadError> {
        let mut at = from;
        while at < to {
            let bytes = self.read_at(at, (to - at).min(1 << 16) as usize)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(index) = bytes.iter().position(|&byte| byte != 0) {
                self.skipped.push(Skipped {
                    offset: at + index as u64,
                    bytes: to - at - index as u64,
                    expected: "a block's header".into(),
                    truncated: last && to - from < BLOCK_HEADER_BYTES as u64,
                });
                break;
            }
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// The offset of the next block's header behind `offset`.
    fn next_block(&mut self, offset: u64) -> Result<Option<u64>, ReadError> {
        const STEP_BYTES: usize = 1 << 16;
        let mut at = offset + BLOCK_ALIGN_BYTES;
        while at < self.file_bytes {
            let bytes = self.read_at(at, STEP_BYTES)?;
            for (index, candidate) in bytes.chunks_exact(BLOCK_HEADER_BYTES).enumerate() {
                if BlockHeader::decode(candidate).is_some() {
                    return Ok(Some(at + (index * BLOCK_HEADER_BYTES) as u64));
                }
            }
            at += STEP_BYTES as u64;
        }
        Ok(None)
    }

    /// Up to `length` bytes at `offset`: fewer where the file ends before.
    fn read_at(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let read = |file: &mut File| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::with_capacity(length);
            file.seek(SeekFrom::Start(offset))?;
            file.take(length as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read(self.file).map_err(|error| {
            ReadError::io(self.path, format!("read {length} bytes at offset {offset}"), error)
        })
    }
}

/// Notes the chunks that a stream must have had and that were not found.
///
/// Of a ring that was written over, `from_within`, a stream's first ones may be missing.
fn note_gaps(chunks: &[Chunk], from_within: bool, skipped: &mut Vec<Skipped>) {
    let mut expected = (u32::MAX, 0);
    for chunk in chunks {
        if chunk.stream != expected.0 {
            expected = (chunk.stream, if from_within { chunk.sequence } else { 0 });
        }
        if chunk.sequence > expected.1 {
            skipped.push(Skipped {
                offset: chunk.offset,
                bytes: 0,
                expected: format!(
                    "chunk {} of stream {}, found chunk {}",
                    expected.1, chunk.stream, chunk.sequence
                ),
                truncated: false,
            });
        }
        expected.1 = chunk.sequence.saturating_add(1);
    }
}
