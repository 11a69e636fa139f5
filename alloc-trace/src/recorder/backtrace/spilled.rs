//! Backtraces of what signal handlers ask for while they interrupt the recorder in the same thread.
//!
//! The thread's previous backtrace is in use then, and so is its place in the file. So all frames are
//! unwound, of which nothing but the addresses is kept, and what code was met for the first time is not
//! gone through; the interrupted hook gives them their nodes when it writes the request.

use std::cell::Cell;

use alloc_trace_format::NodeId;

use super::super::stack::Stack;
use super::walk::{Step, Walk, meet};
use super::{Backtrace, Captured, MAX_DEPTH, Registers, Shared, Sink};

/// The return addresses of a backtrace. Zeroed memory has none.
#[derive(Debug)]
pub(in super::super) struct Spilled {
    length: Cell<usize>,
    is_cut: Cell<bool>,
    stack_pointer: Cell<u64>,
    /// The innermost first.
    addresses: [Cell<u64>; MAX_DEPTH],
}

impl Spilled {
    /// There is no backtrace.
    pub(in super::super) fn clear(&self) {
        self.length.set(0);
    }

    /// Collects the frames from the one that has the registers given outwards.
    pub(in super::super) fn collect(&self, registers: Registers, shared: &Shared<'_>) {
        let mut walk = Walk::new(Stack::at(registers.stack_pointer), registers);
        let mut length = 0;
        let mut is_cut = true;
        for cell in self.addresses.iter().take(shared.depth) {
            cell.set(walk.frame.address);
            length += 1;
            match walk.step_by_what_is_known(shared) {
                Step::Caller => {}
                Step::Outermost => {
                    is_cut = false;
                    break;
                }
                Step::Cut => break,
            }
        }
        self.stack_pointer.set(registers.stack_pointer);
        self.is_cut.set(is_cut);
        self.length.set(length);
    }

    /// The stack pointer of the request; 0 where there is no backtrace.
    pub(in super::super) fn stack_pointer(&self) -> u64 {
        if self.length.get() == 0 { 0 } else { self.stack_pointer.get() }
    }

    /// The addresses, the outermost first.
    fn addresses(&self) -> impl Iterator<Item = u64> {
        self.addresses.iter().take(self.length.get()).rev().map(Cell::get)
    }
}

impl Backtrace {
    /// The node of a backtrace that was collected while this one was captured; `None` where there is none.
    ///
    /// Frames are kept as far as they are this one's: a handler may have returned and been called again.
    pub(in super::super) fn find_spilled(
        &self,
        spilled: &Spilled,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Option<Captured> {
        if spilled.length.get() == 0 {
            return None;
        }
        for address in spilled.addresses() {
            meet(address, shared, sink);
        }
        // Not before: what was replaced is found out there.
        let replacements = shared.modules.replacements();
        let root = if spilled.is_cut.get() { NodeId::CUT } else { NodeId::ROOT };
        let mut path = sink.root_path(root);
        let mut node = root;
        for address in spilled.addresses() {
            path = if meet(address, shared, sink) {
                path.below_late(address, replacements)
            } else {
                path.below(address)
            };
            node = match sink.find_parent(path) {
                Some(known) => known,
                None => sink.define(path, node, address),
            };
        }
        let shared_frames = self.addresses().zip(spilled.addresses());
        let kept = if root == self.root {
            shared_frames.take_while(|(one, other)| one == other).count()
        } else {
            0
        };
        Some(Captured::new(node, kept as u32))
    }
}
