//! The way outwards, one frame at a time.
//!
//! It leads to another stack where unwind tables say so: out of a signal handler on a stack of its own, and
//! out of a function that put its stack pointer elsewhere and kept the old one in its frame pointer or in
//! memory. There is nothing that must hold of that stack but that it can be read.

use super::super::modules::Modules;
use super::super::stack::Stack;
use super::super::unwind_rules::{self, Base, Framed, General, Packed, Rule, Value};
use super::frames::NO_SLOT;
use super::{Frame, Registers, Shared, Sink};

/// Where unwinding has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// The stack that is read: the running function's, or the one that unwinding has come to from there.
    pub(super) stack: Stack,
    /// How often unwinding came to another stack.
    pub(super) crossings: u8,
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

/// How often a backtrace comes to another stack at most: tables that are wrong can lead to and fro.
const MAX_CROSSINGS: u8 = 16;

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
            crossings: 0,
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
            Some(rule) => self.framed(rule, true).unwrap_or(Step::Cut),
            None => self.unusual(shared, |code| learn(code, shared, sink)),
        }
    }

    /// The same where nothing can be written of what is met: code that is not known yet has no caller.
    pub(super) fn step_by_what_is_known(&mut self, shared: &Shared<'_>) -> Step {
        match shared.rules.find_plain(self.code) {
            Some(rule) => self.framed(rule, true).unwrap_or(Step::Cut),
            None => self.unusual(shared, |code| evaluate_known(code, shared)),
        }
    }

    /// A step by a rule of the common form, to another stack only where it `crosses`.
    fn framed(&mut self, rule: Packed, crosses: bool) -> Option<Step> {
        self.used_frame_pointer = rule.is_from_frame_pointer();
        let known = caller(&self.stack, &self.frame, rule);
        let caller = known.or_else(|| self.far_caller(rule, crosses))?;
        if caller.address == 0 {
            return Some(Step::Outermost);
        }
        self.arrive(caller);
        Some(Step::Caller)
    }

    /// The caller where it does not lie in what is known of the stack to be readable.
    #[cold]
    #[inline(never)]
    fn far_caller(&mut self, rule: Packed, crosses: bool) -> Option<Frame> {
        let stack_pointer = callers_stack_pointer(&self.frame, rule);
        let slots = [rule.return_address_slot(), rule.frame_pointer_slot()];
        let places = slots
            .map(|slot| slot.map(|slot| stack_pointer.wrapping_add_signed(i64::from(slot) * 8)));
        let mut places = places.into_iter().flatten();
        if is_further_out(&self.frame, stack_pointer)
            && places.clone().all(|place| self.stack.reaches(place))
        {
            return caller(&self.stack, &self.frame, rule);
        }
        // By the stack pointer itself no rule leads off its stack.
        let first = places.next().filter(|_| crosses && rule.is_from_frame_pointer())?;
        self.cross(first, stack_pointer)?;
        if !places.all(|place| self.stack.reaches(place)) {
            return None;
        }
        caller_at(&self.stack, &self.frame, rule, stack_pointer)
    }

    /// Goes on at `place` of another stack, where the caller's stack pointer is.
    fn cross(&mut self, place: u64, stack_pointer: u64) -> Option<()> {
        if self.crossings == MAX_CROSSINGS || !stack_pointer.is_multiple_of(8) {
            return None;
        }
        self.stack = Stack::probed(place)?;
        self.crossings += 1;
        Some(())
    }

    /// A step by a rule that is not in the table as most are.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, shared: &Shared<'_>, learn: impl FnOnce(u64) -> (Rule, bool)) -> Step {
        let code = self.code;
        let (rule, late) = match shared.rules.find(code) {
            Some(rule) if !rule.is_late() => (rule.unpack(), false),
            Some(rule) if is_current(code, shared.modules) => (rule.unpack(), true),
            _ => learn(code),
        };
        self.late |= late;
        self.used_frame_pointer = false;
        let step = match rule {
            Rule::Framed(framed) => self.framed_unpacked(framed, true),
            Rule::Outermost => Some(Step::Outermost),
            Rule::General(general) => self.general(&general),
            Rule::Unknown => self.by_frame_pointer(shared),
        };
        step.unwrap_or(Step::Cut)
    }

    fn framed_unpacked(&mut self, rule: Framed, crosses: bool) -> Option<Step> {
        match Packed::new(&Rule::Framed(rule)) {
            Some(packed) => self.framed(packed, crosses),
            None => self.general(&rule.general()),
        }
    }

    /// A rule of another form, above all that of a signal frame.
    fn general(&mut self, rule: &General) -> Option<Step> {
        let frame = self.frame;
        self.used_frame_pointer = true;
        let at = |base: Base, caller: u64, offset: i64| {
            let base = match base {
                Base::Stack => frame.stack_pointer,
                Base::Frame => frame.frame_pointer,
                Base::CallerStack => caller,
            };
            base.wrapping_add_signed(offset)
        };
        let stack_pointer = match rule.stack_pointer {
            Value::Same => frame.stack_pointer,
            Value::Register(base, offset) => at(base, 0, offset),
            Value::Memory(base, offset) => self.stack.read(at(base, 0, offset))?,
            Value::MemoryPlus(base, offset, more) => {
                self.stack.read(at(base, 0, offset))?.wrapping_add(more)
            }
        };
        // What a signal interrupted lies here or, as mostly where it is not near, on another stack.
        let is_here = is_further_out(&frame, stack_pointer)
            && (self.stack.grows_to(stack_pointer)
                || !rule.signal_frame && self.stack.reaches(stack_pointer));
        let mut here = self.stack;
        if !is_here {
            self.cross(stack_pointer, stack_pointer)?;
        }
        // A frame has saved things of its caller on either stack.
        let mut read = |address: u64| {
            if here.grows_to(address) { here.read(address) } else { self.stack.read(address) }
        };
        let mut value = |value: Value, same: u64| match value {
            Value::Same => Some(same),
            Value::Register(base, offset) => Some(at(base, stack_pointer, offset)),
            Value::Memory(base, offset) => read(at(base, stack_pointer, offset)),
            Value::MemoryPlus(base, offset, more) => {
                Some(read(at(base, stack_pointer, offset))?.wrapping_add(more))
            }
        };
        // A frame that made a call has saved its return address.
        let address = return_address(value(rule.return_address, 0)?);
        let frame_pointer = value(rule.frame_pointer, frame.frame_pointer)?;
        if address == 0 {
            return Some(Step::Outermost);
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
        match self.framed_unpacked(rule, false)? {
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

/// Evaluates the rule for an address in a module that was met before.
#[cold]
fn evaluate_known(address: u64, shared: &Shared<'_>) -> (Rule, bool) {
    let found = shared.modules.find(address);
    let known = found.filter(|module| !module.late || shared.modules.is_current(module, address));
    let rule = known.as_ref().and_then(|module| unwind_rules::evaluate(module, address));
    (rule.unwrap_or(Rule::Unknown), known.is_some_and(|module| module.late))
}

/// Makes the module of a return address known, if it is not; whether it can be unloaded.
pub(super) fn meet(return_address: u64, shared: &Shared<'_>, sink: &mut impl Sink) -> bool {
    let code = before(return_address);
    match shared.modules.find(code) {
        Some(module) if !module.late || shared.modules.is_current(&module, code) => module.late,
        _ => learn(code, shared, sink).1,
    }
}

/// Whether the module that a rule of late code was learnt from is still loaded there.
fn is_current(address: u64, modules: &Modules) -> bool {
    modules.find(address).is_some_and(|module| modules.is_current(&module, address))
}

/// The caller of `frame` by a rule of the common form: its address is 0 where there is none. `None` where
/// it does not lie further out on the stack, as far as that is known.
#[inline(always)]
pub(super) fn caller(stack: &Stack, frame: &Frame, rule: Packed) -> Option<Frame> {
    let stack_pointer = callers_stack_pointer(frame, rule);
    if !is_further_out(frame, stack_pointer) {
        return None;
    }
    caller_at(stack, frame, rule, stack_pointer)
}

#[inline(always)]
const fn callers_stack_pointer(frame: &Frame, rule: Packed) -> u64 {
    let base = if rule.is_from_frame_pointer() { frame.frame_pointer } else { frame.stack_pointer };
    base.wrapping_add(rule.stack_pointer_offset())
}

/// Whether that can be the caller's stack pointer on the same stack, which only ever shrinks outwards; a
/// function that saved nothing may have no frame.
#[inline(always)]
const fn is_further_out(frame: &Frame, callers_stack_pointer: u64) -> bool {
    callers_stack_pointer >= frame.stack_pointer && callers_stack_pointer.is_multiple_of(8)
}

/// The caller of `frame`, whose stack pointer is known.
#[inline(always)]
fn caller_at(stack: &Stack, frame: &Frame, rule: Packed, stack_pointer: u64) -> Option<Frame> {
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
