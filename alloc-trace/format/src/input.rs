//! The fields of records, taken from bytes one after the other.

use crate::error::RecordError;
use crate::fields::{self, Lengths};
use crate::header::array;
use crate::record::NodeId;
use crate::varint;

/// Why a record could not be decoded, before its offset is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    expected: &'static str,
    truncated: bool,
}

impl Fault {
    pub(crate) const fn corrupt(expected: &'static str) -> Self {
        Self { expected, truncated: false }
    }

    pub(crate) const fn truncated(expected: &'static str) -> Self {
        Self { expected, truncated: true }
    }

    /// The same in what is known to be whole: it is no cut, but a contradiction.
    pub(crate) const fn within(self) -> Self {
        Self { truncated: false, ..self }
    }

    #[cold]
    pub(crate) const fn at(self, offset: usize) -> RecordError {
        RecordError { offset: offset as u64, expected: self.expected, truncated: self.truncated }
    }
}

/// What is left of a record, from which its fields are taken.
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    /// From this place of the bytes on.
    pub(crate) const fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// The place of what comes next.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Goes on behind a byte that was looked at.
    #[inline(always)]
    pub(crate) const fn pass_byte(&mut self) {
        self.offset += 1;
    }

    #[inline]
    pub(crate) fn byte(&mut self, expected: &'static str) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.offset).ok_or(Fault::truncated(expected))?;
        self.offset += 1;
        Ok(*byte)
    }

    #[inline]
    pub(crate) fn varint(&mut self, expected: &'static str) -> Result<u64, Fault> {
        // Most have one byte or two.
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        match *rest {
            [byte, ..] if byte < 0x80 => {
                self.offset += 1;
                Ok(u64::from(byte))
            }
            [low, high, ..] if high < 0x80 => {
                self.offset += 2;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(expected),
        }
    }

    fn long_varint(&mut self, expected: &'static str) -> Result<u64, Fault> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        match varint::read(rest) {
            Some((value, length)) => {
                self.offset += length;
                Ok(value)
            }
            None if rest.len() < varint::MAX_BYTES => Err(Fault::truncated(expected)),
            None => Err(Fault::corrupt(expected)),
        }
    }

    /// The lengths that stand before fields.
    #[inline]
    pub(crate) fn lengths(&mut self, expected: &'static str) -> Result<Lengths, Fault> {
        let bytes = array(self.bytes, self.offset).ok_or(Fault::truncated(expected))?;
        self.offset += bytes.len();
        Ok(Lengths::new(u16::from_le_bytes(bytes)))
    }

    /// The next field.
    #[inline]
    pub(crate) fn field(
        &mut self,
        lengths: &mut Lengths,
        expected: &'static str,
    ) -> Result<u64, Fault> {
        let length = lengths.next_length();
        let value = fields::read(self.bytes, self.offset, length);
        self.offset += length;
        value.ok_or(Fault::truncated(expected))
    }

    #[cold]
    pub(crate) fn kept_frames(&mut self) -> Result<u32, Fault> {
        let mut lengths = self.lengths("the length of a number of frames")?;
        let kept = self.field(&mut lengths, "a number of frames")?;
        u32::try_from(kept).map_err(|_| Fault::corrupt("a number of frames below 2^32"))
    }

    pub(crate) fn u32(&mut self, expected: &'static str) -> Result<u32, Fault> {
        u32::try_from(self.varint(expected)?).map_err(|_| Fault::corrupt(expected))
    }

    #[inline]
    pub(crate) fn node(&mut self, from: NodeId, expected: &'static str) -> Result<NodeId, Fault> {
        let number = varint::apply_difference(u64::from(from.0), self.varint(expected)?);
        u32::try_from(number).map(NodeId).map_err(|_| Fault::corrupt(expected))
    }

    pub(crate) fn fixed(&mut self, expected: &'static str) -> Result<u64, Fault> {
        let bytes = array(self.bytes, self.offset).ok_or(Fault::truncated(expected))?;
        self.offset += bytes.len();
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn take(
        &mut self,
        length: usize,
        expected: &'static str,
    ) -> Result<&'a [u8], Fault> {
        let end = self.offset.checked_add(length).ok_or(Fault::truncated(expected))?;
        let taken = self.bytes.get(self.offset..end).ok_or(Fault::truncated(expected))?;
        self.offset = end;
        Ok(taken)
    }

    pub(crate) fn bytes(&mut self, expected: &'static str) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(self.varint(expected)?);
        self.take(length.map_err(|_| Fault::truncated(expected))?, expected)
    }

    pub(crate) fn text(&mut self, expected: &'static str) -> Result<Box<str>, Fault> {
        Ok(String::from_utf8_lossy(self.bytes(expected)?).into())
    }
}
