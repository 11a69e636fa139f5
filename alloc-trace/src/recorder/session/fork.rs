//! What a forked child of a recorded process does: it begins a recording of its own.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ACTIVE, IDLE, Origin, StartError, complain_of_start};
use crate::mode;
use crate::recorder::options::Options;
use crate::recorder::slots::Slot;
use crate::recorder::sys;
use crate::recorder::{RECORDER, Recorder, epoch};

/// Runs in a forked child before `fork` returns there. The epoch's page the kernel has wiped, where
/// it can.
pub(super) unsafe extern "C" fn child_begins() {
    RECORDER.epoch().store(epoch::WIPED, Ordering::Relaxed);
    RECORDER.log.part_from_parent();
}

impl Recorder {
    /// Begins a recording of its own for a process that was forked from a recorded one; answers the
    /// epoch. `slot` is the caller's and busy.
    ///
    /// Not inlined: every thread's first event would need the stack that two paths take.
    #[cold]
    #[inline(never)]
    pub(in crate::recorder) fn adopt_child(&'static self, slot: &Slot) -> u64 {
        let word = self.epoch();
        let claimed = word.compare_exchange(
            epoch::WIPED,
            epoch::ADOPTING,
            Ordering::Acquire,
            Ordering::Acquire,
        );
        if let Err(other) = claimed {
            return other;
        }
        self.log.abandon_workrooms();
        self.spare_stacks.abandon();
        // The request may be a signal handler's, whose stack is short.
        let adopt = || self.adopt(slot, word);
        self.log.in_room(adopt).unwrap_or_else(adopt)
    }

    /// Does it. The word says that this is under way.
    fn adopt(&'static self, slot: &Slot, word: &AtomicU64) -> u64 {
        // The threads that used the other slots are not in this process.
        for other in self.slots.iter().filter(|other| !ptr::eq(*other, slot)) {
            other.epoch.store(epoch::STOPPED, Ordering::Relaxed);
            other.busy.store(false, Ordering::Relaxed);
            other.waits.store(false, Ordering::Relaxed);
        }
        for other in self.slots.iter() {
            // SAFETY: the other threads do not exist here, and the caller holds no reference.
            let state = unsafe { &mut *other.state.get() };
            state.session = 0;
            state.writer.detach();
        }
        // SAFETY: the parent's window is not written from here: every writer was detached.
        unsafe { self.log.unmap() };
        self.log.close();
        let was_active = self.state.load(Ordering::Relaxed) == ACTIVE;
        // SAFETY: only the adopting thread touches it.
        let parent_path = unsafe { *self.setup.path.get() };
        let mut options = Options {
            path: parent_path,
            depth: self.depth.load(Ordering::Relaxed),
            check: self.check.load(Ordering::Relaxed),
            window_bytes: self.log.window_bytes(),
            level: self.log.level(),
            limit_bytes: self.log.limit_bytes(),
            ring: self.log.is_ring(),
            threads: *self.setup.thread_names(),
            paused: false,
            signal: None,
            snapshot_signal: None,
        };
        let named = options.path.push(b".") && options.path.push_number(sys::pid());
        let result = if was_active && named && mode::is_recording() {
            self.begin(&options, Origin::Fork)
        } else {
            Err(StartError::AlreadyRecording)
        };
        if let Err(error) = result {
            if was_active {
                complain_of_start(&error, &options.path);
            }
            self.state.store(IDLE, Ordering::Release);
            mode::end_recording();
            word.store(epoch::STOPPED, Ordering::Release);
        }
        word.load(Ordering::Acquire)
    }
}
