//! Hands what happened to blocks to whoever adds it up: to a thread of its own, where there is a processor for that.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use super::batch::BATCH;
use super::sums::{Sums, Told};

/// So many are handed over at a time.
const PARCEL: usize = 64 * BATCH;
/// How many such parcels may wait.
const WAITING: usize = 4;
/// For fewer events a thread is not worth its while.
const FEWEST_EVENTS: u64 = 1 << 18;

/// Where what happened is told.
#[derive(Debug)]
pub(super) struct Teller {
    told: Vec<Told>,
    listener: Listener,
}

/// Who adds it up.
#[derive(Debug)]
enum Listener {
    /// Whoever tells it.
    Here(Sums),
    Thread {
        parcels: SyncSender<Vec<Told>>,
        used: Receiver<Vec<Told>>,
        thread: JoinHandle<Sums>,
    },
}

impl Teller {
    /// Tells `sums` of a recording that has so many events.
    pub(super) fn new(sums: impl Fn() -> Sums, events: u64) -> Self {
        let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let aside = processors > 1 && events >= FEWEST_EVENTS;
        let thread = if aside { Self::begin(sums()) } else { None };
        let listener = thread.unwrap_or_else(|| Listener::Here(sums()));
        Self { told: Vec::with_capacity(BATCH), listener }
    }

    /// Begins a thread that adds up; `None` where there cannot be one.
    fn begin(mut sums: Sums) -> Option<Listener> {
        let (parcels, to_add) = mpsc::sync_channel::<Vec<Told>>(WAITING);
        let (empty, used) = mpsc::channel();
        let work = move || {
            for mut parcel in to_add {
                sums.add(&parcel);
                parcel.clear();
                // At the end nobody fills it again.
                drop(empty.send(parcel));
            }
            sums
        };
        let thread = thread::Builder::new().name("alloc-trace sums".into()).spawn(work).ok()?;
        Some(Listener::Thread { parcels, used, thread })
    }

    #[inline]
    pub(super) fn tell(&mut self, told: Told) {
        self.told.push(told);
    }

    /// A batch of events is over: what was told of it may be added up.
    pub(super) fn pass_on(&mut self) {
        match &mut self.listener {
            Listener::Here(sums) => {
                sums.add(&self.told);
                self.told.clear();
            }
            Listener::Thread { parcels, used, .. } if self.told.len() >= PARCEL => {
                let empty = used.try_recv().unwrap_or_default();
                let full = std::mem::replace(&mut self.told, empty);
                // Were the thread gone, waiting for it would tell.
                drop(parcels.send(full));
            }
            Listener::Thread { .. } => {}
        }
    }

    /// What all came to.
    pub(super) fn finish(self) -> Sums {
        match self.listener {
            Listener::Here(mut sums) => {
                sums.add(&self.told);
                sums
            }
            Listener::Thread { parcels, thread, .. } => {
                drop(parcels.send(self.told));
                drop(parcels);
                // It panics where an assertion does: that is handed on.
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells of blocks, some of which are freed, of two origins.
    fn tell_of_blocks(listener: Listener) -> String {
        let mut teller = Teller { told: Vec::new(), listener };
        for site in 0..2 {
            teller.tell(Told::Met { site, holder: None });
        }
        for number in 0..3 * PARCEL as u64 {
            let (origin, stamp, size) = (number as u32 % 2, number, 1 + number % 100);
            let (align_log2, repeats) = (3, number % 3 == 0);
            teller.tell(Told::Begun { origin, stamp, size, align_log2, repeats });
            if number % 5 != 0 {
                let (own, newest, innermost) = (true, number % 7 == 0, false);
                teller.tell(Told::Freed { origin, stamp, size, own, newest, innermost });
            }
            teller.pass_on();
        }
        format!("{:?}", teller.finish().finish())
    }

    #[test]
    fn a_thread_adds_up_the_same_as_whoever_tells() {
        let sums = || Sums::new(2, 0);
        let thread = Teller::begin(sums()).expect("a thread");
        assert_eq!(tell_of_blocks(thread), tell_of_blocks(Listener::Here(sums())));
    }
}
