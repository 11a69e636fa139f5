//! What signal handlers asked for while they interrupted the recorder in the same thread.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::backtrace::Spilled;
use super::sys::{self, PreserveErrno};
use crate::request::Request;

/// Requests that a signal handler made while it interrupted the recorder in the same thread, each with its
/// backtrace. The interrupted writer writes them next.
///
/// Few threads are ever interrupted like that, so the places are made when they are needed: with
/// ten thousand live threads the first page of each would be 40 MiB.
#[derive(Debug)]
pub(super) struct Spill {
    count: AtomicU32,
    /// Twice the number of records that were lost, and 1 more where a snapshot of the heap was asked
    /// for.
    rest: AtomicU64,
    requests: Places<Cell<Request>>,
    /// Of their own: where memory is short, requests have no backtraces.
    backtraces: Places<Spilled>,
}

/// What a spill has beside requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Records that were lost.
    pub(super) lost: u64,
    /// Whether a snapshot of the heap was asked for.
    pub(super) snapshot: bool,
}

/// A hook that packs a chunk takes milliseconds where the program is not optimised, in which a
/// timer's handler can come several times; what is not used of the places takes no memory.
const CAPACITY: usize = 512;

impl Spill {
    /// Adds a request, and has its backtrace collected; it is counted as lost where there is no room.
    ///
    /// Only handlers on the owning thread call this, and a handler that interrupts another one runs
    /// to its end in between: so a place is claimed before it is filled.
    pub(super) fn add(&self, request: &Request, collect: impl FnOnce(&Spilled)) {
        let requests = self.requests.get();
        let backtraces = self.backtraces.get();
        let place = self.count.fetch_add(1, Ordering::Relaxed) as usize;
        match requests.and_then(|requests| requests.get(place)) {
            Some(cell) => {
                cell.set(*request);
                if let Some(backtrace) = backtraces.and_then(|backtraces| backtraces.get(place)) {
                    backtrace.clear();
                    collect(backtrace);
                }
            }
            None => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.lose();
            }
        }
    }

    /// Counts a record that cannot be kept here as lost.
    pub(super) fn lose(&self) {
        self.rest.fetch_add(2, Ordering::Relaxed);
    }

    /// Asks for a snapshot of the heap.
    pub(super) fn ask_for_snapshot(&self) {
        self.rest.fetch_or(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0 && self.rest.load(Ordering::Relaxed) == 0
    }

    /// Takes everything out: each request to `write`, with its backtrace, and what else there is.
    pub(super) fn take(&self, mut write: impl FnMut(&Request, Option<&Spilled>)) -> Rest {
        let mut done = 0;
        loop {
            while done < self.count.load(Ordering::Relaxed) as usize
                && let Some(cell) = self.requests.get().and_then(|requests| requests.get(done))
            {
                let backtraces = self.backtraces.made();
                write(&cell.get(), backtraces.and_then(|backtraces| backtraces.get(done)));
                done += 1;
            }
            // A handler may have added one just now: then the exchange fails.
            let count = done as u32;
            let emptied =
                self.count.compare_exchange(count, 0, Ordering::Relaxed, Ordering::Relaxed);
            if emptied.is_ok() {
                let rest = self.rest.swap(0, Ordering::Relaxed);
                return Rest { lost: rest >> 1, snapshot: rest & 1 == 1 };
            }
        }
    }
}

/// A place for each request of a spill, made when it is needed. Zeroed memory is valid; nothing of it is
/// read that was not set.
#[derive(Debug)]
struct Places<T> {
    first: AtomicPtr<[T; CAPACITY]>,
}

impl<T> Places<T> {
    /// The places, made if there are none; `None` where memory is short.
    fn get(&self) -> Option<&[T; CAPACITY]> {
        self.made().or_else(|| self.make())
    }

    fn made(&self) -> Option<&[T; CAPACITY]> {
        // SAFETY: the places are never given back, and only the slot's thread uses them.
        unsafe { self.first.load(Ordering::Relaxed).as_ref() }
    }

    #[cold]
    fn make(&self) -> Option<&[T; CAPACITY]> {
        let _errno = PreserveErrno::new();
        let bytes = size_of::<[T; CAPACITY]>();
        let made = sys::map_anonymous(bytes)?;
        // A handler that interrupts this one may have made some just now.
        let first = self.first.compare_exchange(
            ptr::null_mut(),
            made.cast().as_ptr(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if first.is_err() {
            // SAFETY: the mapping was made above, and nobody else has seen it.
            unsafe { sys::unmap(made, bytes) };
        }
        self.made()
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;

    #[test]
    fn the_spill_keeps_what_fits_and_counts_the_rest() {
        let slots = Slots::new();
        let spill = &slots.take().expect("memory").spill;
        assert!(spill.is_empty());
        for address in 0..CAPACITY + 4 {
            spill.add(&Request { address, ..Request::EMPTY }, |_| ());
        }
        let mut seen = Vec::new();
        let rest = spill.take(|request, _| seen.push(request.address));
        assert_eq!(seen, (0..CAPACITY).collect::<Vec<_>>());
        assert_eq!(rest, Rest { lost: 4, snapshot: false });
        assert!(spill.is_empty());
        spill.ask_for_snapshot();
        spill.ask_for_snapshot();
        assert!(!spill.is_empty());
        assert_eq!(spill.take(|_, _| ()), Rest { lost: 0, snapshot: true });
        assert!(spill.is_empty());
    }
}
