//! Backtraces: unwinding only what changed since the thread's previous event.
//!
//! Each thread keeps its previous backtrace: of every frame the state that the unwinder had there
//! (program counter, stack pointer, frame pointer), the stack slots that this state was read from,
//! and its path in the call tree. The next event unwinds from the innermost frame outwards until its state
//! equals a remembered one. From there on the way outwards is decided by the remembered slots alone:
//! if memory still holds what was read from them, all of these frames are as they were. Where a slot
//! differs, unwinding goes on from that frame.
//!
//! A frame pointer counts only where the way outwards depends on it. In code that keeps no frame
//! pointers it is one more register that a function may use as it likes: its value changes within
//! one activation, and says nothing of the frames outside. So it is remembered which frame pointers
//! matter, and others are neither compared nor kept up to date.
//!
//! Where unwind tables lead to another stack, what was remembered of that one is compared frame by frame from
//! the inside outwards: that it waits for this one is known only as far as all is as it was.
//!
//! The answer is that of a full unwind, which the option `check` proves at every event. One thing it
//! cannot tell: a frame that returned and was called again from the same place with the same stack
//! pointer has the same state.

mod frames;
mod in_place;
mod replaced_code;
mod spilled;
mod walk;

use alloc_trace_format::NodeId;

use self::frames::{CAPACITY, Frames};
use self::walk::{Step, Walk, before, caller};
use super::call_tree::Path;
use super::modules::{Identity, Module, Modules};
use super::stack::Stack;
use super::unwind_rules::Rules;

pub(super) use self::spilled::Spilled;

/// Frames of a backtrace at most, whatever is asked for.
pub(crate) const MAX_DEPTH: usize = 128;

/// The registers with which a hook's caller goes on when the hook returns: what unwinding starts
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) program_counter: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) frame_pointer: u64,
}

/// A frame's state, and where it was read from.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// The return address in this frame.
    address: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    /// From the stack pointer to the slot that held the address, in words.
    address_slot: i16,
    /// From the stack pointer to the slot that held the frame pointer, in words, or
    /// [`frames::NO_SLOT`] where the frame inside left it in its register.
    frame_pointer_slot: i16,
}

/// What backtraces of all threads share.
pub(super) struct Shared<'a> {
    pub(super) modules: &'a Modules,
    pub(super) rules: &'a Rules,
    /// Frames at most.
    pub(super) depth: usize,
}

/// Where the nodes of the call tree come from, and where what was discovered goes.
pub(super) trait Sink {
    /// The path of what lies outside of a backtrace.
    fn root_path(&self, root: NodeId) -> Path;
    /// The node of a whole backtrace, which is at `path` below `parent`, if it is known.
    fn find(&self, path: Path, parent: Path) -> Option<NodeId>;
    /// The node at `path`, if it is known, for the definition of one below it.
    fn find_parent(&self, path: Path) -> Option<NodeId>;
    /// Gives the frame at `address` below `parent` a number, as the node at `path`.
    fn define(&mut self, path: Path, parent: NodeId, address: u64) -> NodeId;
    /// A module was met for the first time.
    fn module(&mut self, module: &Module, identity: Identity<'_>);
    /// A module was unloaded. It is not forgotten yet, so that nobody has met what is there now,
    /// unless another thread has found the same.
    fn unloaded(&mut self, module: &Module, modules: &Modules);
}

/// What was captured: a node, and above it the number of kept frames.
///
/// It is one word, which is handed on in a register. What is longer goes through memory, where a load of two
/// fields together waits until both were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Captured(u64);

impl Captured {
    /// In place of a number of kept frames: all are kept that the two backtraces share.
    const ALL: u32 = u32::MAX;

    #[inline(always)]
    const fn new(node: NodeId, kept_frames: u32) -> Self {
        Self((kept_frames as u64) << 32 | node.0 as u64)
    }

    #[inline(always)]
    pub(super) const fn node(self) -> NodeId {
        NodeId(self.0 as u32)
    }

    /// How many of the outermost frames are as they were, where that is fewer than the two
    /// backtraces share.
    #[inline(always)]
    pub(super) const fn kept_frames(self) -> Option<u32> {
        let kept = (self.0 >> 32) as u32;
        if kept == Self::ALL { None } else { Some(kept) }
    }
}

/// A thread's previous backtrace.
#[derive(Debug)]
pub(super) struct Backtrace {
    stack: Stack,
    /// How many frames are remembered, the outermost first.
    length: usize,
    /// What lies outside of the outermost remembered frame.
    root: NodeId,
    /// The node of the innermost one.
    node: NodeId,
    /// A call that its function made before, as [`in_place`] keeps it.
    other: Call,
    /// Whether frames were left out because of the depth limit.
    limited: bool,
    /// Whether the way outwards led over memory that is not remembered: it is gone anew each time.
    elsewhere: bool,
    /// Whether the code of a remembered frame may be unloaded.
    late: bool,
    /// How many modules had been found to be unloaded when such a frame was last known to be right.
    replacements: u32,
    /// Remembered frames from the front; while a backtrace is captured, the frames unwound anew from
    /// the back, so that in both parts the outermost comes first.
    frames: Frames,
}

/// A call by the innermost function. Zeroed memory is none.
#[derive(Debug, Clone, Copy)]
struct Call {
    address: u64,
    path: Path,
    node: NodeId,
}

impl Call {
    const NONE: Self = Self { address: 0, path: Path::NONE, node: NodeId::ROOT };
}

/// A capture under way.
#[derive(Debug, Clone, Copy)]
struct Capture {
    walk: Walk,
    /// How many remembered frames may still turn out to be unchanged.
    kept: usize,
    /// The first of the frames unwound anew.
    new: usize,
    /// Whether the remembered frames hung from the root that the present ones hang from.
    same_root: bool,
    /// How many of those unwound anew lie on the running function's stack, once that is known because
    /// unwinding came to another one.
    here: Option<usize>,
}

impl Capture {
    /// How many frames there are so far.
    #[inline(always)]
    const fn length(&self) -> usize {
        self.kept + (CAPACITY - self.new)
    }
}

/// Where plain rules led to.
enum Arrival {
    /// A remembered frame.
    Remembered,
    /// One more frame than allowed.
    TooDeep,
    /// One that has no plain rule, or whose rule leads to no frame.
    Unusual,
}

impl Backtrace {
    /// Nothing remembered.
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        stack: Stack::NONE,
        length: 0,
        root: NodeId::ROOT,
        node: NodeId::ROOT,
        other: Call::NONE,
        limited: false,
        elsewhere: false,
        late: false,
        replacements: 0,
        frames: Frames::NONE,
    };

    /// Forgets the previous backtrace.
    pub(super) const fn reset(&mut self) {
        self.length = 0;
        self.stack = Stack::NONE;
        self.root = NodeId::ROOT;
        self.node = NodeId::ROOT;
        self.other = Call::NONE;
        self.limited = false;
        self.elsewhere = false;
        self.late = false;
    }

    /// Captures the backtrace whose innermost frame has the registers that are given, wherever it is.
    #[inline(never)]
    pub(super) fn capture(
        &mut self,
        registers: Registers,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Captured {
        self.other = Call::NONE;
        let known = self.stack.contains(registers.stack_pointer, 8) && !self.limited;
        let replaced = self.late && self.forget_replaced(shared.modules);
        if !self.late {
            self.replacements = shared.modules.replacements();
        }
        let forgotten = replaced || !known && self.forget(registers.stack_pointer);
        let mut capture = Capture {
            walk: Walk::new(self.stack, registers),
            kept: if self.elsewhere { 0 } else { self.length },
            new: CAPACITY,
            same_root: true,
            here: None,
        };
        let arrival = self.go_by_plain_rules(&mut capture, shared);
        if !self.is_known_from_here(&capture, &arrival) {
            capture = self.unwind(capture, arrival, shared, sink);
        }
        self.elsewhere = capture.walk.elsewhere;
        self.late |= capture.walk.late;
        if capture.length() > shared.depth {
            capture = self.limit(capture, shared.depth);
        }
        self.join(&capture, forgotten, shared.modules, sink)
    }

    /// Whether this is a remembered frame whose callers are unchanged.
    ///
    /// This and the two below are inlined where code is optimised; elsewhere what they take of the caller's
    /// stack would be taken twice while a rule is learnt.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn is_known_from_here(&mut self, capture: &Capture, arrival: &Arrival) -> bool {
        if !matches!(arrival, Arrival::Remembered) {
            return false;
        }
        let outside = capture.kept - 1;
        let matters = self.frames.matters(outside);
        self.frames.put(outside, &capture.walk.frame);
        if matters {
            self.frames.set_matters(outside, true);
            if capture.walk.frame.frame_pointer_slot == frames::NO_SLOT {
                self.frames.mark(capture.new);
            }
        }
        self.frames.are_unchanged(outside)
    }

    /// Unwinds on where that is not so: until a remembered frame is met whose callers are unchanged, or to
    /// the end of the backtrace.
    ///
    /// A capture is taken and given back, here and below, so that it stays in registers where that is so.
    #[inline(never)]
    fn unwind(
        &mut self,
        mut capture: Capture,
        mut arrival: Arrival,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Capture {
        let root = loop {
            match arrival {
                Arrival::Remembered => {
                    let changed = self.frames.innermost_changed(capture.kept - 1);
                    let unchanged = changed.map_or(0, |index| index + 1);
                    // From a frame on the stack that unwinding has come to.
                    let on_other_stacks = self.frames.on_other_stacks();
                    let outermost = if capture.here.is_some() || capture.kept <= on_other_stacks {
                        capture.kept - 1
                    } else {
                        on_other_stacks
                    };
                    self.go_on_from(&mut capture, unchanged.max(outermost));
                }
                Arrival::TooDeep => break NodeId::CUT,
                Arrival::Unusual => {}
            }
            let step = capture.walk.step(shared, sink);
            if capture.walk.crossings == 0 {
                // It may have grown.
                self.stack = capture.walk.stack;
            } else if capture.here.is_none() {
                capture.here = Some(CAPACITY - capture.new);
                capture.kept = self.remembered_on_other_stacks(&capture);
            }
            if capture.walk.used_frame_pointer {
                self.frames.mark(capture.new);
            }
            match step {
                Step::Caller => {}
                Step::Outermost => break NodeId::ROOT,
                Step::Cut => break NodeId::CUT,
            }
            arrival = self.go_by_plain_rules(&mut capture, shared);
            if self.is_known_from_here(&capture, &arrival) {
                if let Some(here) = capture.here {
                    self.frames.set_on_other_stacks(capture.length() - here);
                }
                return capture;
            }
        };
        self.begin_anew(&mut capture, root);
        let on_other_stacks = capture.here.map_or(0, |here| capture.length() - here);
        self.frames.set_on_other_stacks(on_other_stacks);
        capture
    }

    /// How many remembered frames on other stacks may still turn out to be unchanged, now that unwinding has
    /// come to one.
    fn remembered_on_other_stacks(&self, capture: &Capture) -> usize {
        let count = self.frames.on_other_stacks().min(self.length);
        if self.elsewhere || capture.new < count { 0 } else { count }
    }

    /// Goes outwards as far as plain rules lead, which most are, until a remembered frame has the state
    /// of the present one. The present frame is then not among those unwound anew.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn go_by_plain_rules(&mut self, capture: &mut Capture, shared: &Shared<'_>) -> Arrival {
        let Walk { stack, mut frame, mut code, .. } = capture.walk;
        let (mut kept, mut new) = (capture.kept, capture.new);
        let first = CAPACITY.saturating_sub(shared.depth);
        let arrival = loop {
            if self.meets(&frame, &mut kept) {
                break Arrival::Remembered;
            }
            if new < first {
                // There is something to leave out.
                break Arrival::TooDeep;
            }
            new -= 1;
            if new < kept {
                // No room for both: unwinding goes on without what was remembered.
                kept = 0;
            }
            self.frames.put(new, &frame);
            let Some(rule) = shared.rules.find_plain(code) else { break Arrival::Unusual };
            if rule.is_from_frame_pointer() {
                self.frames.mark(new);
            }
            let caller = caller(&stack, &frame, rule);
            let Some(caller) = caller.filter(|caller| caller.address != 0) else {
                break Arrival::Unusual;
            };
            code = before(caller.address);
            frame = caller;
        };
        (capture.kept, capture.new) = (kept, new);
        (capture.walk.frame, capture.walk.code) = (frame, code);
        arrival
    }

    /// Whether a remembered frame has the state of `frame`. Remembered frames further in have returned.
    #[inline(always)]
    fn meets(&self, frame: &Frame, kept: &mut usize) -> bool {
        while let Some(index) = kept.checked_sub(1) {
            if self.frames.stack_pointer(index) > frame.stack_pointer {
                return false;
            }
            if self.frames.stack_pointer(index) == frame.stack_pointer
                && self.frames.address(index) == frame.address
                && (!self.frames.matters(index)
                    || self.frames.frame_pointer(index) == frame.frame_pointer)
            {
                return true;
            }
            *kept = index;
        }
        false
    }

    /// Goes on from the remembered frame `index`: those outside of it are not what they were.
    fn go_on_from(&mut self, capture: &mut Capture, index: usize) {
        self.frames.refresh_frame_pointer(index, capture.kept - 1);
        self.take_back(capture, index);
        capture.walk.arrive(self.frames.frame(capture.new));
    }

    /// Counts the remembered frames from `index` on to those unwound anew.
    fn take_back(&mut self, capture: &mut Capture, index: usize) {
        capture.new -= capture.kept - index;
        self.frames.move_inwards(index, capture.kept, capture.new);
        capture.kept = index;
    }

    /// All frames were unwound, and `root` lies outside of them.
    #[cold]
    #[inline(never)]
    fn begin_anew(&mut self, capture: &mut Capture, root: NodeId) {
        capture.kept = 0;
        if (self.elsewhere || capture.here.is_some()) && root == self.root {
            // Not all could be met on the way; what is as it was is known only now.
            let same = |index: &usize| {
                let (one, other) =
                    (self.frames.frame(*index), self.frames.frame(capture.new + index));
                one.address == other.address && one.stack_pointer == other.stack_pointer
            };
            let both = self.length.min(capture.new).min(CAPACITY - capture.new);
            capture.kept = (0..both).take_while(same).count();
            for index in 0..capture.kept {
                self.frames.shift(capture.new + index, index);
            }
            capture.new += capture.kept;
            self.frames.list(0, capture.kept);
        }
        capture.same_root = root == self.root;
        self.root = root;
    }

    /// Leaves the outermost frames out: there are more than `depth`.
    #[cold]
    #[inline(never)]
    fn limit(&mut self, mut capture: Capture, depth: usize) -> Capture {
        // All others hang from another root now.
        let dropped = capture.length() - depth;
        self.frames.set_on_other_stacks(self.frames.on_other_stacks().saturating_sub(dropped));
        if dropped < capture.kept {
            self.take_back(&mut capture, dropped);
        } else {
            capture.new += dropped - capture.kept;
        }
        capture.kept = 0;
        capture.same_root &= self.root == NodeId::CUT;
        self.root = NodeId::CUT;
        self.limited = true;
        capture
    }

    /// Puts the new frames behind the kept ones and finds the node of them all.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn join(
        &mut self,
        capture: &Capture,
        forgotten: bool,
        modules: &Modules,
        sink: &mut impl Sink,
    ) -> Captured {
        let Capture { kept, new, .. } = *capture;
        let count = CAPACITY - new;
        let length = capture.length();
        let mut path = match kept.checked_sub(1) {
            Some(index) => self.frames.path(index),
            None => sink.root_path(self.root),
        };
        let shares = capture.same_root && count != 0 && kept < self.length;
        let changed = shares.then(|| self.frames.address(kept));
        for index in 0..count {
            self.frames.shift(new + index, kept + index);
            path = path.below(self.frames.address(kept + index));
            self.frames.set_path(kept + index, path);
        }
        if self.late {
            path = self.find_late_paths(kept..length, modules, sink);
        }
        if count != 0 || kept != self.length {
            let parent = match length.checked_sub(2) {
                Some(index) => self.frames.path(index),
                None => sink.root_path(self.root),
            };
            self.node = match sink.find(path, parent) {
                Some(node) => node,
                None => self.define(length, sink),
            };
        }
        // The slots of the last one kept may be others now.
        self.frames.list(kept.saturating_sub(1), length);
        self.length = length;
        let shares_more = changed == Some(self.frames.address(kept));
        let kept_frames = if forgotten || shares_more { kept as u32 } else { Captured::ALL };
        Captured::new(self.node, kept_frames)
    }

    /// Defines the node of the innermost of `length` frames, and those of frames further out that are
    /// not known either.
    #[cold]
    #[inline(never)]
    fn define(&self, length: usize, sink: &mut impl Sink) -> NodeId {
        let mut unknown = length.saturating_sub(1);
        let mut node = self.root;
        while let Some(outside) = unknown.checked_sub(1) {
            if let Some(known) = sink.find_parent(self.frames.path(outside)) {
                node = known;
                break;
            }
            unknown = outside;
        }
        for index in unknown..length {
            node = sink.define(self.frames.path(index), node, self.frames.address(index));
        }
        node
    }

    /// Forgets what does not count any more: the stack pointer left what is known of the stack, or frames
    /// were left out, which would come back as inner frames return. Answers whether there was any.
    #[cold]
    #[inline(never)]
    fn forget(&mut self, stack_pointer: u64) -> bool {
        if !self.stack.contains(stack_pointer, 8) && !self.stack.grows_to(stack_pointer) {
            self.stack = Stack::at(stack_pointer);
            // What was on another stack is not met on this one, but may be found outside of it.
            self.elsewhere = true;
        }
        let forgotten = self.limited && self.length != 0;
        if self.limited {
            self.length = 0;
            self.limited = false;
        }
        forgotten
    }

    /// The addresses of the backtrace captured last, the outermost first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        (0..self.length).map(|index| self.frames.address(index))
    }
}

#[cfg(test)]
mod synthetic_stacks;
#[cfg(test)]
mod tests;
