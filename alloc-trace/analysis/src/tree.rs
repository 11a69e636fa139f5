//! The call tree as a person reads it: frames of one function in one place, from `main` inwards or
//! from the call sites outwards.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::backtraces::Backtraces;
use crate::figures::Figures;
use crate::measure::Measure;
use crate::recording_state::RecordingState;
use crate::weights::CallTreeWeights;

/// A call tree whose nodes are functions: calls from different lines of one function are one node.
///
/// As in [`CallTreeWeights`], no node has a peak of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tree {
    /// How far the recording can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// Whether it leads from the call sites outwards.
    pub inverted: bool,
    /// The figures of the whole program.
    pub total: Figures,
    /// The nodes, each behind its parent and directly in front of what lies inside of it; of two with
    /// one parent first the one that has more of the measure.
    pub nodes: Vec<TreeNode>,
}

/// A function on its way from the root.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TreeNode {
    /// The index of the node above it in [`Tree::nodes`]; `None` for the uppermost.
    pub parent: Option<u32>,
    /// How many nodes are above it.
    pub depth: u32,
    /// The function's demangled name, as in a call site.
    pub function: Arc<str>,
    /// The source file, where there is debug information.
    pub file: Option<Arc<str>>,
    /// What it asked for itself. In an inverted tree: what was asked for on the way that ends here.
    pub own: Figures,
    /// The same, with all nodes below.
    pub inclusive: Figures,
}

/// How a [`Tree`] is built.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TreeShape {
    /// From the call sites outwards.
    pub inverted: bool,
    /// What orders the nodes, and decides which are left out.
    pub measure: Measure,
    /// Nodes that have less than this part of the whole, all below included, are left out; where it is
    /// more than 0, those that have nothing of the measure too.
    pub min_share: f64,
    /// How many levels there are at most.
    pub max_depth: u32,
}

impl Default for TreeShape {
    /// From `main` inwards, by allocated bytes, whole.
    fn default() -> Self {
        Self { inverted: false, measure: Measure::Bytes, min_share: 0.0, max_depth: u32::MAX }
    }
}

impl TreeShape {
    /// From the call sites outwards; by default from `main` inwards.
    #[must_use]
    pub const fn inverted(mut self, inverted: bool) -> Self {
        self.inverted = inverted;
        self
    }

    /// What orders the nodes; by default allocated bytes. [`Measure::Peak`] does not add up, so its
    /// place is taken by [`Measure::AtPeak`].
    #[must_use]
    pub const fn measure(mut self, measure: Measure) -> Self {
        self.measure = if measure.adds_up() { measure } else { Measure::AtPeak };
        self
    }

    /// The part of the whole, from 0 to 1, that a node must have; by default none.
    #[must_use]
    pub const fn min_share(mut self, share: f64) -> Self {
        self.min_share = share;
        self
    }

    /// How many levels there are at most; by default all.
    #[must_use]
    pub const fn max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels;
        self
    }
}

/// A function's name and file.
type Function = (Arc<str>, Option<Arc<str>>);

/// A node on the way to be one of a [`Tree`].
#[derive(Debug)]
struct Growing {
    function: u32,
    own: Figures,
    inclusive: Figures,
    children: Vec<u32>,
}

impl Tree {
    /// Puts a call tree into this shape.
    #[must_use]
    pub fn of(weights: &CallTreeWeights, shape: TreeShape) -> Self {
        let mut grower = Grower::new(&weights.backtraces);
        for (node, figures) in (0..).zip(&weights.own) {
            if *figures != Figures::default() {
                grower.add(&weights.backtraces, node, figures, shape.inverted);
            }
        }
        let mut tree = Self {
            state: weights.state.clone(),
            inverted: shape.inverted,
            total: weights.total,
            nodes: Vec::new(),
        };
        grower.harvest(&mut tree, shape);
        tree
    }
}

struct Grower {
    functions: Vec<Function>,
    /// The function of each frame.
    of_frames: Vec<u32>,
    /// The first is the root, which stands for no function.
    nodes: Vec<Growing>,
    numbers: FxHashMap<(u32, u32), u32>,
}

impl Grower {
    fn new(backtraces: &Backtraces) -> Self {
        let mut numbers: FxHashMap<Function, u32> = FxHashMap::default();
        let mut functions: Vec<Function> = Vec::new();
        let of_frames = backtraces
            .frames
            .iter()
            .map(|frame| {
                let function = (Arc::clone(&frame.function), frame.file.clone());
                *numbers.entry(function).or_insert_with_key(|function| {
                    functions.push(function.clone());
                    (functions.len() - 1) as u32
                })
            })
            .collect();
        let root = Growing {
            function: u32::MAX,
            own: Figures::default(),
            inclusive: Figures::default(),
            children: Vec::new(),
        };
        Self { functions, of_frames, nodes: vec![root], numbers: FxHashMap::default() }
    }

    /// Adds the figures of a backtrace to every node on its way.
    fn add(&mut self, backtraces: &Backtraces, node: u32, figures: &Figures, inverted: bool) {
        let mut way = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at.and_then(|node| backtraces.nodes.get(node as usize)) {
            let frame = node.frame.and_then(|frame| self.of_frames.get(frame as usize));
            way.extend(frame.copied());
            at = node.parent;
        }
        if !inverted {
            way.reverse();
        }
        let mut at = 0;
        self.pass(at, figures);
        for function in way {
            at = self.child(at, function);
            self.pass(at, figures);
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.own.add(figures);
        }
    }

    fn pass(&mut self, node: u32, figures: &Figures) {
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.inclusive.add(figures);
        }
    }

    fn child(&mut self, parent: u32, function: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let number = *self.numbers.entry((parent, function)).or_insert(next);
        if number == next {
            self.nodes.push(Growing {
                function,
                own: Figures::default(),
                inclusive: Figures::default(),
                children: Vec::new(),
            });
            if let Some(parent) = self.nodes.get_mut(parent as usize) {
                parent.children.push(number);
            }
        }
        number
    }

    /// Takes over what the shape leaves, in order.
    fn harvest(mut self, tree: &mut Tree, shape: TreeShape) {
        let whole = self.nodes.first().map_or(0, |root| shape.measure.of(&root.inclusive));
        let least = whole as f64 * shape.min_share;
        // What is still to be taken over, the next one last: its number, its parent's index, its depth.
        let mut rest: Vec<(u32, Option<u32>, u32)> = vec![(0, None, 0)];
        while let Some((number, parent, depth)) = rest.pop() {
            let Some(node) = self.nodes.get_mut(number as usize) else { continue };
            let mut children = std::mem::take(&mut node.children);
            let index = tree.nodes.len() as u32;
            let (own, inclusive) = (node.own, node.inclusive);
            let function = self.functions.get(node.function as usize);
            let below = match function {
                None => None,
                Some((function, file)) => {
                    let (function, file) = (Arc::clone(function), file.clone());
                    tree.nodes.push(TreeNode { parent, depth, function, file, own, inclusive });
                    Some(index)
                }
            };
            let depth = if below.is_some() { depth + 1 } else { depth };
            if depth >= shape.max_depth {
                continue;
            }
            let value = |child: u32| {
                self.nodes.get(child as usize).map_or(0, |node| shape.measure.of(&node.inclusive))
            };
            // Without a least share all are there: those too that only free, and have none of the measure.
            children.retain(|&child| {
                let value = value(child);
                shape.min_share <= 0.0 || (value > 0 && value as f64 >= least)
            });
            let name = |child: u32| {
                let node = self.nodes.get(child as usize)?;
                self.functions.get(node.function as usize)
            };
            // The least first, for the last is taken next.
            children.sort_by(|&one, &other| {
                value(one).cmp(&value(other)).then_with(|| name(other).cmp(&name(one)))
            });
            rest.extend(children.into_iter().map(|child| (child, below, depth)));
        }
    }
}
