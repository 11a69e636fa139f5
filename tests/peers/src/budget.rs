//! How long a series of runs may go on.

use std::time::{Duration, Instant};

/// The time at which nothing further begins.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// None: there is no end.
    end: Option<Instant>,
}

impl Budget {
    /// So many seconds from now, or no end.
    #[must_use]
    pub fn of(seconds: Option<u64>) -> Self {
        Self { end: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)) }
    }

    /// Whether it is used up, which is then said, with the round (counted from 0) that was reached.
    #[must_use]
    pub fn is_used_up(&self, round: usize) -> bool {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        if over {
            eprintln!("the budget is used up in round {}: run again to go on", round + 1);
        }
        over
    }
}
