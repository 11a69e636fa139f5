//! Backtraces: unwinding only what changed since the thread's previous event.
//!
//! Each thread keeps its previous backtrace: of every frame the state that the unwinder had there
//! (program counter, stack pointer, frame pointer), the stack slots that this state was read from,
//! and the call-tree node. The next event unwinds from the innermost frame outwards until its state
//! equals a remembered one. From there on the way outwards is decided by the remembered slots alone:
//! if memory still holds what was read from them, all of these frames are as they were. Where a slot
//! differs, unwinding goes on from that frame.
//!
//! The answer is that of a full unwind, which the option `check` proves at every event. One thing it cannot tell: a frame that returned and was called again from the same place with the
//! same stack pointer has the same state.

use alloc_trace_format::NodeId;

use super::modules::{Identity, Module, Modules};
use super::stack::Stack;
use super::unwind_rules::{self, Base, Framed, General, Rule, Rules, Value};

/// Frames of a backtrace at most, whatever is asked for.
pub(crate) const MAX_DEPTH: usize = 128;
/// Room for a backtrace and for the frames unwound anew, before they meet.
const CAPACITY: usize = MAX_DEPTH + 24;

/// Registers of a frame: what unwinding starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) program_counter: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) frame_pointer: u64,
    /// The return address of a function that has not saved it, on machines that have such.
    pub(crate) link: u64,
}

/// One remembered frame: its state, and where the state was read from.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// The return address in this frame.
    address: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    node: NodeId,
    /// From the stack pointer to the slot that held the address, in words.
    address_slot: i16,
    /// From the stack pointer to the slot that held the frame pointer, in words, or [`NO_SLOT`]
    /// where the frame inside left it in its register.
    frame_pointer_slot: i16,
}

/// Stands for a slot that is no word near the stack pointer. As the address's slot it says that the
/// frame was reached by a rule that reads elsewhere: it is unwound to each time.
const NO_SLOT: i16 = i16::MIN;

const NO_FRAME: Frame = Frame {
    address: 0,
    stack_pointer: 0,
    frame_pointer: 0,
    node: NodeId::ROOT,
    address_slot: NO_SLOT,
    frame_pointer_slot: NO_SLOT,
};

/// What backtraces of all threads share.
pub(super) struct Shared<'a> {
    pub(super) modules: &'a Modules,
    pub(super) rules: &'a Rules,
    /// Frames at most.
    pub(super) depth: usize,
}

/// Where the nodes of the call tree come from, and where what was discovered goes.
pub(super) trait Sink {
    /// The node of the frame at `address` below `parent`.
    fn node(&mut self, parent: NodeId, address: u64) -> NodeId;
    /// A module was met for the first time.
    fn module(&mut self, module: &Module, identity: Identity<'_>);
}

/// What was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) node: NodeId,
    /// The stack pointer of the innermost frame.
    pub(super) stack_pointer: u64,
    /// How many of the outermost frames are as they were, where that is fewer than the two
    /// backtraces share.
    pub(super) kept_frames: Option<u32>,
}

/// A thread's previous backtrace.
#[derive(Debug)]
pub(super) struct Backtrace {
    stack: Stack,
    /// How many of `frames` are remembered, the outermost first.
    length: usize,
    /// What lies outside of the outermost remembered frame.
    root: NodeId,
    /// Whether frames were left out because of the depth limit.
    limited: bool,
    /// Remembered frames from the front; while a backtrace is captured, the frames unwound anew from
    /// the back, so that in both parts the outermost comes first.
    frames: [Frame; CAPACITY],
}

/// A capture under way.
struct Capture {
    /// The mapping that is read: the thread's stack, or the one that a signal interrupted.
    stack: Stack,
    registers: Registers,
    /// Whether the program counter is an instruction that is to run rather than a return address.
    interrupted: bool,
    /// How many remembered frames may still turn out to be unchanged.
    kept: usize,
    /// The first of the frames unwound anew.
    new: usize,
    /// The node of the remembered frame that lies directly inside of the kept ones.
    changed_node: Option<NodeId>,
}

/// One step outwards.
enum Step {
    /// The caller's frame, and whether it was interrupted rather than made a call.
    Caller(Frame, bool),
    /// There is no caller.
    Outermost,
    /// The caller cannot be found.
    Cut,
}

/// What comparing the remembered frames with memory found.
enum Verified {
    /// All of them are as they were.
    Whole,
    /// Those outside of this one are not, and unwinding goes on from it.
    From(usize),
}

impl Backtrace {
    /// Nothing remembered.
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        stack: Stack::NONE,
        length: 0,
        root: NodeId::ROOT,
        limited: false,
        frames: [NO_FRAME; CAPACITY],
    };

    /// Forgets the previous backtrace.
    pub(super) const fn reset(&mut self) {
        self.length = 0;
        self.stack = Stack::NONE;
        self.root = NodeId::ROOT;
        self.limited = false;
    }

    /// Captures the backtrace that begins with the caller of the frame whose registers are given.
    #[inline(always)]
    pub(super) fn capture(
        &mut self,
        registers: Registers,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Captured {
        let had_frames = self.length != 0;
        if !self.stack.contains(registers.stack_pointer, 8) {
            self.enter_stack(registers.stack_pointer);
        }
        if self.limited {
            // What the limit left out would come back as inner frames return.
            self.length = 0;
        }
        let forgotten = had_frames && self.length == 0;
        let mut capture = Capture {
            stack: self.stack,
            registers,
            interrupted: true,
            kept: self.length,
            new: CAPACITY,
            changed_node: None,
        };
        let root = self.unwind(&mut capture, registers, shared, sink);
        if let Some(root) = root {
            capture.kept = 0;
            capture.changed_node = self.frames.first().map(|frame| frame.node);
            self.root = root;
        }
        self.limited = false;
        self.limit(&mut capture, shared.depth);
        self.join(&capture, forgotten, sink)
    }

    /// Unwinds until a remembered frame is met; otherwise answers what lies outside of the last
    /// frame found.
    #[inline]
    fn unwind(
        &mut self,
        capture: &mut Capture,
        first: Registers,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Option<NodeId> {
        loop {
            let (frame, interrupted) = match capture.step(shared, sink) {
                Step::Caller(frame, interrupted) => (frame, interrupted),
                Step::Outermost => return Some(NodeId::ROOT),
                Step::Cut => return Some(NodeId::CUT),
            };
            if !capture.meets(&self.frames, &frame) {
                if CAPACITY - capture.new > shared.depth {
                    // One more than allowed: there is something to leave out.
                    return Some(NodeId::CUT);
                }
                capture.push(&mut self.frames, frame);
                capture.go_on(&frame, interrupted);
                continue;
            }
            match verify(&self.frames, capture.kept) {
                Verified::Whole => return None,
                Verified::From(index) => match self.frames.get(index) {
                    Some(&from) if from.address_slot != NO_SLOT => {
                        capture.take_back(&mut self.frames, index);
                        capture.go_on(&from, false);
                    }
                    _ => {
                        // Whether that frame was interrupted is not remembered: begin anew.
                        *capture = Capture {
                            stack: self.stack,
                            registers: first,
                            interrupted: true,
                            kept: 0,
                            new: CAPACITY,
                            changed_node: self.frames.first().map(|frame| frame.node),
                        };
                    }
                },
            }
        }
    }

    /// Leaves the outermost frames out where there are more than `depth`.
    #[inline]
    fn limit(&mut self, capture: &mut Capture, depth: usize) {
        let total = capture.kept + (CAPACITY - capture.new);
        if total <= depth {
            return;
        }
        // The nodes of all others hang from another root now.
        let dropped = total - depth;
        if dropped < capture.kept {
            capture.take_back(&mut self.frames, dropped);
        } else {
            capture.new += dropped - capture.kept;
        }
        capture.kept = 0;
        self.root = NodeId::CUT;
        self.limited = true;
    }

    /// Puts the new frames behind the kept ones and finds their nodes.
    #[inline]
    fn join(&mut self, capture: &Capture, forgotten: bool, sink: &mut impl Sink) -> Captured {
        let Capture { kept, new, changed_node, .. } = *capture;
        let outside = kept.checked_sub(1).and_then(|index| self.frames.get(index));
        let mut node = outside.map_or(self.root, |frame| frame.node);
        let mut stack_pointer = outside.map_or(0, |frame| frame.stack_pointer);
        let mut first_node = None;
        let mut to = kept;
        for from in new..CAPACITY {
            let Some(&(mut frame)) = self.frames.get(from) else { break };
            node = sink.node(node, frame.address);
            frame.node = node;
            stack_pointer = frame.stack_pointer;
            first_node = first_node.or(Some(node));
            if let Some(place) = self.frames.get_mut(to) {
                *place = frame;
            }
            to += 1;
        }
        self.length = to;
        let shares_more = first_node.is_some() && first_node == changed_node;
        let kept_frames = (forgotten || shares_more).then_some(kept as u32);
        Captured { node, stack_pointer, kept_frames }
    }

    /// The stack pointer left the mapping last known.
    #[cold]
    fn enter_stack(&mut self, stack_pointer: u64) {
        let stack = Stack::around(stack_pointer);
        // A stack that grew is still the same one.
        if stack.high != self.stack.high {
            self.length = 0;
        }
        self.stack = stack;
    }

    /// The addresses of the backtrace captured last, the outermost first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().take(self.length).map(|frame| frame.address)
    }
}

/// Compares the `kept` outermost frames with memory. The innermost of them has been met.
#[inline]
fn verify(frames: &[Frame; CAPACITY], kept: usize) -> Verified {
    let Some((_, outside)) = frames.get(..kept).and_then(<[Frame]>::split_last) else {
        return Verified::Whole;
    };
    match outside.iter().rposition(|frame| !frame.is_unchanged()) {
        None => Verified::Whole,
        Some(index) => Verified::From(index + 1),
    }
}

impl Frame {
    /// Whether memory holds what this frame's state was read from.
    #[inline]
    fn is_unchanged(&self) -> bool {
        let read = |slot: i16| {
            let address = self.stack_pointer.wrapping_add_signed(i64::from(slot) * 8);
            let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
            // SAFETY: the slot was read when the frame was unwound, and lies further out than the
            // running frame on a stack that this thread stands on or interrupted: it is readable as
            // long as that stack is. What it holds may be anything and is only compared.
            unsafe { place.read_volatile() }
        };
        self.address_slot != NO_SLOT
            && return_address(read(self.address_slot)) == self.address
            && (self.frame_pointer_slot == NO_SLOT
                || read(self.frame_pointer_slot) == self.frame_pointer)
    }

    /// The registers from which the frame outside of this one is found.
    #[inline]
    const fn registers(&self) -> Registers {
        Registers {
            program_counter: self.address,
            stack_pointer: self.stack_pointer,
            frame_pointer: self.frame_pointer,
            link: 0,
        }
    }
}

impl Capture {
    /// Whether a remembered frame has the state of `frame`. Remembered frames further in than
    /// `frame` have returned.
    #[inline]
    fn meets(&mut self, frames: &[Frame; CAPACITY], frame: &Frame) -> bool {
        while let Some(remembered) = self.kept.checked_sub(1).and_then(|index| frames.get(index)) {
            if remembered.stack_pointer > frame.stack_pointer {
                return false;
            }
            if remembered.stack_pointer == frame.stack_pointer
                && remembered.address == frame.address
                && remembered.frame_pointer == frame.frame_pointer
            {
                return true;
            }
            self.kept -= 1;
            self.changed_node = Some(remembered.node);
        }
        false
    }

    /// Puts a frame before those unwound so far.
    #[inline]
    fn push(&mut self, frames: &mut [Frame; CAPACITY], frame: Frame) {
        self.new -= 1;
        if self.new < self.kept {
            // No room for both: unwinding goes on without what was remembered.
            self.changed_node = frames.first().map(|frame| frame.node);
            self.kept = 0;
        }
        if let Some(place) = frames.get_mut(self.new) {
            *place = frame;
        }
    }

    /// Counts the remembered frames from `index` on to those unwound anew.
    #[cold]
    fn take_back(&mut self, frames: &mut [Frame; CAPACITY], index: usize) {
        let count = self.kept - index;
        self.changed_node = frames.get(index).map(|frame| frame.node);
        self.new -= count;
        frames.copy_within(index..self.kept, self.new);
        self.kept = index;
    }

    #[inline]
    const fn go_on(&mut self, from: &Frame, interrupted: bool) {
        self.registers = from.registers();
        self.interrupted = interrupted;
    }

    /// Finds the caller of the present frame.
    #[inline]
    fn step(&mut self, shared: &Shared<'_>, sink: &mut impl Sink) -> Step {
        // A return address can lie behind the last instruction of its function.
        let address = self.registers.program_counter.wrapping_sub(u64::from(!self.interrupted));
        let rule = match shared.rules.find(address) {
            Some((rule, false)) => rule,
            Some((rule, true)) if is_current(address, shared) => rule,
            _ => learn(address, shared, sink),
        };
        match rule {
            Rule::Framed(framed) => self.framed(&framed).unwrap_or(Step::Cut),
            Rule::Outermost => Step::Outermost,
            Rule::General(general) => self.general(&general).unwrap_or(Step::Cut),
            Rule::Unknown => self.by_frame_pointer(shared).unwrap_or(Step::Cut),
        }
    }

    #[inline]
    fn framed(&self, rule: &Framed) -> Option<Step> {
        let registers = &self.registers;
        let base =
            if rule.from_frame_pointer { registers.frame_pointer } else { registers.stack_pointer };
        let stack_pointer = base.wrapping_add_signed(rule.stack_pointer_offset);
        // The stack only ever shrinks outwards; a function that saved nothing may have no frame.
        if stack_pointer < registers.stack_pointer {
            return None;
        }
        let address = match rule.return_address_offset {
            Some(offset) => self.stack.read(stack_pointer.wrapping_add_signed(offset))?,
            None => registers.link,
        };
        let address = return_address(address);
        if address == 0 {
            return Some(Step::Outermost);
        }
        let frame_pointer = match rule.frame_pointer_offset {
            Some(offset) => self.stack.read(stack_pointer.wrapping_add_signed(offset))?,
            None => registers.frame_pointer,
        };
        let mut frame = Frame {
            address,
            stack_pointer,
            frame_pointer,
            node: NodeId::ROOT,
            address_slot: rule.return_address_offset.map_or(NO_SLOT, slot),
            frame_pointer_slot: rule.frame_pointer_offset.map_or(NO_SLOT, slot),
        };
        if rule.frame_pointer_offset.is_some() && frame.frame_pointer_slot == NO_SLOT {
            // Too far away to be remembered.
            frame.address_slot = NO_SLOT;
        }
        Some(Step::Caller(frame, false))
    }

    /// A rule of another form, above all that of a signal frame, which can lead to another stack.
    #[cold]
    fn general(&mut self, rule: &General) -> Option<Step> {
        let registers = self.registers;
        let value = |stack: &Stack, caller: u64, value: Value, same: u64| {
            let at = |base: Base, offset: i64| {
                let base = match base {
                    Base::Stack => registers.stack_pointer,
                    Base::Frame => registers.frame_pointer,
                    Base::CallerStack => caller,
                };
                base.wrapping_add_signed(offset)
            };
            match value {
                Value::Same => Some(same),
                Value::Register(base, offset) => Some(at(base, offset)),
                Value::Memory(base, offset) => stack.read(at(base, offset)),
            }
        };
        let here = self.stack;
        let stack_pointer = value(&here, 0, rule.stack_pointer, registers.stack_pointer)?;
        let address = value(&here, stack_pointer, rule.return_address, registers.link)?;
        let frame_pointer =
            value(&here, stack_pointer, rule.frame_pointer, registers.frame_pointer)?;
        let address = return_address(address);
        if address == 0 {
            return Some(Step::Outermost);
        }
        if !here.contains(stack_pointer, 8) {
            if !rule.signal_frame {
                return None;
            }
            self.stack = Stack::around(stack_pointer);
        } else if stack_pointer < registers.stack_pointer {
            return None;
        }
        let frame = Frame { address, stack_pointer, frame_pointer, ..NO_FRAME };
        Some(Step::Caller(frame, rule.signal_frame))
    }

    /// Code without tables: if it keeps frame pointers, the caller's return address lies behind the
    /// saved one and leads into a module.
    #[cold]
    fn by_frame_pointer(&self, shared: &Shared<'_>) -> Option<Step> {
        let rule = Framed {
            from_frame_pointer: true,
            stack_pointer_offset: 16,
            return_address_offset: Some(-8),
            frame_pointer_offset: Some(-16),
        };
        match self.framed(&rule)? {
            Step::Caller(frame, interrupted) if shared.modules.find(frame.address).is_some() => {
                Some(Step::Caller(frame, interrupted))
            }
            Step::Outermost => Some(Step::Outermost),
            Step::Caller(..) | Step::Cut => None,
        }
    }
}

/// Evaluates the rule for an address that is not in the shared table yet.
#[cold]
fn learn(address: u64, shared: &Shared<'_>, sink: &mut impl Sink) -> Rule {
    let mut found = shared.modules.find(address);
    if let Some(module) = found.filter(|module| module.late)
        && !shared.modules.is_current(&module, address)
    {
        // It was unloaded: what is known of its code is known of other code's addresses.
        shared.modules.forget(&module);
        shared.rules.clear();
        found = None;
    }
    let found = found.or_else(|| {
        shared.modules.discover(address, &mut |module, identity| sink.module(module, identity))
    });
    let Some(module) = found else { return Rule::Unknown };
    let rule = unwind_rules::evaluate(&module, address);
    shared.rules.insert(address, &rule, module.late);
    rule
}

/// Whether the module that a rule of late code was learnt from is still loaded there.
#[cold]
fn is_current(address: u64, shared: &Shared<'_>) -> bool {
    let module = shared.modules.find(address);
    module.is_some_and(|module| shared.modules.is_current(&module, address))
}

/// An offset from the stack pointer in words, if it is small.
#[inline]
fn slot(offset: i64) -> i16 {
    i16::try_from(offset / 8).unwrap_or(NO_SLOT)
}

/// The address within a saved one: aarch64 may have signed it in its unused upper bits.
#[inline]
const fn return_address(saved: u64) -> u64 {
    if cfg!(target_arch = "aarch64") { saved & 0x0000_ffff_ffff_ffff } else { saved }
}

#[cfg(test)]
mod tests;
