//! How to get from a frame to the frame that called it, for each code address.
//!
//! The rules are those of the DWARF call-frame information that every binary carries in
//! `.eh_frame`, [evaluated](evaluate) for the three registers that matter (program counter, stack
//! pointer, frame pointer). Nearly all of them have one form, which is packed into a word and kept
//! in a [table] that all threads share and that takes no lock. The rest, above all signal frames, are
//! evaluated each time.

mod evaluate;
mod table;

pub(super) use self::evaluate::evaluate;
pub(super) use self::table::{Packed, Rules};

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
    /// The word in memory there plus a number.
    MemoryPlus(Base, i64, u64),
}

/// The pointer that an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Stack,
    Frame,
    /// The caller's stack pointer.
    CallerStack,
}

/// Whether a call pushes its return address: then it lies directly below the caller's stack pointer.
pub(super) const CALLS_PUSH: bool = cfg!(target_arch = "x86_64");
