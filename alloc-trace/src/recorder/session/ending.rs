//! How a recording ends: hooks are kept out and waited for, the window moves to the log, and the closing
//! record says why.

use std::ptr;
use std::sync::atomic::Ordering;

use alloc_trace_format::{EndReason, FileHeader, SnapshotReason, ThreadId};

use super::PATIENCE;
use crate::mode;
use crate::recorder::options::Path;
use crate::recorder::slots::Slot;
use crate::recorder::sys;
use crate::recorder::{Recorder, TAKEN, THREAD, clock, epoch, heap_snapshots};

impl Recorder {
    /// Ends the recording: keeps the hooks out, moves what the window holds to the log, and says
    /// why, unless it failed.
    pub(super) fn end(&'static self, reason: Option<EndReason>) {
        mode::end_recording();
        let own = self.own_slot();
        let recorded = epoch::recording(self.epoch().swap(epoch::STOPPED, Ordering::AcqRel));
        let quiet = self.wait_for_hooks(own);
        if let (Some(reason), true) = (reason, quiet) {
            self.write_last_records(own, recorded, reason);
        }
        let failed_in_silence = self.failure_is_untold.swap(false, Ordering::Relaxed);
        if failed_in_silence && quiet {
            self.write_untold_failure();
        }
        if quiet {
            let torn = self.log.is_torn();
            if torn && reason.is_some() {
                sys::complain(&[b"the recording ends here: ", sys::describe(libc::ESTALE)]);
            }
            let mut drained = reason.is_some() && !torn;
            for slot in self.slots.iter() {
                // SAFETY: no hook uses a slot any more, and none will before the next recording.
                let state = unsafe { &mut *slot.state.get() };
                if drained && state.session == recorded {
                    drained = state.writer.drain(&self.log).is_ok();
                }
            }
            for slot in self.slots.iter() {
                // SAFETY: as above.
                unsafe { &mut *slot.state.get() }.writer.detach();
            }
            if drained {
                self.log.discard_windows();
            }
            // SAFETY: every writer was detached.
            unsafe { self.log.unmap() };
        } else {
            sys::complain(&[b"the recording lacks its last records: a request is still under way"]);
            self.log.abandon_windows();
        }
        if reason.is_some() {
            let (offset, bytes) = FileHeader::encode_end(clock::anchor());
            let _ = self.log.write_at(offset, &bytes);
        }
        self.log.close();
    }

    /// The calling thread's slot, joined to the recording.
    fn own_slot(&'static self) -> Option<&'static Slot> {
        // The closing record is written by whoever stops the recording, of whatever name.
        THREAD.with(|thread| {
            let left_out = thread.left_out.replace(TAKEN);
            // One that exits keeps the slot from here on: a process may end with its last thread.
            thread.left.set(false);
            self.enter(None, |_, _| Ok(()));
            thread.left_out.set(left_out);
        });
        // SAFETY: a thread's pointer is null or leads to a slot, and slots are never given back.
        THREAD.with(|thread| unsafe { thread.slot.get().as_ref() })
    }

    /// Waits until no slot is busy; `false` where that takes too long.
    fn wait_for_hooks(&'static self, own: Option<&'static Slot>) -> bool {
        // Every hook either sees the new epoch or had set its flag before.
        if !self.barrier() {
            sys::let_stores_settle();
        }
        let mut patience = PATIENCE;
        for slot in self.slots.iter() {
            if own.is_some_and(|own| ptr::eq(own, slot)) {
                continue;
            }
            // Acquire pairs with the release at the end of a hook.
            while slot.busy.load(Ordering::Acquire) {
                if patience == 0 {
                    return false;
                }
                patience -= 1;
                sys::pause();
            }
        }
        true
    }

    /// Writes why the recording ended where the hook that found it had no chunk: in another thread's. No hook
    /// uses a slot any more.
    fn write_untold_failure(&'static self) {
        // SAFETY: no hook uses a slot any more, and none will before the next recording.
        let state = |slot: &'static Slot| unsafe { &*slot.state.get() };
        // Of the last recording, should an earlier one not have been put away.
        let attached = || self.slots.iter().filter(|slot| state(slot).writer.is_attached());
        let Some(own) = attached().max_by_key(|slot| state(slot).session) else { return };
        let of_it = self.slots.iter().filter(|slot| state(slot).session == state(own).session);
        let events = of_it.map(|slot| state(slot).writer.events()).sum();
        // SAFETY: as above, and nothing refers to a state any more.
        unsafe { &mut *own.state.get() }.writer.write_end(EndReason::WriteFailed, events);
    }

    /// Writes the threads' present names and the closing record, in the calling thread's stream.
    fn write_last_records(
        &'static self,
        own: Option<&'static Slot>,
        recorded: u64,
        reason: EndReason,
    ) {
        let mut events = 0;
        for slot in self.slots.iter() {
            // SAFETY: no hook uses a slot any more, and none will before the next recording.
            let state = unsafe { &*slot.state.get() };
            if state.session == recorded {
                events += state.writer.events();
            }
        }
        let Some(own) = own else { return };
        // SAFETY: as above.
        let writer = unsafe { &raw mut (*own.state.get()).writer };
        // SAFETY: as above; the names below are other fields.
        let writer = unsafe { &mut *writer };
        if !writer.is_attached() {
            return;
        }
        for slot in self.slots.iter() {
            if epoch::recording(slot.epoch.load(Ordering::Relaxed)) != recorded {
                continue;
            }
            let thread = if ptr::eq(slot, own) {
                writer.thread()
            } else {
                // SAFETY: as above; this is another slot's state.
                unsafe { &*slot.state.get() }.writer.thread()
            };
            // SAFETY: as above; one field is read.
            let os_thread = unsafe { (*slot.state.get()).os_thread };
            let mut buffer = [0; 32];
            let name = name_of(os_thread, &mut buffer);
            if thread != ThreadId(0) && !name.is_empty() {
                let _ =
                    writer.write(&self.log, |encoder, out| encoder.thread_name(out, thread, name));
            }
        }
        // What a handler asked for while its thread left, and nobody wrote.
        let mut lost = self.lost.swap(0, Ordering::Relaxed);
        for slot in self.slots.iter() {
            let mut unwritten = 0;
            lost += slot.spill.take(|_, _| unwritten += 1).lost + unwritten;
        }
        if lost > 0 {
            let _ = writer.write(&self.log, |encoder, out| encoder.lost(out, lost));
        }
        let _ = writer.write_resident(&self.log, clock::now());
        if let Some(tables) = self.tables.get() {
            let next = tables.call_tree.next_number();
            self.modules.list_gone(&mut |module| {
                let first_node = self.modules.settle_first_node_after(module, next);
                let _ = writer.write(&self.log, |encoder, out| {
                    encoder.module_unload(out, module.start, module.end, first_node)
                });
            });
        }
        let _ = heap_snapshots::take(writer, &self.log, SnapshotReason::End);
        writer.write_end(reason, events);
    }
}

/// A thread's present name, as the kernel has it.
fn name_of(os_thread: u32, buffer: &mut [u8; 32]) -> &[u8] {
    let mut path = Path::EMPTY;
    let fits = path.push(b"/proc/self/task/") && path.push_number(os_thread) && path.push(b"/comm");
    if !fits {
        return &[];
    }
    sys::read_file(path.as_c_str(), buffer).unwrap_or_default().trim_ascii_end()
}
