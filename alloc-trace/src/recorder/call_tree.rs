//! The call tree as the writer knows it: which number a frame has below its parent.
//!
//! A fixed table that forgets: a node that was driven out is defined again under another number,
//! which costs bytes and not truth, since the reader merges nodes by parent and address. So the
//! recorded process stays small, however many backtraces it has.
//!
//! Lookups and insertions take no lock. An entry is two words written one after the other; the
//! first is mixed with the second, so that a reader that sees halves of two entries finds neither
//! (the lockless hash table of Hyatt and Mann, "A lock-less transposition table implementation for
//! parallel search chess engines", 2002).

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
    /// The parent's number in the high half, the node's in the low half; 0 for none.
    node: AtomicU64,
}

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

    /// The node of the frame at `address` below `parent`, if it is known.
    #[inline]
    pub(super) fn find(&self, parent: NodeId, address: u64) -> Option<NodeId> {
        self.line(parent, address).0.iter().find_map(|entry| {
            // Acquire pairs with the release in `insert`: a node that is found here has been
            // defined in somebody's stream.
            let node = entry.node.load(Ordering::Acquire);
            let mixed = entry.address.load(Ordering::Relaxed);
            let found = mixed ^ mix(node) == address && (node >> 32) as u32 == parent.0;
            (found && node as u32 != 0).then_some(NodeId(node as u32))
        })
    }

    /// A number for a node that is not known; it is inserted once its definition is written.
    pub(super) fn reserve(&self) -> NodeId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // After four billion definitions the frames outside are all that can be named.
        if id < NodeId::FIRST.0 {
            self.next.store(u32::MAX, Ordering::Relaxed);
            return NodeId::CUT;
        }
        NodeId(id)
    }

    /// Makes a node known whose definition has been written, driving out the oldest on its line.
    pub(super) fn insert(&self, parent: NodeId, address: u64, id: NodeId) {
        if id.is_root() {
            return;
        }
        let age = |entry: &&Entry| entry.node.load(Ordering::Relaxed) as u32;
        let Some(oldest) = self.line(parent, address).0.iter().min_by_key(age) else { return };
        let node = u64::from(parent.0) << 32 | u64::from(id.0);
        oldest.address.store(address ^ mix(node), Ordering::Relaxed);
        // Release: pairs with the acquire in `find`.
        oldest.node.store(node, Ordering::Release);
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

    #[inline]
    fn line(&self, parent: NodeId, address: u64) -> &Line {
        let hash = mix(address ^ u64::from(parent.0).rotate_left(40));
        let index = hash as usize & (LINES - 1);
        // SAFETY: the index is masked to the number of lines.
        let line = unsafe { self.lines.add(index) };
        // SAFETY: mapped as long as the process lives, and zero is a valid line of atomics.
        unsafe { line.as_ref() }
    }
}

/// Spreads every bit over all (the finaliser of SplitMix64).
#[inline]
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_below_its_own_parent_only() {
        let tree = CallTree::new().expect("memory");
        assert_eq!(tree.find(NodeId::ROOT, 0x1234), None);
        let id = tree.reserve();
        tree.insert(NodeId::ROOT, 0x1234, id);
        assert_eq!(tree.find(NodeId::ROOT, 0x1234), Some(id));
        assert_eq!(tree.find(NodeId::CUT, 0x1234), None);
        assert_eq!(tree.find(NodeId::ROOT, 0x1235), None);
    }

    #[test]
    fn a_full_tree_forgets_and_never_confuses() {
        let tree = CallTree::new().expect("memory");
        let frames = (LINES * WAYS * 2) as u64;
        for address in 1..=frames {
            let id = tree.reserve();
            tree.insert(NodeId::ROOT, address, id);
            assert_eq!(tree.find(NodeId::ROOT, address), Some(id));
        }
        let mut known = 0;
        for address in 1..=frames {
            if let Some(id) = tree.find(NodeId::ROOT, address) {
                assert_eq!(u64::from(id.0), address + 1);
                known += 1;
            }
        }
        assert!(known > frames / 4 && known < frames);
    }

    #[test]
    fn a_cleared_tree_knows_nothing() {
        let tree = CallTree::new().expect("memory");
        tree.insert(NodeId::ROOT, 7, tree.reserve());
        tree.clear();
        assert_eq!(tree.find(NodeId::ROOT, 7), None);
        assert_eq!(tree.reserve(), NodeId::FIRST);
    }
}
