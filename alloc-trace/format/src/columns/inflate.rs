//! The columns of a packed chunk, decompressed.

use std::fmt;

use super::COLUMNS;
use super::pack::{HEAD_BYTES, LENGTHS_BYTES};
use super::unpack::Expected;
use crate::header::array;

/// All columns together are at most so many times as long as the rows.
const LONGEST_COLUMNS: u64 = 4;

/// Decompresses columns. Its memory is kept from one chunk to the next.
#[derive(Default)]
pub(super) struct Inflater {
    /// The columns, one behind the other.
    bytes: Vec<u8>,
    decompressor: Option<zstd_safe::DCtx<'static>>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Inflater {
    /// The columns that were decompressed last, one behind the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decompresses those columns that are `needed`; answers the rounding and the length that is stated
    /// of every column.
    pub(super) fn inflate(
        &mut self,
        packed: &[u8],
        raw_bytes: u32,
        needed: impl Fn(usize) -> bool,
    ) -> Result<(u8, [usize; COLUMNS]), Expected> {
        let cut = "the lengths of a chunk's columns";
        let [columns, rounding, ..] = array::<HEAD_BYTES>(packed, 0).ok_or(cut)?;
        if usize::from(columns) != COLUMNS {
            return Err("a known number of columns");
        }
        let mut lengths = [0; COLUMNS];
        let mut total = 0u64;
        let mut stored_total = 0u64;
        let mut stored = [0; COLUMNS];
        for index in 0..COLUMNS {
            let place = HEAD_BYTES + index * LENGTHS_BYTES;
            let both = u64::from_le_bytes(array(packed, place).ok_or(cut)?);
            let (raw, kept) = (both as u32, (both >> 32) as u32);
            lengths[index] = raw as usize;
            stored[index] = kept as usize;
            total += u64::from(raw);
            stored_total += u64::from(kept);
        }
        let head_bytes = HEAD_BYTES + COLUMNS * LENGTHS_BYTES;
        if total > LONGEST_COLUMNS * u64::from(raw_bytes) + COLUMNS as u64
            || stored_total != (packed.len() - head_bytes) as u64
        {
            return Err("columns of the stated lengths");
        }
        let total = (0..COLUMNS).filter(|&index| needed(index)).map(|index| lengths[index]).sum();
        // What is left of the chunk before is written over.
        self.bytes.resize(total, 0);
        let mut rest = self.bytes.as_mut_slice();
        let mut at = head_bytes;
        for (index, &kept) in stored.iter().enumerate() {
            if !needed(index) {
                at += kept;
                continue;
            }
            let raw = lengths[index];
            let (column, behind) = rest.split_at_mut_checked(raw).ok_or(cut)?;
            let source = packed.get(at..at + kept).ok_or(cut)?;
            if kept == raw {
                column.copy_from_slice(source);
            } else {
                let context = self.decompressor.get_or_insert_with(zstd_safe::DCtx::create);
                let written = context.decompress(column, source);
                if written != Ok(raw) {
                    return Err("a column that can be decompressed");
                }
            }
            rest = behind;
            at += kept;
        }
        Ok((rounding, lengths))
    }
}
