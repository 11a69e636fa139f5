//! A number of values that is known when the program is compiled.

use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// An array of known length takes its place by moving the stack pointer, where a Vec of the
    /// same values asks the allocator for room and asks again each time it has outgrown it.
    "array-and-vec", stack_only, heap_heavy
}

/// How many samples a median is taken of.
const SAMPLES: usize = 64;

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut medians = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let mut samples = [0; SAMPLES];
        for sample in &mut samples {
            *sample = numbers.below(1000);
        }
        medians += median(black_box(&mut samples));
    }
    Ok(answer(medians))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut medians = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            samples.push(numbers.below(1000));
        }
        medians += median(black_box(&mut samples));
    }
    Ok(answer(medians))
}

/// The upper one of the two middle samples.
fn median(samples: &mut [u64]) -> u64 {
    let middle = samples.len() / 2;
    *samples.select_nth_unstable(middle).1
}

fn answer(medians: u64) -> Answer {
    Answer::Number { what: "sum of the medians", value: medians }
}
