//! Where the digests of a ring's segment lie.

use alloc_trace_format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind};

use crate::recorder::log::Log;
use crate::recorder::sys::Errno;

/// The digests of a segment, one after the other.
pub(super) struct Walk<'a> {
    log: &'a Log,
    place: u64,
    end: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn of(log: &'a Log, segment: u64) -> Self {
        let bytes = log.ring().segment_bytes();
        let place = segment * bytes;
        Self { log, place, end: log.ring().head().min(place + bytes) }
    }

    /// The next digest's header, and where its payload lies. With `holes` there may be blocks that are
    /// not written yet; else the first one that is missing is the end.
    pub(super) fn next_digest(&mut self, holes: bool) -> Result<Option<(BlockHeader, u64)>, Errno> {
        while self.place < self.end {
            let mut bytes = [0; BLOCK_HEADER_BYTES];
            let offset = self.log.ring().offset(self.place);
            self.log.read_at(offset, &mut bytes)?;
            let header = BlockHeader::decode(&bytes).filter(|header| header.place == self.place);
            let Some(header) = header else {
                if !holes {
                    return Ok(None);
                }
                self.place += 64;
                continue;
            };
            self.place += header.span_bytes();
            if header.kind == BlockKind::Digest {
                return Ok(Some((header, offset + BLOCK_HEADER_BYTES as u64)));
            }
        }
        Ok(None)
    }
}
