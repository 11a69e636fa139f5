//! Who blocks belong to, as far as an analysis tells that apart.

use rustc_hash::FxHashMap;

/// An owner of blocks: a number that [`Owners`] gives meaning to.
pub(crate) type Owner = u32;

/// What an analysis tells owners apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OwnerParts {
    /// A call site, a place of the call tree, or what else an analysis groups by.
    pub(crate) key: u32,
    /// The index of a thread.
    pub(crate) thread: u32,
    /// A span's kind or path, plus one; 0 outside of spans.
    pub(crate) span: u32,
}

/// The owners met so far, each with a number.
#[derive(Debug)]
pub(crate) struct Owners {
    parts: Vec<OwnerParts>,
    numbers: FxHashMap<OwnerParts, Owner>,
    /// The numbers asked for lately: most events are of an owner that had one just before.
    recent: Vec<(OwnerParts, Owner)>,
}

/// So many are looked for without a hash table: their entries fill a second-level cache to a part.
const RECENT: usize = 1 << 15;

impl Owners {
    pub(crate) fn new() -> Self {
        let none = OwnerParts { key: u32::MAX, thread: u32::MAX, span: u32::MAX };
        // No owner has this number.
        let recent = vec![(none, Owner::MAX); RECENT];
        Self { parts: Vec::new(), numbers: FxHashMap::default(), recent }
    }

    #[inline]
    pub(crate) fn number(&mut self, parts: OwnerParts) -> Owner {
        let mixed = parts.key ^ parts.thread.rotate_left(11) ^ parts.span.rotate_left(5);
        let slot = (mixed ^ mixed >> 15) as usize % RECENT;
        let (known, owner) = self.recent[slot];
        if known == parts && owner != Owner::MAX { owner } else { self.find(parts, slot) }
    }

    #[cold]
    fn find(&mut self, parts: OwnerParts, slot: usize) -> Owner {
        let next = self.parts.len() as Owner;
        let owner = *self.numbers.entry(parts).or_insert(next);
        if owner == next {
            self.parts.push(parts);
        }
        self.recent[slot] = (parts, owner);
        owner
    }

    #[inline]
    pub(crate) fn get(&self, owner: Owner) -> OwnerParts {
        self.parts.get(owner as usize).copied().unwrap_or_default()
    }

    /// All owners, by their numbers.
    pub(crate) fn all(&self) -> &[OwnerParts] {
        &self.parts
    }
}
