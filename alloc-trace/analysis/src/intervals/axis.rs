//! One way to divide what happened: by call site, by thread, by size. Each part has a cell for each bin in
//! which anything changed for it.

use crate::live_bytes::LiveBytes;

/// A part and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row<K> {
    /// Whose figures these are.
    pub key: K,
    /// How many parts' they are: more than one of those that were too many for rows of their own.
    pub parts: u32,
    /// A cell for each bin in which anything changed, in the order of the bins.
    pub cells: Vec<Cell>,
}

/// What happened to a part in one bin of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cell {
    /// The index of the bin.
    pub bin: u32,
    /// Up to which of the bin's peaks so far `at_peak_bytes` is right; [`UNOPENED`] as long as the
    /// bin has not begun.
    epoch: u32,
    /// Bytes requested here.
    pub allocated_bytes: u64,
    /// Requests made here, failed ones included.
    pub requests: u64,
    /// Blocks obtained here that were temporary.
    pub temporary_allocations: u64,
    /// Bytes released here, whenever they had been obtained.
    pub released_bytes: u64,
    /// Blocks released here.
    pub released_blocks: u64,
    /// Bytes obtained here that were never released.
    pub kept_bytes: u64,
    /// Blocks obtained here that were never released.
    pub kept_blocks: u64,
    /// The most bytes of the part that were live in the bin at a time.
    pub peak_bytes: u64,
    /// The bytes of the part that were live when the program was first at the bin's peak.
    pub at_peak_bytes: u64,
}

const UNOPENED: u32 = u32::MAX;

impl Cell {
    pub(super) const fn new(bin: u32) -> Self {
        Self {
            bin,
            epoch: UNOPENED,
            allocated_bytes: 0,
            requests: 0,
            temporary_allocations: 0,
            released_bytes: 0,
            released_blocks: 0,
            kept_bytes: 0,
            kept_blocks: 0,
            peak_bytes: 0,
            at_peak_bytes: 0,
        }
    }

    /// What is live after it, where so much was before.
    pub(super) const fn live_after(&self, before: u64) -> u64 {
        before.saturating_add(self.allocated_bytes).saturating_sub(self.released_bytes)
    }

    /// Adds what is counted of another cell; peaks stay as they are.
    pub(super) const fn add(&mut self, other: &Self) {
        self.allocated_bytes = self.allocated_bytes.saturating_add(other.allocated_bytes);
        self.requests += other.requests;
        self.temporary_allocations += other.temporary_allocations;
        self.released_bytes = self.released_bytes.saturating_add(other.released_bytes);
        self.released_blocks += other.released_blocks;
        self.kept_bytes = self.kept_bytes.saturating_add(other.kept_bytes);
        self.kept_blocks += other.kept_blocks;
    }
}

/// The present: the bin that is being filled, and how often it has had a new peak.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    pub(super) bin: u32,
    pub(super) epoch: u32,
}

/// The parts of one kind. A part's number is given by whoever uses the axis.
#[derive(Debug, Default)]
pub(super) struct Axis {
    parts: Vec<Part>,
    /// The parts with an open cell in the present bin.
    open: Vec<u32>,
    cells: usize,
}

/// A part and its cells. The last one, which nearly all that happens is counted in, stands with what is
/// live of the part: two lines of a cache that are fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    live_bytes: LiveBytes,
    /// Its bin is [`NO_BIN`] as long as there is no cell.
    last: Cell,
    /// Those of earlier bins.
    earlier: Vec<Cell>,
}

const NO_BIN: u32 = u32::MAX;

impl Default for Part {
    fn default() -> Self {
        Self { live_bytes: LiveBytes::default(), last: Cell::new(NO_BIN), earlier: Vec::new() }
    }
}

impl Part {
    /// The cell of a bin, made where there is none; answers whether it was.
    #[inline]
    fn cell(&mut self, bin: u32) -> (&mut Cell, bool) {
        if self.last.bin == bin { (&mut self.last, false) } else { self.other_cell(bin) }
    }

    fn other_cell(&mut self, bin: u32) -> (&mut Cell, bool) {
        if self.is_empty() || self.last.bin < bin {
            if !self.is_empty() {
                self.earlier.push(self.last);
            }
            self.last = Cell::new(bin);
            return (&mut self.last, true);
        }
        let found = self.earlier.binary_search_by_key(&bin, |cell| cell.bin);
        let (index, made) = match found {
            Ok(index) => (index, false),
            Err(index) => {
                self.earlier.insert(index, Cell::new(bin));
                (index, true)
            }
        };
        (&mut self.earlier[index], made)
    }

    const fn is_empty(&self) -> bool {
        self.last.bin == NO_BIN
    }

    /// Takes out all cells, in the order of their bins.
    fn take_cells(&mut self) -> Vec<Cell> {
        let mut cells = std::mem::take(&mut self.earlier);
        if !self.is_empty() {
            cells.push(std::mem::replace(&mut self.last, Cell::new(NO_BIN)));
        }
        cells
    }

    /// Puts cells in, in the order of their bins, where there are none.
    fn put_cells(&mut self, mut cells: Vec<Cell>) {
        if let Some(last) = cells.pop() {
            self.last = last;
        }
        self.earlier = cells;
    }

    fn finish(mut self) -> Vec<Cell> {
        let mut cells = self.take_cells();
        settle(&mut cells, u32::MAX);
        // All are equal now that stand for the same.
        for cell in &mut cells {
            cell.epoch = 0;
        }
        cells
    }
}

/// In the first `closed` bins, cells in which nothing came or went have what was live throughout.
fn settle(cells: &mut [Cell], closed: u32) {
    let mut live = 0;
    for cell in cells.iter_mut().take_while(|cell| cell.bin < closed) {
        let before = live;
        live = cell.live_after(before);
        if cell.epoch == UNOPENED {
            cell.epoch = 0;
            cell.peak_bytes = before.max(live);
            cell.at_peak_bytes = before;
        }
    }
}

impl Axis {
    /// How many cells there are.
    pub(super) const fn cells(&self) -> usize {
        self.cells
    }

    /// Counts something in the cell of a part and a bin.
    #[inline]
    pub(super) fn count(&mut self, part: u32, bin: u32, change: impl FnOnce(&mut Cell)) {
        let (cell, made) = Self::part(&mut self.parts, part).cell(bin);
        change(cell);
        self.cells += usize::from(made);
    }

    /// Bytes of a part come or go at present, and something is counted in the cell of a bin: mostly the
    /// present one, whose cell is then looked for once.
    #[inline]
    pub(super) fn count_and_change(
        &mut self,
        number: u32,
        (bin, now): (u32, Now),
        count: impl FnOnce(&mut Cell),
        change: impl FnOnce(&mut LiveBytes),
    ) {
        if bin == now.bin {
            self.change(number, now, change, count);
        } else {
            self.count(number, bin, count);
            self.change(number, now, change, |_| {});
        }
    }

    #[inline]
    fn change(
        &mut self,
        number: u32,
        now: Now,
        change: impl FnOnce(&mut LiveBytes),
        count: impl FnOnce(&mut Cell),
    ) {
        let part = Self::part(&mut self.parts, number);
        let before = part.live_bytes.get();
        change(&mut part.live_bytes);
        let after = part.live_bytes.get();
        let (cell, made) = part.cell(now.bin);
        if cell.epoch == UNOPENED {
            cell.peak_bytes = before;
            self.open.push(number);
        }
        if cell.epoch != now.epoch {
            cell.at_peak_bytes = before;
            cell.epoch = now.epoch;
        }
        cell.peak_bytes = cell.peak_bytes.max(after);
        count(cell);
        self.cells += usize::from(made);
    }

    fn part(parts: &mut Vec<Part>, number: u32) -> &mut Part {
        let index = number as usize;
        if index >= parts.len() {
            parts.resize_with(index + 1, Part::default);
        }
        &mut parts[index]
    }

    /// The present bin is over.
    pub(super) fn close(&mut self, now: Now) {
        for number in self.open.drain(..) {
            let Some(part) = self.parts.get_mut(number as usize) else { continue };
            let live_bytes = part.live_bytes.get();
            let (cell, _) = part.cell(now.bin);
            if cell.epoch != now.epoch {
                cell.at_peak_bytes = live_bytes;
            }
        }
    }

    /// Makes one bin of every two, the first `closed` of which are over; `later` says of a pair whether
    /// the peak of its second half counts.
    pub(super) fn halve(&mut self, closed: u32, later: impl Fn(u32) -> bool) {
        self.cells = 0;
        for part in &mut self.parts {
            let mut cells = part.take_cells();
            settle(&mut cells, closed);
            let mut live = 0_u64;
            let mut merged: Vec<Cell> = Vec::with_capacity(cells.len() / 2 + 1);
            for cell in &cells {
                let before = live;
                live = cell.live_after(before);
                let (bin, second) = (cell.bin / 2, cell.bin % 2 == 1);
                match merged.last_mut().filter(|last| last.bin == bin) {
                    Some(first) => {
                        first.add(cell);
                        first.peak_bytes = first.peak_bytes.max(cell.peak_bytes);
                        if later(bin) {
                            first.at_peak_bytes = cell.at_peak_bytes;
                        }
                    }
                    None => {
                        // Where the peak is in the half without a cell, nothing changed there.
                        let at_peak_bytes = match (second, later(bin)) {
                            (false, true) => live,
                            (true, false) => before,
                            _ => cell.at_peak_bytes,
                        };
                        merged.push(Cell { bin, at_peak_bytes, ..*cell });
                    }
                }
            }
            self.cells += merged.len();
            part.put_cells(merged);
        }
    }

    /// The parts that have any cells, with their keys and how many parts those stand for.
    pub(super) fn rows<K>(self, key: impl Fn(usize) -> Option<(K, u32)>) -> Vec<Row<K>> {
        let rows = self.parts.into_iter().enumerate();
        rows.filter(|(_, row)| !row.is_empty())
            .filter_map(|(index, row)| {
                let (key, parts) = key(index)?;
                Some(Row { key, parts, cells: row.finish() })
            })
            .collect()
    }

    /// The cells of every part, of so many parts.
    pub(super) fn all(mut self, parts: usize) -> Vec<Vec<Cell>> {
        self.parts.resize_with(parts, Part::default);
        self.parts.into_iter().map(Part::finish).collect()
    }
}
