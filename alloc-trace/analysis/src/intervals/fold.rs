//! A call tree with fewer nodes: what is too small to be seen becomes one node beside what is not.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::axis::Cell;
use super::{FlameNode, Intervals, Row};

/// What the nodes are called that stand for others.
const SMALLER: &str = "[smaller functions]";

/// What is counted of a node and of all below it: bytes, requests, temporaries, what was never
/// released, and the most that can have been live at a time.
type Weights = [u64; 5];

impl Intervals {
    /// Leaves the call tree with at most about so many cells: functions that have, with all that they
    /// called, too small a share in every respect become one node, below their caller. What a node and
    /// all below it have stays as it was.
    pub fn fold_nodes(&mut self, cells: usize) {
        let weights = self.inclusive_weights();
        let mut total = Weights::default();
        for (row, weights) in self.nodes.iter().zip(&weights) {
            if row.key.parent.is_none() {
                add(&mut total, weights);
            }
        }
        let mut share = 0.0;
        loop {
            let kept: Vec<bool> = weights.iter().map(|own| is_large(own, &total, share)).collect();
            if self.cells_with(&kept) <= cells || share >= 1.0 {
                if share > 0.0 {
                    self.keep_nodes(&kept);
                }
                return;
            }
            share = if share == 0.0 { 1e-6 } else { share * 2.0 };
        }
    }

    fn inclusive_weights(&self) -> Vec<Weights> {
        let mut weights: Vec<Weights> = self.nodes.iter().map(own_weights).collect();
        for (index, row) in self.nodes.iter().enumerate().rev() {
            if let Some(parent) = row.key.parent {
                let own = weights[index];
                add(&mut weights[parent as usize], &own);
            }
        }
        weights
    }

    /// How many cells there would be, at most.
    fn cells_with(&self, kept: &[bool]) -> usize {
        let mut folded: FxHashMap<Option<u32>, usize> = FxHashMap::default();
        let mut cells = 0;
        for (index, row) in self.nodes.iter().enumerate() {
            if kept[index] {
                cells += row.cells.len();
            } else {
                *folded.entry(self.caller(index, kept)).or_default() += row.cells.len();
            }
        }
        cells + folded.values().map(|&cells| cells.min(self.bins.len())).sum::<usize>()
    }

    /// The next caller that is kept.
    fn caller(&self, index: usize, kept: &[bool]) -> Option<u32> {
        let mut caller = self.nodes[index].key.parent;
        while let Some(number) = caller.filter(|&number| !kept[number as usize]) {
            caller = self.nodes[number as usize].key.parent;
        }
        caller
    }

    fn keep_nodes(&mut self, kept: &[bool]) {
        let mut folded: FxHashMap<Option<u32>, Vec<usize>> = FxHashMap::default();
        for index in (0..self.nodes.len()).filter(|&index| !kept[index]) {
            folded.entry(self.caller(index, kept)).or_default().push(index);
        }
        let name: Arc<str> = Arc::from(SMALLER);
        let mut numbers = vec![0_u32; self.nodes.len()];
        let mut nodes: Vec<Row<FlameNode>> = Vec::new();
        let others = |caller: Option<u32>, parent: Option<u32>| {
            let rows = folded.get(&caller)?;
            let rows: Vec<&[Cell]> = rows.iter().map(|&row| &*self.nodes[row].cells).collect();
            let key = FlameNode { parent, function: Arc::clone(&name) };
            Some(Row { key, cells: merge(&rows) }).filter(|row| !row.cells.is_empty())
        };
        nodes.extend(others(None, None));
        for (index, row) in self.nodes.iter().enumerate().filter(|&(index, _)| kept[index]) {
            let number = nodes.len() as u32;
            numbers[index] = number;
            let parent = row.key.parent.map(|parent| numbers[parent as usize]);
            let key = FlameNode { parent, function: Arc::clone(&row.key.function) };
            nodes.push(Row { key, cells: row.cells.clone() });
            nodes.extend(others(Some(index as u32), Some(number)));
        }
        self.nodes = nodes;
    }
}

fn own_weights(row: &Row<FlameNode>) -> Weights {
    let mut weights = Weights::default();
    for cell in &row.cells {
        let of_cell =
            [cell.allocated_bytes, cell.requests, cell.temporary_allocations, cell.kept_bytes, 0];
        add(&mut weights, &of_cell);
        weights[4] = weights[4].max(cell.peak_bytes);
    }
    weights
}

fn add(sum: &mut Weights, weights: &Weights) {
    for (sum, weight) in sum.iter_mut().zip(weights) {
        *sum = sum.saturating_add(*weight);
    }
}

fn is_large(own: &Weights, total: &Weights, share: f64) -> bool {
    share == 0.0
        || own.iter().zip(total).any(|(&own, &total)| own > 0 && own as f64 >= share * total as f64)
}

/// The cells of several nodes as one node's; own peaks are not kept.
fn merge(rows: &[&[Cell]]) -> Vec<Cell> {
    let mut bins: Vec<u32> = rows.iter().flat_map(|row| row.iter().map(|cell| cell.bin)).collect();
    bins.sort_unstable();
    bins.dedup();
    let mut merged: Vec<Cell> = bins.into_iter().map(Cell::new).collect();
    for row in rows {
        let mut cells = row.iter().peekable();
        let mut live = 0;
        for into in &mut merged {
            match cells.next_if(|cell| cell.bin == into.bin) {
                Some(cell) => {
                    into.add(cell);
                    into.at_peak_bytes = into.at_peak_bytes.saturating_add(cell.at_peak_bytes);
                    live = cell.live_after(live);
                }
                None => into.at_peak_bytes = into.at_peak_bytes.saturating_add(live),
            }
        }
    }
    merged
}
