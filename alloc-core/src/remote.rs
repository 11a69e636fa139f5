//! Remote frees: the side of a page that other threads write, and the inbox where they post it.
//!
//! A thread that frees another's blocks sets their bits and counts them. The one whose count makes
//! the total positive posts the page to its owner, who takes all the bits at its leisure. The rules
//! that keep this right:
//!
//! - A bit is set before it is counted, so a count of n means n bits that can be taken. The owner
//!   subtracts what it took, and may make the count negative for a while: bits taken, not yet
//!   counted.
//! - Whoever moves the count from ≤ 0 to > 0 holds the duty to post the page. With the post the
//!   duty passes to the owner, until its subtraction leaves ≤ 0. So a page is posted at most once
//!   at a time, and no bit is forgotten.
//! - After counting without getting the duty, or after posting, a thread does not touch the page
//!   again. So once all blocks are free on the owner's side *and* the count is 0, nobody is about
//!   to touch it, and it can be given up.
//!
//! The tests below run under loom in `tests/loom.rs`.

use crate::sync::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// The remote side of a page with up to `WORDS` words of blocks. All zero when nothing is freed.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Remote<const WORDS: usize> {
    /// Bits counted and not taken.
    count: AtomicI32,
    /// Next page in the inbox, while posted.
    next: AtomicU32,
    bits: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Remote<WORDS> {
    /// Nothing is freed.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        let bits = core::array::from_fn(|_| AtomicU64::new(0));
        Self { count: AtomicI32::new(0), next: AtomicU32::new(0), bits }
    }

    /// Sets bits of one word, without counting them. `false` if one was set already.
    #[inline]
    #[must_use]
    pub(crate) fn set(&self, word: usize, bits: u64) -> bool {
        // `Release` pairs with the `Acquire` in `collect`: what the program did with the block
        // comes before its next use.
        let before = self.bits.get(word).map(|target| target.fetch_or(bits, Ordering::Release));
        before.is_some_and(|before| before & bits == 0)
    }

    /// Counts `count` bits that were set. Says whether the caller has to post the page; if not,
    /// this was its last access.
    #[inline]
    #[must_use]
    pub(crate) fn count(&self, count: i32) -> bool {
        // `Release` for `is_settled`, and for the bits that `collect` looks for; `Acquire` so that
        // a post comes after the owner's subtraction that passed the duty here.
        let before = self.count.fetch_add(count, Ordering::AcqRel);
        before <= 0 && before + count > 0
    }

    /// Takes the bits of a page that was posted, and with them the duty of posting it. `take` gets
    /// each word's index and bits; only the first `words` are in use.
    pub(crate) fn collect(&self, words: usize, mut take: impl FnMut(usize, u64)) {
        loop {
            // What was counted is seen here: the post that led to this call, or the subtraction
            // below, read the count after it.
            let mut taken = 0;
            for (index, word) in self.bits.iter().take(words).enumerate() {
                if word.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                // Pairs with the `Release` in `set`.
                let bits = word.swap(0, Ordering::Acquire);
                taken += bits.count_ones() as i32;
                take(index, bits);
            }
            if self.count.fetch_sub(taken, Ordering::AcqRel) <= taken {
                return;
            }
            // Others counted more meanwhile and saw that the duty is here: their bits are there.
        }
    }

    /// Whether everything that was set is counted and taken.
    pub(crate) fn is_settled(&self) -> bool {
        self.counted() == 0
    }

    /// Bits counted and not taken.
    pub(crate) fn counted(&self) -> i32 {
        // Pairs with the `Release` in `count`: whoever counted has made its last access.
        self.count.load(Ordering::Acquire)
    }

    /// The bits of a word that are set now.
    pub(crate) fn bits(&self, word: usize) -> u64 {
        self.bits.get(word).map_or(0, |bits| bits.load(Ordering::Relaxed))
    }

    /// The page posted before this one, by its number; 0 for none. To be read before `collect`,
    /// after which the page may be posted again.
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }
}

/// Pages with remote frees, as a list through their records that any thread may push on. The owner
/// only ever takes the whole list, so there is no ABA.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Inbox(AtomicU32);

impl Inbox {
    pub(crate) const fn new(head: AtomicU32) -> Self {
        Self(head)
    }

    /// Posts the page with this number, not 0, by a thread that has the duty to.
    pub(crate) fn post<const WORDS: usize>(&self, number: u32, page: &Remote<WORDS>) {
        let mut next = self.0.load(Ordering::Relaxed);
        loop {
            page.next.store(next, Ordering::Relaxed);
            // `Release` pairs with the `Acquire` in `take`: the link, and the count before it.
            match self.0.compare_exchange_weak(next, number, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// Whether nothing is posted, as far as the caller knows.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Takes the whole list: the number of its first page, or 0.
    pub(crate) fn take(&self) -> u32 {
        // Not looked at before: loom's search relates an access to the latest one before it only,
        // and would not see that a post conflicts with a look. `Acquire` also for what earlier
        // posts released: each later one is a read-modify-write.
        self.0.swap(0, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Arc, AtomicBool, model, thread};

    /// Two words, of which the tests use a bit or two.
    struct Page {
        remote: Remote<2>,
        inbox: Inbox,
        is_posted: AtomicBool,
        is_given_up: AtomicBool,
    }

    const NUMBER: u32 = 7;

    impl Page {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                remote: Remote::new(),
                inbox: Inbox::new(AtomicU32::new(0)),
                is_posted: AtomicBool::new(false),
                is_given_up: AtomicBool::new(false),
            })
        }

        fn expect_in_use(&self) {
            assert!(!self.is_given_up.load(Ordering::Relaxed), "touched after it was given up");
        }

        /// Another thread frees these blocks, in one batch.
        fn free(&self, places: &[(usize, u64)]) {
            for (word, bits) in places {
                self.expect_in_use();
                assert!(self.remote.set(*word, *bits));
            }
            self.expect_in_use();
            if self.remote.count(places.len() as i32) {
                self.expect_in_use();
                assert!(!self.is_posted.swap(true, Ordering::Relaxed), "posted twice");
                self.inbox.post(NUMBER, &self.remote);
            }
        }

        /// The owner looks into its inbox, and gives the page up if all its blocks are free.
        fn drain(&self, free: &mut [u64; 2], all: [u64; 2]) {
            if self.inbox.take() == NUMBER {
                assert_eq!(self.remote.next(), 0);
                self.is_posted.store(false, Ordering::Relaxed);
                self.remote.collect(2, |word, bits| {
                    assert_eq!(free[word] & bits, 0, "taken twice");
                    free[word] |= bits;
                });
            }
            if *free == all && self.remote.is_settled() {
                self.is_given_up.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Frees `batches`, a thread each, while the owner drains `drains` times; then looks whether
    /// nothing was lost.
    fn check(batches: &'static [&'static [(usize, u64)]], drains: usize) {
        model(move || {
            let page = Page::new();
            let mut all = [0; 2];
            for (word, bits) in batches.iter().flat_map(|batch| batch.iter()) {
                all[*word] |= *bits;
            }
            let threads: Vec<_> = batches
                .iter()
                .map(|batch| {
                    let page = Arc::clone(&page);
                    thread::spawn(move || page.free(batch))
                })
                .collect();
            let mut free = [0; 2];
            for _ in 0..drains {
                page.drain(&mut free, all);
            }
            for thread in threads {
                thread.join().unwrap();
            }
            page.drain(&mut free, all);
            assert_eq!(free, all, "forgotten");
            assert_eq!([page.remote.bits(0), page.remote.bits(1)], [0, 0]);
            assert!(page.remote.is_settled());
            assert!(page.is_given_up.load(Ordering::Relaxed));
        });
    }

    #[test]
    fn two_threads_free_into_one_word() {
        check(&[&[(0, 1)], &[(0, 2)]], 1);
    }

    #[test]
    fn a_batch_over_two_words_meets_another_thread() {
        check(&[&[(0, 1), (1, 1)], &[(0, 2)]], 1);
    }

    #[test]
    fn the_owner_takes_half_of_a_batch() {
        check(&[&[(0, 1), (1, 1)]], 2);
    }
}
