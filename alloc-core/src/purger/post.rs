//! The post that one helper at a time holds: how one is found to be wanted, how long it is believed to
//! be there, and how it leaves without anybody's need being forgotten.
//!
//! Who has need says so and then looks for a helper; a helper that leaves says so and then looks for
//! need. All of that is read-modify-write, so of two who meet one comes second, and sees what the
//! first said.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bits of a claim that say when it ends; above them is the process, which has at most 22.
const UNTIL_BITS: u32 = 42;

/// That somebody holds the post: in which process, and until when, by the clock, unless it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim(u64);

impl Claim {
    fn new(process: u32, until: u64) -> Self {
        Self(u64::from(process) << UNTIL_BITS | until & ((1 << UNTIL_BITS) - 1))
    }

    /// As one word, for the thread that is started with it.
    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    /// What [`to_word`](Self::to_word) gave.
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The process that it is of.
    pub(crate) fn process(self) -> u32 {
        (self.0 >> UNTIL_BITS) as u32
    }

    fn is_over(self, now: u64) -> bool {
        self.0 & ((1 << UNTIL_BITS) - 1) <= now
    }
}

/// The post.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Post {
    /// The claim of who holds it; 0 when nobody does. A helper waits for its low half to change.
    holder: AtomicU64,
    /// 1 if there was need since the holder last asked.
    need: AtomicU32,
}

impl Post {
    /// A post that nobody holds.
    pub(crate) const fn new(holder: AtomicU64, need: AtomicU32) -> Self {
        Self { holder, need }
    }

    /// Says that a helper is needed. To be followed by [`apply`](Self::apply).
    pub(crate) fn say_need(&self) {
        self.need.swap(1, Ordering::AcqRel);
    }

    /// Whether need was said that the helper has not seen yet. Nobody may rely on it.
    pub(crate) fn has_need(&self) -> bool {
        self.need.load(Ordering::Relaxed) != 0
    }

    /// Whether there was need of a helper since this was asked last.
    pub(crate) fn take_need(&self) -> bool {
        self.need.swap(0, Ordering::AcqRel) != 0
    }

    /// Takes the post until `until`, if nobody of this process holds it or the holder is late.
    pub(crate) fn apply(&self, process: u32, now: u64, until: u64) -> Option<Claim> {
        // Writes, so that it comes before or after that the holder leaves.
        let holder = Claim(self.holder.fetch_add(0, Ordering::AcqRel));
        if holder.process() == process && !holder.is_over(now) {
            return None;
        }
        self.replace(holder, Claim::new(process, until))
    }

    /// Holds the post longer. `None` if the claim was no longer good: the helper was late, or dismissed.
    pub(crate) fn renew(&self, claim: Claim, until: u64) -> Option<Claim> {
        self.replace(claim, Claim::new(claim.process(), until))
    }

    /// Leaves the post, and takes it again if there is need by then that nobody else sees to.
    pub(crate) fn resign(&self, claim: Claim) -> Option<Claim> {
        self.replace(claim, Claim(0))?;
        // Left for the next holder to take.
        let is_needed = self.need.fetch_add(0, Ordering::AcqRel) != 0;
        if is_needed { self.replace(Claim(0), claim) } else { None }
    }

    /// Takes the post from whoever of this process holds it. Says whether anybody did.
    pub(crate) fn dismiss(&self, process: u32) -> bool {
        loop {
            let holder = Claim(self.holder.load(Ordering::Relaxed));
            if holder.process() != process {
                return false;
            }
            // Else it was renewed meanwhile.
            if self.replace(holder, Claim(0)).is_some() {
                return true;
            }
        }
    }

    fn replace(&self, claim: Claim, new: Claim) -> Option<Claim> {
        let replaced =
            self.holder.compare_exchange(claim.0, new.0, Ordering::AcqRel, Ordering::Relaxed);
        replaced.ok().map(|_| new)
    }
}
