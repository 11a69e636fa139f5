//! Mappings in a word each, that any thread puts and takes without a lock.

use core::ptr::{self, NonNull};

use crate::os;
use crate::sync::{AtomicU64, Ordering};
use crate::unit::{SLICE, SLICE_SHIFT};

/// A mapping that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) start: NonNull<u8>,
    pub(crate) bytes: usize,
    /// Whether it was there when a period ended.
    pub(crate) is_old: bool,
}

const IS_OLD: u64 = 1;
/// Above that mark the slices of a mapping, and above those the number of its first.
const LENGTH_SHIFT: u32 = 1;
const START_SHIFT: u32 = 28;
const MOST_SLICES: u64 = 1 << (START_SHIFT - LENGTH_SHIFT);

impl Spare {
    /// Both as one, if one begins where the other ends.
    fn join(&self, other: &Self) -> Option<Self> {
        let (first, second) = if self.start < other.start { (self, other) } else { (other, self) };
        let is_one = first.start.addr().get() + first.bytes == second.start.addr().get();
        let bytes = first.bytes + second.bytes;
        is_one.then_some(Self { start: first.start, bytes, is_old: false })
    }

    /// In a word; `None` if it is too long for that.
    fn to_word(self) -> Option<u64> {
        let slices = (self.bytes >> SLICE_SHIFT) as u64;
        let number = (self.start.as_ptr().expose_provenance() >> SLICE_SHIFT) as u64;
        let fits = slices < MOST_SLICES && number >> (u64::BITS - START_SHIFT) == 0;
        let is_old = if self.is_old { IS_OLD } else { 0 };
        fits.then_some(number << START_SHIFT | slices << LENGTH_SHIFT | is_old)
    }

    fn from_word(word: u64) -> Option<Self> {
        let start = (word >> START_SHIFT) as usize * SLICE;
        let start = NonNull::new(ptr::with_exposed_provenance_mut(start))?;
        let bytes = (word >> LENGTH_SHIFT & (MOST_SLICES - 1)) as usize * SLICE;
        Some(Self { start, bytes, is_old: word & IS_OLD != 0 })
    }

    /// # Safety
    ///
    /// - It was taken, and its memory is nobody's.
    pub(crate) unsafe fn unmap(self) {
        // SAFETY: passed on.
        unsafe { os::unmap(self.start, self.bytes) };
    }
}

/// Mappings in a word each, 0 for none: who exchanges the word has the mapping.
#[derive(Debug)]
pub(crate) struct Spares<const COUNT: usize>([AtomicU64; COUNT]);

impl<const COUNT: usize> Spares<COUNT> {
    /// Of words that are 0.
    pub(crate) const fn new(words: [AtomicU64; COUNT]) -> Self {
        Self(words)
    }

    /// Those that are there now.
    pub(crate) fn all(&self) -> impl Iterator<Item = Spare> {
        self.0.iter().filter_map(|word| Spare::from_word(word.load(Ordering::Relaxed)))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all().map(|spare| spare.bytes).sum()
    }

    /// `false` if there is no room.
    pub(crate) fn put(&self, spare: Spare) -> bool {
        let Some(new) = spare.to_word() else { return false };
        // Release pairs with the acquire in `claim`: what was done with the memory was done before.
        let put = |word: &AtomicU64| {
            word.compare_exchange(0, new, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        self.0.iter().any(put)
    }

    /// Puts a mapping as one with those that it lies between, if there are such: what a shorter block was cut from.
    /// Where there is no room it is given back, with those.
    pub(crate) fn put_joined(&self, spare: Spare) -> Result<(), Spare> {
        let mut whole = spare;
        for word in &self.0 {
            let seen = word.load(Ordering::Relaxed);
            let Some(other) = Spare::from_word(seen) else { continue };
            if let Some(joined) = whole.join(&other)
                && Self::claim(word, seen)
            {
                whole = joined;
            }
        }
        if self.put(whole) { Ok(()) } else { Err(whole) }
    }

    /// Takes the shortest of at least so many bytes, at a multiple of `align`.
    pub(crate) fn take(&self, bytes: usize, align: usize) -> Option<Spare> {
        loop {
            let spares = self.0.iter().filter_map(|word| {
                let seen = word.load(Ordering::Relaxed);
                Some((word, seen, Spare::from_word(seen)?))
            });
            let (word, seen, spare) = spares
                .filter(|(.., spare)| {
                    spare.bytes >= bytes && spare.start.addr().get().is_multiple_of(align)
                })
                .min_by_key(|(.., spare)| spare.bytes)?;
            // Where another one was faster there is one less, or it is older.
            if Self::claim(word, seen) {
                return Some(spare);
            }
        }
    }

    /// Takes all, or those that are old; all others are old then. Returns the bytes taken.
    pub(crate) fn purge(&self, all: bool, mut give_up: impl FnMut(Spare)) -> usize {
        let mut purged = 0;
        for word in &self.0 {
            let seen = word.load(Ordering::Relaxed);
            let Some(spare) = Spare::from_word(seen) else { continue };
            if !all && !spare.is_old {
                // Who takes it meanwhile takes it.
                let _ = word.compare_exchange(
                    seen,
                    seen | IS_OLD,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            } else if Self::claim(word, seen) {
                give_up(spare);
                purged += spare.bytes;
            }
        }
        purged
    }

    /// Whether the mapping in `word` is still the one that was `seen`, and the caller's from now on.
    fn claim(word: &AtomicU64, seen: u64) -> bool {
        word.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Arc, model, thread};

    fn spare(slice: usize, slices: usize) -> Spare {
        let start = NonNull::new(ptr::without_provenance_mut(slice * SLICE)).expect("not null");
        Spare { start, bytes: slices * SLICE, is_old: false }
    }

    fn spares<const COUNT: usize>() -> Spares<COUNT> {
        Spares::new(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[test]
    fn a_spare_survives_its_word() {
        let last = (1 << (u64::BITS - START_SHIFT)) - 1;
        for (slice, slices) in [(1, 1), (0x7fff_ffff, 1024), (last, MOST_SLICES as usize - 1)] {
            for is_old in [false, true] {
                let spare = Spare { is_old, ..spare(slice, slices) };
                assert_eq!(spare.to_word().and_then(Spare::from_word), Some(spare));
            }
        }
        assert_eq!(spare(1, MOST_SLICES as usize).to_word(), None);
        assert_eq!(spare(last + 1, 1).to_word(), None);
        assert_eq!(Spare::from_word(0), None);
    }

    #[test]
    fn the_shortest_that_is_long_enough_and_aligned_is_taken() {
        model(|| {
            let spares = spares::<4>();
            let [long, short, odd] = [spare(64, 100), spare(256, 80), spare(1001, 70)];
            assert!([long, short, odd].map(|spare| spares.put(spare)) == [true; 3]);
            assert_eq!(spares.bytes(), 250 * SLICE);
            assert_eq!(spares.take(101 * SLICE, 1), None);
            assert_eq!(spares.take(70 * SLICE, 2 * SLICE), Some(short));
            assert_eq!(spares.take(70 * SLICE, 128 * SLICE), None);
            assert_eq!(spares.take(1, SLICE), Some(odd));
            assert_eq!(spares.take(0, 1), Some(long));
            assert_eq!((spares.take(0, 1), spares.bytes()), (None, 0));
        });
    }

    #[test]
    fn what_lies_side_by_side_is_put_as_one() {
        model(|| {
            let spares = spares::<4>();
            let [first, last, apart] = [spare(10, 5), spare(18, 2), spare(30, 1)];
            assert!([first, last, apart].map(|spare| spares.put_joined(spare)) == [Ok(()); 3]);
            assert_eq!(spares.put_joined(spare(15, 3)), Ok(()));
            assert_eq!(spares.all().count(), 2);
            assert_eq!(spares.take(2 * SLICE, SLICE), Some(spare(10, 10)));
            assert_eq!(spares.take(1, SLICE), Some(apart));
        });
    }

    #[test]
    fn what_finds_no_room_is_given_back_with_what_it_was_joined_with() {
        model(|| {
            let spares = Spares::new([word_of(spare(10, 5)), word_of(spare(30, 1))]);
            assert_eq!(spares.put_joined(spare(20, 1)), Err(spare(20, 1)));
            assert_eq!(spares.put_joined(spare(15, 5)), Ok(()));
            assert_eq!(spares.take(10 * SLICE, SLICE), Some(spare(10, 10)));
        });
    }

    fn word_of(spare: Spare) -> AtomicU64 {
        AtomicU64::new(spare.to_word().expect("a short one"))
    }

    #[test]
    fn there_is_room_for_so_many() {
        model(|| {
            let spares = spares::<2>();
            assert_eq!([1, 2, 3].map(|slice| spares.put(spare(slice, 1))), [true, true, false]);
        });
    }

    #[test]
    fn what_was_there_at_the_last_purge_goes() {
        model(|| {
            let spares = spares::<4>();
            let mut gone = Vec::new();
            let mut purge = |all| spares.purge(all, |spare| gone.push(spare.bytes / SLICE));
            assert!(spares.put(spare(1, 5)));
            assert_eq!(purge(false), 0);
            assert!(spares.put(spare(9, 6)));
            assert_eq!(purge(false), 5 * SLICE);
            assert!(spares.put(spare(1, 7)));
            assert_eq!(purge(true), 13 * SLICE);
            assert_eq!(purge(true), 0);
            assert_eq!(gone, [5, 7, 6]);
        });
    }

    /// One puts, one takes and one purges: each mapping is had by one of them at a time, and what was written
    /// to its memory before it was put is seen by whoever has it.
    #[test]
    fn a_spare_is_had_by_one() {
        model(|| {
            let spares = Arc::new(spares::<1>());
            let memory = Arc::new(AtomicU64::new(0));
            let had = |spares: Arc<Spares<1>>, memory: Arc<AtomicU64>, purges: bool| {
                move || {
                    let mut times = 0;
                    let mut have = |_| {
                        assert_eq!(memory.load(Ordering::Relaxed), 1, "written before");
                        times += 1;
                    };
                    if purges {
                        spares.purge(false, &mut have);
                        spares.purge(false, &mut have);
                    } else if let Some(spare) = spares.take(SLICE, SLICE) {
                        have(spare);
                    }
                    times
                }
            };
            let takes = thread::spawn(had(spares.clone(), memory.clone(), false));
            let purges = thread::spawn(had(spares.clone(), memory.clone(), true));
            memory.store(1, Ordering::Relaxed);
            assert!(spares.put(spare(3, 1)));
            let times = takes.join().expect("no panic") + purges.join().expect("no panic");
            let left = usize::from(spares.take(0, 1).is_some());
            assert_eq!(times + left, 1);
        });
    }
}
