//! Data of any length, of which only a part is needed at a time.

use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// A large request takes time, for its pages must be found and cleared before the first byte is
    /// used, where a small buffer that is filled again and again is there already.
    "buffer-and-whole", stack_only, heap_heavy
}

/// The longest message that may come, in words of eight bytes: 1 MiB.
const MESSAGE_MAX_WORDS: usize = 128 * 1024;

/// Messages are shorter than this: 64 KiB.
const LENGTH_LIMIT_WORDS: u64 = 8 * 1024;

/// The buffer's size in words: 4 KiB.
const BUFFER_WORDS: usize = 512;

/// Fletcher's checksum, over words and modulo two to the 64th: the order of the words matters to
/// it.
#[derive(Debug, Default)]
struct Checksum {
    sum: u64,
    sum_of_sums: u64,
}

impl Checksum {
    fn add(&mut self, words: &[u64]) {
        for &word in words {
            self.sum = self.sum.wrapping_add(word);
            self.sum_of_sums = self.sum_of_sums.wrapping_add(self.sum);
        }
    }
}

/// A message that arrives: its length in words, and where its words come from.
fn message(round: usize) -> (usize, Numbers) {
    let mut numbers = Numbers::of_round(round);
    let length = 1 + numbers.below(LENGTH_LIMIT_WORDS);
    (length as usize, numbers)
}

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut checksum = Checksum::default();
    let mut buffer = [0; BUFFER_WORDS];
    for round in 0..input.scale {
        let (mut left, mut words) = message(round);
        while left > 0 {
            let part = &mut buffer[..left.min(BUFFER_WORDS)];
            part.fill_with(|| words.next());
            checksum.add(black_box(part));
            left -= part.len();
        }
    }
    Ok(answer(&checksum))
}

/// Makes room for the longest message, for each message anew.
fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut checksum = Checksum::default();
    for round in 0..input.scale {
        let (length, mut words) = message(round);
        let mut whole = vec![0; MESSAGE_MAX_WORDS];
        whole[..length].fill_with(|| words.next());
        checksum.add(&black_box(&whole)[..length]);
    }
    Ok(answer(&checksum))
}

fn answer(checksum: &Checksum) -> Answer {
    Answer::Number { what: "checksum", value: checksum.sum_of_sums }
}
