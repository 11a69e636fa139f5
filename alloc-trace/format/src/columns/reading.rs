//! Columns as they are read, each from its front.

use std::slice::Iter;

use super::unpack::Expected;
use super::{COLUMNS, SIZE, SIZE_HIGH};
use crate::varint;

/// The columns as they are read.
pub(super) struct Columns<'a> {
    /// What is left of each.
    rest: [Iter<'a, u8>; COLUMNS],
}

impl<'a> Columns<'a> {
    pub(super) fn new(bytes: &'a [u8], lengths: &[usize; COLUMNS]) -> Self {
        let mut behind = bytes;
        let rest = lengths.map(|length| {
            let (column, after) = behind.split_at_checked(length).unwrap_or_default();
            behind = after;
            column.iter()
        });
        Self { rest }
    }

    /// Columns that have been read to some place, each from there to its end.
    pub(super) fn at(bytes: &'a [u8], places: &[(usize, usize); COLUMNS]) -> Self {
        Self { rest: places.map(|(begin, end)| bytes.get(begin..end).unwrap_or_default().iter()) }
    }

    /// What is left of a column.
    pub(super) fn rest(&self, column: usize) -> &'a [u8] {
        self.rest[column].as_slice()
    }

    /// How much is left of each column.
    pub(super) fn lengths(&self) -> [usize; COLUMNS] {
        self.rest.each_ref().map(|rest| rest.len())
    }

    /// Goes on by so many bytes in a column.
    pub(super) fn pass(&mut self, column: usize, bytes: usize) {
        self.rest[column] = self.rest(column).get(bytes..).unwrap_or_default().iter();
    }

    /// Goes on to `rest` of a column.
    #[inline(always)]
    pub(super) fn go_on(&mut self, column: usize, rest: &'a [u8]) {
        self.rest[column] = rest.iter();
    }

    #[inline(always)]
    pub(super) fn next_byte(&mut self, column: usize) -> Option<u8> {
        self.rest[column].next().copied()
    }

    #[inline(always)]
    pub(super) fn byte(&mut self, column: usize) -> Result<u64, Expected> {
        self.next_byte(column).map(u64::from).ok_or("a longer column of bytes")
    }

    #[inline]
    pub(super) fn varint(&mut self, column: usize) -> Result<u64, Expected> {
        match self.rest[column].as_slice() {
            [byte, ..] if *byte < 0x80 => {
                self.rest[column].next();
                Ok(u64::from(*byte))
            }
            [low, high, ..] if *high < 0x80 => {
                self.pass(column, 2);
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(column),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self, column: usize) -> Result<u64, Expected> {
        let read = varint::read(self.rest(column));
        let (value, length) = read.ok_or("a longer column of numbers")?;
        self.pass(column, length);
        Ok(value)
    }

    /// Two bytes of a number, and the rest of it.
    #[inline(always)]
    pub(super) fn split(
        &mut self,
        low: usize,
        middle: usize,
        high: usize,
    ) -> Result<u64, Expected> {
        let rest = self.byte(high)?;
        let rest = if rest < 0xff { rest } else { self.varint(high)?.wrapping_add(rest) };
        Ok(self.byte(low)? | self.byte(middle)? << 8 | rest << 16)
    }

    #[inline(always)]
    pub(super) fn size(&mut self) -> Result<u64, Expected> {
        let low = self.byte(SIZE)?;
        if low < 0xff { Ok(low) } else { Ok(self.varint(SIZE_HIGH)?.wrapping_add(low)) }
    }
}
