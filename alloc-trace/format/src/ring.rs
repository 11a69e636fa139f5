//! A recording that keeps its last part: its log is a ring, and what is live in the part that was
//! written over is carried on by checkpoints.
//!
//! The file header holds two places for a [`Commit`], written in turn: the last whole one says from
//! where on the ring counts and which checkpoint goes with that. So whatever ends the process, the
//! file is whole before a commit and whole after it.

use crate::header::array;
use crate::record::Stamp;

/// How many parts a ring is written over in.
pub const RING_SEGMENTS: u64 = 8;

/// Where the first commit's place is in the file header.
const COMMITS_OFFSET: u64 = 128;
const COMMIT_BYTES: usize = 64;

/// From where on a ring counts, and what carries on the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Counts the commits of a recording, from 1. The checkpoint's blocks have it as their stream.
    pub number: u32,
    /// How many blocks the checkpoint has.
    pub blocks: u32,
    /// The place in the ring from which its blocks count.
    pub tail: u64,
    /// The place of the checkpoint's first block or before it.
    pub checkpoint: u64,
    /// No event after this stamp is missing.
    pub horizon: Stamp,
}

impl Commit {
    /// Encodes it: where in the file it belongs, and its bytes.
    #[must_use]
    pub fn encode(&self) -> (u64, [u8; COMMIT_BYTES]) {
        let mut bytes = [0; COMMIT_BYTES];
        let fields: [(usize, &[u8]); 5] = [
            (0, &self.number.to_le_bytes()),
            (4, &self.blocks.to_le_bytes()),
            (8, &self.tail.to_le_bytes()),
            (16, &self.checkpoint.to_le_bytes()),
            (24, &self.horizon.to_le_bytes()),
        ];
        for (offset, field) in fields {
            if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
                place.copy_from_slice(field);
            }
        }
        let checksum = crc32fast::hash(&bytes[..COMMIT_BYTES - 4]);
        bytes[COMMIT_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        (COMMITS_OFFSET + u64::from(self.number % 2) * COMMIT_BYTES as u64, bytes)
    }

    /// The last commit in a file's header, if there is one.
    #[must_use]
    pub fn last(header: &[u8]) -> Option<Self> {
        let decode = |index: usize| {
            let begin = COMMITS_OFFSET as usize + index * COMMIT_BYTES;
            let bytes = header.get(begin..begin + COMMIT_BYTES)?;
            let checksum = u32::from_le_bytes(array(bytes, COMMIT_BYTES - 4)?);
            let commit = Self {
                number: u32::from_le_bytes(array(bytes, 0)?),
                blocks: u32::from_le_bytes(array(bytes, 4)?),
                tail: u64::from_le_bytes(array(bytes, 8)?),
                checkpoint: u64::from_le_bytes(array(bytes, 16)?),
                horizon: u64::from_le_bytes(array(bytes, 24)?),
            };
            let whole = checksum == crc32fast::hash(&bytes[..COMMIT_BYTES - 4]);
            (whole && commit.number != 0).then_some(commit)
        };
        [decode(0), decode(1)].into_iter().flatten().max_by_key(|commit| commit.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_commit_counts() {
        let mut header = vec![0; 512];
        assert_eq!(Commit::last(&header), None);
        let commit = |number| Commit { number, blocks: 3, tail: 64, checkpoint: 128, horizon: 9 };
        for number in 1..5 {
            let (offset, bytes) = commit(number).encode();
            header[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(Commit::last(&header), Some(commit(number)));
        }
        // A torn one does not: the one before does.
        let (offset, bytes) = commit(5).encode();
        header[offset as usize..][..8].copy_from_slice(&bytes[..8]);
        assert_eq!(Commit::last(&header), Some(commit(4)));
    }
}
