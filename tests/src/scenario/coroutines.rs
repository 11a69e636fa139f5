//! Heap events on a stack that no thread owns.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;

use super::Given;
use crate::block::trail;

/// Frames of the coroutine when it is suspended.
const LEVELS: usize = 20;
const STACK_BYTES: usize = 256 << 10;
/// More than the C library keeps of the stacks of threads that exited: it is given back at once.
const THREAD_STACK_BYTES: usize = 64 << 20;

/// A coroutine, made of the C library's contexts.
struct Coroutine {
    own: UnsafeCell<MaybeUninit<libc::ucontext_t>>,
    /// Of the thread that runs it.
    caller: UnsafeCell<MaybeUninit<libc::ucontext_t>>,
}

/// The one coroutine.
static COROUTINE: AtomicPtr<Coroutine> = AtomicPtr::new(ptr::null_mut());

impl Coroutine {
    /// Runs it on the calling thread until it is suspended or ends.
    fn resume(&self) {
        let (caller, own) = (self.caller.get().cast(), self.own.get().cast());
        // SAFETY: the coroutine was made or suspended, and runs on no other thread.
        assert_eq!(unsafe { libc::swapcontext(caller, own) }, 0);
    }

    /// Goes back to the thread that runs it.
    fn suspend(&self) {
        let (own, caller) = (self.own.get().cast(), self.caller.get().cast());
        // SAFETY: called on the coroutine's stack, whose caller waits in `resume`.
        assert_eq!(unsafe { libc::swapcontext(own, caller) }, 0);
    }
}

fn coroutine() -> &'static Coroutine {
    // SAFETY: it is made before anything runs, and never given back.
    unsafe { &*COROUTINE.load(Ordering::Acquire) }
}

extern "C" fn body() {
    nest(LEVELS);
    trail(64_720, 10);
    coroutine().suspend();
}

/// Suspends the coroutine at the innermost of so many levels.
#[inline(never)]
fn nest(levels: usize) {
    if levels > 0 {
        nest(levels - 1);
    } else {
        trail_before_or_after(64_700);
        coroutine().suspend();
        trail_before_or_after(64_710);
    }
    black_box(levels);
}

/// One call for both, so that they differ in one return address.
#[inline(never)]
fn trail_before_or_after(base: usize) {
    trail(base, 10);
}

/// A thread begins a coroutine that makes the trail of 64,700, and exits; its stack is unmapped. Then
/// another one resumes it: it makes the trail of 64,710 in the same frames, and that of 64,720
/// outside of them. The threads' own trails, before and after, are those of 64,730 and 64,740.
pub(super) fn resumed_by_another_thread(_given: &Given) {
    let made = Box::leak(Box::new(Coroutine {
        own: UnsafeCell::new(MaybeUninit::uninit()),
        caller: UnsafeCell::new(MaybeUninit::uninit()),
    }));
    let stack = Vec::leak(vec![0_u8; STACK_BYTES]);
    let own = made.own.get().cast::<libc::ucontext_t>();
    // SAFETY: the call fills the context.
    assert_eq!(unsafe { libc::getcontext(own) }, 0);
    // SAFETY: filled above, and nobody else has it.
    let context = unsafe { &mut *own };
    context.uc_stack.ss_sp = stack.as_mut_ptr().cast();
    context.uc_stack.ss_size = stack.len();
    context.uc_link = ptr::null_mut();
    // SAFETY: the context is filled, its stack is its alone, and the function takes no arguments.
    unsafe { libc::makecontext(own, body, 0) };
    COROUTINE.store(made, Ordering::Release);

    for _ in 0..2 {
        let run = thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn(|| {
            trail(64_730, 10);
            coroutine().resume();
            trail(64_740, 10);
        });
        run.expect("a thread").join().expect("no panic");
    }
}
