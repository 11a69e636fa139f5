//! Hold of what lies behind a heap's caches: one at a time has it. That is the heap's thread while it
//! is off the fast path, whoever took the heap from the [`pool`](crate::pool), or the
//! [`purger`](crate::purger)'s helper for a thread that sleeps.
//!
//! Nobody waits for it. A thread that finds its heap held does as one that has none, and says so, so
//! that the helper stops. `tests/loom` plays it.

use crate::sync::{AtomicU32, Ordering};

/// What a thread holds with. A helper holds with its process and [`HELPER`].
const THREAD: u32 = 1;

/// Set in what a helper holds with. No process has so high a number.
const HELPER: u32 = 1 << 31;

/// Who has hold. Two words of 0 are a hold that nobody has.
#[derive(Debug)]
pub(crate) struct Hold {
    /// 0 while nobody has it.
    holder: AtomicU32,
    /// 1 if somebody missed it since a helper took it.
    is_missed: AtomicU32,
}

impl Hold {
    /// Nobody has it.
    pub(crate) const fn new(words: [AtomicU32; 2]) -> Self {
        let [holder, is_missed] = words;
        Self { holder, is_missed }
    }

    /// Takes hold, for a thread; `false` when somebody has.
    pub(crate) fn take(&self) -> bool {
        self.take_as(THREAD)
    }

    /// Takes hold, for a process's helper.
    pub(crate) fn take_as_helper(&self, process: u32) -> bool {
        let is_taken = self.take_as(process | HELPER);
        if is_taken {
            self.is_missed.store(0, Ordering::Relaxed);
        }
        is_taken
    }

    fn take_as(&self, holder: u32) -> bool {
        // `Acquire` pairs with `let_go`: all that the last holder did.
        self.holder.compare_exchange(0, holder, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Lets go, by whoever has hold.
    pub(crate) fn let_go(&self) {
        self.holder.store(0, Ordering::Release);
    }

    /// Notes that a thread could not take hold.
    pub(crate) fn miss(&self) {
        self.is_missed.store(1, Ordering::Relaxed);
    }

    /// Whether a thread could not take hold since a helper took it.
    pub(crate) fn is_missed(&self) -> bool {
        self.is_missed.load(Ordering::Relaxed) != 0
    }

    /// Whether the helper of another process has hold: of the parent, which was at work when it forked.
    /// It never lets go here.
    pub(crate) fn is_lost(&self, process: impl FnOnce() -> u32) -> bool {
        let holder = self.holder.load(Ordering::Relaxed);
        holder & HELPER != 0 && holder != process() | HELPER
    }
}
