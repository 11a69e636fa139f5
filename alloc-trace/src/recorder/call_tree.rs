//! The call tree as the writer knows it: which number a backtrace's innermost frame has.
//!
//! A fixed table that forgets: a node that was driven out is defined again under another number,
//! which costs bytes and not truth, since the reader merges nodes by parent and address. So the
//! recorded process stays small, however many backtraces it has. Those that were asked for since
//! they were inserted are driven out last.
//!
//! A node is known by its *path*, a hash of all addresses from the root on, and by nothing else. So an
//! event asks for one node, that of its whole backtrace; those further out are asked for where that
//! one is not known. Two paths of one hash would be taken for one: ten million questions for nodes that a
//! full table does not hold meet such a one with a chance of one in two million.
//!
//! Lookups and insertions take no lock. An entry is two words written one after the other; the
//! first is mixed with the second, so that a reader that sees halves of two entries finds neither
//! (the lockless hash table of Hyatt and Mann, "A lock-less transposition table implementation for
//! parallel search chess engines", 2002).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc_trace_format::NodeId;

use super::sys;

/// Entries that share a cache line and among which a path is looked up.
const WAYS: usize = 5;
/// Lines of the table of all nodes: 8 MiB, of which only what is used is resident.
const LINES: usize = 1 << 17;
/// Lines of the table of nodes that are asked for again: 1 MiB.
const FREQUENT_LINES: usize = 1 << 14;

const _: () = assert!(size_of::<Line>() == 64);

/// Zeroed memory is a line of no nodes.
#[repr(C, align(64))]
#[derive(Debug)]
struct Line {
    /// Each path, mixed with its node's number.
    paths: [AtomicU64; WAYS],
    /// Each node's number, with [`ASKED_FOR`]; 0 for none.
    nodes: [AtomicU32; WAYS],
}

impl Line {
    #[inline(always)]
    fn find(&self, path: Path) -> Option<NodeId> {
        // Which way it is cannot be guessed, so there is no branch for it: what comes next need not wait
        // for the line.
        let (mut number, mut node) = (u64::MAX, self.nodes.first()?);
        for (mixed, place) in self.paths.iter().zip(&self.nodes) {
            let unmixed = mixed.load(Ordering::Relaxed) ^ path.0;
            if unmixed <= u64::from(NUMBER) {
                (number, node) = (unmixed, place);
            }
        }
        // Acquire pairs with the release in `insert`: a node that is found here has been defined in
        // somebody's stream.
        let asked = node.load(Ordering::Acquire);
        if u64::from(asked & NUMBER) != number || number == 0 {
            return None;
        }
        if asked & ASKED_FOR == 0 {
            // Release hands on what was acquired. If another node was inserted meanwhile, this makes an
            // entry of two halves, which is found by nobody.
            node.store(asked | ASKED_FOR, Ordering::Release);
        }
        Some(NodeId(asked & NUMBER))
    }

    fn insert(&self, path: Path, id: NodeId) {
        let Self { paths, nodes } = self;
        // The oldest of those that were not asked for, which the mark makes greater numbers.
        let way = paths.iter().zip(nodes).min_by_key(|(_, node)| node.load(Ordering::Relaxed));
        let Some((mixed, node)) = way else { return };
        if node.load(Ordering::Relaxed) & ASKED_FOR != 0 {
            // All were: from here on that counts anew.
            for node in nodes {
                // Release hands on what others acquire with the node.
                node.store(node.load(Ordering::Relaxed) & !ASKED_FOR, Ordering::Release);
            }
        }
        mixed.store(path.0 ^ u64::from(id.0), Ordering::Relaxed);
        // Release: pairs with the acquire in `find`.
        node.store(id.0, Ordering::Release);
    }
}

/// Set in a node that was found since it was inserted, or since all of its line were.
const ASKED_FOR: u32 = 1 << 31;
/// A node's own number.
const NUMBER: u32 = ASKED_FOR - 1;

/// The process's index of call-tree nodes.
#[derive(Debug)]
pub(super) struct CallTree {
    /// Nodes that are asked for again and again, each beside those of the same parent: a function that
    /// allocates and frees does so by several calls, and what the first of them brings into the cache
    /// serves all.
    frequent: Table<FREQUENT_LINES>,
    /// All nodes, each on its own path's line.
    all: Table<LINES>,
    next: AtomicU32,
}

impl CallTree {
    /// An empty tree; `None` where memory is short.
    pub(super) fn new() -> Option<Self> {
        let (frequent, all) = (Table::new()?, Table::new()?);
        Some(Self { frequent, all, next: AtomicU32::new(NodeId::FIRST.0) })
    }

    /// The node of an event's backtrace, which is at `path` below `parent`, if it is known.
    #[inline(always)]
    pub(super) fn find(&self, path: Path, parent: Path) -> Option<NodeId> {
        let found = self.frequent.line(beside(parent, path)).find(path);
        if found.is_some() { found } else { self.find_among_all(path, parent) }
    }

    /// From now on a node that is found here is among the frequent ones.
    #[inline(never)]
    fn find_among_all(&self, path: Path, parent: Path) -> Option<NodeId> {
        let node = self.find_parent(path)?;
        self.frequent.line(beside(parent, path)).insert(path, node);
        Some(node)
    }

    /// The node at `path`, if it is known, for the definition of one below it: that says nothing of how
    /// often it is asked for.
    #[inline(always)]
    pub(super) fn find_parent(&self, path: Path) -> Option<NodeId> {
        self.all.line(path).find(path)
    }

    /// A number for a node that is not known; it is inserted once its definition is written.
    pub(super) fn reserve(&self) -> NodeId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // After two billion definitions the frames outside are all that can be named.
        if id > NUMBER {
            self.next.store(NUMBER + 1, Ordering::Relaxed);
            return NodeId::CUT;
        }
        NodeId(id)
    }

    /// No node has this number yet, nor a greater one.
    pub(super) fn next_number(&self) -> NodeId {
        NodeId(self.next.load(Ordering::Relaxed))
    }

    /// Makes a node known whose definition has been written, driving out one of its line.
    #[cold]
    pub(super) fn insert(&self, path: Path, id: NodeId) {
        if !id.is_root() {
            self.all.line(path).insert(path, id);
        }
    }

    /// Forgets everything, for a new recording.
    pub(super) fn clear(&self) {
        self.frequent.clear();
        self.all.clear();
        self.next.store(NodeId::FIRST.0, Ordering::Relaxed);
    }
}

/// Where `path` below `parent` lies among the frequent ones: on one of two lines side by side, which are ten
/// entries.
#[inline(always)]
const fn beside(parent: Path, path: Path) -> Path {
    Path(parent.0 & !1 | path.0 & 1)
}

/// Lines of nodes, as many as there is room for.
#[derive(Debug)]
struct Table<const LINES: usize> {
    lines: NonNull<Line>,
}

// SAFETY: the lines are atomics, mapped as long as the process lives.
unsafe impl<const LINES: usize> Send for Table<LINES> {}
// SAFETY: as above.
unsafe impl<const LINES: usize> Sync for Table<LINES> {}

impl<const LINES: usize> Table<LINES> {
    const IS_MASKED: () = assert!(LINES.is_power_of_two());

    /// An empty table; `None` where memory is short.
    fn new() -> Option<Self> {
        let () = Self::IS_MASKED;
        let lines = sys::map_anonymous(LINES * size_of::<Line>())?.cast();
        Some(Self { lines })
    }

    fn clear(&self) {
        for index in 0..LINES {
            // SAFETY: the mapping holds `LINES` lines.
            let line = unsafe { self.lines.add(index) };
            // SAFETY: mapped, and zero is a valid line of atomics.
            for node in unsafe { &line.as_ref().nodes } {
                // Only what was written is touched, so that untouched OS pages stay absent: reading
                // them maps the shared zero page.
                if node.load(Ordering::Relaxed) != 0 {
                    node.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    #[inline(always)]
    fn line(&self, path: Path) -> &Line {
        let index = path.0 as usize & (LINES - 1);
        // SAFETY: the index is masked to the number of lines.
        let line = unsafe { self.lines.add(index) };
        // SAFETY: mapped as long as the process lives, and zero is a valid line of atomics.
        unsafe { line.as_ref() }
    }
}

/// A hash of all addresses from a root to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Path(u64);

impl Path {
    /// Of no backtrace: fills places that have none.
    pub(super) const NONE: Self = Self(0);

    /// Nothing but a root, of a generation of a ring or of a recording that has none: so that no
    /// generation finds the nodes of another.
    #[inline(always)]
    pub(super) const fn of_root(root: NodeId, generation: u32) -> Self {
        Self::NONE.below((generation as u64) << 32 | root.0 as u64)
    }

    /// The path of the frame at `address` below this one.
    #[inline(always)]
    pub(super) const fn below(self, address: u64) -> Self {
        let product = (self.0 ^ address ^ 0x2d35_8dcc_aa6c_78a5) as u128 * 0x9e37_79b9_7f4a_7c15;
        Self(product as u64 ^ (product >> 64) as u64)
    }

    /// The path of the frame at `address` below this one, in code that was put in the place of other code
    /// where `replacements` counts that.
    pub(super) const fn below_late(self, address: u64, replacements: u32) -> Self {
        self.below(address).below(replacements as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(address: u64) -> Path {
        Path::of_root(NodeId::ROOT, 0).below(address)
    }

    /// The `number`th of paths that all lie on one line.
    fn on_one_line(number: u64) -> Path {
        Path(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) << LINES.ilog2())
    }

    #[test]
    fn a_node_is_found_at_its_own_path_only() {
        let tree = CallTree::new().expect("memory");
        let root = Path::of_root(NodeId::ROOT, 0);
        assert_eq!(tree.find(path(0x1234), root), None);
        let id = tree.reserve();
        tree.insert(path(0x1234), id);
        assert_eq!(tree.find(path(0x1234), root), Some(id));
        assert_eq!(tree.find(path(0x1234), root), Some(id), "asked for again");
        assert_eq!(tree.find_parent(path(0x1234)), Some(id));
        let others = [
            path(0x1235),
            path(0x1234).below(0x1234),
            Path::of_root(NodeId::CUT, 0).below(0x1234),
            Path::of_root(NodeId::ROOT, 1).below(0x1234),
            Path::of_root(NodeId::ROOT, 0).below_late(0x1234, 0),
        ];
        for other in others {
            assert_eq!(tree.find(other, root), None);
            assert_eq!(tree.find_parent(other), None);
        }
    }

    #[test]
    fn no_two_backtraces_have_one_path() {
        // All of up to four frames at 16 addresses that differ as little as addresses do.
        let mut paths = vec![Path::of_root(NodeId::ROOT, 0), Path::of_root(NodeId::CUT, 0)];
        let (mut begin, bases) = (0, [0x5555_5555_4000_u64, 0x7fff_f7d0_0000]);
        for _ in 0..4 {
            let end = paths.len();
            for index in begin..end {
                for base in bases {
                    let below = |offset: u64| paths[index].below(base + offset);
                    let more: Vec<Path> = (0..8).map(below).collect();
                    paths.extend(more);
                }
            }
            begin = end;
        }
        let count = paths.len();
        assert_eq!(count, 2 * (1 + 16 + 256 + 4_096 + 65_536));
        paths.sort_unstable_by_key(|path| path.0);
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn paths_are_spread_over_the_lines() {
        let mut counts = vec![0u32; LINES];
        let mut at = Path::of_root(NodeId::ROOT, 0);
        for index in 0..8 * LINES as u64 {
            // A deep recursion, which every now and then begins anew from another place.
            at = if index % 100 == 0 { path(index) } else { at.below(0x5555_5555_4000) };
            counts[at.0 as usize & (LINES - 1)] += 1;
        }
        let most = counts.iter().max().expect("lines");
        assert!(*most < 40, "{most} where eight would lie if all were even");
    }

    #[test]
    fn a_full_tree_forgets_and_never_confuses() {
        let tree = CallTree::new().expect("memory");
        let frames = (LINES * WAYS * 2) as u64;
        for address in 1..=frames {
            let id = tree.reserve();
            tree.insert(path(address), id);
            assert_eq!(tree.find_parent(path(address)), Some(id));
        }
        let mut known = 0;
        for address in 1..=frames {
            if let Some(id) = tree.find_parent(path(address)) {
                assert_eq!(u64::from(id.0), address + 1);
                known += 1;
            }
        }
        assert!(known > frames / 4 && known < frames);
    }

    #[test]
    fn a_node_that_is_asked_for_outlives_those_that_are_not() {
        let tree = CallTree::new().expect("memory");
        let kept = tree.reserve();
        tree.insert(on_one_line(7), kept);
        for number in 100..1_000 {
            assert_eq!(tree.find_parent(on_one_line(7)), Some(kept));
            tree.insert(on_one_line(number), tree.reserve());
        }
        assert_eq!(tree.find_parent(on_one_line(100)), None);
        assert_eq!(tree.find_parent(on_one_line(999)).map(|id| id.0), Some(kept.0 + 900));
    }

    #[test]
    fn a_line_of_nodes_that_were_all_asked_for_takes_another_one() {
        let tree = CallTree::new().expect("memory");
        for number in 1..100 {
            let id = tree.reserve();
            tree.insert(on_one_line(number), id);
            assert_eq!(tree.find_parent(on_one_line(number)), Some(id));
        }
    }

    #[test]
    fn a_frequent_node_outlives_its_entry_among_all() {
        let tree = CallTree::new().expect("memory");
        let (parent, once, often) = (path(1), on_one_line(1), on_one_line(2));
        tree.insert(once, tree.reserve());
        let node = tree.reserve();
        tree.insert(often, node);
        assert_eq!(tree.find(often, parent), Some(node));
        for number in 100..1_000 {
            let id = tree.reserve();
            tree.insert(on_one_line(number), id);
            assert_eq!(tree.find_parent(on_one_line(number)), Some(id));
        }
        assert_eq!([once, often].map(|path| tree.find_parent(path)), [None, None]);
        assert_eq!([once, often].map(|path| tree.find(path, parent)), [None, Some(node)]);
    }

    #[test]
    fn a_parent_may_have_more_nodes_than_its_lines_hold() {
        let tree = CallTree::new().expect("memory");
        let nodes: Vec<_> =
            (1..100).map(|address| (path(7).below(address), tree.reserve())).collect();
        for (path, node) in &nodes {
            tree.insert(*path, *node);
        }
        for _ in 0..3 {
            for (at, node) in &nodes {
                assert_eq!(tree.find(*at, path(7)), Some(*node));
            }
        }
    }

    #[test]
    fn a_cleared_tree_knows_nothing() {
        let tree = CallTree::new().expect("memory");
        let root = Path::of_root(NodeId::ROOT, 0);
        tree.insert(path(7), tree.reserve());
        assert_eq!(tree.find(path(7), root), Some(NodeId::FIRST));
        tree.clear();
        assert_eq!(tree.find(path(7), root), None);
        assert_eq!(tree.reserve(), NodeId::FIRST);
    }
}
