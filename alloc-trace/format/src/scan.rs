//! One pass over the blocks of a file: what stands where, and what could not be read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::block::{BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind};
use crate::carried::CheckpointBlock;
use crate::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use crate::clock::Anchor;
use crate::decoder::Decoder;
use crate::error::ReadError;
use crate::exit_status::decode_exit_status;
use crate::header::FILE_HEADER_BYTES;
use crate::record::{ExitStatus, Record};
use crate::recording::{Chunk, MAX_CHUNK_BYTES, Payload, Skipped};
use crate::ring::Commit;

/// Whether an extent's chunks have a length that chunks can have, and fit the extent: what a reader
/// sets aside for them is then bounded by the file.
pub(crate) fn is_sound_extent(header: &BlockHeader) -> bool {
    let chunk_bytes = u64::from(header.raw_bytes);
    header.raw_bytes <= MAX_CHUNK_BYTES
        && chunk_bytes > CHUNK_HEADER_BYTES as u64
        && u64::from(header.sequence) * chunk_bytes <= header.stored_bytes
}

/// What is read of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rings {
    /// What counts by its last commit.
    Since(Option<Commit>),
    /// Nothing.
    PassedOver,
}

/// One pass over the blocks of the file.
pub(crate) struct Scan<'a> {
    path: &'a Path,
    pub(crate) file: &'a mut File,
    file_bytes: u64,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) exit_status: Option<ExitStatus>,
    pub(crate) last_anchor: Option<Anchor>,
    /// Where the last block ends by its own statement, which may be behind the end of the file.
    pub(crate) stated_end: u64,
    /// The chunk that the file ends in, and which of `skipped` says so.
    pub(crate) cut_chunk: Option<(usize, BlockHeader)>,
    rings: Rings,
    /// Whether the last block was a ring.
    pub(crate) in_ring: bool,
    pub(crate) checkpoint: Vec<CheckpointBlock>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(path: &'a Path, file: &'a mut File, file_bytes: u64, rings: Rings) -> Self {
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

    pub(crate) fn run(&mut self) -> Result<(), ReadError> {
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
pub(crate) fn note_gaps(chunks: &[Chunk], from_within: bool, skipped: &mut Vec<Skipped>) {
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
