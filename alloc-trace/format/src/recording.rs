//! A recording opened for reading: its header, and where each chunk of each stream lies.
//!
//! Opening reads the window (which is small) and the headers of the log's blocks, never their
//! payloads: memory grows with the number of chunks, not with events.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::block::{BlockHeader, Codec};
use crate::carried::Carried;
use crate::clock::Clock;
use crate::decoder::Decoder;
use crate::definitions::Definitions;
use crate::error::ReadError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, HeaderError};
use crate::merged::Merged;
use crate::payload::PayloadReader;
use crate::read_progress::ReadProgress;
use crate::record::{ExitStatus, Record, Stamp};
use crate::ring::Commit;
use crate::scan::{Rings, Scan, note_gaps};

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

    /// The same without the definitions of call-tree nodes, for who has them from [`Recording::definitions`], and
    /// without stack pointers, whose fields mean nothing: of a packed chunk neither are even decompressed.
    /// Damage that only those have is therefore found by [`Recording::merged`] alone.
    #[must_use]
    pub fn merged_in_brief(&self) -> Merged<'_> {
        self.progress.begin();
        Merged::in_brief(self)
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
