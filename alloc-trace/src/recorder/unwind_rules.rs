//! How to get from a frame to the frame that called it, for each code address.
//!
//! The rules are those of the DWARF call-frame information that every binary carries in
//! `.eh_frame`, evaluated by `gimli` for the three registers that matter (program counter, stack
//! pointer, frame pointer). Nearly all of them have one form, which is packed into a word and kept
//! in a table that all threads share and that takes no lock. The rest, above all signal frames, are
//! evaluated each time.

use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianSlice, NativeEndian, Operation,
    Register, RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection,
};

use super::modules::Module;
use super::sys;

/// How to find the caller's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The common form.
    Framed(Framed),
    /// Any other form that could be evaluated.
    General(General),
    /// This is the outermost frame.
    Outermost,
    /// The tables say nothing of this address, or nothing that could be evaluated.
    Unknown,
}

/// The caller's stack pointer is a register plus an offset, and what was saved lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framed {
    /// Whether the offset counts from the frame pointer, else from the stack pointer.
    pub(super) from_frame_pointer: bool,
    /// From that register to the caller's stack pointer, in bytes.
    pub(super) stack_pointer_offset: i64,
    /// From the caller's stack pointer to the saved return address, in bytes; `None` where it is
    /// still in the link register.
    pub(super) return_address_offset: Option<i64>,
    /// From the caller's stack pointer to the saved frame pointer, in bytes; `None` where it is
    /// still in its register.
    pub(super) frame_pointer_offset: Option<i64>,
}

impl Framed {
    /// The same, as a rule that is evaluated in full.
    pub(super) fn general(&self) -> General {
        let base = if self.from_frame_pointer { Base::Frame } else { Base::Stack };
        let saved = |offset: Option<i64>| {
            offset.map_or(Value::Same, |offset| Value::Memory(Base::CallerStack, offset))
        };
        General {
            stack_pointer: Value::Register(base, self.stack_pointer_offset),
            return_address: saved(self.return_address_offset),
            frame_pointer: saved(self.frame_pointer_offset),
            signal_frame: false,
        }
    }
}

/// A rule that is evaluated in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct General {
    pub(super) stack_pointer: Value,
    pub(super) return_address: Value,
    pub(super) frame_pointer: Value,
    /// Whether the caller was interrupted rather than made a call: its program counter is then an
    /// instruction's address and no return address.
    pub(super) signal_frame: bool,
}

/// Where a register's value in the caller comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Unchanged.
    Same,
    /// A register of this frame plus an offset.
    Register(Base, i64),
    /// The word in memory there.
    Memory(Base, i64),
}

/// The pointer that an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Stack,
    Frame,
    /// The caller's stack pointer.
    CallerStack,
}

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

/// Whether a call pushes its return address: then it lies directly below the caller's stack pointer.
pub(super) const CALLS_PUSH: bool = cfg!(target_arch = "x86_64");

/// Entries of the shared table: 512 KiB in all, of which only what is used is resident.
const ENTRIES: usize = 1 << 15;

/// The rules of the addresses met so far.
#[derive(Debug)]
pub(super) struct Rules {
    entries: NonNull<Entry>,
}

#[derive(Debug)]
#[repr(C, align(16))]
struct Entry {
    /// The address, mixed with the rule, so that halves of two entries are no entry.
    address: AtomicU64,
    rule: AtomicU64,
}

// SAFETY: the entries are atomics, mapped as long as the process lives.
unsafe impl Send for Rules {}
// SAFETY: as above.
unsafe impl Sync for Rules {}

impl Rules {
    /// An empty table; `None` where memory is short.
    pub(super) fn new() -> Option<Self> {
        let entries = sys::map_anonymous(ENTRIES * size_of::<Entry>())?.cast();
        Some(Self { entries })
    }

    /// The rule for the code at `address`, if it is in the table.
    #[inline(always)]
    pub(super) fn find(&self, address: u64) -> Option<Packed> {
        let entry = self.entry(address);
        let rule = entry.rule.load(Ordering::Relaxed);
        let mixed = entry.address.load(Ordering::Relaxed);
        // An untouched entry is zero, which is no rule: and no code lies at the address zero.
        (mixed ^ spread(rule) == address && rule != 0).then_some(Packed(rule))
    }

    /// Puts a rule into the table, if it has a packed form. `late`: the code can be unloaded.
    pub(super) fn insert(&self, address: u64, rule: &Rule, late: bool) {
        if let Some(Packed(rule)) = Packed::new(rule) {
            let rule = if late { rule | LATE } else { rule };
            let entry = self.entry(address);
            entry.address.store(address ^ spread(rule), Ordering::Relaxed);
            entry.rule.store(rule, Ordering::Relaxed);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for index in 0..ENTRIES {
            // SAFETY: the mapping holds `ENTRIES` entries.
            let entry = unsafe { self.entries.add(index) };
            // SAFETY: mapped, and zero is a valid entry.
            let entry = unsafe { entry.as_ref() };
            if entry.rule.load(Ordering::Relaxed) != 0 {
                entry.rule.store(0, Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn entry(&self, address: u64) -> &Entry {
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = (hash >> 40) as usize & (ENTRIES - 1);
        // SAFETY: the index is masked to the number of entries.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: mapped as long as the process lives, and zero is a valid entry.
        unsafe { entry.as_ref() }
    }
}

/// A rule in one word: a form in bits 0-1 (never 0), then for [`Framed`] the register in bit 2; in
/// bit 3 whether the code can be unloaded; the return address's offset in bits 4-15, the frame
/// pointer's in bits 16-31 and the stack pointer's in bits 32-63, all in words, the extreme value
/// standing for "in its register".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(u64);

const FORM: u64 = 3;
const FRAMED: u64 = 1;
const OUTERMOST: u64 = 2;
const UNKNOWN: u64 = 3;
const FROM_FRAME_POINTER: u64 = 1 << 2;
const LATE: u64 = 1 << 3;
const NO_RETURN_ADDRESS: i64 = -(1 << 11);
const NO_FRAME_POINTER: i64 = -(1 << 15);

impl Packed {
    /// `None` for a rule that does not fit. Where calls push their return address, that is so for
    /// every rule that has it elsewhere.
    pub(super) fn new(rule: &Rule) -> Option<Self> {
        let Framed {
            from_frame_pointer,
            stack_pointer_offset,
            return_address_offset,
            frame_pointer_offset,
        } = match rule {
            Rule::Outermost => return Some(Self(OUTERMOST)),
            Rule::Unknown => return Some(Self(UNKNOWN)),
            Rule::General(_) => return None,
            Rule::Framed(framed) => *framed,
        };
        if CALLS_PUSH && return_address_offset != Some(-8) {
            return None;
        }
        let words = |offset: i64, bits: u32| {
            let words = offset / 8;
            let fits = offset % 8 == 0 && words < 1 << (bits - 1) && words > -(1 << (bits - 1));
            fits.then_some(words)
        };
        let return_address =
            return_address_offset.map_or(Some(NO_RETURN_ADDRESS), |offset| words(offset, 12))?;
        let frame_pointer =
            frame_pointer_offset.map_or(Some(NO_FRAME_POINTER), |offset| words(offset, 16))?;
        let stack_pointer = words(stack_pointer_offset, 32)?;
        let register = if from_frame_pointer { FROM_FRAME_POINTER } else { 0 };
        Some(Self(
            FRAMED
                | register
                | (return_address.cast_unsigned() & 0xfff) << 4
                | (frame_pointer.cast_unsigned() & 0xffff) << 16
                | stack_pointer.cast_unsigned() << 32,
        ))
    }

    /// Whether it is a [`Framed`] of code that stays.
    #[inline(always)]
    pub(super) const fn is_plainly_framed(self) -> bool {
        self.0 & (FORM | LATE) == FRAMED
    }

    /// Whether the code can be unloaded.
    pub(super) const fn is_late(self) -> bool {
        self.0 & LATE != 0
    }

    /// Of a [`Framed`]: whether the offset counts from the frame pointer.
    #[inline(always)]
    pub(super) const fn is_from_frame_pointer(self) -> bool {
        self.0 & FROM_FRAME_POINTER != 0
    }

    /// Of a [`Framed`]: from that register to the caller's stack pointer, in bytes.
    #[inline(always)]
    pub(super) const fn stack_pointer_offset(self) -> i64 {
        self.field(32, 32) * 8
    }

    /// Of a [`Framed`]: from the caller's stack pointer to the return address, in words.
    #[inline(always)]
    pub(super) const fn return_address_slot(self) -> Option<i16> {
        if CALLS_PUSH {
            return Some(-1);
        }
        let slot = self.field(4, 12);
        if slot == NO_RETURN_ADDRESS { None } else { Some(slot as i16) }
    }

    /// Of a [`Framed`]: from the caller's stack pointer to the frame pointer, in words.
    #[inline(always)]
    pub(super) const fn frame_pointer_slot(self) -> Option<i16> {
        let slot = self.field(16, 16);
        if slot == NO_FRAME_POINTER { None } else { Some(slot as i16) }
    }

    #[inline(always)]
    const fn field(self, shift: u32, bits: u32) -> i64 {
        (self.0 << (64 - shift - bits)).cast_signed() >> (64 - bits)
    }

    /// The rule that was packed.
    pub(super) fn unpack(self) -> Rule {
        let bytes = |slot: i16| i64::from(slot) * 8;
        match self.0 & FORM {
            FRAMED => Rule::Framed(Framed {
                from_frame_pointer: self.is_from_frame_pointer(),
                stack_pointer_offset: self.stack_pointer_offset(),
                return_address_offset: self.return_address_slot().map(bytes),
                frame_pointer_offset: self.frame_pointer_slot().map(bytes),
            }),
            OUTERMOST => Rule::Outermost,
            _ => Rule::Unknown,
        }
    }
}

/// Mixes a packed rule into the address it is for, so that the difference of two rules is no
/// difference of two addresses.
#[inline]
const fn spread(rule: u64) -> u64 {
    rule.wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
#[cold]
pub(super) fn evaluate(module: &Module, address: u64) -> Rule {
    evaluate_tables(module, address).unwrap_or(Rule::Unknown)
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
            Value::Same | Value::Memory(..) => None,
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

/// The expressions of a table: those of the forms that compilers and C libraries write, a register
/// plus an offset and the word that lies there.
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
            Some(Operation::Deref { size: 8, .. }) if operations.next().ok()?.is_none() => {
                Some(Value::Memory(base, offset))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(from_frame_pointer: bool, offsets: [Option<i64>; 3]) -> Rule {
        Rule::Framed(Framed {
            from_frame_pointer,
            stack_pointer_offset: offsets[0].unwrap_or_default(),
            return_address_offset: offsets[1],
            frame_pointer_offset: offsets[2],
        })
    }

    #[test]
    fn a_rule_survives_packing() {
        for rule in [
            framed(false, [Some(8), Some(-8), None]),
            framed(true, [Some(16), Some(-8), Some(-16)]),
            framed(true, [Some(1 << 30), Some(-8), Some(-262_136)]),
            framed(false, [Some(-64), Some(-8), Some(0)]),
            Rule::Outermost,
            Rule::Unknown,
        ] {
            assert_eq!(Packed::new(&rule).map(Packed::unpack), Some(rule));
        }
        for rule in [
            framed(true, [Some(16), Some(-16_376), Some(-16)]),
            framed(false, [Some(-64), None, Some(0)]),
        ] {
            let expected = if CALLS_PUSH { None } else { Some(rule) };
            assert_eq!(Packed::new(&rule).map(Packed::unpack), expected);
        }
    }

    #[test]
    fn a_rule_that_does_not_fit_is_not_packed() {
        for rule in [
            framed(false, [Some(12), Some(-8), None]),
            framed(false, [Some(1 << 40), Some(-8), None]),
            framed(false, [Some(8), Some(-16_384), None]),
            framed(false, [Some(8), Some(-8), Some(-262_144)]),
        ] {
            assert_eq!(Packed::new(&rule), None, "{rule:?}");
        }
    }

    #[test]
    fn the_table_finds_what_was_put_in_and_nothing_else() {
        let rules = Rules::new().expect("memory");
        assert_eq!(rules.find(0), None);
        assert_eq!(rules.find(0x1234), None);
        let rule = framed(true, [Some(16), Some(-8), Some(-16)]);
        let found = |address| rules.find(address).map(|rule| (rule.unpack(), rule.is_late()));
        rules.insert(0x1234, &rule, false);
        assert_eq!(found(0x1234), Some((rule, false)));
        assert!(rules.find(0x1234).is_some_and(Packed::is_plainly_framed));
        rules.insert(0x5678, &rule, true);
        assert_eq!(found(0x5678), Some((rule, true)));
        assert!(!rules.find(0x5678).is_some_and(Packed::is_plainly_framed));
        assert_eq!(rules.find(0x1235), None);
        rules.clear();
        assert_eq!(rules.find(0x1234), None);
    }
}
