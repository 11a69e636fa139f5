//! The way outwards, one frame at a time.

use super::super::modules::Modules;
use super::super::stack::Stack;
use super::super::unwind_rules::{self, Base, Framed, General, Packed, Rule, Value};
use super::frames::NO_SLOT;
use super::{Frame, Registers, Shared, Sink};

/// Where unwinding has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// The mapping that is read: the thread's stack, or the one that a signal interrupted.
    pub(super) stack: Stack,
    pub(super) frame: Frame,
    /// The code address that the frame's rule is for.
    pub(super) code: u64,
    /// Whether a rule was met that reads elsewhere than in slots.
    pub(super) elsewhere: bool,
    /// Whether the last step depended on the frame pointer's value.
    pub(super) used_frame_pointer: bool,
    /// Whether a frame was met whose code can be unloaded.
    pub(super) late: bool,
}

/// One step outwards.
pub(super) enum Step {
    /// The caller's frame is the present one now.
    Caller,
    /// There is no caller.
    Outermost,
    /// The caller cannot be found.
    Cut,
}

impl Walk {
    #[inline(always)]
    pub(super) const fn new(stack: Stack, registers: Registers) -> Self {
        let Registers { program_counter, stack_pointer, frame_pointer } = registers;
        let frame = Frame {
            address: program_counter,
            stack_pointer,
            frame_pointer,
            address_slot: -1,
            frame_pointer_slot: NO_SLOT,
        };
        Self {
            stack,
            frame,
            code: before(program_counter),
            elsewhere: false,
            used_frame_pointer: false,
            late: false,
        }
    }

    /// Has arrived at `frame`, which made a call.
    #[inline(always)]
    pub(super) const fn arrive(&mut self, frame: Frame) {
        self.frame = frame;
        self.code = before(frame.address);
    }

    /// Goes to the caller of the present frame.
    pub(super) fn step(&mut self, shared: &Shared<'_>, sink: &mut impl Sink) -> Step {
        match shared.rules.find_plain(self.code) {
            Some(rule) => self.framed(rule).unwrap_or(Step::Cut),
            None => self.unusual(shared, sink),
        }
    }

    fn framed(&mut self, rule: Packed) -> Option<Step> {
        self.used_frame_pointer = rule.is_from_frame_pointer();
        let caller = caller(&self.stack, &self.frame, rule)?;
        if caller.address == 0 {
            return Some(Step::Outermost);
        }
        self.arrive(caller);
        Some(Step::Caller)
    }

    /// A step by a rule that is not in the table as most are.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, shared: &Shared<'_>, sink: &mut impl Sink) -> Step {
        let code = self.code;
        let (rule, late) = match shared.rules.find(code) {
            Some(rule) if !rule.is_late() => (rule.unpack(), false),
            Some(rule) if is_current(code, shared.modules) => (rule.unpack(), true),
            _ => learn(code, shared, sink),
        };
        self.late |= late;
        self.used_frame_pointer = false;
        let step = match rule {
            Rule::Framed(framed) => self.framed_unpacked(framed),
            Rule::Outermost => Some(Step::Outermost),
            Rule::General(general) => self.general(&general),
            Rule::Unknown => self.by_frame_pointer(shared),
        };
        step.unwrap_or(Step::Cut)
    }

    fn framed_unpacked(&mut self, rule: Framed) -> Option<Step> {
        match Packed::new(&Rule::Framed(rule)) {
            Some(packed) => self.framed(packed),
            None => self.general(&rule.general()),
        }
    }

    /// A rule of another form, above all that of a signal frame, which can lead to another stack.
    fn general(&mut self, rule: &General) -> Option<Step> {
        let frame = self.frame;
        self.used_frame_pointer = true;
        let value = |stack: &Stack, caller: u64, value: Value, same: u64| {
            let at = |base: Base, offset: i64| {
                let base = match base {
                    Base::Stack => frame.stack_pointer,
                    Base::Frame => frame.frame_pointer,
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
        let stack_pointer = value(&here, 0, rule.stack_pointer, frame.stack_pointer)?;
        // A frame that made a call has saved its return address.
        let address = return_address(value(&here, stack_pointer, rule.return_address, 0)?);
        let frame_pointer = value(&here, stack_pointer, rule.frame_pointer, frame.frame_pointer)?;
        if address == 0 {
            return Some(Step::Outermost);
        }
        if !here.contains(stack_pointer, 8) {
            if !rule.signal_frame {
                return None;
            }
            self.stack = Stack::around(stack_pointer);
        } else if stack_pointer < frame.stack_pointer {
            return None;
        }
        self.frame = Frame {
            address,
            stack_pointer,
            frame_pointer,
            address_slot: -1,
            frame_pointer_slot: NO_SLOT,
        };
        // What a signal interrupted has an instruction's address that is to run.
        self.code = if rule.signal_frame { address } else { before(address) };
        self.elsewhere = true;
        Some(Step::Caller)
    }

    /// Code without tables: if it keeps frame pointers, the caller's return address lies behind the
    /// saved one and leads into a module.
    fn by_frame_pointer(&mut self, shared: &Shared<'_>) -> Option<Step> {
        let rule = Framed {
            from_frame_pointer: true,
            stack_pointer_offset: 16,
            return_address_offset: Some(-8),
            frame_pointer_offset: Some(-16),
        };
        match self.framed_unpacked(rule)? {
            Step::Caller if shared.modules.find(self.frame.address).is_some() => Some(Step::Caller),
            Step::Outermost => Some(Step::Outermost),
            Step::Caller | Step::Cut => None,
        }
    }
}

/// Evaluates the rule for an address that is not in the shared table yet; answers it, and whether the
/// code can be unloaded.
#[cold]
fn learn(address: u64, shared: &Shared<'_>, sink: &mut impl Sink) -> (Rule, bool) {
    let mut found = shared.modules.find(address);
    if let Some(module) = found.filter(|module| module.late)
        && !shared.modules.is_current(&module, address)
    {
        // It was unloaded: what is known of its code is known of other code's addresses.
        sink.unloaded(&module, shared.modules);
        shared.modules.forget(&module);
        shared.rules.clear();
        found = None;
    }
    let found = found.or_else(|| {
        shared.modules.discover(address, &mut |module, identity| sink.module(module, identity))
    });
    let Some(module) = found else { return (Rule::Unknown, false) };
    let Some(rule) = unwind_rules::evaluate(&module, address) else {
        return (Rule::Unknown, module.late);
    };
    shared.rules.insert(address, &rule, module.late);
    (rule, module.late)
}

/// Whether the module that a rule of late code was learnt from is still loaded there.
fn is_current(address: u64, modules: &Modules) -> bool {
    modules.find(address).is_some_and(|module| modules.is_current(&module, address))
}

/// The caller of `frame` by a rule of the common form: its address is 0 where there is none. `None` where
/// the rule leads off the stack.
#[inline(always)]
pub(super) fn caller(stack: &Stack, frame: &Frame, rule: Packed) -> Option<Frame> {
    let base = if rule.is_from_frame_pointer() { frame.frame_pointer } else { frame.stack_pointer };
    let stack_pointer = base.wrapping_add(rule.stack_pointer_offset());
    // The stack only ever shrinks outwards; a function that saved nothing may have no frame.
    if stack_pointer < frame.stack_pointer || !stack_pointer.is_multiple_of(8) {
        return None;
    }
    let (address, address_slot) = match rule.return_address_slot() {
        Some(slot) => (return_address(stack.read_slot(stack_pointer, slot)?), slot),
        None => (0, -1),
    };
    let (frame_pointer, frame_pointer_slot) = match rule.frame_pointer_slot() {
        Some(slot) if address != 0 => (stack.read_slot(stack_pointer, slot)?, slot),
        _ => (frame.frame_pointer, NO_SLOT),
    };
    Some(Frame { address, stack_pointer, frame_pointer, address_slot, frame_pointer_slot })
}

/// A return address can lie behind the last instruction of its function: its rule is that of the address
/// before.
#[inline(always)]
pub(super) const fn before(return_address: u64) -> u64 {
    return_address.wrapping_sub(1)
}

/// The address within a saved one: aarch64 may have signed it in its unused upper bits.
#[inline(always)]
pub(super) const fn return_address(saved: u64) -> u64 {
    if cfg!(target_arch = "aarch64") { saved & 0x0000_ffff_ffff_ffff } else { saved }
}
