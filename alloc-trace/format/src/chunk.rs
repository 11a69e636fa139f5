//! A chunk of the window: a 64-byte header, then records.
//!
//! One thread writes a chunk at a time. Its state word holds how many bytes of records are
//! complete; the writer stores it with release ordering after their bytes, so whoever reads the
//! file, whenever the process died, finds whole records up to that length.

use crate::header::array;

/// The length of a chunk's header, and so the offset of its first record.
pub const CHUNK_HEADER_BYTES: usize = 64;

/// The first four bytes of a chunk that has ever been used.
pub const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"ATCK");

/// Which chunk of its stream a slot of the window holds, and how much of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkState {
    /// Counts the chunks of one stream, from 0.
    pub sequence: u32,
    /// How many bytes of records are complete.
    pub committed_bytes: u32,
}

impl ChunkState {
    /// As the eight bytes of the file.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        ((self.sequence as u64) << 32) | self.committed_bytes as u64
    }

    /// From the eight bytes of the file.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self { sequence: (bits >> 32) as u32, committed_bytes: bits as u32 }
    }
}

/// The fields at the front of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The stream that the chunk belongs to: the number of its slot in the window.
    pub stream: u32,
    /// Which chunk of the stream, and how full.
    pub state: ChunkState,
}

impl ChunkHeader {
    /// Where the stream's number stands in the header.
    pub const STREAM_OFFSET: usize = 4;
    /// Where the state word stands in the header.
    pub const STATE_OFFSET: usize = 8;

    /// Decodes a chunk's header; `None` for a slot that was never used, or that is no chunk.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if u32::from_le_bytes(array(bytes, 0)?) != CHUNK_MAGIC {
            return None;
        }
        Some(Self {
            stream: u32::from_le_bytes(array(bytes, Self::STREAM_OFFSET)?),
            state: ChunkState::from_bits(u64::from_le_bytes(array(bytes, Self::STATE_OFFSET)?)),
        })
    }
}
