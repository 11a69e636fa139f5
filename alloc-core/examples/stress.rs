//! Threads that allocate, resize, pass blocks on and free them, held against the model, for as long
//! as one likes. Between rounds, with all threads ended, the whole heap is checked, and five times a
//! round, with all threads at rest.
//!
//! ```sh
//! cargo run --release -p alloc-core --example stress -- [SECONDS [THREADS [SEED]]]
//! ```
//!
//! By default 60 seconds, 8 threads, and a seed that the clock gives and that is printed. The order
//! in which threads run is the system's, so a seed repeats the requests and not the run.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloc_core::CoreAlloc;

#[path = "../tests/model/mod.rs"]
#[allow(dead_code, reason = "other programs that drive the model use the rest")]
mod model;

use model::{Block, Model, Random, Rest};

const HEAP: CoreAlloc = CoreAlloc::new();

/// Steps of a thread in a round.
const STEPS: usize = 100_000;

/// Steps after which all threads of a round rest.
const STEPS_BETWEEN_RESTS: usize = 20_000;

/// One thread's part of a round. Returns what it has left and what was sent to it too late.
fn work(
    seed: u64,
    live: usize,
    next: &mpsc::Sender<Block>,
    own: &mpsc::Receiver<Block>,
    rest: &Rest,
) -> Vec<Block> {
    let mut random = Random::new(seed);
    let mut model = Model::new(HEAP);
    // Some threads give much away, others nothing.
    let gives = random.below(20);
    for step in 0..STEPS {
        model.step(random.operation(model.live(), live));
        if random.below(20) < gives
            && let Some(block) = model.remove(random.below(1 << 20))
        {
            // The other thread may be done already.
            if let Err(mpsc::SendError(block)) = next.send(block) {
                model.insert(block);
            }
        }
        for block in own.try_iter() {
            model.insert(block);
        }
        if step % STEPS_BETWEEN_RESTS == 0 {
            rest.meet(|| HEAP.check_all().expect("a whole heap"));
        }
        if random.below(50_000) == 0 {
            HEAP.purge();
        }
    }
    assert_eq!(model.refused, 0, "memory is out");
    std::iter::from_fn(|| model.remove(0)).collect()
}

/// A round of all threads. What they leave is kept over the next rounds, and freed by this thread.
fn round(seed: u64, threads: usize, rest: &Arc<Rest>, kept: &mut Model<CoreAlloc>) {
    let mut random = Random::new(seed);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel()).unzip();
    let workers: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, own)| {
            let next = senders[(number + 1) % threads].clone();
            let (seed, live) = (seed + number as u64, 1 << random.below(13));
            let rest = Arc::clone(rest);
            thread::spawn(move || (work(seed, live, &next, &own, &rest), own))
        })
        .collect();
    drop(senders);
    for worker in workers {
        let (blocks, late) = worker.join().expect("a thread whose blocks are whole");
        blocks.into_iter().chain(late).for_each(|block| kept.insert(block));
    }
    HEAP.check_all().expect("a whole heap");
    assert_eq!(HEAP.stats().live_blocks(), kept.live());
    let keep = random.below(kept.live() + 1);
    while kept.live() > keep {
        kept.step(model::Operation::Free { which: random.below(1 << 20) });
    }
    HEAP.check_all().expect("a whole heap");
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut argument = |otherwise: u64| match arguments.next() {
        Some(number) => number.expect("a number: seconds, threads, seed"),
        None => otherwise,
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let limit = Duration::from_secs(argument(60));
    let threads = argument(8).max(1) as usize;
    let mut seed = argument(clock.as_secs());
    println!("{threads} threads, seed {seed}");
    let rest = Arc::new(Rest::new(threads));
    let start = Instant::now();
    let mut kept = Model::new(HEAP);
    let mut rounds = 0;
    while start.elapsed() < limit {
        round(seed, threads, &rest, &mut kept);
        seed += threads as u64;
        rounds += 1;
    }
    kept.free_all();
    HEAP.check_all().expect("a whole heap");
    println!("{rounds} rounds of {STEPS} steps a thread, no contradiction");
}
