//! Many values that are walked in order.

use std::collections::LinkedList;
use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// Values that lie together arrive in the cache together, where the nodes of a linked list lie
    /// wherever the allocator had room and each must be waited for before the next is known.
    "contiguous-and-linked", stack_only, heap_heavy
}

/// How many values a list has.
const VALUES: usize = 1024;

/// How often a list is walked.
const WALKS: usize = 8;

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut rises = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let values: [u64; VALUES] = std::array::from_fn(|_| numbers.below(1000));
        for walk in 0..WALKS {
            rises += count_rises(black_box(&values).iter(), walk);
        }
    }
    Ok(answer(rises))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut rises = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let values: LinkedList<u64> = (0..VALUES).map(|_| numbers.below(1000)).collect();
        for walk in 0..WALKS {
            rises += count_rises(black_box(&values).iter(), walk);
        }
    }
    Ok(answer(rises))
}

/// How often a value exceeds the one before by more than `walk` hundred.
fn count_rises<'v>(values: impl Iterator<Item = &'v u64>, walk: usize) -> u64 {
    let (mut rises, mut before) = (0, 0);
    for &value in values {
        rises += u64::from(value > before + 100 * walk as u64);
        before = value;
    }
    rises
}

fn answer(rises: u64) -> Answer {
    Answer::Number { what: "number of rises", value: rises }
}
