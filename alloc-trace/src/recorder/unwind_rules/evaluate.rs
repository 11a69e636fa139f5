//! Rules out of the tables that binaries carry, by `gimli`.

use std::ptr;
use std::slice;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianSlice, NativeEndian, Operation,
    Register, RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection,
};

use super::{Base, Framed, General, Rule, Value};
use crate::recorder::RECORDER;
use crate::recorder::modules::Module;

#[cfg(target_arch = "x86_64")]
mod registers {
    use gimli::{Register, X86_64};
    pub(super) const STACK_POINTER: Register = X86_64::RSP;
    pub(super) const FRAME_POINTER: Register = X86_64::RBP;
}

#[cfg(target_arch = "aarch64")]
mod registers {
    use gimli::{AArch64, Register};
    pub(super) const STACK_POINTER: Register = AArch64::SP;
    pub(super) const FRAME_POINTER: Register = AArch64::X29;
}

type Bytes = EndianSlice<'static, NativeEndian>;

/// Room for the rules of one frame, in place of `gimli`'s default, which allocates.
#[derive(Debug)]
struct InPlace;

impl UnwindContextStorage<usize> for InPlace {
    type Rules = [(Register, RegisterRule<usize>); 24];
    type Stack = [gimli::UnwindTableRow<usize, Self>; 3];
}

/// Evaluates the call-frame information of `module` for the code at `address`.
///
/// That takes some KiB of stack, which a signal handler's own may not have. `None` where all stacks for it
/// are taken: then nothing is known of the address yet.
#[cold]
pub(in crate::recorder) fn evaluate(module: &Module, address: u64) -> Option<Rule> {
    let inside = || evaluate_tables(module, address).unwrap_or(Rule::Unknown);
    RECORDER.spare_stacks.enter(|()| inside())
}

fn evaluate_tables(module: &Module, address: u64) -> Option<Rule> {
    if module.unwind_table == 0 {
        return None;
    }
    let header = bytes(module.unwind_table, module.unwind_table_end)?;
    let header = EhFrameHdr::from(header);
    let bases = BaseAddresses::default().set_eh_frame_hdr(module.unwind_table);
    let header = header.parse(&bases, size_of::<usize>() as u8).ok()?;
    let table = header.table()?;
    let gimli::Pointer::Direct(frames) = header.eh_frame_ptr() else { return None };
    let section = EhFrame::from(bytes(frames, module.unwind_table_end)?);
    let bases = bases.set_eh_frame(frames);
    let entry = table.fde_for_address(&section, &bases, address, EhFrame::cie_from_offset).ok()?;
    let mut context = UnwindContext::<usize, InPlace>::new_in();
    let row = entry.unwind_info_for_address(&section, &bases, &mut context, address).ok()?;
    let return_address = entry.cie().return_address_register();
    if row.register(return_address) == Some(RegisterRule::Undefined) {
        return Some(Rule::Outermost);
    }
    let expressions = Expressions { section: &section, encoding: entry.cie().encoding() };
    let stack_pointer = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            Value::Register(base(*register)?, *offset)
        }
        CfaRule::Expression(expression) => expressions.value(expression)?,
    };
    let saved = |register| match row.register(register) {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(Value::Same),
        Some(RegisterRule::Offset(offset)) => Some(Value::Memory(Base::CallerStack, offset)),
        Some(RegisterRule::ValOffset(offset)) => Some(Value::Register(Base::CallerStack, offset)),
        Some(RegisterRule::Expression(expression)) => match expressions.value(&expression)? {
            Value::Register(base, offset) => Some(Value::Memory(base, offset)),
            Value::Same | Value::Memory(..) | Value::MemoryPlus(..) => None,
        },
        Some(RegisterRule::ValExpression(expression)) => expressions.value(&expression),
        Some(_) => None,
    };
    let general = General {
        stack_pointer,
        return_address: saved(return_address)?,
        frame_pointer: saved(registers::FRAME_POINTER)?,
        signal_frame: entry.is_signal_trampoline(),
    };
    Some(simplify(general))
}

/// The common form of a rule, if it has one.
fn simplify(general: General) -> Rule {
    let in_frame = |value| match value {
        Value::Same => Some(None),
        Value::Memory(Base::CallerStack, offset) => Some(Some(offset)),
        _ => None,
    };
    let framed = || {
        let (from_frame_pointer, stack_pointer_offset) = match general.stack_pointer {
            Value::Register(Base::Stack, offset) => (false, offset),
            Value::Register(Base::Frame, offset) => (true, offset),
            _ => return None,
        };
        if general.signal_frame {
            return None;
        }
        Some(Framed {
            from_frame_pointer,
            stack_pointer_offset,
            return_address_offset: in_frame(general.return_address)?,
            frame_pointer_offset: in_frame(general.frame_pointer)?,
        })
    };
    framed().map_or(Rule::General(general), Rule::Framed)
}

/// A module's bytes from one address to another.
fn bytes(from: u64, to: u64) -> Option<Bytes> {
    let length = usize::try_from(to.checked_sub(from)?).ok()?;
    let place = ptr::with_exposed_provenance(from as usize);
    // SAFETY: both addresses lie in one loaded, readable segment of a module whose code is on the
    // stack, so that it stays loaded during the call; the slice does not outlive it.
    Some(EndianSlice::new(unsafe { slice::from_raw_parts(place, length) }, NativeEndian))
}

fn base(register: Register) -> Option<Base> {
    match register {
        registers::STACK_POINTER => Some(Base::Stack),
        registers::FRAME_POINTER => Some(Base::Frame),
        _ => None,
    }
}

/// The expressions of a table: those of the forms that compilers, C libraries and coroutines write, a
/// register plus an offset, the word that lies there, and that plus a number.
struct Expressions<'a> {
    section: &'a EhFrame<Bytes>,
    encoding: Encoding,
}

impl Expressions<'_> {
    fn value(&self, expression: &UnwindExpression<usize>) -> Option<Value> {
        let mut operations = expression.get(self.section).ok()?.operations(self.encoding);
        let Some(Operation::RegisterOffset { register, offset, .. }) = operations.next().ok()?
        else {
            return None;
        };
        let base = base(register)?;
        match operations.next().ok()? {
            None => Some(Value::Register(base, offset)),
            Some(Operation::Deref { size: 8, .. }) => match operations.next().ok()? {
                None => Some(Value::Memory(base, offset)),
                Some(Operation::PlusConstant { value }) if operations.next().ok()?.is_none() => {
                    Some(Value::MemoryPlus(base, offset, value))
                }
                Some(_) => None,
            },
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::modules::Modules;
    use crate::recorder::stack_switch::call_on;

    /// Does something while all workrooms are taken.
    fn without_rooms(work: &mut dyn FnMut()) {
        if RECORDER.log.in_room(|| without_rooms(work)).is_none() {
            work();
        }
    }

    #[test]
    fn evaluating_takes_little_of_the_callers_stack_although_all_workrooms_are_taken() {
        #[repr(align(16))]
        struct Stack([u8; 32 << 10]);
        const PAINT: u8 = 0xa5;

        let address = without_rooms as *const () as u64 + 1;
        let modules = Modules::new();
        modules.list(true, &mut |_, _| {});
        let module = modules.find(address).expect("this program's");
        let mut stack = Box::new(Stack([PAINT; 32 << 10]));
        let end = stack.0.as_mut_ptr_range().end;
        let mut rule = None;
        // SAFETY: the stack is this test's.
        without_rooms(&mut || rule = unsafe { call_on(end, || evaluate(&module, address)) });
        assert!(matches!(rule, Some(Rule::Framed(_))), "{rule:?}");
        let untouched = stack.0.iter().take_while(|&&byte| byte == PAINT).count();
        let used = stack.0.len() - untouched;
        assert!(used <= 2 << 10, "{used} bytes");
    }
}
