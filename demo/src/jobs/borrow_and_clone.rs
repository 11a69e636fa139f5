//! One value that several parts of a program read.

use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// An owner can lend a value to all who only read it, where handing a clone to each of them
    /// keeps the same data as often as it has readers.
    "borrow-and-clone", stack_only, heap_heavy
}

/// How many readings a station takes in a round.
const READINGS: usize = 256;

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut total = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let readings: [u64; READINGS] = std::array::from_fn(|_| numbers.below(500));
        let readings = black_box(&readings);
        total += lent::spread(readings) + lent::average(readings) + lent::jumps(readings);
    }
    Ok(answer(total))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut total = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let readings: Vec<u64> = (0..READINGS).map(|_| numbers.below(500)).collect();
        total += owned::spread(readings.clone());
        total += owned::average(readings.clone());
        total += owned::jumps(readings.clone());
        black_box(&readings);
    }
    Ok(answer(total))
}

/// Functions that borrow what they read.
mod lent {
    pub(super) fn spread(readings: &[u64]) -> u64 {
        let (mut least, mut most) = (u64::MAX, 0);
        for &reading in readings {
            least = least.min(reading);
            most = most.max(reading);
        }
        most - least
    }

    pub(super) fn average(readings: &[u64]) -> u64 {
        readings.iter().sum::<u64>() / readings.len() as u64
    }

    pub(super) fn jumps(readings: &[u64]) -> u64 {
        readings.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 100).count() as u64
    }
}

/// The same functions for callers who believe that each needs readings of its own.
mod owned {
    use std::hint::black_box;

    pub(super) fn spread(readings: Vec<u64>) -> u64 {
        super::lent::spread(black_box(&readings))
    }

    pub(super) fn average(readings: Vec<u64>) -> u64 {
        super::lent::average(black_box(&readings))
    }

    pub(super) fn jumps(readings: Vec<u64>) -> u64 {
        super::lent::jumps(black_box(&readings))
    }
}

fn answer(total: u64) -> Answer {
    Answer::Number { what: "sum of spreads, averages and jumps", value: total }
}
