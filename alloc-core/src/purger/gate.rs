//! A gate that many go through, as long as nobody keeps it shut. Who shuts it can wait until all those
//! have left who went through.
//!
//! Each side says first what it does, and then looks at the other. All of that is read-modify-write, so
//! of two who meet one comes second, and sees what the first said (Dekker's rule without its turns).
//!
//! The counts are of one process: the child of a fork has no thread but one, so whoever else was
//! inside, or kept the gate shut, counts for nothing there.

use crate::sync::{AtomicU64, Ordering};

/// A count: the process in the high half, how many in the low one.
#[derive(Debug)]
struct Count(AtomicU64);

impl Count {
    /// Changes the count of this process, which begins at 0.
    fn change(&self, process: u32, change: impl Fn(u32) -> u32) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let count = if (before >> 32) as u32 == process { before as u32 } else { 0 };
            let now = u64::from(process) << 32 | u64::from(change(count));
            match self.0.compare_exchange(before, now, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(others) => before = others,
            }
        }
    }

    fn add(&self, process: u32) {
        self.change(process, |count| count.wrapping_add(1));
    }

    fn sub(&self, process: u32) {
        self.change(process, |count| count.saturating_sub(1));
    }

    fn is_zero(&self, process: u32) -> bool {
        // Writes, so that it comes before or after what others write.
        let count = self.0.fetch_add(0, Ordering::AcqRel);
        (count >> 32) as u32 != process || count as u32 == 0
    }
}

/// The gate. `process` is the number of the calling process.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: Count,
    shut: Count,
}

impl Gate {
    /// A gate that is open, of two words that are 0.
    pub(crate) const fn new(words: [AtomicU64; 2]) -> Self {
        let [inside, shut] = words;
        Self { inside: Count(inside), shut: Count(shut) }
    }

    /// Goes through, until [`leave`](Self::leave). `false` if the gate is shut.
    pub(crate) fn enter(&self, process: u32) -> bool {
        self.inside.add(process);
        let is_open = self.shut.is_zero(process);
        if !is_open {
            self.leave(process);
        }
        is_open
    }

    /// Leaves, by one who went through.
    pub(crate) fn leave(&self, process: u32) {
        self.inside.sub(process);
    }

    /// Shuts the gate, until as many [`open`](Self::open) it as shut it.
    pub(crate) fn shut(&self, process: u32) {
        self.shut.add(process);
    }

    /// Opens the gate, by one who shut it.
    pub(crate) fn open(&self, process: u32) {
        self.shut.sub(process);
    }

    /// Whether all have left. It stays so while the gate is shut.
    pub(crate) fn is_empty(&self, process: u32) -> bool {
        self.inside.is_zero(process)
    }
}
