//! A program whose allocator is `CoreAlloc`, doing real work on many threads, with the model
//! driver beside it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use alloc_core::CoreAlloc;

#[allow(dead_code, reason = "other programs that drive the model use the rest")]
mod model;
mod process;

use model::{Model, Random};
use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

const WORDS: usize = if cfg!(debug_assertions) { 5_000 } else { 100_000 };

/// Counts made-up words in several kinds of collection.
fn count_words(seed: u64) -> BTreeMap<String, usize> {
    let mut random = Random::new(seed);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut recent: VecDeque<String> = VecDeque::new();
    let mut text = String::new();
    for _ in 0..WORDS {
        let number = random.below(1000);
        let word = format!("{:1$x}", number, 1 + number % 60);
        writeln!(text, "{word}").expect("a string takes all");
        *counts.entry(word.clone()).or_default() += 1;
        recent.push_back(word);
        if recent.len() > 100 {
            recent.pop_front();
        }
    }
    assert_eq!(text.lines().count(), WORDS);
    let mut again: HashMap<&str, usize> = HashMap::new();
    for word in text.lines() {
        *again.entry(word).or_default() += 1;
    }
    assert!(counts.iter().all(|(word, count)| again[word.as_str()] == *count));
    counts.into_iter().collect()
}

#[test]
fn a_program_on_many_threads_works() {
    succeed("a_program_on_many_threads_works", || {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                thread::spawn(move || {
                    let counts = count_words(number % 2 + 1);
                    HEAP.check().expect("a whole heap");
                    counts
                })
            })
            .collect();
        let results: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("it ran")).collect();
        for (number, counts) in results.iter().enumerate() {
            assert_eq!(*counts, results[number % 2]);
            assert_eq!(counts.values().sum::<usize>(), WORDS);
        }
        drop(results);
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn boxes_pass_through_channels_and_shared_state() {
    succeed("boxes_pass_through_channels_and_shared_state", || {
        let shared = Arc::new(Mutex::new(BTreeMap::new()));
        let (send, receive) = mpsc::channel::<Box<Vec<usize>>>();
        let producers: Vec<_> = (0..4)
            .map(|number| {
                let send = send.clone();
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for step in 0..WORDS / 5 {
                        send.send(Box::new(vec![number; step % 300])).expect("a receiver");
                        if step % 10 == 0 {
                            let mut map = shared.lock().expect("no panic");
                            map.insert(step, vec![number; step % 50]);
                            map.remove(&(step / 2));
                        }
                    }
                })
            })
            .collect();
        drop(send);
        let mut received = 0;
        for boxed in receive {
            assert!(boxed.windows(2).all(|pair| pair[0] == pair[1]));
            received += 1;
        }
        for producer in producers {
            producer.join().expect("it ran");
        }
        assert_eq!(received, 4 * (WORDS / 5));
        HEAP.check_all().expect("a whole heap");
    });
}

#[test]
fn the_model_agrees_in_a_program_that_uses_the_heap_itself() {
    succeed("the_model_agrees_in_a_program_that_uses_the_heap_itself", || {
        let mut random = Random::new(99);
        let mut model = Model::new(HEAP);
        for step in 0..20_000 {
            model.step(random.operation(model.live(), 1000));
            if step % 500 == 0 {
                HEAP.check_all().expect("a whole heap");
            }
        }
        model.free_all();
        assert_eq!(model.refused, 0);
        HEAP.check_all().expect("a whole heap");
    });
}
