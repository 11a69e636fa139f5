//! Scripts of bytes played on the heap: what the fuzz target `fuzz/fuzz_targets/operations.rs` does
//! with a fuzzer, here with scripts made up at random. The program's own allocator is the system's.

#[allow(dead_code, reason = "other programs that drive the model use the rest")]
mod model;
mod process;
mod script;

use model::Random;
use process::succeed;

const SCRIPTS: usize = if cfg!(debug_assertions) { 25 } else { 300 };

#[test]
fn scripts_made_up_at_random_agree_with_the_model() {
    succeed("scripts_made_up_at_random_agree_with_the_model", || {
        let mut random = Random::new(11);
        for _ in 0..SCRIPTS {
            let length = random.below(1500);
            let bytes: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
            script::play(&bytes);
        }
    });
}

#[test]
fn scripts_of_few_different_steps_agree_with_the_model() {
    succeed("scripts_of_few_different_steps_agree_with_the_model", || {
        let mut random = Random::new(12);
        for _ in 0..SCRIPTS {
            // A few phrases again and again: the same size classes, pages that fill and empty.
            let phrases: Vec<Vec<u8>> = (0..3)
                .map(|_| (0..1 + random.below(8)).map(|_| random.below(256) as u8).collect())
                .collect();
            let bytes: Vec<_> =
                (0..100).flat_map(|_| phrases[random.below(phrases.len())].clone()).collect();
            script::play(&bytes);
        }
    });
}
