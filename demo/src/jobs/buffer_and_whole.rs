//! More data than anybody needs at once.

use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// A large request takes time, for the kernel must find pages and each faults when it is first
    /// touched, where a small buffer that is filled again and again stays in the cache.
    "buffer-and-whole", stack_only, heap_heavy
}

/// The message of a round, in words of eight bytes: 256 KiB, which common allocators fetch from the
/// kernel for this request alone.
const MESSAGE_WORDS: usize = 32 * 1024;

/// The buffer's size in words: 4 KiB. It divides the message.
const BUFFER_WORDS: usize = 512;

/// Fletcher's checksum, over words and modulo two to the 64th: the order of the words matters to it.
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

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut checksum = Checksum::default();
    let mut buffer = [0; BUFFER_WORDS];
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        for _ in 0..MESSAGE_WORDS / BUFFER_WORDS {
            buffer.fill_with(|| numbers.next());
            checksum.add(black_box(&buffer));
        }
    }
    Ok(answer(&checksum))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut checksum = Checksum::default();
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let message: Vec<u64> = (0..MESSAGE_WORDS).map(|_| numbers.next()).collect();
        checksum.add(black_box(&message));
    }
    Ok(answer(&checksum))
}

fn answer(checksum: &Checksum) -> Answer {
    Answer::Number { what: "checksum", value: checksum.sum_of_sums }
}
