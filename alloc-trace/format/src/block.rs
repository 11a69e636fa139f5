//! The blocks that follow the file header: extents of the window and chunks of the log.
//!
//! Several threads append at once and none waits for another, so a process that is killed can leave
//! a hole between two blocks. Blocks are therefore aligned, and their headers carry a checksum of
//! their own: a reader that finds none where it expects one looks on at the next boundary.

use crate::header::array;

/// The length of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// Block headers stand at multiples of this.
pub const BLOCK_ALIGN_BYTES: u64 = 64;

const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"ATBK");

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockKind {
    /// Chunks of the window, written in place as long as the process lives.
    Extent,
    /// The records of one chunk that was full.
    Chunk,
    /// The wait status of the process, appended by whoever waited for it.
    ExitStatus,
    /// Nothing: the space before an extent, whose chunks begin at an OS page.
    Padding,
    /// The log of a recording that keeps its last part: its payload is written around and around.
    Ring,
    /// In a ring: a part of what is carried on from the chunks that were written over.
    Checkpoint,
    /// In a ring: what is to be carried on from one chunk, for the recorder's own use.
    Digest,
    /// Another kind, which this reader skips.
    Other(u8),
}

/// How the payload of a chunk block is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// As it was in the window.
    Plain,
    /// As columns, each compressed by itself.
    Columns,
    /// A codec that this reader does not know.
    Other(u8),
}

impl Codec {
    /// The number of [`Codec::Columns`] in a file.
    pub(crate) const COLUMNS: u8 = 3;
}

/// The fields at the front of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// What the block holds.
    pub kind: BlockKind,
    /// How the payload is stored.
    pub codec: Codec,
    /// How many bytes follow the header in the file.
    pub stored_bytes: u64,
    /// A chunk: its length once decoded. An extent: the length of each of its chunks.
    pub raw_bytes: u32,
    /// A chunk: its stream. An extent: the stream of its first chunk.
    pub stream: u32,
    /// A chunk: which of its stream. An extent: how many chunks it holds.
    pub sequence: u32,
    /// A chunk: how many heap events it holds.
    pub events: u32,
    /// A chunk: the stamp of its first context: nothing in it is earlier.
    pub first_stamp: u64,
    /// A chunk: the last stamp in it.
    pub last_stamp: u64,
    /// A block in a ring: its place, counted on from the ring's first round. Else 0.
    pub place: u64,
    /// The CRC-32 (IEEE) of the stored payload; 0 for an extent or a ring, whose payload changes.
    pub checksum: u32,
}

impl BlockHeader {
    /// The header of a block of which nothing is stated but its kind: everything else is 0, and the
    /// payload is plain.
    #[must_use]
    pub const fn empty(kind: BlockKind) -> Self {
        Self {
            kind,
            codec: Codec::Plain,
            stored_bytes: 0,
            raw_bytes: 0,
            stream: 0,
            sequence: 0,
            events: 0,
            first_stamp: 0,
            last_stamp: 0,
            place: 0,
            checksum: 0,
        }
    }

    /// Encodes the header with its checksum.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        let kind = match self.kind {
            BlockKind::Extent => 1,
            BlockKind::Chunk => 2,
            BlockKind::ExitStatus => 3,
            BlockKind::Padding => 4,
            BlockKind::Ring => 5,
            BlockKind::Checkpoint => 6,
            BlockKind::Digest => 7,
            BlockKind::Other(code) => code,
        };
        let codec = match self.codec {
            Codec::Plain => 0,
            Codec::Columns => Codec::COLUMNS,
            Codec::Other(code) => code,
        };
        let fields: [(usize, &[u8]); 11] = [
            (0, &BLOCK_MAGIC.to_le_bytes()),
            (4, &[kind, codec]),
            (8, &self.stored_bytes.to_le_bytes()),
            (16, &self.raw_bytes.to_le_bytes()),
            (20, &self.stream.to_le_bytes()),
            (24, &self.sequence.to_le_bytes()),
            (28, &self.events.to_le_bytes()),
            (32, &self.first_stamp.to_le_bytes()),
            (40, &self.last_stamp.to_le_bytes()),
            (48, &self.place.to_le_bytes()),
            (56, &self.checksum.to_le_bytes()),
        ];
        for (offset, field) in fields {
            if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
                place.copy_from_slice(field);
            }
        }
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes a block's header; `None` where none stands.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk()?;
        if u32::from_le_bytes(array(bytes, 0)?) != BLOCK_MAGIC
            || u32::from_le_bytes(array(bytes, 60)?) != crc32fast::hash(&bytes[..60])
        {
            return None;
        }
        Some(Self {
            kind: match bytes[4] {
                1 => BlockKind::Extent,
                2 => BlockKind::Chunk,
                3 => BlockKind::ExitStatus,
                4 => BlockKind::Padding,
                5 => BlockKind::Ring,
                6 => BlockKind::Checkpoint,
                7 => BlockKind::Digest,
                other => BlockKind::Other(other),
            },
            codec: match bytes[5] {
                0 => Codec::Plain,
                Codec::COLUMNS => Codec::Columns,
                other => Codec::Other(other),
            },
            stored_bytes: u64::from_le_bytes(array(bytes, 8)?),
            raw_bytes: u32::from_le_bytes(array(bytes, 16)?),
            stream: u32::from_le_bytes(array(bytes, 20)?),
            sequence: u32::from_le_bytes(array(bytes, 24)?),
            events: u32::from_le_bytes(array(bytes, 28)?),
            first_stamp: u64::from_le_bytes(array(bytes, 32)?),
            last_stamp: u64::from_le_bytes(array(bytes, 40)?),
            place: u64::from_le_bytes(array(bytes, 48)?),
            checksum: u32::from_le_bytes(array(bytes, 56)?),
        })
    }

    /// The same header with the checksum of its payload.
    #[must_use]
    pub fn with_checksum(self, payload: &[u8]) -> Self {
        Self { checksum: crc32fast::hash(payload), ..self }
    }

    /// How far the next block's header is from this one's.
    ///
    /// Saturates where the stated length is absurd.
    #[must_use]
    pub const fn span_bytes(&self) -> u64 {
        (BLOCK_HEADER_BYTES as u64)
            .saturating_add(self.stored_bytes)
            .saturating_add(BLOCK_ALIGN_BYTES - 1)
            / BLOCK_ALIGN_BYTES
            * BLOCK_ALIGN_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_header_survives_the_round_trip_and_no_flipped_bit() {
        let header = BlockHeader {
            kind: BlockKind::Chunk,
            codec: Codec::Plain,
            stored_bytes: 1_000,
            raw_bytes: 1_000,
            stream: 3,
            sequence: 9,
            events: 120,
            first_stamp: 11,
            last_stamp: 12,
            place: 13,
            checksum: 14,
        };
        let bytes = header.encode();
        assert_eq!(BlockHeader::decode(&bytes), Some(header));
        assert_eq!(header.span_bytes(), 1_088);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::decode(&flipped), None, "bit {bit}");
        }
    }
}
