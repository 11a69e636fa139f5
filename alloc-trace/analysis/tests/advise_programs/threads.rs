//! Programs that start threads.

use std::hint::black_box;
use std::thread;

use crate::programs::sum;

/// What the standard library has for each thread is its own business.
///
/// The numbers lie in the frame: a list of them would be idle for as long as the threads take, and how long that
/// is is the machine's affair.
#[inline(never)]
pub(crate) fn threads_in_scopes() {
    let mut numbers = [0_u64; 1000];
    for _ in 0..30 {
        thread::scope(|scope| {
            for part in numbers.chunks_mut(250) {
                scope.spawn(|| part.iter_mut().for_each(|number| *number += 1));
            }
        });
    }
    black_box(sum(&numbers));
}

/// A thread for each number.
#[inline(never)]
pub(crate) fn many_threads() {
    for number in 0..3000_u64 {
        thread::spawn(move || black_box(number)).join().expect("it ends");
    }
}
