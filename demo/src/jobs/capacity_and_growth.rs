//! A number of values that only the work itself tells.

use std::hint::black_box;

use super::{Answer, Bound, Input, JobError, Numbers};

job! {
    /// What has no known size needs the heap or a bound, since a Vec grows by moving all it holds
    /// to larger and larger blocks, and a fixed buffer must say no when it is full.
    "capacity-and-growth", stack_only, heap_heavy
}

/// Collatz sequences begin below this, and their values fit into 64 bits.
const START_LIMIT: u64 = 100_000;

/// The longest sequence that there is room for; the longest one from below `START_LIMIT` has 351
/// values.
const CAPACITY: usize = 512;

const SEQUENCE: Bound = Bound { what: "values in a sequence:", limit: CAPACITY };

/// A list in its owner's frame, of at most `N` values.
#[derive(Debug)]
struct FixedList<const N: usize> {
    values: [u64; N],
    len: usize,
}

impl<const N: usize> FixedList<N> {
    fn new() -> Self {
        FixedList { values: [0; N], len: 0 }
    }

    fn push(&mut self, value: u64) -> Result<(), JobError<'static>> {
        *self.values.get_mut(self.len).ok_or(JobError::PastBound(SEQUENCE))? = value;
        self.len += 1;
        Ok(())
    }

    fn as_slice(&self) -> &[u64] {
        &self.values[..self.len]
    }
}

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut peaks = 0;
    for round in 0..input.scale {
        let mut value = start(round);
        let mut sequence = FixedList::<CAPACITY>::new();
        sequence.push(value)?;
        while value != 1 {
            value = following(value);
            sequence.push(value)?;
        }
        peaks += above_average(black_box(sequence.as_slice()));
    }
    Ok(answer(peaks))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut peaks = 0;
    for round in 0..input.scale {
        let mut value = start(round);
        let mut sequence = vec![value];
        while value != 1 {
            value = following(value);
            sequence.push(value);
        }
        peaks += above_average(black_box(&sequence));
    }
    Ok(answer(peaks))
}

fn start(round: usize) -> u64 {
    Numbers::of_round(round).below(START_LIMIT - 1) + 1
}

fn following(value: u64) -> u64 {
    if value.is_multiple_of(2) { value / 2 } else { 3 * value + 1 }
}

/// How many values exceed the average: for this the whole sequence must be there.
fn above_average(sequence: &[u64]) -> u64 {
    let average = sequence.iter().sum::<u64>() / sequence.len() as u64;
    sequence.iter().filter(|&&value| value > average).count() as u64
}

fn answer(peaks: u64) -> Answer {
    Answer::Number { what: "values above the average", value: peaks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_fits_and_one_value_too_many_is_an_error() {
        let length = |start: u64| {
            std::iter::successors(Some(start), |&v| (v != 1).then(|| following(v))).count()
        };
        assert_eq!((1..START_LIMIT).map(length).max(), Some(351));

        let mut list = FixedList::<2>::new();
        list.push(1).unwrap();
        list.push(2).unwrap();
        assert!(matches!(list.push(3), Err(JobError::PastBound(SEQUENCE))));
        assert_eq!(list.as_slice(), [1, 2]);
    }
}
