//! Who gives unused memory back when the program does not come by: a thread that is there only as
//! long as there is something to do.
//!
//! [`decay`] works whenever a thread leaves the fast path. A program that freed much and then sleeps,
//! or lives on what its caches hold, does not; and what other threads freed of a sleeping thread's
//! blocks waits in its inbox. So when much is free, a [`helper`] is started. Once a period it does
//! what [`decay::tick`] does, looks after the heaps whose threads did not leave the fast path, and
//! ends when a few periods had nothing to do.
//!
//! The child of a fork does not have it, and starts its own when there is need.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use crate::decay::{self, PERIOD_MS};
use crate::segment::SLICE;
use crate::{helper, os, pool, stats};

/// Free bytes that are worth a thread.
pub(crate) const WORTH_BYTES: usize = 8 << 20;

/// Bytes that a period must have purged to count as one with something to do.
const SOME_BYTES: usize = 1 << 20;

/// Periods without anything to do after which the helper ends.
const QUIET_PERIODS: u32 = 3;

/// How late the helper may be before it is taken for dead.
const PATIENCE_MS: u64 = 2 * PERIOD_MS;

/// How long after a failure the next attempt to start it is made.
const RETRY_MS: u64 = 10_000;

/// When the helper will have shown itself again, or be taken for dead; until when none is to be
/// started. 0 when there is none.
static DUE: AtomicU64 = AtomicU64::new(0);

/// Whether there was need of it since it last looked. This and [`DUE`] are `SeqCst`: a helper that
/// ends says so and then looks for need; who has need says so and then looks for a helper.
static WANTED: AtomicBool = AtomicBool::new(false);

/// When there was need of it last, by the clock.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The process that the helper was started in.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// Whether the code that a helper would run stays loaded.
static IS_POSSIBLE: AtomicBool = AtomicBool::new(false);

/// Whether the program allows it.
static IS_ALLOWED: AtomicBool = AtomicBool::new(true);

/// Whether the helper is at work, and how many want it not to be. `SeqCst`: each says its own and
/// then looks at the other.
static IS_AT_WORK: AtomicBool = AtomicBool::new(false);
static PAUSES: AtomicU32 = AtomicU32::new(0);

/// Says that the library which the heap is in will not be unloaded.
pub(crate) fn set_possible() {
    // Unit tests have a fault for each thread, in its thread-local memory.
    IS_POSSIBLE.store(!cfg!(test), Ordering::Relaxed);
}

/// Says whether a helper may be started.
pub(crate) fn set_allowed(is_allowed: bool) {
    IS_ALLOWED.store(is_allowed, Ordering::Relaxed);
}

/// Looks whether so much is free that a helper is worth it, after slices became free.
#[inline]
pub(crate) fn slices_were_freed() {
    let in_use = stats::PAGE_SLICES.get() + stats::LARGE_SLICES.get();
    // Others change these meanwhile; what is wrong by a few slices is put right by the next look.
    if stats::DIRTY_SLICES.get() >= in_use + WORTH_BYTES / SLICE {
        want();
    }
}

/// Sees to it that a helper will look at the heap soon.
#[cold]
pub(crate) fn want() {
    let now = os::now_ms();
    // Asked often, and answered seldom: the clock moves on every few milliseconds.
    if WANTED.load(Ordering::Relaxed) && ASKED.load(Ordering::Relaxed) == now {
        return;
    }
    ASKED.store(now, Ordering::Relaxed);
    forget_parents();
    WANTED.store(true, Ordering::SeqCst);
    let due = DUE.load(Ordering::SeqCst);
    let is_possible = IS_POSSIBLE.load(Ordering::Relaxed) && IS_ALLOWED.load(Ordering::Relaxed);
    if now < due || !is_possible {
        return;
    }
    let next = now + PERIOD_MS + PATIENCE_MS;
    if DUE.compare_exchange(due, next, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return;
    }
    PROCESS.store(os::process(), Ordering::Relaxed);
    if !helper::start(run) {
        DUE.store(now + RETRY_MS, Ordering::SeqCst);
    }
}

/// Whether this is the process that the helper was started in.
pub(crate) fn is_of_this_process() -> bool {
    PROCESS.load(Ordering::Relaxed) == os::process()
}

/// The child of a fork does not have its parent's helper.
fn forget_parents() {
    if DUE.load(Ordering::Relaxed) != 0 && !is_of_this_process() {
        DUE.store(0, Ordering::SeqCst);
    }
}

/// Keeps the helper from work while `operation` runs, which must not run long.
pub(crate) fn without<R>(operation: impl FnOnce() -> R) -> R {
    PAUSES.fetch_add(1, Ordering::SeqCst);
    while IS_AT_WORK.load(Ordering::SeqCst) && is_of_this_process() {
        os::yield_now();
    }
    let result = operation();
    PAUSES.fetch_sub(1, Ordering::SeqCst);
    result
}

/// What the helper does.
extern "C" fn run(stack: NonNull<u8>) -> ! {
    helper::set_name();
    let mut due = DUE.load(Ordering::SeqCst);
    let mut last = decay::current();
    let mut quiet = 0;
    loop {
        // A little longer than a period, for a clock that is coarse.
        helper::sleep(PERIOD_MS + 8);
        let next = os::now_ms() + PERIOD_MS + PATIENCE_MS;
        if DUE.compare_exchange(due, next, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            // It was late, and another one took its place.
            break;
        }
        due = next;

        let was_wanted = WANTED.swap(false, Ordering::SeqCst);
        let purged = work(&mut last);
        let is_quiet = !was_wanted && purged.is_some_and(|bytes| bytes < SOME_BYTES);
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet < QUIET_PERIODS {
            continue;
        }
        let is_last = DUE.compare_exchange(due, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if !is_last || !WANTED.load(Ordering::SeqCst) {
            break;
        }
        // Somebody counted on it just then.
        if DUE.compare_exchange(0, due, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            break;
        }
        quiet = 0;
    }
    // SAFETY: this is the thread that was started with this stack.
    unsafe { helper::end(stack) }
}

/// Looks after the heaps that were not in use since `last`, and purges what was unused for a period.
/// Returns the bytes that went since then; `None` if it was kept from work.
fn work(last: &mut decay::Period) -> Option<usize> {
    IS_AT_WORK.store(true, Ordering::SeqCst);
    let is_kept = PAUSES.load(Ordering::SeqCst) != 0;
    let mut purged = 0;
    if !is_kept {
        let before = stats::PURGED_BYTES.get();
        let now = decay::tick();
        for heap in pool::all() {
            if heap.is_quiet_since(*last, now) {
                stats::PURGED_BYTES.add(heap.tend());
            }
        }
        *last = now;
        purged = stats::PURGED_BYTES.get().saturating_sub(before);
    }
    IS_AT_WORK.store(false, Ordering::SeqCst);
    (!is_kept).then_some(purged)
}
