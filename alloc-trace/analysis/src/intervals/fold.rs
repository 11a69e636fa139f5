//! A call tree with fewer nodes: what is too small to be seen becomes one node beside what is not.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::axis::Cell;
use super::weights::{Weights, inclusive};
use super::{FlameNode, Intervals, Row};

/// What the nodes are called that stand for others.
const SMALLER: &str = "[smaller functions]";

impl Intervals {
    /// Leaves the call tree with at most about so many cells: functions that have, with all that they
    /// called, too small a share in every respect become one node, below their caller. What a node and
    /// all below it have stays as it was.
    pub fn fold_nodes(&mut self, cells: usize) {
        let weights = self.inclusive_weights();
        let mut total = Weights::default();
        for (row, weights) in self.nodes.iter().zip(&weights) {
            if row.key.parent.is_none() {
                total.add(weights);
            }
        }
        let mut share = 0.0;
        loop {
            let rows = self.nodes.iter().zip(&weights);
            // What stands for others already goes with those that come to it.
            let kept = rows.map(|(row, own)| {
                share == 0.0 || (*row.key.function != *SMALLER && own.is_large(&total, share))
            });
            let kept: Vec<bool> = kept.collect();
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
        let own = self.nodes.iter().map(own_weights).collect();
        inclusive(own, |node| self.nodes[node].key.parent)
    }

    /// How many cells there would be, at most.
    fn cells_with(&self, kept: &[bool]) -> usize {
        let mut folded: FxHashMap<Option<u32>, usize> = FxHashMap::default();
        let mut cells = 0;
        for ((row, caller), &kept) in self.nodes.iter().zip(self.callers(kept)).zip(kept) {
            if kept {
                cells += row.cells.len();
            } else {
                *folded.entry(caller).or_default() += row.cells.len();
            }
        }
        cells + folded.values().map(|&cells| cells.min(self.bins.len())).sum::<usize>()
    }

    fn callers(&self, kept: &[bool]) -> Vec<Option<u32>> {
        callers(self.nodes.iter().map(|row| &row.key), kept)
    }

    fn keep_nodes(&mut self, kept: &[bool]) {
        let nodes: Vec<&FlameNode> = self.nodes.iter().map(|row| &row.key).collect();
        let (tree, row_of) = fold_tree(&nodes, kept, |node| !self.nodes[node].cells.is_empty());
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); tree.len()];
        let figures = |node: usize| kept[node] || !self.nodes[node].cells.is_empty();
        for (node, &row) in row_of.iter().enumerate().filter(|&(node, _)| figures(node)) {
            rows[row as usize].push(node);
        }
        let rows = tree.into_iter().zip(rows).map(|(key, nodes)| {
            if let [node] = *nodes
                && kept[node]
            {
                return Row { key, parts: 1, cells: self.nodes[node].cells.clone() };
            }
            let parts = nodes.iter().map(|&node| self.nodes[node].parts).sum();
            let cells: Vec<&[Cell]> = nodes.iter().map(|&node| &*self.nodes[node].cells).collect();
            Row { key, parts, cells: merge(&cells) }
        });
        self.nodes = rows.collect();
    }
}

/// The next caller of each node that is kept; parents stand before their children.
fn callers<'a>(nodes: impl Iterator<Item = &'a FlameNode>, kept: &[bool]) -> Vec<Option<u32>> {
    let mut callers: Vec<Option<u32>> = Vec::with_capacity(kept.len());
    for node in nodes {
        callers.push(match node.parent {
            Some(parent) if !kept[parent as usize] => callers[parent as usize],
            parent => parent,
        });
    }
    callers
}

/// A call tree of those nodes that are kept, and one below each caller for all others with figures of their
/// `own`; and the node there of each that there was.
///
/// What a node is kept for its callers are, too. Of nodes that are not kept and have no figures the node
/// means nothing.
pub(super) fn fold_tree(
    nodes: &[&FlameNode],
    kept: &[bool],
    own: impl Fn(usize) -> bool,
) -> (Vec<FlameNode>, Vec<u32>) {
    let callers = callers(nodes.iter().copied(), kept);
    let folded = (0..nodes.len()).filter(|&node| !kept[node] && own(node));
    let with_others: FxHashSet<Option<u32>> = folded.map(|node| callers[node]).collect();
    let name: Arc<str> = Arc::from(SMALLER);
    let mut tree: Vec<FlameNode> = Vec::new();
    let mut others: FxHashMap<Option<u32>, u32> = FxHashMap::default();
    let mut new_of = vec![0_u32; nodes.len()];
    let mut add_others = |tree: &mut Vec<FlameNode>, caller: Option<u32>, parent: Option<u32>| {
        if with_others.contains(&caller) {
            others.insert(caller, tree.len() as u32);
            tree.push(FlameNode { parent, function: Arc::clone(&name) });
        }
    };
    add_others(&mut tree, None, None);
    for (node, &FlameNode { parent, ref function }) in (0..).zip(nodes.iter().copied()) {
        if !kept[node as usize] {
            continue;
        }
        let number = tree.len() as u32;
        new_of[node as usize] = number;
        let parent = parent.map(|parent| new_of[parent as usize]);
        tree.push(FlameNode { parent, function: Arc::clone(function) });
        add_others(&mut tree, Some(node), Some(number));
    }
    for (node, new) in new_of.iter_mut().enumerate().filter(|&(node, _)| !kept[node]) {
        *new = others.get(&callers[node]).copied().unwrap_or_default();
    }
    (tree, new_of)
}

fn own_weights(row: &Row<FlameNode>) -> Weights {
    let mut weights = Weights::default();
    for cell in &row.cells {
        weights.add(&Weights([
            cell.allocated_bytes,
            cell.requests,
            cell.temporary_allocations,
            cell.kept_bytes,
            0,
        ]));
        let [.., most] = &mut weights.0;
        *most = cell.peak_bytes.max(*most);
    }
    weights
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
