//! Generated call trees, with a backtrace taken by the C library's unwinder at each request that is
//! to be compared: built as the tests are, and optimised without frame pointers.
//!
//! `call_trees SAMPLES`, recorded as the environment says. A request to compare is one of the size
//! [`SAMPLE_BYTES`] plus the number of its thread; the n-th line of a thread in the file `SAMPLES` is
//! the backtrace at its n-th such request: the thread, then the return addresses from the caller of
//! [`sample`] outwards.

use std::alloc::System;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::future::Future;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::{env, fs, thread};

use alloc_trace::TraceAlloc;
use tests::block::Block;
use tests::os;
use tests::other_stack::on_another_stack;

#[global_allocator]
static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);

/// What no other request is as large as.
const SAMPLE_BYTES: usize = 91_000;
/// Deeper than what a recorder keeps.
const DEEPEST: usize = 400;

unsafe extern "C-unwind" {
    /// Of the C library's unwinder (Itanium C++ ABI, "Exception Handling", level 1), which the Rust
    /// runtime links.
    fn _Unwind_Backtrace(
        trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// The addresses of a backtrace as it is taken; nothing is asked of the heap meanwhile.
struct Addresses {
    found: [usize; DEEPEST + 200],
    length: usize,
}

extern "C" fn take(context: *mut c_void, argument: *mut c_void) -> c_int {
    // SAFETY: `sample` gives its own place, which nobody else refers to meanwhile.
    let addresses = unsafe { &mut *argument.cast::<Addresses>() };
    // SAFETY: the context is the unwinder's, as its callback is given it.
    let address = unsafe { _Unwind_GetIP(context) };
    if let Some(place) = addresses.found.get_mut(addresses.length).filter(|_| address != 0) {
        *place = address;
        addresses.length += 1;
    }
    0
}

thread_local! {
    static LINES: RefCell<(usize, String)> = const { RefCell::new((0, String::new())) };
}

/// A request to compare.
#[inline(never)]
fn sample() {
    let mut addresses = Addresses { found: [0; DEEPEST + 200], length: 0 };
    let argument = (&raw mut addresses).cast();
    // SAFETY: the callback takes what it is given here, and does not unwind.
    unsafe { _Unwind_Backtrace(take, argument) };
    LINES.with_borrow_mut(|(thread, lines)| {
        let _ = write!(lines, "{thread}");
        // The first address is in this function.
        for address in &addresses.found[1..addresses.length] {
            let _ = write!(lines, " {address:x}");
        }
        lines.push('\n');
        // Asked for through code of its own, so that nothing is called last.
        Block::new(SAMPLE_BYTES + *thread, 16).free();
    });
}

/// Marsaglia's xorshift.
#[derive(Debug, Clone, Copy)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Something that calls on, in one of the ways that Rust has.
trait Step {
    fn call(&self, random: &mut Random, depth: usize);
}

/// A frame of `N` bytes.
struct Wide<const N: usize>;
/// By a closure.
struct ByClosure;
/// By an asynchronous function.
struct ByFuture;
/// By tasks that take turns on an executor.
struct ByTasks;
/// By a function of the C library.
struct ByCCallback;
/// Through a panic that is caught.
struct ByPanic;
/// On the thread's alternate way: in a signal handler.
struct BySignal;
/// With a request of its own before and after.
struct Asking;
/// On a stack of its own, which is made for it and given back.
struct OnAnotherStack;

impl<const N: usize> Step for Wide<N> {
    #[inline(never)]
    fn call(&self, random: &mut Random, depth: usize) {
        let mut frame = [depth as u8; N];
        black_box(&mut frame);
        inlined(random, depth);
        black_box(&frame);
    }
}

impl Step for ByClosure {
    fn call(&self, random: &mut Random, depth: usize) {
        let kept = random.below(100);
        let close = |random: &mut Random| {
            descend(random, depth);
            kept
        };
        black_box((black_box(&close as &dyn Fn(&mut Random) -> u64))(random));
    }
}

/// Pending once, so that the state machine is entered again.
struct Pause(bool);

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Step for ByFuture {
    fn call(&self, random: &mut Random, depth: usize) {
        async fn inner(random: &mut Random, depth: usize) {
            sample();
            Pause(false).await;
            descend(random, depth);
        }
        async fn outer(random: &mut Random, depth: usize) {
            inner(random, depth).await;
            Pause(false).await;
            sample();
        }
        let mut future = pin!(outer(random, depth));
        let mut context = Context::from_waker(Waker::noop());
        while future.as_mut().poll(&mut context).is_pending() {}
    }
}

impl Step for ByTasks {
    fn call(&self, random: &mut Random, depth: usize) {
        type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
        /// Awaits itself, each level in a box of its own, and pauses on the way in and out.
        fn nested(levels: usize) -> Task<'static> {
            Box::pin(async move {
                if !levels.is_multiple_of(2) {
                    Pause(false).await;
                }
                sample();
                if let Some(levels) = levels.checked_sub(1) {
                    nested(levels).await;
                    Pause(false).await;
                    sample();
                }
            })
        }
        async fn calling(random: &mut Random, depth: usize) {
            Pause(false).await;
            nested(1).await;
            descend(random, depth);
        }
        // Each time that a task goes on, its frames hang from another poll.
        let mut tasks: VecDeque<Task<'_>> = VecDeque::new();
        for levels in 0..3 {
            tasks.push_back(nested(levels));
        }
        tasks.push_back(Box::pin(calling(random, depth)));
        let mut context = Context::from_waker(Waker::noop());
        while let Some(mut task) = tasks.pop_front() {
            if task.as_mut().poll(&mut context).is_pending() {
                tasks.push_back(task);
            }
        }
    }
}

impl Step for ByCCallback {
    fn call(&self, random: &mut Random, depth: usize) {
        type State<'a> = (&'a mut Random, usize);
        unsafe extern "C-unwind" {
            fn qsort_r(
                base: *mut c_void,
                count: usize,
                size: usize,
                compare: extern "C-unwind" fn(*const c_void, *const c_void, *mut c_void) -> c_int,
                argument: *mut c_void,
            );
        }
        extern "C-unwind" fn compare(
            _: *const c_void,
            _: *const c_void,
            state: *mut c_void,
        ) -> c_int {
            // SAFETY: `call` gives its own place, which nobody else refers to meanwhile.
            let (random, depth) = unsafe { &mut *state.cast::<State<'_>>() };
            descend(random, *depth);
            0
        }
        let mut numbers = [2_u64, 1];
        let mut state: State<'_> = (random, depth);
        let (base, argument) = (numbers.as_mut_ptr().cast(), (&raw mut state).cast());
        // SAFETY: the array is as long as stated, and the function takes what it is given here.
        unsafe { qsort_r(base, numbers.len(), size_of::<u64>(), compare, argument) };
    }
}

impl Step for ByPanic {
    fn call(&self, random: &mut Random, depth: usize) {
        struct OnTheWay;
        impl Drop for OnTheWay {
            fn drop(&mut self) {
                sample();
            }
        }
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _on_the_way = OnTheWay;
            descend(random, depth);
            resume_unwind(Box::new(depth));
        }));
        assert!(caught.is_err());
        sample();
    }
}

impl Step for BySignal {
    fn call(&self, random: &mut Random, depth: usize) {
        sample();
        os::raise(libc::SIGUSR1);
        descend(random, depth);
    }
}

extern "C" fn on_signal(_signal: c_int) {
    sample();
}

impl Step for Asking {
    fn call(&self, random: &mut Random, depth: usize) {
        let block = Block::new(100 + depth, 8);
        descend(random, depth);
        block.resize(200 + depth).free();
    }
}

impl Step for OnAnotherStack {
    fn call(&self, random: &mut Random, depth: usize) {
        sample();
        on_another_stack(1 << 20, || {
            sample();
            descend(random, depth);
        });
    }
}

#[inline(always)]
fn inlined(random: &mut Random, depth: usize) {
    if depth.is_multiple_of(2) {
        sample();
    }
    descend(random, depth);
}

/// Calls on, once or twice, until the depth is used up.
fn descend(random: &mut Random, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        sample();
        return;
    };
    let steps: [&dyn Step; 12] = [
        &Wide::<8>,
        &Wide::<40>,
        &Wide::<300>,
        &Wide::<5000>,
        &ByClosure,
        &ByFuture,
        &ByTasks,
        &ByCCallback,
        &ByPanic,
        &BySignal,
        &Asking,
        &OnAnotherStack,
    ];
    let next = |random: &mut Random| {
        let index = random.below(steps.len() as u64) as usize;
        steps[index].call(random, depth);
    };
    next(random);
    if random.below(8) == 0 {
        next(random);
    }
    if random.below(4) == 0 {
        sample();
    }
}

/// Recursion alone: backtraces of this many frames and more.
#[inline(never)]
fn recurse(depth: usize) {
    if depth.is_multiple_of(7) || (120..135).contains(&depth) {
        sample();
    }
    if depth > 0 {
        recurse(depth - 1);
        black_box(depth);
    }
    if depth.is_multiple_of(50) {
        sample();
    }
}

fn trees(thread: usize) -> String {
    LINES.with_borrow_mut(|(number, lines)| {
        *number = thread;
        // The lines themselves are not to be asked for between the samples only.
        lines.reserve(if thread.is_multiple_of(2) { 0 } else { 1 << 16 });
    });
    let mut random = Random(thread as u64 + 0x9e37_79b9);
    for depth in 0..40 {
        descend(&mut random, depth % 14);
    }
    recurse(DEEPEST / 4);
    recurse(DEEPEST);
    descend(&mut random, 8);
    LINES.with_borrow_mut(|(_, lines)| std::mem::take(lines))
}

fn main() {
    let path = env::args_os().nth(1).expect("a file for the samples");
    os::handle(libc::SIGUSR1, on_signal);
    let start = |thread| {
        let start = thread::Builder::new().stack_size(64 << 20);
        start.spawn(move || trees(thread)).expect("a thread")
    };
    let threads = [1, 2, 3].map(start);
    let mut lines = trees(0);
    for thread in threads {
        lines.push_str(&thread.join().expect("no panic"));
    }
    fs::write(path, lines).expect("written");
}
