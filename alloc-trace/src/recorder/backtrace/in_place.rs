//! The backtrace of a request that is made where the previous one was: by a function whose stack
//! pointer is as it was.
//!
//! Most are. Then at most one frame is unwound, nothing is moved, and a few checks take the place of
//! the general way. What they do not cover is left to that: nothing is changed before all is known.
//!
//! It is inlined where code is optimised; elsewhere its frame would stay on the stack during the general
//! way.

use alloc_trace_format::NodeId;

use super::frames::{self, CAPACITY};
use super::walk::return_address;
use super::{Backtrace, Captured, Path, Registers, Rules};

impl Backtrace {
    /// Captures the backtrace where at most the innermost frame's address is another one, and its
    /// node is known to `find`; otherwise nothing is changed.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(in super::super) fn capture_in_place(
        &mut self,
        registers: Registers,
        rules: &Rules,
        find: impl FnOnce(Path, NodeId, u64) -> Option<NodeId>,
    ) -> Option<Captured> {
        let innermost = self.length.wrapping_sub(1);
        let Registers { program_counter, stack_pointer, frame_pointer } = registers;
        if innermost >= CAPACITY
            || self.frames.stack_pointer(innermost) != stack_pointer
            || self.elsewhere
        {
            return None;
        }
        if self.limited || self.late {
            // Frames that were left out would come back; code that may be unloaded is asked for.
            return None;
        }
        if self.frames.address(innermost) != program_counter {
            return self.capture_another_call(innermost, registers, rules, find);
        }
        let matters = innermost < self.with_frame_pointers;
        if matters && self.frames.frame_pointer(innermost) != frame_pointer
            || !self.frames.are_unchanged(innermost, self.with_frame_pointers)
        {
            return None;
        }
        self.frames.set_frame_pointer(innermost, frame_pointer);
        Some(Captured { node: self.frames.node(innermost), stack_pointer, kept_frames: None })
    }

    /// The innermost function makes another call: its caller is looked for where it was.
    #[inline(always)]
    fn capture_another_call(
        &mut self,
        innermost: usize,
        registers: Registers,
        rules: &Rules,
        find: impl FnOnce(Path, NodeId, u64) -> Option<NodeId>,
    ) -> Option<Captured> {
        let Registers { program_counter, stack_pointer, frame_pointer } = registers;
        let outside = innermost.checked_sub(1)?;
        let rule = rules.find(program_counter.wrapping_sub(1))?;
        if !rule.is_plainly_framed() {
            return None;
        }
        let base = if rule.is_from_frame_pointer() { frame_pointer } else { stack_pointer };
        let caller = base.wrapping_add_signed(rule.stack_pointer_offset());
        if caller != self.frames.stack_pointer(outside) {
            return None;
        }
        let address_slot = rule.return_address_slot()?;
        let address = return_address(self.stack.read_slot(caller, address_slot)?);
        let (caller_frame_pointer, frame_pointer_slot) = match rule.frame_pointer_slot() {
            Some(slot) => (self.stack.read_slot(caller, slot)?, slot),
            None => (frame_pointer, frames::NO_SLOT),
        };
        let matters = outside < self.with_frame_pointers;
        if address != self.frames.address(outside)
            || matters && caller_frame_pointer != self.frames.frame_pointer(outside)
            || !self.frames.are_unchanged(outside, self.with_frame_pointers)
        {
            return None;
        }
        let path = self.frames.path(outside).below(program_counter);
        let node = find(path, self.frames.node(outside), program_counter)?;

        // The caller's slots are those of this call now.
        self.frames.set_frame_pointer(outside, caller_frame_pointer);
        self.frames.set_slots(outside, address_slot, frame_pointer_slot);
        self.frames.set_frame_pointer(innermost, frame_pointer);
        self.frames.set_address(innermost, program_counter);
        self.frames.set_path(innermost, path);
        self.frames.set_node(innermost, node);
        // The innermost frame's own one matters where the way outwards begins with it.
        let from_here =
            rule.is_from_frame_pointer() || matters && frame_pointer_slot == frames::NO_SLOT;
        self.with_frame_pointers =
            if from_here { self.length } else { self.with_frame_pointers.min(innermost) };
        Some(Captured { node, stack_pointer, kept_frames: None })
    }
}
