//! How the recorded process ended, which whoever waited for it appends to the file.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::block::{BLOCK_ALIGN_BYTES, BlockHeader, BlockKind};
use crate::error::ReadError;
use crate::record::ExitStatus;
use crate::recording::{MAX_CHUNK_BYTES, read_header};
use crate::scan::{Rings, Scan};

/// Appends how the recorded process ended, as its parent learnt it.
///
/// # Errors
///
/// Where the file is no recording or cannot be written.
pub fn append_exit_status(path: &Path, status: ExitStatus) -> Result<(), ReadError> {
    let io = |attempt: &str, source| ReadError::io(path, attempt, source);
    let mut file =
        OpenOptions::new().read(true).write(true).open(path).map_err(|error| io("open", error))?;
    read_header(&mut file, path)?;
    let end = file.metadata().map_err(|error| io("examine", error))?.len();
    // Behind the last block's stated end: a process that was killed can leave that block cut short,
    // and whatever lay within its length would not be found.
    let mut scan = Scan::new(path, &mut file, end, Rings::PassedOver);
    scan.run()?;
    let stated_end = scan.stated_end;
    // A ring that was not filled ends behind the end of the file, however long it is.
    let plausible = scan.in_ring || stated_end.saturating_sub(end) <= u64::from(MAX_CHUNK_BYTES);
    let place = if plausible { end.max(stated_end) } else { end };
    let place = place.next_multiple_of(BLOCK_ALIGN_BYTES);
    let (kind, value) = match status {
        ExitStatus::Code(code) => (0u32, code),
        ExitStatus::Signal(signal) => (1, signal),
    };
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&kind.to_le_bytes());
    payload[4..].copy_from_slice(&value.to_le_bytes());
    let header = BlockHeader {
        stored_bytes: payload.len() as u64,
        raw_bytes: payload.len() as u32,
        ..BlockHeader::empty(BlockKind::ExitStatus)
    }
    .with_checksum(&payload);
    let block = [&header.encode()[..], &payload].concat();
    file.seek(SeekFrom::Start(place)).map_err(|error| io("seek", error))?;
    file.write_all(&block).map_err(|error| io("append", error))
}

/// Decodes the payload of a block of such a kind.
pub(crate) fn decode_exit_status(payload: &[u8]) -> Option<ExitStatus> {
    let payload: &[u8; 8] = payload.first_chunk()?;
    let (kind, value) = payload.split_first_chunk::<4>()?;
    let value = i32::from_le_bytes(*value.first_chunk()?);
    match u32::from_le_bytes(*kind) {
        0 => Some(ExitStatus::Code(value)),
        1 => Some(ExitStatus::Signal(value)),
        _ => None,
    }
}
