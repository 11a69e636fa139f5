//! Who gives unused memory back when the program does not come by: a thread that is there only as
//! long as there is something to do.
//!
//! [`decay`] works whenever a thread leaves the fast path. A program that freed much and then sleeps,
//! or lives on what its caches hold, does not; and what other threads freed of a sleeping thread's
//! blocks waits in its inbox. So when much is free, a [`helper`] is started. Once a period it does
//! what [`decay::tick`] does, looks after the heaps whose threads did not leave the fast path, and
//! ends when a few periods had nothing to do.
//!
//! Much is free where enough slices are unused, or where threads have given enough back, all together
//! and each on balance: what each of many frees may leave no slice unused, as it lies between blocks that
//! are live or cached.
//!
//! The child of a fork does not have it, and starts its own when there is need. A program that becomes
//! another user's is not left with a thread of the old one's: the helper has no privileges, is
//! dismissed when there is need of it and the ids are found changed, and [`without_thread`] has it end
//! before.

mod gate;
mod post;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::decay::{self, PERIOD_MS};
use crate::segment::SLICE;
use crate::striped::StripedCounter;
use crate::{arena, counters, helper, os, pool};

use gate::Gate;
use post::{Claim, Post};

/// Free bytes that are worth a thread.
const WORTH_BYTES: usize = 8 << 20;

/// Bytes that a period must have purged to count as one with something to do.
const SOME_BYTES: usize = 1 << 20;

/// Periods without anything to do after which the helper ends.
const QUIET_PERIODS: u32 = 3;

/// How late the helper may be before it is taken for dead.
const PATIENCE_MS: u64 = 2 * PERIOD_MS;

/// How long after a failure the next attempt to start it is made.
const RETRY_MS: u64 = 10_000;

/// How long its end is waited for: as long as it takes to purge some GiB; or as a thread takes that had
/// ended by itself.
const END_MS: u64 = 2_000;
const EXIT_MS: u64 = 20;

/// Who is the helper.
static POST: Post = Post::new(AtomicU64::new(0), AtomicU32::new(0));

/// Its thread's number, and the user and group that it acts as.
static NUMBER: AtomicI32 = AtomicI32::new(0);
static IDS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// When there was need of it last, by the clock.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Whether the code that a helper would run stays loaded.
static IS_POSSIBLE: AtomicBool = AtomicBool::new(false);

/// Whether the program allows it.
static IS_ALLOWED: AtomicBool = AtomicBool::new(true);

/// Through this goes who starts a helper, and the helper to its work.
static STARTS: Gate = Gate::new([const { AtomicU64::new(0) }; 2]);
static WORK: Gate = Gate::new([const { AtomicU64::new(0) }; 2]);

/// Says that the library which the heap is in will not be unloaded.
pub(crate) fn set_possible() {
    // Unit tests have a fault for each thread, in its thread-local memory.
    IS_POSSIBLE.store(!cfg!(test), Ordering::Relaxed);
}

/// Says whether a helper may be started. When it may not, none is there any more.
pub(crate) fn set_allowed(is_allowed: bool) {
    IS_ALLOWED.store(is_allowed, Ordering::Relaxed);
    if !is_allowed {
        without_thread(|| {});
    }
}

/// Slices that became free since a look was taken whether a helper is worth it.
static FREED_SLICES: StripedCounter = StripedCounter::new();

/// Slices of a stripe of threads that are worth such a look; for each segment a quarter of one, if that
/// is more, as the look is into segments.
const WORTH_A_LOOK: usize = (1 << 20) / SLICE;
const SEGMENTS_TO_A_SLICE: usize = 4;

/// Looks whether so much is free that a helper is worth it, after slices became free.
///
/// What is free is counted then and not as it changes: that would be an atomic operation more in each
/// request for a large block, and one in each free.
#[inline]
pub(crate) fn slices_were_freed(count: usize) {
    if are_worth_a_look(count) && !is_just_asked(os::now_ms()) {
        look_for_slices();
    }
}

/// The same by somebody who knows what the clock says.
#[inline]
pub(crate) fn slices_were_freed_at(now: u64, count: usize) {
    // One branch, which is seldom taken: after large blocks, whether so much was freed is guessed wrong every
    // other time.
    if are_worth_a_look(count) & !is_just_asked(now) {
        look_for_slices();
    }
}

/// Whether so many slices became free, with these, that it is worth a look how many are; asked once for all
/// of them.
#[inline]
fn are_worth_a_look(count: usize) -> bool {
    let enough = WORTH_A_LOOK.max(counters::SEGMENTS.get() / SEGMENTS_TO_A_SLICE);
    let is_enough = FREED_SLICES.has_come_to(count, enough);
    is_enough & (counters::DIRTY_SLICES.get() >= WORTH_BYTES / SLICE)
}

#[cold]
fn look_for_slices() {
    if arena::has_unused_slices(WORTH_BYTES / SLICE) {
        want();
    }
}

/// Looks whether a helper is worth it, when so many bytes are kept in mappings of blocks that were freed.
pub(crate) fn mappings_are_kept(bytes: usize) {
    if bytes >= WORTH_BYTES {
        want();
    }
}

/// Bytes that threads gave back to their pages on balance, as far as they said.
static RETURNED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes of others' blocks that threads gave back since this was last enough.
static SENT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Looks whether a helper is worth it, after a thread gave so much back to its own pages: in pages that
/// are in use, or between blocks that are cached, no slice becomes free.
pub(crate) fn bytes_were_returned(bytes: usize) {
    let before = RETURNED_BYTES.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) >= WORTH_BYTES {
        want_if_worth();
    }
}

/// Takes back what [`bytes_were_returned`] said.
pub(crate) fn bytes_were_taken_again(bytes: usize) {
    RETURNED_BYTES.fetch_sub(bytes, Ordering::Relaxed);
}

/// The same after a thread gave so much back to the pages of others, which may be asleep.
pub(crate) fn bytes_were_sent(bytes: usize) {
    let before = SENT_BYTES.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) >= WORTH_BYTES {
        SENT_BYTES.store(0, Ordering::Relaxed);
        want_if_worth();
    }
}

fn want_if_worth() {
    if counters::DIRTY_SLICES.get() >= WORTH_BYTES / SLICE {
        want();
    }
}

/// Whether need was said by this clock, which moves on every few milliseconds, and not seen yet.
#[inline]
fn is_just_asked(now: u64) -> bool {
    (ASKED.load(Ordering::Relaxed) == now) & POST.has_need()
}

/// Sees to it that a helper will look at the heap soon.
#[cold]
fn want() {
    let now = os::now_ms();
    if is_just_asked(now) {
        return;
    }
    ASKED.store(now, Ordering::Relaxed);
    let process = os::process();
    if STARTS.enter(process) {
        replace_others(process);
        POST.say_need();
        start(process, now);
        STARTS.leave(process);
    }
}

/// Dismisses a helper that acts as another user or group than the calling thread.
fn replace_others(process: u32) {
    let is_same = IDS.iter().zip(os::ids()).all(|(id, own)| id.load(Ordering::Relaxed) == own);
    if !is_same && POST.dismiss(process) {
        helper::wake(doorbell());
    }
}

/// Starts a helper if there is none.
fn start(process: u32, now: u64) {
    if !IS_POSSIBLE.load(Ordering::Relaxed) || !IS_ALLOWED.load(Ordering::Relaxed) {
        return;
    }
    let Some(claim) = POST.apply(process, now, now + PERIOD_MS + PATIENCE_MS) else { return };
    for (id, own) in IDS.iter().zip(os::ids()) {
        id.store(own, Ordering::Relaxed);
    }
    if !helper::start(run, claim.to_word(), &NUMBER) {
        POST.renew(claim, now + RETRY_MS);
    }
}

/// Runs `operation`, which must not run long, while the heap has no thread.
pub(crate) fn without_thread<R>(operation: impl FnOnce() -> R) -> R {
    /// Opens the gate also where the operation unwinds.
    struct OpensStarts(u32);

    impl Drop for OpensStarts {
        fn drop(&mut self) {
            STARTS.open(self.0);
        }
    }

    let process = os::process();
    STARTS.shut(process);
    end(process);
    // Behind that, which does not unwind: where `operation` does not either, no unwinder is needed.
    let _opens_starts = OpensStarts(process);
    operation()
}

/// Has the helper end, and waits until it has; not forever, as a signal handler may ask for it in the
/// middle of its start.
fn end(process: u32) {
    wait_while(END_MS, || !STARTS.is_empty(process));
    let is_dismissed = POST.dismiss(process);
    if is_dismissed {
        helper::wake(doorbell());
    }
    // By now another thread may have the number of one that ended long ago.
    let patience = if is_dismissed { END_MS } else { EXIT_MS };
    wait_while(patience, || helper::is_alive(process, NUMBER.load(Ordering::Relaxed)));
}

fn wait_while(patience_ms: u64, condition: impl Fn() -> bool) {
    let until = os::now_ms() + patience_ms;
    while condition() && os::now_ms() < until {
        os::yield_now();
    }
}

/// Keeps the helper from work while `operation` runs, which must not run long.
pub(crate) fn without<R>(operation: impl FnOnce() -> R) -> R {
    let process = os::process();
    WORK.shut(process);
    while !WORK.is_empty(process) {
        os::yield_now();
    }
    let result = operation();
    WORK.open(process);
    result
}

/// The word by which the helper sleeps: it changes when the helper is dismissed.
fn doorbell() -> *const u32 {
    const { assert!(cfg!(target_endian = "little"), "the low half of a word comes first") };
    (&raw const POST).cast()
}

/// What the helper does.
extern "C-unwind" fn run(stack: NonNull<u8>, word: u64) -> ! {
    helper::set_name();
    helper::give_up_privileges();
    os::prepare_barrier();
    let mut claim = Claim::from_word(word);
    let mut last = decay::current();
    let mut quiet = 0;
    loop {
        // A little longer than a period, for a clock that is coarse.
        // SAFETY: the doorbell is a static's.
        unsafe { helper::doze(doorbell(), claim.to_word() as u32, PERIOD_MS + 8) };
        let until = os::now_ms() + PERIOD_MS + PATIENCE_MS;
        // If it was late, another one took its place.
        let Some(renewed) = POST.renew(claim, until) else { break };
        claim = renewed;

        let was_wanted = POST.take_need();
        let purged = work(&mut last, claim.process());
        let is_quiet = !was_wanted && purged.is_some_and(|bytes| bytes < SOME_BYTES);
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet < QUIET_PERIODS {
            continue;
        }
        // Somebody counted on it just then, or it is over.
        let Some(again) = POST.resign(claim) else { break };
        claim = again;
        quiet = 0;
    }
    // SAFETY: this is the thread that was started with this stack.
    unsafe { helper::end(stack) }
}

/// Looks after the heaps that were not in use since `last`, and purges what was unused for a period.
/// Returns the bytes that went since then; `None` if it was kept from work.
fn work(last: &mut decay::Period, process: u32) -> Option<usize> {
    if !WORK.enter(process) {
        return None;
    }
    let before = counters::PURGED_BYTES.get();
    let now = decay::tick();
    // Twice: what one heap's caches held of another's blocks is in that one's inbox then.
    for heap in pool::all().chain(pool::all()) {
        if heap.is_quiet_since(*last, now) {
            counters::PURGED_BYTES.add(heap.tend(process));
        }
    }
    *last = now;
    WORK.leave(process);
    Some(counters::PURGED_BYTES.get().saturating_sub(before))
}
