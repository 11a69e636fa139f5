//! Who blocks belong to, as far as an analysis tells that apart.

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
///
/// Every event asks for its owner's number, so that is one look into one line of a cache nearly always: a
/// table at most half full, in which a search goes on to the next entry. A cache in front of a map, as it was,
/// was asked in vain by every sixth event where four threads shared 4,096 call sites.
#[derive(Debug)]
pub(crate) struct Owners {
    parts: Vec<OwnerParts>,
    /// Twice as many as there may be owners, by their parts' hashes.
    entries: Box<[Entry]>,
    /// By how much a hash is shifted to be the index of an entry.
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parts: OwnerParts,
    owner: Owner,
}

impl Entry {
    /// There are never so many threads.
    const NONE: Self =
        Self { parts: OwnerParts { key: 0, thread: u32::MAX, span: 0 }, owner: Owner::MAX };
}

/// How many entries there are at first, as a power of two.
const FIRST_LOG2: u32 = 10;

impl Owners {
    pub(crate) fn new() -> Self {
        Self::with_entries(FIRST_LOG2)
    }

    fn with_entries(log2: u32) -> Self {
        let entries = vec![Entry::NONE; 1 << log2].into_boxed_slice();
        Self { parts: Vec::new(), entries, shift: u32::BITS - log2 }
    }

    #[inline]
    pub(crate) fn number(&mut self, parts: OwnerParts) -> Owner {
        let at = self.home(parts);
        match self.entries.get(at) {
            Some(entry) if entry.parts == parts => entry.owner,
            _ => self.find(parts, at),
        }
    }

    /// Where the search for an owner begins.
    #[inline]
    const fn home(&self, parts: OwnerParts) -> usize {
        // In 32 bits: where two of the parts are made one number of 64, they are read as one from memory that
        // they were written to one by one. Waiting for that took a sixth of all time.
        let OwnerParts { key, thread, span } = parts;
        let mixed = key ^ thread.rotate_left(20) ^ span.rotate_left(10);
        (mixed.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }

    /// Goes on with a search, and adds the owner where there is none of these parts.
    #[cold]
    fn find(&mut self, parts: OwnerParts, home: usize) -> Owner {
        let at = self.place(parts, home);
        if self.entries[at].owner != Owner::MAX {
            return self.entries[at].owner;
        }
        let owner = self.parts.len() as Owner;
        self.entries[at] = Entry { parts, owner };
        self.parts.push(parts);
        if self.parts.len() * 2 > self.entries.len() {
            self.grow();
        }
        owner
    }

    /// The entry of an owner with these parts, or where there is none the free one where it belongs.
    fn place(&self, parts: OwnerParts, home: usize) -> usize {
        let mut at = home;
        while self.entries[at].owner != Owner::MAX && self.entries[at].parts != parts {
            at = (at + 1) % self.entries.len();
        }
        at
    }

    fn grow(&mut self) {
        let log2 = u32::BITS - self.shift + 1;
        let mut larger = Self::with_entries(log2);
        for (owner, &parts) in (0..).zip(&self.parts) {
            let at = larger.place(parts, larger.home(parts));
            larger.entries[at] = Entry { parts, owner };
        }
        (self.entries, self.shift) = (larger.entries, larger.shift);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_keeps_its_number_as_others_come() {
        let mut owners = Owners::new();
        let all: Vec<OwnerParts> = (0..4_000_u32)
            .map(|n| OwnerParts { key: n / 12, thread: n % 4, span: n / 4 % 3 })
            .collect();
        for (number, &parts) in (0..).zip(&all) {
            assert_eq!(owners.number(parts), number, "a new one");
        }
        for (number, &parts) in (0..).zip(&all) {
            assert_eq!(owners.number(parts), number);
            assert_eq!(owners.get(number), parts);
        }
        assert_eq!(owners.all(), all);
        assert_eq!(owners.get(4_000), OwnerParts::default());
    }
}
