//! The fields of an event: integers of stated lengths.
//!
//! Two bytes say how long each of up to five fields is, three bits for each; the fields follow, least
//! significant byte first. Against varints this writes a field without a branch, which is what counts
//! in the middle of an allocation, and leaves whole bytes to a compressor.

/// How many bytes a field of each code takes.
const LENGTHS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 8];

/// Bits of the lengths that a code takes.
const CODE_BITS: u32 = 3;

/// Set in the lengths where one more number follows the fields.
pub(crate) const MORE: u16 = 1 << 15;

/// The code of the shortest length that holds a value of so many bits. A look-up takes the place of
/// a chain of comparisons.
const CODES: [u8; 64] = {
    let mut codes = [0; 64];
    let mut bits = 0;
    while bits < codes.len() {
        let bytes = bits.div_ceil(8);
        codes[bits] = if bytes >= 7 { 7 } else { bytes as u8 };
        bits += 1;
    }
    codes
};

/// The code of the shortest length that holds `value`.
#[inline]
const fn code(value: u64) -> u8 {
    // A value of 64 bits has the length of one of 63.
    let bits = 64 - value.leading_zeros();
    CODES[if bits > 63 { 63 } else { bits as usize }]
}

/// What is written before fields of these lengths, each of which there is a code for.
pub(crate) const fn lengths(bytes: [u8; 5]) -> u16 {
    let (mut lengths, mut field) = (0, 0);
    while field < bytes.len() {
        let mut code = 0;
        while LENGTHS[code] != bytes[field] {
            code += 1;
        }
        lengths |= (code as u16) << (CODE_BITS * field as u32);
        field += 1;
    }
    lengths
}

/// Writes fields into a buffer that has room for them.
///
/// Each field is stored as eight bytes, of which the next one overwrites what is not needed: the
/// buffer must have room for eight bytes where the last one begins.
pub(crate) struct FieldWriter<'a, const ROOM: usize> {
    out: &'a mut [u8; ROOM],
    at: usize,
    lengths_at: usize,
    lengths: u16,
    shift: u32,
}

impl<'a, const ROOM: usize> FieldWriter<'a, ROOM> {
    #[inline(always)]
    pub(crate) fn new(out: &'a mut [u8; ROOM]) -> Self {
        Self { out, at: 0, lengths_at: 0, lengths: 0, shift: 0 }
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(place) = self.out.get_mut(self.at) {
            *place = byte;
        }
        self.at += 1;
    }

    /// Leaves room for the lengths of the fields that follow; `flags` are set in them.
    #[inline(always)]
    pub(crate) fn begin(&mut self, flags: u16) {
        self.lengths_at = self.at;
        self.lengths = flags;
        self.shift = 0;
        self.at += 2;
    }

    #[inline]
    pub(crate) fn field(&mut self, value: u64) {
        let code = code(value);
        self.lengths |= u16::from(code) << self.shift;
        self.shift += CODE_BITS;
        if let Some(place) = self.out.get_mut(self.at..self.at + 8) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        self.at += usize::from(LENGTHS[usize::from(code) & 7]);
    }

    /// Puts the lengths of the fields written since `begin` before them.
    #[inline(always)]
    pub(crate) fn end(&mut self) {
        if let Some(place) = self.out.get_mut(self.lengths_at..self.lengths_at + 2) {
            place.copy_from_slice(&self.lengths.to_le_bytes());
        }
    }

    /// How many bytes were written.
    #[inline(always)]
    pub(crate) const fn written(&self) -> usize {
        self.at
    }
}

/// The lengths of fields that are to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths(u16);

impl Lengths {
    #[inline]
    pub(crate) const fn new(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether one more number follows the fields.
    #[inline]
    pub(crate) const fn has_more(self) -> bool {
        self.0 & MORE != 0
    }

    /// The length of the next field in bytes.
    #[inline]
    pub(crate) const fn next_length(&mut self) -> usize {
        let length = LENGTHS[(self.0 & 7) as usize];
        self.0 >>= CODE_BITS;
        length as usize
    }
}

/// Reads a field of `length` bytes at `offset`; `None` where the bytes end before.
#[inline]
pub(crate) fn read(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    if let Some(word) = bytes.get(offset..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let unused = 64 - 8 * length as u32;
        return Some(word.checked_shl(unused).unwrap_or(0).checked_shr(unused).unwrap_or(0));
    }
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_length_survive_the_round_trip() {
        for bits in 0..=64 {
            let value = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
            for value in [value, value / 3 * 2, value ^ (value >> 1)] {
                let mut out = [0; 64];
                let mut writer = FieldWriter::new(&mut out);
                writer.byte(7);
                writer.begin(MORE);
                for field in [value, 0, 1, value, value] {
                    writer.field(field);
                }
                writer.end();
                let end = writer.written();
                for slack in [0, 1, 8] {
                    let bytes = &out[..end + slack];
                    let mut lengths = Lengths::new(u16::from_le_bytes([bytes[1], bytes[2]]));
                    assert!(lengths.has_more());
                    let mut at = 3;
                    for field in [value, 0, 1, value, value] {
                        let length = lengths.next_length();
                        assert_eq!(read(bytes, at, length), Some(field));
                        at += length;
                    }
                    assert_eq!(at, end);
                }
            }
        }
    }

    #[test]
    fn a_field_that_is_cut_is_refused() {
        assert_eq!(read(&[1, 2, 3], 1, 3), None);
        assert_eq!(read(&[1, 2, 3], 4, 0), None);
        assert_eq!(read(&[1, 2, 3], 3, 0), Some(0));
        assert_eq!(read(&[1, 2, 3], 1, 2), Some(0x0302));
        assert_eq!(read(&[], usize::MAX, 1), None);
    }
}
