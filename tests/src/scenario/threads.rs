//! Heap events of many threads, of threads that end, and of signal handlers.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use super::Given;
use crate::block::{Block, TRAIL_ALIGN, trail};
use crate::counting::stop_counting;
use crate::os::{self, BareThread};
use crate::pool::Pool;

/// Eight threads that hand each other blocks through one table and free whatever they find there;
/// every eighth block they resize first. At the end the table is emptied: nothing of it leaks.
///
/// Says how many blocks were made, how many resized.
pub(super) fn eight_threads(given: &Given) {
    stop_counting();
    let rounds = given.number("rounds").unwrap_or(10_000);
    let recording = given.start();
    let table: Arc<[AtomicPtr<usize>]> = (0..16).map(|_| AtomicPtr::default()).collect();
    let threads: Vec<_> = (1..=8)
        .map(|number: u64| {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let mut random = Random(number);
                let mut resized = 0;
                for round in 0..rounds {
                    // Few cores would otherwise let one thread meet mostly its own blocks.
                    if round % 8 == 0 {
                        thread::yield_now();
                    }
                    let block = Block::new(16 + random.below(500), 8).into_raw();
                    let found = table[random.below(table.len())].swap(block, Ordering::AcqRel);
                    // SAFETY: whoever takes a block out of the table is alone with it.
                    let Some(found) = (unsafe { Block::from_raw(found) }) else { continue };
                    if random.below(8) == 0 {
                        resized += 1;
                        found.resize(16 + random.below(2000)).free();
                    } else {
                        found.free();
                    }
                }
                resized
            })
        })
        .collect();
    let resized: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    for place in table.iter() {
        // SAFETY: as above.
        if let Some(block) = unsafe { Block::from_raw(place.load(Ordering::Acquire)) } {
            block.free();
        }
    }
    if let Some(recording) = recording {
        recording.stop();
    }
    println!("{} {resized}", 8 * rounds);
}

/// Thread N of `count` makes and frees one block of 100,000 + N bytes.
pub(super) fn many_threads(given: &Given) {
    let count = given.number("count").unwrap_or(10_000);
    for first in (0..count).step_by(8) {
        let threads: Vec<_> = (first..count.min(first + 8))
            .map(|number| thread::spawn(move || trail(100_000 + number, 1)))
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}

/// 300 threads at once; thread N makes the trail of 200,000 + 10 N when all of them have begun, and
/// again when all of them have.
pub(super) fn live_threads(_given: &Given) {
    let barrier = Arc::new(Barrier::new(300));
    let threads: Vec<_> = (0..300)
        .map(|number: usize| {
            let barrier = Arc::clone(&barrier);
            let run = move || {
                for _ in 0..2 {
                    barrier.wait();
                    trail(200_000 + 10 * number, 10);
                }
            };
            thread::Builder::new().stack_size(128 << 10).spawn(run).expect("a thread")
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// `count` threads, one after the other, or one, whose thread locals make the trail of 62,000 when they are
/// dropped, and whose `pthread` key makes that of 63,000, then of 63,010, and so on: each in a later one of
/// `rounds` of destructors, or of three. Says in how many pieces `file` is mapped in the end.
pub(super) fn late_destructors(given: &Given) {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            trail(62_000, 10);
        }
    }
    thread_local!(static LATE: Late = const { Late });

    let mut key = 0;
    // SAFETY: the destructor is a function of the program, which stays.
    let result = unsafe { libc::pthread_key_create(&raw mut key, Some(set_again)) };
    assert_eq!(result, 0);
    KEY.store(key, Ordering::Relaxed);
    let rounds = given.number("rounds").unwrap_or(3);
    for _ in 0..given.number("count").unwrap_or(1) {
        let run = move || {
            LATE.with(|_| ());
            set_key(rounds);
            trail(61_500, 10);
        };
        thread::spawn(run).join().expect("no panic");
    }
    if let Some(file) = given.text("file") {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        println!("{}", maps.lines().filter(|line| line.ends_with(file)).count());
    }
}

static KEY: AtomicU32 = AtomicU32::new(0);

/// Has the destructor run in so many rounds, the first one numbered 0.
fn set_key(rounds: usize) {
    set_round(0, rounds);
}

fn set_round(round: usize, rounds: usize) {
    let value = ptr::without_provenance::<c_void>(rounds << 8 | round);
    // SAFETY: the key was made and is never deleted; its values are numbers.
    let result = unsafe { libc::pthread_setspecific(KEY.load(Ordering::Relaxed), value) };
    assert_eq!(result, 0);
}

unsafe extern "C" fn set_again(value: *mut c_void) {
    let (rounds, round) = (value.addr() >> 8, value.addr() & 0xff);
    trail(63_000 + 10 * round, 10);
    if round + 1 < rounds {
        set_round(round + 1, rounds);
    }
}

/// A thread that ends in the C library: with the trail of 60,000, then that of 61,000.
pub(super) fn exit_in_c(_given: &Given) {
    BareThread::start_to_exit_in_c("exits-in-c", || trail(60_000, 10)).join();
    trail(60_500, 10);
}

static ALARMS: AtomicU64 = AtomicU64::new(0);

/// Threads that ask for blocks without a pause, threads that are made and end, and an alarm every
/// `every` µs whose handler makes the trail of 64,000, two blocks. Only for an allocator that may be
/// asked in signal handlers.
///
/// Says how many alarms there were, and how many short threads: each made the trail of 70,000, one
/// block.
pub(super) fn alarms(given: &Given) {
    let wanted = given.number("alarms").unwrap_or(1_000) as u64;
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    deep(20);
                }
            })
        })
        .collect();
    os::handle(libc::SIGALRM, alarm);
    os::alarm_every(given.number("every").unwrap_or(100) as i64);
    let mut short = 0;
    while ALARMS.load(Ordering::Relaxed) < wanted {
        thread::spawn(|| trail(70_000, 1)).join().expect("no panic");
        short += 1;
    }
    os::alarm_every(0);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no panic");
    }
    println!("{} {short}", ALARMS.load(Ordering::Relaxed));
}

extern "C" fn alarm(_signal: c_int) {
    trail(64_000, 2);
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

/// Reallocations from 40,000 bytes to 40,001, each interrupted when it has released the old block by a
/// handler that makes the trail of 64,000, one block: in the place of the old one. Only over the allocator
/// that can be interrupted.
pub(super) fn interrupted_reallocations(_given: &Given) {
    extern "C" fn take_what_was_released(_signal: c_int) {
        trail(64_000, 1);
    }
    os::handle(libc::SIGUSR1, take_what_was_released);
    for _ in 0..100 {
        let block = Block::new(40_000, TRAIL_ALIGN);
        Pool::interrupt_next_reallocation(libc::SIGUSR1);
        block.resize(40_001).free();
    }
}

static CANCELLED_BEGUN: AtomicUsize = AtomicUsize::new(0);

/// A thread that cancels itself, makes the trail of 60,000 sixty times all the same, and ends at its
/// next cancellation point; then eight that make that of 61,000 until they are cancelled. At last the
/// trail of 62,000.
pub(super) fn cancelled(_given: &Given) {
    let patient = BareThread::start("cancels-itself", || {
        os::cancel_self();
        for _ in 0..60 {
            trail(60_000, 900);
        }
        os::end_if_cancelled();
        trail(63_000, 10);
    });
    assert!(patient.join());
    let threads: Vec<BareThread> = (0..8)
        .map(|number| {
            BareThread::start(&format!("cancelled-{number}"), || {
                trail(61_000, 10);
                CANCELLED_BEGUN.fetch_add(1, Ordering::Relaxed);
                loop {
                    os::end_if_cancelled();
                    trail(61_000, 10);
                }
            })
        })
        .collect();
    while CANCELLED_BEGUN.load(Ordering::Relaxed) < threads.len() {
        thread::yield_now();
    }
    for thread in threads {
        thread.cancel();
        assert!(thread.join());
    }
    trail(62_000, 10);
}

static CHILDREN: AtomicUsize = AtomicUsize::new(0);
static IS_CHILD: AtomicBool = AtomicBool::new(false);

static BEHIND_ITS_BACK: AtomicBool = AtomicBool::new(false);

/// Asks for blocks without a pause and has an alarm every `every` µs whose handler forks: each of
/// `alarms` children makes the trail of 66,000 and ends. With `how=clone` that is behind the C library's
/// back, and the child ends in its handler, as it must: what it interrupted is not its own. Says how many blocks the parent made.
pub(super) fn forks_in_handlers(given: &Given) {
    let wanted = given.number("alarms").unwrap_or(100);
    BEHIND_ITS_BACK.store(given.text("how") == Some("clone"), Ordering::Relaxed);
    let mut made = 0;
    os::handle(libc::SIGALRM, fork_on_alarm);
    os::alarm_every(given.number("every").unwrap_or(2_000) as i64);
    while CHILDREN.load(Ordering::Relaxed) < wanted {
        trail(70_000, 1);
        made += 1;
        if IS_CHILD.load(Ordering::Relaxed) {
            trail(66_000, 10);
            os::exit_now(5);
        }
    }
    os::alarm_every(0);
    println!("{made}");
}

extern "C" fn fork_on_alarm(_signal: c_int) {
    if BEHIND_ITS_BACK.load(Ordering::Relaxed) {
        if os::clone_process().is_none() {
            trail(66_000, 10);
            os::exit_now(5);
        }
        CHILDREN.fetch_add(1, Ordering::Relaxed);
        return;
    }
    match os::fork() {
        None => IS_CHILD.store(true, Ordering::Relaxed),
        // The parent runs on beside the child.
        Some(_) => _ = CHILDREN.fetch_add(1, Ordering::Relaxed),
    }
}

/// Asks on the way in and on the way out, so that backtraces grow and shrink.
#[inline(never)]
fn deep(depth: usize) {
    thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
    static MOST: AtomicUsize = AtomicUsize::new(0);
    // Of the handler's size class: what one of the two frees the other one is given next.
    trail(40_000 + depth, 1);
    DEPTH.set(DEPTH.get() + 1);
    if depth > 0 {
        deep(depth - 1);
    }
    MOST.fetch_max(DEPTH.get(), Ordering::Relaxed);
    DEPTH.set(DEPTH.get() - 1);
    Block::new(40_100 + depth, 8).resize(40_200 + depth).free();
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
