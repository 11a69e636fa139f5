//! Numbers and texts as the page's script unpacks them: variable-length integers in columns, deflated.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use alloc_trace_analysis::{Bin, Cell, Row};
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// A number in groups of seven bits, the lowest first; the eighth says that another follows.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The columns of the bins: a new one goes to the end.
pub(super) fn bins(out: &mut Vec<u8>, bins: &[Bin]) {
    const COLUMNS: [fn(&Bin) -> u64; 13] = [
        |bin| bin.allocations,
        |bin| bin.zeroed_allocations,
        |bin| bin.reallocations,
        |bin| bin.failed_requests,
        |bin| bin.frees,
        |bin| bin.temporary_allocations,
        |bin| bin.allocated_bytes,
        |bin| bin.released_bytes,
        |bin| bin.released_blocks,
        |bin| bin.kept_bytes,
        |bin| bin.kept_blocks,
        |bin| bin.peak_bytes,
        |bin| bin.peak_at_ns,
    ];
    number(out, bins.len() as u64);
    for column in COLUMNS {
        for bin in bins {
            number(out, column(bin));
        }
    }
}

/// The cells of an axis: how many each row has, then their columns.
pub(super) fn cells<K>(out: &mut Vec<u8>, rows: &[Row<K>]) {
    const COLUMNS: [fn(&Cell) -> u64; 9] = [
        |cell| cell.allocated_bytes,
        |cell| cell.requests,
        |cell| cell.temporary_allocations,
        |cell| cell.released_bytes,
        |cell| cell.released_blocks,
        |cell| cell.kept_bytes,
        |cell| cell.kept_blocks,
        |cell| cell.peak_bytes,
        |cell| cell.at_peak_bytes,
    ];
    number(out, rows.len() as u64);
    for row in rows {
        number(out, row.cells.len() as u64);
    }
    for row in rows {
        let mut before = 0;
        for cell in &row.cells {
            number(out, u64::from(cell.bin - before));
            before = cell.bin;
        }
    }
    for column in COLUMNS {
        for cell in rows.iter().flat_map(|row| &row.cells) {
            number(out, column(cell));
        }
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, usize>,
}

impl Texts {
    pub(super) fn number(&mut self, text: &Arc<str>) -> usize {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len();
        self.texts.push(Arc::clone(text));
        self.numbers.insert(Arc::clone(text), number);
        number
    }
}

/// The description, its length before it, and the numbers, deflated.
pub(super) fn deflate(description: &[u8], numbers: &[u8]) -> io::Result<Vec<u8>> {
    let mut length = Vec::new();
    number(&mut length, description.len() as u64);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    for part in [&length, description, numbers] {
        encoder.write_all(part)?;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let mut out = Vec::new();
        for value in [0, 127, 128, 300, u64::MAX] {
            number(&mut out, value);
        }
        assert_eq!(out[..6], [0, 127, 0x80, 1, 0xac, 2]);
        assert_eq!(out.len(), 6 + 10);
    }

    #[test]
    fn a_text_has_one_number() {
        let mut texts = Texts::default();
        let names: [Arc<str>; 3] = ["a".into(), "b".into(), "a".into()];
        assert_eq!(names.each_ref().map(|name| texts.number(name)), [0, 1, 0]);
        assert_eq!(texts.texts.len(), 2);
    }
}
