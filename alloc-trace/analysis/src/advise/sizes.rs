//! How many blocks there were of each size, and of each step of growth.
//!
//! Every free asks, and finds its entry in no near cache: so a size is one entry of an open table, one look into one
//! line, and [`Sizes::touch`] lets several of them wait together.

/// So many sizes are told apart at a call site; further ones are rounded up to powers of two.
const DISTINCT_SIZES: usize = 1024;

/// What there is of each size.
#[derive(Debug, Default)]
struct BySize<T> {
    /// A power of two of them or none, at most three quarters taken; of each the size plus one, and 0 where there
    /// is none.
    entries: Vec<(u64, T)>,
    used: usize,
}

/// How many entries there are at first.
const FIRST_ENTRIES: usize = 4;

impl<T: Copy + Default> BySize<T> {
    #[inline]
    fn home(&self, size: u64) -> usize {
        // Of the product the upper half: it depends on all bits.
        (size.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
            & self.entries.len().wrapping_sub(1)
    }

    /// What a search for this size waits for.
    #[inline]
    fn touch(&self, size: u64) -> u64 {
        self.entries.get(self.home(size)).map_or(0, |entry| entry.0)
    }

    /// What there is of a size, which is added where there is nothing; of one too many it is that of
    /// the next power of two.
    #[inline]
    fn of(&mut self, size: u64) -> &mut T {
        let at = self.find(size);
        let at = match self.entries.get(at) {
            Some(entry) if entry.0 != 0 => at,
            _ => self.add(size),
        };
        &mut self.entries[at].1
    }

    /// The entry of a size, or the free one where it belongs; of an empty table one that is not there.
    #[inline]
    fn find(&self, size: u64) -> usize {
        let (mut at, key) = (self.home(size), size.saturating_add(1));
        while let Some(&(other, _)) = self.entries.get(at) {
            if other == key || other == 0 {
                break;
            }
            at = (at + 1) % self.entries.len();
        }
        at
    }

    #[cold]
    fn add(&mut self, size: u64) -> usize {
        let is_known = self.used < DISTINCT_SIZES;
        let size = if is_known { size } else { size.checked_next_power_of_two().unwrap_or(size) };
        if (self.used + 1) * 4 > self.entries.len() * 3 {
            let len = (self.entries.len() * 2).max(FIRST_ENTRIES);
            let old = std::mem::replace(&mut self.entries, vec![(0, T::default()); len]);
            for entry in old.into_iter().filter(|&(key, _)| key != 0) {
                let at = self.find(entry.0 - 1);
                self.entries[at] = entry;
            }
        }
        let at = self.find(size);
        self.used += usize::from(self.entries[at].0 == 0);
        self.entries[at].0 = size.saturating_add(1);
        at
    }

    fn iter(&self) -> impl Iterator<Item = (u64, T)> {
        let taken = self.entries.iter().filter(|(key, _)| *key != 0);
        taken.map(|&(key, of_size)| (key - 1, of_size))
    }
}

/// The reallocations to larger sizes.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// By the new size: how many, and the old sizes together, which is what moving copies at most.
    by_size: BySize<(u64, u64)>,
    pub(super) reallocations: u64,
    pub(super) copied_bytes: u64,
}

impl Steps {
    /// As [`Sizes::touch`], of a step to this size.
    #[inline]
    pub(super) fn touch(&self, new: u64) -> u64 {
        self.by_size.touch(new)
    }

    pub(super) fn add(&mut self, old: u64, new: u64) {
        self.reallocations += 1;
        self.copied_bytes = self.copied_bytes.saturating_add(old);
        let (count, copied) = self.by_size.of(new);
        *count += 1;
        *copied = copied.saturating_add(old);
    }

    /// The new sizes in order, each with how many led there and what these copied at most.
    pub(super) fn in_order(&self) -> Vec<(u64, u64, u64)> {
        let entries = self.by_size.iter();
        let mut steps: Vec<_> =
            entries.map(|(size, (count, copied))| (size, count, copied)).collect();
        steps.sort_unstable();
        steps
    }
}

/// How many blocks there were of each size.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Asked at every block, and put in order only for a verdict.
    counts: BySize<u64>,
    total: u64,
}

impl Sizes {
    #[inline]
    pub(super) fn add(&mut self, size: u64) {
        self.total += 1;
        *self.counts.of(size) += 1;
    }

    /// What adding this size waits for: asked for several, by whoever throws it away.
    #[inline]
    pub(super) fn touch(&self, size: u64) -> u64 {
        self.counts.touch(size)
    }

    pub(super) fn min(&self) -> u64 {
        self.counts.iter().map(|(size, _)| size).min().unwrap_or_default()
    }

    pub(super) fn max(&self) -> u64 {
        self.counts.iter().map(|(size, _)| size).max().unwrap_or_default()
    }

    /// The smallest size that is not exceeded by `percent` of the blocks.
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        for (size, count) in self.in_order() {
            seen += count;
            if seen >= wanted {
                return size;
            }
        }
        self.max()
    }

    /// The sizes in order, each with how many blocks have it.
    pub(super) fn in_order(&self) -> Vec<(u64, u64)> {
        let mut counts: Vec<(u64, u64)> = self.counts.iter().collect();
        counts.sort_unstable();
        counts
    }

    /// The mean size, rounded down; 0 where there is no block.
    pub(super) fn mean(&self) -> u64 {
        let bytes = |(size, count): (u64, u64)| u128::from(size) * u128::from(count);
        let all: u128 = self.counts.iter().map(bytes).sum();
        (all / u128::from(self.total.max(1))) as u64
    }

    /// The size that most blocks have, the largest of several such, and how many have it.
    pub(super) fn most_frequent(&self) -> (u64, u64) {
        let most = self.counts.iter().max_by_key(|&(size, count)| (count, size));
        most.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_sizes_that_occurred() {
        let mut sizes = Sizes::default();
        for size in [8, 8, 8, 8, 8, 64, 64, 64, 64, 1000] {
            sizes.add(size);
        }
        assert_eq!([50, 90, 100].map(|percent| sizes.percentile(percent)), [8, 64, 1000]);
        assert_eq!((sizes.min(), sizes.max(), sizes.most_frequent()), (8, 1000, (8, 5)));
    }

    #[test]
    fn each_size_has_its_own_count_as_others_come() {
        let mut sizes = Sizes::default();
        let all = || (0..600_u64).map(|number| number * 16).chain([u64::MAX - 1]);
        for _ in 0..3 {
            for size in all() {
                sizes.add(size);
            }
        }
        assert_eq!(sizes.in_order(), all().map(|size| (size, 3)).collect::<Vec<_>>());
    }

    #[test]
    fn many_sizes_are_rounded_up() {
        let mut sizes = Sizes::default();
        for size in 0..10_000 {
            sizes.add(size);
        }
        assert!(sizes.counts.used < DISTINCT_SIZES + 16);
        assert!(sizes.max() >= 9_999);
    }
}
