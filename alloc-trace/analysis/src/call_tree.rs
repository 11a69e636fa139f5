//! The call tree of a recording, put together from the definitions of its nodes.
//!
//! A recorder's numbers are not one to one with backtraces: its index forgets, so that one backtrace
//! can have several numbers. Here each backtrace is one [`Place`], found by its parent and its
//! return address, where that matters ([`TreeForm`]). Definitions may come in any order and may
//! contradict each other: a number whose parents lead in a circle or to nothing counts as cut there.

mod index;

use alloc_trace_format::{NodeDefinition, NodeId};
use rustc_hash::{FxHashMap, FxHashSet};

use self::index::Index;

/// Numbers whose places are looked for together.
const BATCH: usize = 32;

/// A backtrace: its number in a [`CallTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u32);

impl Place {
    /// The empty backtrace, and the outermost parent of whole ones.
    pub(crate) const ROOT: Self = Self(0);
    /// The outermost parent of backtraces that were cut.
    pub(crate) const CUT: Self = Self(1);
    /// Stands for a backtrace whose definition was lost: no place of any tree.
    pub(crate) const LOST: Self = Self(u32::MAX);

    /// The place that has this index.
    pub(crate) const fn of_index(index: u32) -> Self {
        Self(index)
    }

    /// As an index into a table with an entry for each place.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The definitions of nodes, as they are found: of a number that is defined twice the first counts.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// The parent by number; [`UNKNOWN`] where there is no definition yet.
    parents: Vec<u32>,
    /// The return address by number. Beside the parents, and not with each: a pair would take a third more.
    addresses: Vec<u64>,
    sparse: FxHashMap<u32, (u32, u64)>,
    added: usize,
}

impl Definitions {
    pub(crate) fn add(&mut self, node: &NodeDefinition) {
        let (id, parent, address) = (node.id.0, node.parent.0, node.address);
        self.added += 1;
        let index = id as usize;
        // One absurd number must not take gigabytes.
        if index >= self.parents.len() && index < self.added * 8 + 1024 {
            self.parents.resize(index + 1, UNKNOWN);
            self.addresses.resize(index + 1, 0);
        }
        match self.parents.get_mut(index).zip(self.addresses.get_mut(index)) {
            Some((known, _)) if *known != UNKNOWN => {}
            // A parent that has the mark's own number stands with what does not fit the table.
            Some(entry) if parent != UNKNOWN => (*entry.0, *entry.1) = (parent, address),
            _ => {
                self.sparse.entry(id).or_insert((parent, address));
            }
        }
    }

    /// Moves the address of each node, given with its number, by what `by` answers.
    #[cold]
    pub(crate) fn move_addresses(&mut self, by: impl Fn(u32, u64) -> Option<u64>) {
        let dense = (0..).zip(&mut self.addresses);
        let sparse = self.sparse.iter_mut().map(|(&id, (_, address))| (id, address));
        for (id, address) in dense.chain(sparse) {
            if let Some(by) = by(id, *address) {
                *address = address.wrapping_add(by);
            }
        }
    }

    /// A number that was beyond the table when it was defined may be within it now: the first
    /// definition is the one that counts.
    fn get(&self, id: u32) -> Option<(u32, u64)> {
        if !self.sparse.is_empty()
            && let Some(&definition) = self.sparse.get(&id)
        {
            return Some(definition);
        }
        let parent = *self.parents.get(id as usize)?;
        (parent != UNKNOWN).then_some((parent, *self.addresses.get(id as usize)?))
    }

    /// How many definitions there are of numbers, as [`Self::numbers`] gives them.
    fn count(&self) -> usize {
        self.dense().count() + self.sparse.len()
    }

    /// All numbers that are defined, in order, some twice.
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let mut sparse: Vec<u32> = self.sparse.keys().copied().collect();
        sparse.sort_unstable();
        self.dense().chain(sparse)
    }

    /// The numbers whose definitions stand in the table.
    fn dense(&self) -> impl Iterator<Item = u32> {
        let defined = (0..).zip(&self.parents).filter(|(_, parent)| **parent != UNKNOWN);
        defined.map(|(id, _)| id)
    }
}

/// Which of the recorder's numbers are one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeForm {
    /// Those of one backtrace: for whoever shows or counts backtraces. To find them takes longer than all
    /// else that is done for a tree of millions of places.
    Merged,
    /// None. That serves whoever goes by call sites alone. Whoever follows activations needs it: a recorder
    /// says how many frames were kept only where its numbers do not show it.
    Numbered,
}

/// All backtraces of a recording.
#[derive(Debug)]
pub(crate) struct CallTree {
    places: Places,
    numbers: Numbers,
}

impl CallTree {
    pub(crate) fn new(definitions: &Definitions, form: TreeForm) -> Self {
        let most = definitions.count();
        let mut tree = Self { places: Places::new(most), numbers: Numbers::new(definitions) };
        let mut index = matches!(form, TreeForm::Merged).then(|| Index::new(most));
        let mut way = Vec::new();
        let mut numbers = definitions.numbers();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            batch.extend(numbers.by_ref().take(BATCH));
            if batch.is_empty() {
                return tree;
            }
            if let Some(index) = &index {
                std::hint::black_box(tree.touch(&batch, definitions, index));
            }
            for &id in &batch {
                tree.take(id, definitions, index.as_mut(), &mut way);
            }
        }
    }

    /// Has what the places of these numbers wait for fetched together, where their parents' are known.
    fn touch(&self, batch: &[u32], definitions: &Definitions, index: &Index) -> u64 {
        batch.iter().fold(0, |touched, &id| {
            let Some((parent, address)) = definitions.get(id) else { return touched };
            let parent = self.numbers.get(parent).unwrap_or(Place::CUT);
            touched ^ index.touch(parent, address)
        })
    }

    /// Finds the place of a number, and of those on the `way` outwards that have none yet.
    fn take(
        &mut self,
        id: u32,
        definitions: &Definitions,
        mut index: Option<&mut Index>,
        way: &mut Vec<(u32, u64)>,
    ) {
        // Outwards until a node whose place is known, then back in.
        let mut at = id;
        let mut parent = loop {
            if let Some(place) = self.numbers.get(at) {
                break place;
            }
            let Some((parent, address)) = definitions.get(at) else { break Place::CUT };
            // Until its place is found the node counts as cut: a circle ends here.
            self.numbers.set(at, Place::CUT);
            way.push((at, address));
            at = parent;
        };
        while let Some((id, address)) = way.pop() {
            let next = Place(self.places.len() as u32);
            let place = match &mut index {
                Some(index) => index.find_or_put((parent, address), next, &self.places),
                None => next,
            };
            if place == next {
                self.places.push(parent, address);
            }
            self.numbers.set(id, place);
            parent = place;
        }
    }

    /// The place of a recorded node; `None` for one that was never defined.
    #[inline]
    pub(crate) fn place(&self, node: NodeId) -> Option<Place> {
        self.numbers.get(node.0)
    }

    /// The place of each of the lowest numbers, which are all but a damaged recording's.
    pub(crate) fn lowest(&self) -> impl Iterator<Item = Option<Place>> {
        (0..self.numbers.dense.len() as u32).map(|id| self.numbers.get(id))
    }

    /// The innermost return address of a place, and the place of the frames outside; `None` for the
    /// roots.
    pub(crate) fn frame(&self, place: Place) -> Option<(u64, Place)> {
        if place.0 <= Place::CUT.0 {
            return None;
        }
        self.places.get(place).map(|(parent, address)| (address, parent))
    }

    /// The return addresses of a place, innermost first.
    pub(crate) fn frames(&self, place: Place) -> impl Iterator<Item = u64> {
        std::iter::successors(self.frame(place), |&(_, parent)| self.frame(parent))
            .map(|(address, _)| address)
    }

    /// The return addresses in the allocator itself, where a few are the innermost of all backtraces: as
    /// its functions were not inlined, each kind of request has one, whoever makes it. None where that is not
    /// clear.
    ///
    /// It is how the allocator is known in a program without names.
    pub(crate) fn allocator_addresses(&self) -> Vec<u64> {
        /// One for each function of an allocator, and one for a reallocation that falls back on them.
        const MOST: usize = 5;
        const CALLERS: usize = 2 * MOST;

        let mut is_parent = vec![false; self.places.len()];
        for parent in &self.places.parents {
            if let Some(is_parent) = is_parent.get_mut(parent.index()) {
                *is_parent = true;
            }
        }
        let mut innermost = Vec::new();
        let mut callers = FxHashSet::default();
        let leaves = self.places.iter().zip(is_parent).skip(2).filter(|(_, parent)| !parent);
        for ((parent, address), _) in leaves {
            if !innermost.contains(&address) {
                innermost.push(address);
            }
            if innermost.len() > MOST {
                return Vec::new();
            }
            if callers.len() <= CALLERS {
                callers.insert(self.frame(parent).map_or(0, |(address, _)| address));
            }
        }
        if callers.len() > 2 * innermost.len() { innermost } else { Vec::new() }
    }

    /// How many places there are, the two roots included.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All places, the roots first and every parent before its children.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.places.len() as u32).map(Place)
    }
}

/// The parent and the return address of each place; the first two are the roots.
#[derive(Debug)]
struct Places {
    parents: Vec<Place>,
    addresses: Vec<u64>,
}

impl Places {
    /// The roots, and room for so many more: what grows step by step takes twice as much.
    fn new(most: usize) -> Self {
        let (mut parents, mut addresses) =
            (Vec::with_capacity(most + 2), Vec::with_capacity(most + 2));
        parents.extend([Place::ROOT, Place::CUT]);
        addresses.extend([0; 2]);
        Self { parents, addresses }
    }

    fn len(&self) -> usize {
        self.parents.len()
    }

    fn push(&mut self, parent: Place, address: u64) {
        self.parents.push(parent);
        self.addresses.push(address);
    }

    #[inline]
    fn get(&self, place: Place) -> Option<(Place, u64)> {
        let parent = *self.parents.get(place.index())?;
        Some((parent, *self.addresses.get(place.index())?))
    }

    fn iter(&self) -> impl Iterator<Item = (Place, u64)> {
        self.parents.iter().copied().zip(self.addresses.iter().copied())
    }
}

/// From the recorder's numbers to places.
///
/// A recorder numbers its nodes from 2 on, so a table serves nearly all of them; what a damaged
/// recording says beyond goes to a map, for one absurd number must not take gigabytes.
#[derive(Debug)]
struct Numbers {
    dense: Vec<u32>,
    sparse: FxHashMap<u32, u32>,
}

const UNKNOWN: u32 = u32::MAX;

impl Numbers {
    fn new(definitions: &Definitions) -> Self {
        let mut dense = vec![UNKNOWN; definitions.parents.len().max(2)];
        dense[..2].copy_from_slice(&[Place::ROOT.0, Place::CUT.0]);
        Self { dense, sparse: FxHashMap::default() }
    }

    #[inline]
    fn get(&self, id: u32) -> Option<Place> {
        let place = match self.dense.get(id as usize) {
            Some(&place) => place,
            None => *self.sparse.get(&id)?,
        };
        (place != UNKNOWN).then_some(Place(place))
    }

    fn set(&mut self, id: u32, place: Place) {
        match self.dense.get_mut(id as usize) {
            Some(entry) => *entry = place.0,
            None => {
                self.sparse.insert(id, place.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(u32, u32, u64)]) -> CallTree {
        let mut definitions = Definitions::default();
        for &(id, parent, address) in nodes {
            definitions.add(&NodeDefinition { id: NodeId(id), parent: NodeId(parent), address });
        }
        CallTree::new(&definitions, TreeForm::Merged)
    }

    fn addresses(tree: &CallTree, node: u32) -> Vec<u64> {
        tree.frames(tree.place(NodeId(node)).expect("defined")).collect()
    }

    #[test]
    fn two_numbers_of_one_backtrace_are_one_place() {
        let tree = tree(&[(2, 0, 10), (3, 2, 20), (4, 0, 10), (5, 4, 20), (6, 1, 10)]);
        assert_eq!(tree.place(NodeId(3)), tree.place(NodeId(5)));
        assert_ne!(tree.place(NodeId(2)), tree.place(NodeId(6)), "one of them was cut");
        assert_eq!(addresses(&tree, 5), [20, 10]);
        assert_eq!(tree.len(), 2 + 3);
    }

    #[test]
    fn on_request_each_number_is_a_place_of_its_own() {
        let mut definitions = Definitions::default();
        for (id, parent, address) in [(2, 0, 10), (3, 2, 20), (4, 2, 20)] {
            definitions.add(&NodeDefinition { id: NodeId(id), parent: NodeId(parent), address });
        }
        let tree = CallTree::new(&definitions, TreeForm::Numbered);
        assert_ne!(tree.place(NodeId(3)), tree.place(NodeId(4)));
        assert_eq!(tree.len(), 2 + 3);
    }

    #[test]
    fn children_may_be_defined_before_their_parents() {
        let tree = tree(&[(9, 8, 30), (8, 7, 20), (7, 0, 10)]);
        assert_eq!(addresses(&tree, 9), [30, 20, 10]);
    }

    #[test]
    fn circles_and_unknown_parents_count_as_cut() {
        let tree = tree(&[(2, 3, 10), (3, 2, 20), (4, 99, 30), (5, 5, 40)]);
        for node in 2..=5 {
            assert!((1..=2).contains(&addresses(&tree, node).len()), "node {node}");
        }
        assert_eq!(tree.place(NodeId(99)), None);
    }

    #[test]
    fn an_absurd_number_costs_no_more_than_any_other() {
        let tree = tree(&[(u32::MAX, 0, 10), (2, u32::MAX, 20)]);
        assert_eq!(addresses(&tree, 2), [20, 10]);
        assert!(tree.numbers.dense.len() < 10);
    }
}
