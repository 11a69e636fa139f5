//! Reads a recording while it is being written.
//!
//! A chunk is either still in the window, where its state word says how far it is written, or
//! already in the log. A follower remembers how far it has read each stream; it reads on in the
//! window, and what left the window before it came it finds in the log.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Codec};
use crate::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::decoder::{DecodeState, Decoder};
use crate::error::ReadError;
use crate::header::{FILE_HEADER_BYTES, FileHeader};
use crate::record::Record;
use crate::recording::{MAX_CHUNK_BYTES, is_sound_extent, read_header};

/// A reader of a recording that is still growing.
///
/// Each [`Follower::poll`] gives what has been written since the last one, stream by stream: in
/// order within a stream, not across them.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    header: FileHeader,
    /// The slots of the window found so far.
    slots: Vec<Slot>,
    /// How far the log has been read.
    log_offset: u64,
    /// Chunks found in the log and not read yet, by stream and sequence.
    logged: BTreeMap<(u32, u32), LoggedChunk>,
    streams: HashMap<u32, Stream>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: u64,
    chunk_bytes: u32,
}

#[derive(Debug, Clone, Copy)]
struct LoggedChunk {
    offset: u64,
    bytes: u32,
}

/// How far a stream has been read.
#[derive(Debug, Clone, Copy)]
struct Stream {
    sequence: u32,
    offset: usize,
    state: DecodeState,
}

impl Follower {
    /// Opens a recording to be followed from its beginning.
    ///
    /// # Errors
    ///
    /// As [`crate::Recording::open`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io = |error| ReadError::io(path, "open", error);
        // Asked before it is opened: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(ReadError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(io)?;
        let header = read_header(&mut file, path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            slots: Vec::new(),
            log_offset: FILE_HEADER_BYTES as u64,
            logged: BTreeMap::new(),
            streams: HashMap::new(),
            buffer: Vec::new(),
        })
    }

    /// The header of the file.
    #[must_use]
    pub const fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Gives every record written since the last poll to `sink`; answers how many there were.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn poll(&mut self, mut sink: impl FnMut(Record)) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut counting = |record| {
            count += 1;
            sink(record);
        };
        let result = self.poll_slots(&mut counting);
        result.map_err(|error| ReadError::io(&self.path, "read what was added", error))?;
        Ok(count)
    }

    fn poll_slots(&mut self, sink: &mut impl FnMut(Record)) -> io::Result<()> {
        self.scan_log()?;
        let mut index = 0;
        // The log's scan below can find further extents.
        while let Some(&slot) = self.slots.get(index) {
            index += 1;
            let Some(chunk) = self.chunk_header(slot)? else { continue };
            let mut stream = self.streams.get(&chunk.stream).copied().unwrap_or(Stream {
                sequence: 0,
                offset: 0,
                state: DecodeState::START,
            });
            if stream.sequence < chunk.state.sequence {
                self.scan_log()?;
            }
            // Only what the log has is stepped through: a chunk that is nowhere could not be
            // written, and the recording tells how many records that cost.
            while let Some((sequence, logged)) =
                self.next_logged(chunk.stream, stream.sequence, chunk.state.sequence)
            {
                if sequence > stream.sequence {
                    stream = Stream { sequence, offset: 0, state: DecodeState::START };
                }
                self.read(logged.offset, logged.bytes as usize)?;
                stream.decode(&self.buffer, sink);
                stream =
                    Stream { sequence: stream.sequence + 1, offset: 0, state: DecodeState::START };
            }
            if stream.sequence < chunk.state.sequence {
                let sequence = chunk.state.sequence;
                stream = Stream { sequence, offset: 0, state: DecodeState::START };
            }
            let room = slot.chunk_bytes as usize - CHUNK_HEADER_BYTES;
            let committed = chunk.state.committed_bytes as usize;
            if stream.sequence == chunk.state.sequence
                && stream.offset < committed
                && committed <= room
            {
                self.read(slot.offset + CHUNK_HEADER_BYTES as u64, committed)?;
                // The slot may have been given to the stream's next chunk while it was read.
                let after = self.chunk_header(slot)?;
                if after.is_some_and(|after| after.state.sequence == chunk.state.sequence) {
                    stream.decode(&self.buffer, sink);
                }
            }
            self.streams.insert(chunk.stream, stream);
        }
        Ok(())
    }

    /// Finds the blocks that were added to the log.
    fn scan_log(&mut self) -> io::Result<()> {
        loop {
            self.read(self.log_offset, BLOCK_HEADER_BYTES)?;
            // No header: the block is not written yet, or its writer is about to write it.
            let Some(header) = BlockHeader::decode(&self.buffer) else { return Ok(()) };
            let payload = self.log_offset + BLOCK_HEADER_BYTES as u64;
            match header.kind {
                BlockKind::Extent if is_sound_extent(&header) => {
                    let slots = (0..u64::from(header.sequence)).map(|slot| Slot {
                        offset: payload.saturating_add(slot * u64::from(header.raw_bytes)),
                        chunk_bytes: header.raw_bytes,
                    });
                    self.slots.extend(slots);
                }
                BlockKind::Chunk if header.codec == Codec::Plain => {
                    let read = self.streams.get(&header.stream).map_or(0, |stream| stream.sequence);
                    if header.sequence >= read && header.raw_bytes <= MAX_CHUNK_BYTES {
                        let key = (header.stream, header.sequence);
                        let chunk = LoggedChunk { offset: payload, bytes: header.raw_bytes };
                        self.logged.insert(key, chunk);
                    }
                }
                _ => {}
            }
            self.log_offset = self.log_offset.saturating_add(header.span_bytes());
        }
    }

    /// Takes the first chunk of the stream that the log has from `from` up to before `to`.
    fn next_logged(&mut self, stream: u32, from: u32, to: u32) -> Option<(u32, LoggedChunk)> {
        if from >= to {
            return None;
        }
        let (&key, &chunk) = self.logged.range((stream, from)..(stream, to)).next()?;
        self.logged.remove(&key);
        Some((key.1, chunk))
    }

    fn chunk_header(&mut self, slot: Slot) -> io::Result<Option<ChunkHeader>> {
        self.read(slot.offset, CHUNK_HEADER_BYTES)?;
        Ok(ChunkHeader::decode(&self.buffer))
    }

    /// Reads up to `length` bytes at `offset` into the buffer.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.buffer.clear();
        self.file.seek(SeekFrom::Start(offset))?;
        (&mut self.file).take(length as u64).read_to_end(&mut self.buffer)?;
        Ok(())
    }
}

impl Stream {
    /// Decodes on in the payload of the stream's chunk, of which the beginning has been read.
    fn decode(&mut self, payload: &[u8], sink: &mut impl FnMut(Record)) {
        let mut decoder = Decoder::resume(payload, self.offset, self.state);
        // A record that cannot be decoded ends the chunk here; the reader of the finished
        // recording says where and why.
        while let Ok(Some(record)) = decoder.next_record() {
            sink(record);
        }
        (self.offset, self.state) = decoder.position();
    }
}
