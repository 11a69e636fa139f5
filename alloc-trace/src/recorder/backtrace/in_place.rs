//! The backtrace of a request that is made where the previous one was: by a function whose stack
//! pointer is as it was.
//!
//! Most are. Then at most one frame is unwound, nothing is moved, and a few checks take the place of
//! the general way. What they do not cover is left to that: nothing is changed before all is known.
//!
//! Often two calls take turns, one that allocates and one that frees. So the call before is kept, where
//! its caller's frame was read from the same slots and not by the frame pointer: as long as memory holds
//! the frames outside, it needs neither a rule nor a look at the call tree.
//!
//! It is inlined where code is optimised; elsewhere its frame would stay on the stack during the general
//! way.

use alloc_trace_format::NodeId;

use super::frames::{CAPACITY, NO_SLOT};
use super::walk::{before, caller};
use super::{Backtrace, Call, Captured, Frame, Path, Registers, Rules};

impl Backtrace {
    /// Captures the backtrace where at most the innermost frame's address is another one, and its
    /// node is known to `find`, which is given its path and its parent's; otherwise nothing is changed.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(in super::super) fn capture_in_place(
        &mut self,
        registers: Registers,
        rules: &Rules,
        find: impl FnOnce(Path, Path) -> Option<NodeId>,
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
        let same = self.frames.address(innermost) == program_counter;
        let matters = self.frames.matters(innermost);
        let other = !matters && self.other.address == program_counter;
        if !same && !other {
            return self.capture_another_call(innermost, registers, rules, find);
        }
        if matters && self.frames.frame_pointer(innermost) != frame_pointer
            || !self.frames.are_unchanged(innermost)
        {
            return None;
        }
        if !same {
            let call = self.other;
            self.other = self.innermost_call(innermost);
            self.make_innermost(innermost, call);
        }
        self.frames.set_frame_pointer(innermost, frame_pointer);
        Some(Captured::new(self.node, Captured::ALL))
    }

    /// The call that the innermost function made at the previous event.
    #[inline(always)]
    fn innermost_call(&self, innermost: usize) -> Call {
        let (address, path) = (self.frames.address(innermost), self.frames.path(innermost));
        Call { address, path, node: self.node }
    }

    /// It makes this one now.
    #[inline(always)]
    fn make_innermost(&mut self, innermost: usize, call: Call) {
        self.frames.set_address(innermost, call.address);
        self.frames.set_path(innermost, call.path);
        self.node = call.node;
    }

    /// The innermost function makes another call: its caller is looked for where it was.
    #[inline(never)]
    fn capture_another_call(
        &mut self,
        innermost: usize,
        registers: Registers,
        rules: &Rules,
        find: impl FnOnce(Path, Path) -> Option<NodeId>,
    ) -> Option<Captured> {
        let Registers { program_counter, stack_pointer, frame_pointer } = registers;
        let outside = innermost.checked_sub(1)?;
        let here = Frame {
            address: program_counter,
            stack_pointer,
            frame_pointer,
            address_slot: -1,
            frame_pointer_slot: NO_SLOT,
        };
        let rule = rules.find_plain(before(program_counter))?;
        let caller = caller(&self.stack, &here, rule)?;
        let matters = self.frames.matters(outside);
        if caller.stack_pointer != self.frames.stack_pointer(outside)
            || caller.address != self.frames.address(outside)
            || matters && caller.frame_pointer != self.frames.frame_pointer(outside)
            || !self.frames.are_unchanged(outside)
        {
            return None;
        }
        let parent = self.frames.path(outside);
        let path = parent.below(program_counter);
        let node = find(path, parent)?;

        // The innermost frame's own frame pointer matters where the way outwards begins with it.
        let from_here =
            rule.is_from_frame_pointer() || matters && caller.frame_pointer_slot == NO_SLOT;
        let alike = !self.frames.matters(innermost)
            && !from_here
            && self.frames.has_slots(outside, caller.address_slot, caller.frame_pointer_slot);
        self.other = if alike { self.innermost_call(innermost) } else { Call::NONE };
        // The caller's slots are those of this call now.
        self.frames.set_frame_pointer(outside, caller.frame_pointer);
        self.frames.set_slots(outside, caller.address_slot, caller.frame_pointer_slot);
        self.frames.set_frame_pointer(innermost, frame_pointer);
        self.frames.set_matters(innermost, from_here);
        self.frames.list(outside, self.length);
        self.make_innermost(innermost, Call { address: program_counter, path, node });
        Some(Captured::new(node, Captured::ALL))
    }
}
