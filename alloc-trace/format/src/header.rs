//! The header of the file: what the recorded process was, and how its clock maps to time.

use crate::clock::Anchor;

/// The first eight bytes of every recording.
pub const FILE_MAGIC: [u8; 8] = *b"ALLOCTRC";

/// The version that this crate writes; a reader refuses a greater one and reads all that are smaller.
///
/// New record kinds and block kinds do not change it: readers skip those that they do not know.
pub const FORMAT_VERSION: u16 = 3;

/// The length of the file header, and so the offset of the first block.
///
/// The first block is the header of the window's first extent, 64 bytes long, so that the window
/// itself begins at 8,192, a multiple of the OS page size of every supported target but those
/// configured for 16 KiB and 64 KiB pages, for which padding stands before the extent.
pub const FILE_HEADER_BYTES: usize = 8128;

/// How many bytes the fixed fields and their checksum take.
const FIXED_BYTES: usize = 88;
/// Where the closing anchor stands: ticks, nanoseconds, checksum.
const END_OFFSET: usize = 96;
const END_BYTES: usize = 20;

/// What the stamps of a recording count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockKind {
    /// Readings of the processor's invariant time-stamp counter, of which x86-64's has lost its lowest bits (or of
    /// aarch64's virtual counter).
    Counter,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    Monotonic,
}

/// The instruction set of the recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// aarch64.
    Aarch64,
    /// Another one, with the number that the file gives it.
    Other(u8),
}

/// The fixed fields at the front of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The process's id.
    pub pid: u32,
    /// The instruction set.
    pub architecture: Architecture,
    /// What stamps count.
    pub clock: ClockKind,
    /// When recording began: a stamp and the nanoseconds of `CLOCK_MONOTONIC` read beside it.
    pub start: Anchor,
    /// A second reading, taken when the recorder was ready, so that even the shortest recording has
    /// two from which the clock's rate follows.
    pub ready: Anchor,
    /// Nanoseconds since the Unix epoch when recording began.
    pub start_realtime_ns: u64,
    /// When the process started, in the kernel's clock ticks since boot (field 22 of
    /// `/proc/PID/stat`): with `pid` it names the process beyond doubt.
    pub process_start_ticks: u64,
    /// The closing reading, in a recording that was closed.
    pub end: Option<Anchor>,
}

impl FileHeader {
    /// The header of a recording that a program makes itself, of events on x86-64 whose stamps are
    /// nanoseconds from `begin` on. Of real time and of when the process started nothing is known.
    #[must_use]
    pub const fn of_nanoseconds(pid: u32, begin: u64) -> Self {
        let start = Anchor { ticks: begin, monotonic_ns: begin };
        Self {
            pid,
            architecture: Architecture::X86_64,
            clock: ClockKind::Monotonic,
            start,
            ready: start,
            start_realtime_ns: 0,
            process_start_ticks: 0,
            end: None,
        }
    }

    /// Encodes the header, without its closing reading.
    #[must_use]
    pub fn encode(&self) -> [u8; FIXED_BYTES] {
        let mut bytes = [0; FIXED_BYTES];
        let fields: [(usize, &[u8]); 11] = [
            (0, &FILE_MAGIC),
            (8, &FORMAT_VERSION.to_le_bytes()),
            (12, &(FILE_HEADER_BYTES as u32).to_le_bytes()),
            (16, &self.pid.to_le_bytes()),
            (20, &[clock_code(self.clock), architecture_code(self.architecture)]),
            (24, &self.start.ticks.to_le_bytes()),
            (32, &self.start.monotonic_ns.to_le_bytes()),
            (40, &self.start_realtime_ns.to_le_bytes()),
            (48, &self.ready.ticks.to_le_bytes()),
            (56, &self.ready.monotonic_ns.to_le_bytes()),
            (64, &self.process_start_ticks.to_le_bytes()),
        ];
        for (offset, field) in fields {
            if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
                place.copy_from_slice(field);
            }
        }
        let checksum = crc32fast::hash(&bytes[..FIXED_BYTES - 4]);
        bytes[FIXED_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Encodes a closing reading: where in the file it belongs, and its bytes.
    #[must_use]
    pub fn encode_end(end: Anchor) -> (u64, [u8; END_BYTES]) {
        let mut bytes = [0; END_BYTES];
        bytes[..8].copy_from_slice(&end.ticks.to_le_bytes());
        bytes[8..16].copy_from_slice(&end.monotonic_ns.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        (END_OFFSET as u64, bytes)
    }

    /// Decodes the header from the front of a file.
    ///
    /// # Errors
    ///
    /// Says where, and what was expected there.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let magic = &bytes[..bytes.len().min(8)];
        if magic.len() < 8 {
            return Err(if !magic.is_empty() && FILE_MAGIC.starts_with(magic) {
                HeaderError::Truncated { expected: "the magic number" }
            } else {
                HeaderError::NotARecording
            });
        }
        if magic != FILE_MAGIC {
            return Err(HeaderError::NotARecording);
        }
        let truncated = HeaderError::Truncated { expected: "the file header" };
        let version = u16::from_le_bytes(array(bytes, 8).ok_or(truncated)?);
        if version == 0 || version > FORMAT_VERSION {
            return Err(HeaderError::UnsupportedVersion { found: version });
        }
        let fixed = bytes.get(..FIXED_BYTES).ok_or(truncated)?;
        let u32_at = |offset| array(fixed, offset).map(u32::from_le_bytes).ok_or(truncated);
        let u64_at = |offset| array(fixed, offset).map(u64::from_le_bytes).ok_or(truncated);
        if u32_at(FIXED_BYTES - 4)? != crc32fast::hash(&fixed[..FIXED_BYTES - 4]) {
            return Err(HeaderError::Corrupt {
                offset: (FIXED_BYTES - 4) as u64,
                expected: "the checksum of the file header",
            });
        }
        let clock = match fixed[20] {
            1 => ClockKind::Counter,
            2 => ClockKind::Monotonic,
            _ => return Err(HeaderError::Corrupt { offset: 20, expected: "a known clock" }),
        };
        let architecture = match fixed[21] {
            1 => Architecture::X86_64,
            2 => Architecture::Aarch64,
            other => Architecture::Other(other),
        };
        Ok(Self {
            pid: u32_at(16)?,
            architecture,
            clock,
            start: Anchor { ticks: u64_at(24)?, monotonic_ns: u64_at(32)? },
            start_realtime_ns: u64_at(40)?,
            ready: Anchor { ticks: u64_at(48)?, monotonic_ns: u64_at(56)? },
            process_start_ticks: u64_at(64)?,
            end: decode_end(bytes),
        })
    }
}

/// Why a file header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes do not begin with [`FILE_MAGIC`].
    NotARecording,
    /// The version is not known to this reader.
    UnsupportedVersion {
        /// The version found.
        found: u16,
    },
    /// The bytes end inside the header.
    Truncated {
        /// What should have stood there.
        expected: &'static str,
    },
    /// The header contradicts itself.
    Corrupt {
        /// Where.
        offset: u64,
        /// What should have stood there.
        expected: &'static str,
    },
}

fn decode_end(bytes: &[u8]) -> Option<Anchor> {
    let end = bytes.get(END_OFFSET..END_OFFSET + END_BYTES)?;
    let checksum = u32::from_le_bytes(array(end, 16)?);
    let anchor = Anchor {
        ticks: u64::from_le_bytes(array(end, 0)?),
        monotonic_ns: u64::from_le_bytes(array(end, 8)?),
    };
    (checksum == crc32fast::hash(&end[..16]) && anchor.ticks != 0).then_some(anchor)
}

/// The `N` bytes at `offset`, if there are as many.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

const fn clock_code(clock: ClockKind) -> u8 {
    match clock {
        ClockKind::Counter => 1,
        ClockKind::Monotonic => 2,
    }
}

const fn architecture_code(architecture: Architecture) -> u8 {
    match architecture {
        Architecture::X86_64 => 1,
        Architecture::Aarch64 => 2,
        Architecture::Other(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            pid: 42,
            architecture: Architecture::X86_64,
            clock: ClockKind::Counter,
            start: Anchor { ticks: 1_000, monotonic_ns: 10 },
            ready: Anchor { ticks: 2_000, monotonic_ns: 20 },
            start_realtime_ns: 7,
            process_start_ticks: 99,
            end: None,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        assert_eq!(FileHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn the_closing_reading_is_found_behind_the_fixed_fields() {
        let end = Anchor { ticks: 5_000, monotonic_ns: 50 };
        let mut bytes = header().encode().to_vec();
        bytes.resize(FILE_HEADER_BYTES, 0);
        let (offset, encoded) = FileHeader::encode_end(end);
        bytes[offset as usize..][..encoded.len()].copy_from_slice(&encoded);
        assert_eq!(FileHeader::decode(&bytes), Ok(FileHeader { end: Some(end), ..header() }));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_told() {
        let bytes = header().encode();
        for cut in 0..bytes.len() {
            assert!(FileHeader::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
