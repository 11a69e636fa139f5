//! Blocks of 8 to 256 bytes that are replaced at random, by functions 10 to 20 calls deep, over about
//! 14,400 distinct paths.

use std::hint::black_box;

use peers::random::Random;

/// Live blocks, once there are as many.
const LIVE: usize = 5_000;

struct Churn {
    random: Random,
    live: Vec<Vec<u8>>,
    left: u64,
    /// Events before the path changes.
    events_of_a_path: u64,
    checksum: u64,
}

/// About so many events; another path is taken after every few of them.
pub(crate) fn run(events: u64, events_of_a_path: u64) -> u64 {
    let mut churn = Churn {
        random: Random::new(7),
        live: Vec::with_capacity(LIVE),
        left: events,
        events_of_a_path,
        checksum: 0,
    };
    while churn.left > 0 {
        // Each level is two calls.
        let depth = 5 + churn.random.below(5) as u32;
        let path = churn.random.below(14_400) as u64;
        churn.descend(depth, path);
    }
    churn.checksum
}

impl Churn {
    #[inline(never)]
    fn work(&mut self) {
        for _ in 0..self.events_of_a_path / 2 {
            let size = 8 + self.random.below(249);
            let mut block = Vec::with_capacity(size);
            block.push(size as u8);
            if self.live.len() < LIVE {
                self.live.push(block);
                self.left = self.left.saturating_sub(1);
            } else {
                let place = self.random.below(LIVE);
                self.checksum += u64::from(self.live[place][0]);
                self.live[place] = block;
                self.left = self.left.saturating_sub(2);
            }
        }
    }

    #[inline(never)]
    fn descend(&mut self, depth: u32, path: u64) {
        if depth == 0 {
            self.work();
        } else {
            match path % 3 {
                0 => self.first(depth, path),
                1 => self.second(depth, path),
                _ => self.third(depth, path),
            }
        }
        // Something is left to do, so that the call is none in tail position.
        black_box(path);
    }

    #[inline(never)]
    fn first(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 1);
    }

    #[inline(never)]
    fn second(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 2);
    }

    #[inline(never)]
    fn third(&mut self, depth: u32, path: u64) {
        self.descend(depth - 1, path / 3);
        black_box(path + 3);
    }
}
