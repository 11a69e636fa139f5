//! What a burst leaves: how much of the memory that was freed goes back to the system.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Resident memory around a burst, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// Before it.
    pub before: u64,
    /// When all of it was live.
    pub at_peak: u64,
    /// After so many milliseconds since all of it was freed.
    pub after: Vec<(u64, u64)>,
}

/// When memory is looked at, in milliseconds since the last block was freed.
const LOOKS: [u64; 5] = [0, 500, 1_500, 2_500, 4_000];

impl Burst {
    /// Allocates 256 MiB in blocks of all sizes, frees them all, and goes on with little.
    ///
    /// What goes on is what an idle server does: a few blocks of each size every ten milliseconds, so
    /// that an allocator that acts when it is called is called.
    #[must_use]
    pub fn run() -> Self {
        let mut random = Random::new(5);
        some_work(&mut random);
        let before = resident_bytes();
        let mut live = Vec::new();
        let mut bytes = 0;
        while bytes < 256 << 20 {
            let size =
                if random.below(200) == 0 { 65_536 + random.below(1 << 20) } else { random.size() };
            live.push(vec![1u8; size]);
            bytes += size;
        }
        let at_peak = resident_bytes();
        drop(live);
        let freed = Instant::now();
        let after = LOOKS.map(|look| {
            while freed.elapsed() < Duration::from_millis(look) {
                thread::sleep(Duration::from_millis(10));
                some_work(&mut random);
            }
            (look, resident_bytes())
        });
        Self { before, at_peak, after: after.to_vec() }
    }

    /// The part that has gone back at each look.
    #[must_use]
    pub fn gone_back(&self) -> Vec<(u64, f64)> {
        let grown = self.at_peak.saturating_sub(self.before).max(1) as f64;
        let back = |now: u64| (self.at_peak.saturating_sub(now)) as f64 / grown;
        self.after.iter().map(|(look, now)| (*look, back(*now))).collect()
    }
}

fn some_work(random: &mut Random) {
    let blocks: Vec<_> = (0..1_000).map(|_| vec![1u8; random.size()]).collect();
    std::hint::black_box(blocks);
}

/// The second number of `statm` is OS pages in memory.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_back_is_a_part_of_what_had_come() {
        let burst = Burst { before: 100, at_peak: 1_100, after: vec![(0, 1_100), (500, 200)] };
        assert_eq!(burst.gone_back(), [(0, 0.0), (500, 0.9)]);
    }
}
