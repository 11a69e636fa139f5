//! The call tree by functions: what a flame graph shows.
//!
//! The recorded call tree has a node for each return address. Here a node is a function called by a
//! node, whichever line of it called, and functions that the compiler inlined are nodes of their own. The
//! allocator's, the runtime's and the libraries' frames are left out, unless all are wanted.

use std::sync::Arc;

use alloc_trace_format::NodeId;
use rustc_hash::FxHashMap;

use super::FlameNode;
use crate::call_site::{FrameKind, classify};
use crate::call_tree::CallTree;
use crate::sites::Sites;
use crate::symbols::Symbols;

/// A node's number in [`FlameTree`].
pub(crate) type NodeIndex = u32;

/// The call tree by functions.
#[derive(Debug, Default)]
pub(crate) struct FlameTree {
    nodes: Vec<FlameNode>,
    /// The node of each place of the call tree.
    by_place: Vec<NodeIndex>,
    /// The node of events whose backtrace was lost.
    unknown: NodeIndex,
}

/// A node's parent and function, by which it is found.
#[derive(Debug, Default)]
struct Index {
    nodes: Vec<FlameNode>,
    numbers: FxHashMap<(Option<NodeIndex>, Arc<str>), NodeIndex>,
}

impl Index {
    fn node(&mut self, parent: Option<NodeIndex>, function: &Arc<str>) -> NodeIndex {
        let next = self.nodes.len() as NodeIndex;
        let number = *self.numbers.entry((parent, Arc::clone(function))).or_insert(next);
        if number == next {
            self.nodes.push(FlameNode { parent, function: Arc::clone(function) });
        }
        number
    }
}

impl FlameTree {
    /// With `full`, no frame is left out.
    pub(crate) fn new(
        call_tree: &CallTree,
        sites: &Sites,
        symbols: &mut Symbols,
        full: bool,
    ) -> Self {
        let mut index = Index::default();
        // The innermost node of each place; `None` where no frame of it is shown.
        let mut innermost: Vec<Option<NodeIndex>> = Vec::with_capacity(call_tree.len());
        let mut by_place = Vec::with_capacity(call_tree.len());
        for place in call_tree.places() {
            let frame = call_tree.frame(place);
            let mut node = frame.and_then(|(_, parent)| *innermost.get(parent.index())?);
            if let Some((address, _)) = frame {
                let frames = symbols.frames(address);
                for frame in frames.iter().rev() {
                    if full || classify(frame) == FrameKind::Program {
                        node = Some(index.node(node, &frame.function));
                    }
                }
            }
            innermost.push(node);
            // A backtrace without a frame to show is told by its call site.
            let shown = node.or_else(|| {
                let site = sites.get(sites.of_place(place))?;
                Some(index.node(None, &site.function))
            });
            by_place.push(shown.unwrap_or_default());
        }
        let unknown = index.node(None, &Arc::from("[unknown]"));
        Self { nodes: index.nodes, by_place, unknown }
    }

    /// The node of an event's backtrace.
    #[inline]
    pub(crate) fn of(&self, call_tree: &CallTree, node: NodeId) -> NodeIndex {
        let place = call_tree.place(node);
        place.and_then(|place| self.by_place.get(place.index())).copied().unwrap_or(self.unknown)
    }

    pub(crate) fn nodes(&self) -> &[FlameNode] {
        &self.nodes
    }
}
