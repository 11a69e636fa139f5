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
use crate::columns::unpack::Unpacker;
use crate::decoder::{DecodeState, Decoder};
use crate::error::ReadError;
use crate::header::{FILE_HEADER_BYTES, FileHeader};
use crate::payload::has_sound_length;
use crate::record::{Record, Stamp};
use crate::recording::read_header;
use crate::scan::is_sound_extent;

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
    unpacker: Unpacker,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: u64,
    chunk_bytes: u32,
}

#[derive(Debug, Clone, Copy)]
struct LoggedChunk {
    offset: u64,
    stored_bytes: u32,
    raw_bytes: u32,
    codec: Codec,
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polled {
    /// How many records there were.
    pub records: u64,
    /// Where a stream had more records than were asked for, or than could be found yet: nothing later
    /// than this is complete.
    pub read_until: Option<Stamp>,
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
            unpacker: Unpacker::default(),
        })
    }

    /// The header of the file.
    #[must_use]
    pub const fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Gives the records written since the last poll to `sink`, at most about `batch` of each stream.
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn poll(
        &mut self,
        batch: usize,
        mut sink: impl FnMut(Record),
    ) -> Result<Polled, ReadError> {
        let mut polled = Polled { records: 0, read_until: None };
        self.poll_streams(batch, &mut polled, &mut sink)
            .map_err(|error| ReadError::io(&self.path, "read what was added", error))?;
        Ok(polled)
    }

    fn poll_streams(
        &mut self,
        batch: usize,
        polled: &mut Polled,
        sink: &mut impl FnMut(Record),
    ) -> io::Result<()> {
        // The window's state is read before the log is scanned: a chunk that its slot has left is
        // in the log by then, whole. One that its slot has not left may be there in part.
        self.scan_log()?;
        let first_scan_end = self.log_offset;
        let mut window = Vec::new();
        for slot in self.slots.clone() {
            if let Some(chunk) = self.chunk_header(slot)? {
                window.push((slot, chunk));
                self.streams.entry(chunk.stream).or_insert(Stream::START);
            }
        }
        let log_is_whole = self.scan_log()?;
        let mut streams: Vec<u32> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        for number in streams {
            let mut stream = self.streams.get(&number).copied().unwrap_or(Stream::START);
            let mut left = batch;
            // Whether everything was read that stood in the file when the poll began.
            let mut whole = true;
            let slot = window.iter().find(|(_, chunk)| chunk.stream == number);
            while let Some((&(_, sequence), &logged)) =
                self.logged.range((number, stream.sequence)..=(number, u32::MAX)).next()
            {
                match slot {
                    Some((_, chunk)) if chunk.state.sequence <= sequence => break,
                    // Its slot was not known yet.
                    None if logged.offset >= first_scan_end => {
                        whole = false;
                        break;
                    }
                    _ => {}
                }
                if sequence > stream.sequence {
                    if !log_is_whole {
                        whole = false;
                        break;
                    }
                    // A chunk that is nowhere could not be written.
                    stream = Stream { sequence, ..Stream::START };
                }
                self.read_logged(logged)?;
                left = stream.decode(&self.buffer, left, polled, sink);
                if left == 0 {
                    break;
                }
                self.logged.remove(&(number, stream.sequence));
                let sequence = stream.sequence.saturating_add(1);
                stream = Stream { sequence, ..Stream::START };
            }
            if let (Some(&(slot, chunk)), true, true) = (slot, whole, left > 0) {
                if stream.sequence < chunk.state.sequence && !log_is_whole {
                    whole = false;
                } else {
                    (left, whole) =
                        self.poll_window(slot, chunk, &mut stream, left, polled, sink)?;
                }
            }
            if left == 0 || !whole {
                let until = polled.read_until.unwrap_or(Stamp::MAX).min(stream.state.stamp());
                polled.read_until = Some(until);
            }
            self.streams.insert(number, stream);
        }
        Ok(())
    }

    /// Reads on in a stream's chunk in the window; answers how many more records may be taken, and
    /// whether the chunk still stood there.
    fn poll_window(
        &mut self,
        slot: Slot,
        chunk: ChunkHeader,
        stream: &mut Stream,
        left: usize,
        polled: &mut Polled,
        sink: &mut impl FnMut(Record),
    ) -> io::Result<(usize, bool)> {
        let room = slot.chunk_bytes as usize - CHUNK_HEADER_BYTES;
        let committed = chunk.state.committed_bytes as usize;
        if committed > room || stream.sequence > chunk.state.sequence {
            return Ok((left, true));
        }
        if stream.sequence < chunk.state.sequence {
            // A chunk that left the window and is nowhere could not be written.
            *stream = Stream { sequence: chunk.state.sequence, ..Stream::START };
        }
        if stream.offset >= committed {
            return Ok((left, true));
        }
        self.read(slot.offset + CHUNK_HEADER_BYTES as u64, committed)?;
        let payload = std::mem::take(&mut self.buffer);
        // The slot may have been given to the stream's next chunk while it was read.
        let after = self.chunk_header(slot)?;
        let same = after.is_some_and(|after| after.state.sequence == chunk.state.sequence);
        let left = if same { stream.decode(&payload, left, polled, sink) } else { left };
        Ok((left, same))
    }

    /// Finds the blocks that were added to the log; whether it was read to the end of the file.
    ///
    /// It is not where a writer has reserved the place of a block and not written it yet: what stands
    /// behind that place cannot be found before.
    fn scan_log(&mut self) -> io::Result<bool> {
        loop {
            self.read(self.log_offset, BLOCK_HEADER_BYTES)?;
            // No header: the block is not written yet, or its writer is about to write it.
            let Some(header) = BlockHeader::decode(&self.buffer) else {
                return Ok(self.buffer.is_empty());
            };
            let payload = self.log_offset + BLOCK_HEADER_BYTES as u64;
            match header.kind {
                BlockKind::Extent if is_sound_extent(&header) => {
                    let slots = (0..u64::from(header.sequence)).map(|slot| Slot {
                        offset: payload.saturating_add(slot * u64::from(header.raw_bytes)),
                        chunk_bytes: header.raw_bytes,
                    });
                    self.slots.extend(slots);
                }
                BlockKind::Chunk if !matches!(header.codec, Codec::Other(_)) => {
                    // A recording that was stopped has its streams in the log only.
                    let stream = self.streams.entry(header.stream).or_insert(Stream::START);
                    if header.sequence >= stream.sequence && has_sound_length(&header) {
                        let key = (header.stream, header.sequence);
                        let chunk = LoggedChunk {
                            offset: payload,
                            stored_bytes: header.stored_bytes as u32,
                            raw_bytes: header.raw_bytes,
                            codec: header.codec,
                        };
                        self.logged.insert(key, chunk);
                    }
                }
                _ => {}
            }
            self.log_offset = self.log_offset.saturating_add(header.span_bytes());
        }
    }

    /// Reads a chunk of the log into the buffer, unpacked. Of one that contradicts itself it has the
    /// records before: the reader of the finished recording says where and why.
    fn read_logged(&mut self, logged: LoggedChunk) -> io::Result<()> {
        self.read(logged.offset, logged.stored_bytes as usize)?;
        if logged.codec == Codec::Columns {
            let packed = std::mem::take(&mut self.buffer);
            let _ = self.unpacker.unpack(&packed, logged.raw_bytes, &mut self.buffer);
        }
        Ok(())
    }

    fn chunk_header(&mut self, slot: Slot) -> io::Result<Option<ChunkHeader>> {
        self.read(slot.offset, CHUNK_HEADER_BYTES)?;
        Ok(ChunkHeader::decode(&self.buffer))
    }

    /// Reads up to `length` bytes at `offset` into the buffer.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.buffer.clear();
        match self.file.seek(SeekFrom::Start(offset)) {
            // No file, or none of this file system, is as long: a block's absurd length led here.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
            sought => sought?,
        };
        (&mut self.file).take(length as u64).read_to_end(&mut self.buffer)?;
        Ok(())
    }
}

impl Stream {
    const START: Self = Self { sequence: 0, offset: 0, state: DecodeState::START };

    /// Decodes on in the payload of the stream's chunk, of which the beginning has been read; answers
    /// how many more records may be taken.
    fn decode(
        &mut self,
        payload: &[u8],
        mut left: usize,
        polled: &mut Polled,
        sink: &mut impl FnMut(Record),
    ) -> usize {
        let mut decoder = Decoder::resume(payload, self.offset, self.state);
        // A record that cannot be decoded ends the chunk here; the reader of the finished
        // recording says where and why.
        while left > 0
            && let Ok(Some(record)) = decoder.next_record()
        {
            polled.records += 1;
            left -= 1;
            sink(record);
        }
        (self.offset, self.state) = decoder.position();
        left
    }
}
