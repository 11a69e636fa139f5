//! The call tree by functions: what a flame graph shows.
//!
//! [`Backtraces`] has a node for each line that calls. Here a node is a function called by a node,
//! whichever line of it called.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::backtraces::Backtraces;
use crate::call_tree::{CallTree, Place};

/// A function in the call tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlameNode {
    /// The index of whatever called it; `None` for the outermost.
    pub parent: Option<u32>,
    /// The function's name.
    pub function: Arc<str>,
}

/// A node's number in [`FlameTree`].
pub(crate) type NodeIndex = u32;

/// The call tree by functions.
#[derive(Debug, Default)]
pub(crate) struct FlameTree {
    nodes: Vec<FlameNode>,
    /// The node of each place of the call tree.
    by_place: Vec<NodeIndex>,
    /// The node of events whose backtrace was lost.
    lost: NodeIndex,
}

impl FlameTree {
    pub(crate) fn new(call_tree: &CallTree, backtraces: &Backtraces) -> Self {
        let mut nodes: Vec<FlameNode> = Vec::new();
        let mut numbers: FxHashMap<(Option<NodeIndex>, Arc<str>), NodeIndex> = FxHashMap::default();
        // The node of each of the backtraces' nodes; `None` for their root.
        let mut by_node: Vec<Option<NodeIndex>> = Vec::with_capacity(backtraces.nodes.len());
        for (number, node) in (0..).zip(&backtraces.nodes) {
            let parent = node.parent.and_then(|parent| *by_node.get(parent as usize)?);
            let found = backtraces.frame(number).map(|frame| {
                let next = nodes.len() as NodeIndex;
                let key = (parent, Arc::clone(&frame.function));
                let found = *numbers.entry(key).or_insert(next);
                if found == next {
                    nodes.push(FlameNode { parent, function: Arc::clone(&frame.function) });
                }
                found
            });
            by_node.push(found);
        }
        let find = |node: u32| by_node.get(node as usize).copied().flatten().unwrap_or_default();
        let by_place = call_tree.places().map(|place| find(backtraces.node(place))).collect();
        Self { by_place, lost: find(backtraces.node(Place::LOST)), nodes }
    }

    /// The node of a backtrace.
    pub(crate) fn of(&self, place: Place) -> NodeIndex {
        self.by_place.get(place.index()).copied().unwrap_or(self.lost)
    }

    pub(crate) fn nodes(&self) -> &[FlameNode] {
        &self.nodes
    }
}
