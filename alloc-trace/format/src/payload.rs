//! The payloads of chunks, read from the file, checked and unpacked.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::block::{BlockHeader, Codec};
use crate::chunk_records::ChunkRecords;
use crate::columns::unpack::Unpacker;
use crate::error::ReadError;
use crate::read_progress::ReadProgress;
use crate::record::Stamp;
use crate::recording::{Chunk, MAX_CHUNK_BYTES, Payload, Skipped};

/// Reads payloads. Several can read one file at a time.
#[derive(Debug)]
pub(crate) struct PayloadReader {
    file: Arc<File>,
    path: Arc<Path>,
    progress: Arc<ReadProgress>,
    unpacker: Unpacker,
    /// What is read, before it is unpacked.
    packed: Vec<u8>,
    /// Whether it leaves out the definitions of call-tree nodes, and stack pointers.
    in_brief: bool,
}

/// What stands in the buffer that a chunk's payload was read into.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Its records, as far as they can be read.
    Rows(Option<Skipped>),
    /// The columns that they are packed in.
    Packed { raw_bytes: u32, last_stamp: Stamp },
}

impl PayloadReader {
    pub(crate) fn new(file: Arc<File>, path: Arc<Path>, progress: Arc<ReadProgress>) -> Self {
        Self {
            file,
            path,
            progress,
            unpacker: Unpacker::default(),
            packed: Vec::new(),
            in_brief: false,
        }
    }

    /// One that leaves the definitions of call-tree nodes out, and stack pointers.
    pub(crate) fn in_brief(self) -> Self {
        Self { in_brief: true, ..self }
    }

    /// Reads a chunk's records, in place of those that `records` held.
    ///
    /// Of a payload that is cut or that its checksum contradicts they are given as far as they go, with
    /// the reason.
    pub(crate) fn load(
        &mut self,
        chunk: &Chunk,
        records: &mut ChunkRecords,
    ) -> Result<Option<Skipped>, ReadError> {
        match &chunk.payload {
            Payload::Windowed { bytes } => {
                records.clear(self.in_brief);
                records.rows_mut().extend_from_slice(bytes);
                Ok(None)
            }
            Payload::Logged { header } => self.load_logged(chunk.offset, header, records),
        }
    }

    /// The same, of a chunk in the log whose payload is at `offset`.
    pub(crate) fn load_logged(
        &mut self,
        offset: u64,
        header: &BlockHeader,
        records: &mut ChunkRecords,
    ) -> Result<Option<Skipped>, ReadError> {
        records.clear(self.in_brief);
        let mut packed = std::mem::take(&mut self.packed);
        let loaded = self.read(offset, header, &mut packed);
        let damage = loaded.map(|loaded| match loaded {
            Loaded::Rows(damage) => {
                std::mem::swap(records.rows_mut(), &mut packed);
                damage
            }
            Loaded::Packed { raw_bytes, .. } => {
                let unpacked = self.unpacker.unpack_records(&packed, raw_bytes, records);
                unpacked.err().map(|error| Skipped {
                    offset,
                    bytes: header.stored_bytes,
                    expected: error.expected.into(),
                    truncated: false,
                })
            }
        });
        self.packed = packed;
        damage
    }

    /// Reads a chunk's payload into `buffer`, in place of what it held, and leaves it packed if it is.
    pub(crate) fn load_packed(
        &self,
        chunk: &Chunk,
        buffer: &mut Vec<u8>,
    ) -> Result<Loaded, ReadError> {
        match &chunk.payload {
            Payload::Windowed { bytes } => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
                Ok(Loaded::Rows(None))
            }
            Payload::Logged { header } => self.read(chunk.offset, header, buffer),
        }
    }

    fn read(
        &self,
        offset: u64,
        header: &BlockHeader,
        buffer: &mut Vec<u8>,
    ) -> Result<Loaded, ReadError> {
        let bytes = header.stored_bytes;
        self.progress.advance(bytes);
        let skipped = |expected: String, truncated| {
            Ok(Loaded::Rows(Some(Skipped { offset, bytes, expected, truncated })))
        };
        if let Codec::Other(code) = header.codec {
            buffer.clear();
            return skipped(format!("a known codec, not {code}"), false);
        }
        if !has_sound_length(header) {
            buffer.clear();
            return skipped("a chunk of its stated length".into(), false);
        }
        let attempt = || format!("read {bytes} bytes at offset {offset}");
        read_at(&self.file, offset, bytes, buffer)
            .map_err(|error| ReadError::io(&self.path, attempt(), error))?;
        if (buffer.len() as u64) < bytes {
            if header.codec == Codec::Columns {
                // Nothing of it can be unpacked.
                buffer.clear();
            }
            return skipped("the rest of a chunk".into(), true);
        }
        if crc32fast::hash(buffer) != header.checksum {
            buffer.clear();
            return skipped("a chunk that its checksum confirms".into(), false);
        }
        Ok(match header.codec {
            Codec::Columns => {
                Loaded::Packed { raw_bytes: header.raw_bytes, last_stamp: header.last_stamp }
            }
            _ => Loaded::Rows(None),
        })
    }
}

/// Whether a chunk's lengths are such as a chunk can have: what a reader sets aside for it is then
/// bounded.
pub(crate) fn has_sound_length(header: &BlockHeader) -> bool {
    let raw_bytes = u64::from(header.raw_bytes);
    let fits = match header.codec {
        Codec::Plain => raw_bytes == header.stored_bytes,
        // What would not become shorter is stored as it is.
        _ => header.stored_bytes <= raw_bytes,
    };
    fits && header.raw_bytes <= MAX_CHUNK_BYTES
}

/// Reads up to `length` bytes at `offset` in place of what `buffer` held, without moving the file's own
/// place: two threads can read at a time.
#[cfg(unix)]
fn read_at(file: &File, offset: u64, length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    // What it held is written over: only what is beyond that is zeroed.
    buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(read);
    Ok(())
}

/// Reads up to `length` bytes at `offset`.
#[cfg(not(unix))]
fn read_at(mut file: &File, offset: u64, length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    buffer.clear();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length).read_to_end(buffer)?;
    Ok(())
}
