//! Signal handlers while the recorder works on a stack of its own, and its own handlers in odd places.

use std::ffi::c_int;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Given;
use crate::block::trail;
use crate::os;

/// Events of one of the handlers.
const TRAIL: usize = 500;

static DAMAGED: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Two handlers on one alternate stack: the first makes the trail of 64,000, of 500 blocks, 200 times, and
/// looks whether its own frame is whole; the second, which a storm of signals runs, writes to its own.
///
/// Says how often the first one's frame was not whole.
pub(super) fn alternate_stack(_given: &Given) {
    extern "C" fn first(_signal: c_int) {
        let mut own = [0x5a_u8; 2048];
        black_box(&mut own);
        trail(64_000, TRAIL);
        black_box(&mut own);
        if own.iter().any(|&byte| byte != 0x5a) {
            DAMAGED.fetch_add(1, Ordering::Relaxed);
        }
    }
    extern "C" fn second(_signal: c_int) {
        let mut own = [0xa5_u8; 6000];
        black_box(&mut own);
    }
    os::have_alternate_stack(1 << 20);
    os::handle_on_alternate_stack(libc::SIGALRM, first);
    os::handle_on_alternate_stack(libc::SIGUSR2, second);
    os::in_storm_of(libc::SIGUSR2, || {
        for _ in 0..200 {
            os::raise(libc::SIGALRM);
        }
    });
    println!("{}", DAMAGED.load(Ordering::Relaxed));
}

/// The trail of 64,000, of 500 blocks, 200 times, in a storm of signals whose handler takes 600 KiB of the
/// program's stack. Says whether that ever ran.
pub(super) fn large_handler(_given: &Given) {
    extern "C" fn handler(_signal: c_int) {
        let mut own = [0_u8; 600 << 10];
        black_box(&mut own);
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    os::handle(libc::SIGUSR2, handler);
    os::in_storm_of(libc::SIGUSR2, || {
        for _ in 0..200 {
            trail(64_000, TRAIL);
        }
    });
    println!("{}", u8::from(HANDLED.load(Ordering::Relaxed) > 0));
}

/// A forked child that is sent a `signal` twice before it asks for anything, and then makes the trail of
/// 66,000, one hundred blocks. Says its number.
pub(super) fn forked_and_signalled(given: &Given) {
    let signal = given.number("signal").expect("a signal") as c_int;
    trail(65_000, 1);
    let Some(child) = os::fork() else {
        os::raise(signal);
        os::raise(signal);
        trail(66_000, 100);
        os::exit_now(5);
    };
    let status = os::wait(child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 5, "{status:#x}");
    println!("{child}");
}
