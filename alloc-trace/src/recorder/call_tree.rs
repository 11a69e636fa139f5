//! The call tree as the writer knows it: which number a frame has below its parent.
//!
//! A fixed table that forgets: a node that was driven out is defined again under another number,
//! which costs bytes and not truth, since the reader merges nodes by parent and address. So the
//! recorded process stays small, however many backtraces it has. With a node all nodes below it are
//! defined again; so those that were asked for since are driven out last.
//!
//! A node's entry lies where its *path* says, a hash of all addresses from the root on. So where the
//! entries of a whole backtrace lie is known before any of them was read, and they are fetched
//! together; by the parent's number each would wait for the one before.
//!
//! Lookups and insertions take no lock. An entry is two words written one after the other; the
//! first is mixed with the second, so that a reader that sees halves of two entries finds neither
//! (the lockless hash table of Hyatt and Mann, "A lock-less transposition table implementation for
//! parallel search chess engines", 2002).

#[cfg(target_arch = "x86_64")]
use std::ptr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc_trace_format::NodeId;

use super::sys;

/// Entries that share a cache line and among which a frame is looked up.
const WAYS: usize = 4;
/// How many such lines there are: 8 MiB in all, of which only what is used is resident.
const LINES: usize = 1 << 17;

const _: () = assert!(LINES.is_power_of_two());

#[repr(C, align(64))]
#[derive(Debug)]
struct Line([Entry; WAYS]);

#[derive(Debug)]
struct Entry {
    /// The frame's address, mixed with `node`.
    address: AtomicU64,
    /// The parent's number in the high half, the node's in the low half, with [`ASKED_FOR`]; 0 for
    /// none.
    node: AtomicU64,
}

/// Set in an entry that was found since it was inserted, or since all of its line were.
const ASKED_FOR: u64 = 1 << 31;
/// A node's own number in its entry.
const NUMBER: u64 = ASKED_FOR - 1;

/// The process's index of call-tree nodes.
#[derive(Debug)]
pub(super) struct CallTree {
    lines: NonNull<Line>,
    next: AtomicU32,
}

// SAFETY: the lines are atomics, mapped as long as the process lives.
unsafe impl Send for CallTree {}
// SAFETY: as above.
unsafe impl Sync for CallTree {}

impl CallTree {
    /// An empty tree; `None` where memory is short.
    pub(super) fn new() -> Option<Self> {
        let lines = sys::map_anonymous(LINES * size_of::<Line>())?.cast();
        Some(Self { lines, next: AtomicU32::new(NodeId::FIRST.0) })
    }

    /// Has the entries at `path` brought near.
    #[inline(always)]
    pub(super) fn prefetch(&self, path: Path) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = ptr::from_ref(self.line(path));
            // SAFETY: part of SSE, which every x86-64 processor has; nothing is read.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = path;
    }

    /// The node at `path`, of the frame at `address` below `parent`, if it is known.
    #[inline(always)]
    pub(super) fn find(&self, path: Path, parent: NodeId, address: u64) -> Option<NodeId> {
        self.line(path).0.iter().find_map(|entry| {
            // Acquire pairs with the release in `insert`: a node that is found here has been
            // defined in somebody's stream.
            let node = entry.node.load(Ordering::Acquire);
            if (node >> 32) as u32 != parent.0 || node & NUMBER == 0 {
                return None;
            }
            let mixed = entry.address.load(Ordering::Relaxed);
            if mixed ^ mix(node & !ASKED_FOR) != address {
                return None;
            }
            if node & ASKED_FOR == 0 {
                // Release hands on what was acquired. If another node was inserted meanwhile, this
                // makes an entry of two halves, which is found by nobody.
                entry.node.store(node | ASKED_FOR, Ordering::Release);
            }
            Some(NodeId((node & NUMBER) as u32))
        })
    }

    /// A number for a node that is not known; it is inserted once its definition is written.
    pub(super) fn reserve(&self) -> NodeId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // After two billion definitions the frames outside are all that can be named.
        if u64::from(id) > NUMBER {
            self.next.store(NUMBER as u32 + 1, Ordering::Relaxed);
            return NodeId::CUT;
        }
        NodeId(id)
    }

    /// No node has this number yet, nor a greater one.
    pub(super) fn next_number(&self) -> NodeId {
        NodeId(self.next.load(Ordering::Relaxed))
    }

    /// Forgets the nodes of calls from `start` to `end`, whose addresses are mixed with `salt`: other
    /// code is there now, whose nodes are others. Takes a millisecond where the table is full.
    #[cold]
    pub(super) fn forget_code(&self, start: u64, end: u64, salt: u64) {
        for index in 0..LINES {
            // SAFETY: the mapping holds `LINES` lines.
            let line = unsafe { self.lines.add(index) };
            // SAFETY: mapped, and zero is a valid line of atomics.
            for entry in unsafe { &line.as_ref().0 } {
                let node = entry.node.load(Ordering::Relaxed);
                let address = entry.address.load(Ordering::Relaxed) ^ mix(node & !ASKED_FOR) ^ salt;
                // A return address is behind its call.
                if node != 0 && start < address && address <= end {
                    entry.node.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Makes a node known whose definition has been written, driving out one of its line.
    #[cold]
    pub(super) fn insert(&self, path: Path, parent: NodeId, address: u64, id: NodeId) {
        if id.is_root() {
            return;
        }
        let entries = &self.line(path).0;
        let number = |entry: &&Entry| entry.node.load(Ordering::Relaxed) & NUMBER;
        let is_spare = |entry: &&Entry| entry.node.load(Ordering::Relaxed) & ASKED_FOR == 0;
        let spare = entries.iter().filter(is_spare).min_by_key(number);
        if spare.is_none() {
            // All were asked for: from here on that counts anew.
            for entry in entries {
                let node = entry.node.load(Ordering::Relaxed);
                // Release hands on what others acquire with the node.
                entry.node.store(node & !ASKED_FOR, Ordering::Release);
            }
        }
        let Some(entry) = spare.or_else(|| entries.iter().min_by_key(number)) else { return };
        let node = u64::from(parent.0) << 32 | u64::from(id.0);
        entry.address.store(address ^ mix(node), Ordering::Relaxed);
        // Release: pairs with the acquire in `find`.
        entry.node.store(node, Ordering::Release);
    }

    /// Forgets everything, for a new recording.
    pub(super) fn clear(&self) {
        for index in 0..LINES {
            // SAFETY: the mapping holds `LINES` lines.
            let line = unsafe { self.lines.add(index) };
            // SAFETY: mapped, and zero is a valid line of atomics.
            for entry in unsafe { &line.as_ref().0 } {
                // Only what was written is touched, so that untouched OS pages stay absent: reading
                // them maps the shared zero page.
                if entry.node.load(Ordering::Relaxed) != 0 {
                    entry.node.store(0, Ordering::Relaxed);
                }
            }
        }
        self.next.store(NodeId::FIRST.0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn line(&self, path: Path) -> &Line {
        // The upper bits depend on more than the lower ones.
        let index = (path.0 >> (32 - LINES.ilog2())) as usize & (LINES - 1);
        // SAFETY: the index is masked to the number of lines.
        let line = unsafe { self.lines.add(index) };
        // SAFETY: mapped as long as the process lives, and zero is a valid line of atomics.
        unsafe { line.as_ref() }
    }
}

/// A hash of all addresses from a root to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path(u32);

impl Path {
    pub(super) const fn of_root(root: NodeId) -> Self {
        Self(root.0)
    }

    /// The path of the frame at `address` below this one.
    #[inline(always)]
    pub(super) const fn below(self, address: u64) -> Self {
        let outside = self.0 as u64;
        let hash = (outside << 32 ^ outside ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((hash >> 32) as u32)
    }
}

/// Spreads a node over a word, so that the difference of two nodes is no difference of two addresses.
#[inline(always)]
const fn mix(node: u64) -> u64 {
    node.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(address: u64) -> Path {
        Path::of_root(NodeId::ROOT).below(address)
    }

    #[test]
    fn a_node_is_found_below_its_own_parent_only() {
        let tree = CallTree::new().expect("memory");
        let place = path(0x1234);
        assert_eq!(tree.find(place, NodeId::ROOT, 0x1234), None);
        let id = tree.reserve();
        tree.insert(place, NodeId::ROOT, 0x1234, id);
        assert_eq!(tree.find(place, NodeId::ROOT, 0x1234), Some(id));
        assert_eq!(tree.find(place, NodeId::ROOT, 0x1234), Some(id), "asked for again");
        assert_eq!(tree.find(place, NodeId::CUT, 0x1234), None);
        assert_eq!(tree.find(place, NodeId::ROOT, 0x1235), None);
    }

    #[test]
    fn a_full_tree_forgets_and_never_confuses() {
        let tree = CallTree::new().expect("memory");
        let frames = (LINES * WAYS * 2) as u64;
        for address in 1..=frames {
            let id = tree.reserve();
            tree.insert(path(address), NodeId::ROOT, address, id);
            assert_eq!(tree.find(path(address), NodeId::ROOT, address), Some(id));
        }
        let mut known = 0;
        for address in 1..=frames {
            if let Some(id) = tree.find(path(address), NodeId::ROOT, address) {
                assert_eq!(u64::from(id.0), address + 1);
                known += 1;
            }
        }
        assert!(known > frames / 4 && known < frames);
    }

    #[test]
    fn a_node_that_is_asked_for_outlives_those_that_are_not() {
        let tree = CallTree::new().expect("memory");
        // All on one line.
        let place = path(7);
        let kept = tree.reserve();
        tree.insert(place, NodeId::ROOT, 7, kept);
        for address in 100..1_000 {
            assert_eq!(tree.find(place, NodeId::ROOT, 7), Some(kept));
            tree.insert(place, NodeId::ROOT, address, tree.reserve());
        }
        assert_eq!(tree.find(place, NodeId::ROOT, 100), None);
        assert_eq!(tree.find(place, NodeId::ROOT, 999).map(|id| id.0), Some(kept.0 + 900));
    }

    #[test]
    fn a_line_of_nodes_that_were_all_asked_for_takes_another_one() {
        let tree = CallTree::new().expect("memory");
        let place = path(7);
        for address in 1..100 {
            let id = tree.reserve();
            tree.insert(place, NodeId::ROOT, address, id);
            assert_eq!(tree.find(place, NodeId::ROOT, address), Some(id));
        }
    }

    #[test]
    fn nodes_of_code_that_is_gone_are_forgotten_and_no_others() {
        let tree = CallTree::new().expect("memory");
        let insert = |address| {
            let id = tree.reserve();
            tree.insert(path(address), NodeId::ROOT, address, id);
            id
        };
        let ids = [0x1000, 0x1001, 0x2000, 0x2001].map(insert);
        // One that was asked for is forgotten as well.
        let find = |address| tree.find(path(address), NodeId::ROOT, address);
        assert_eq!(find(0x1001), Some(ids[1]));
        tree.forget_code(0x1000, 0x2000, 0);
        let found = [0x1000, 0x1001, 0x2000, 0x2001].map(find);
        assert_eq!(found, [Some(ids[0]), None, None, Some(ids[3])]);
        let next = tree.next_number();
        assert_eq!(insert(0x1001), next);
    }

    #[test]
    fn a_cleared_tree_knows_nothing() {
        let tree = CallTree::new().expect("memory");
        tree.insert(path(7), NodeId::ROOT, 7, tree.reserve());
        tree.clear();
        assert_eq!(tree.find(path(7), NodeId::ROOT, 7), None);
        assert_eq!(tree.reserve(), NodeId::FIRST);
    }
}
