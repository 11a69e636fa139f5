//! Backtraces: unwinding only what changed since the thread's previous event.
//!
//! Each thread keeps its previous backtrace: of every frame the state that the unwinder had there
//! (program counter, stack pointer, frame pointer), the stack slots that this state was read from,
//! and the call-tree node. The next event unwinds from the innermost frame outwards until its state
//! equals a remembered one. From there on the way outwards is decided by the remembered slots alone:
//! if memory still holds what was read from them, all of these frames are as they were. Where a slot
//! differs, unwinding goes on from that frame.
//!
//! A frame pointer counts only where the way outwards depends on it. In code that keeps no frame
//! pointers it is one more register that a function may use as it likes: its value changes within
//! one activation, and says nothing of the frames outside. So how far in frame pointers matter is
//! remembered, and further in they are neither compared nor kept up to date.
//!
//! The answer is that of a full unwind, which the option `check` proves at every event. One thing it
//! cannot tell: a frame that returned and was called again from the same place with the same stack
//! pointer has the same state.

mod frames;
mod in_place;
mod walk;

use alloc_trace_format::NodeId;

use self::frames::{CAPACITY, Frames};
use self::walk::{Step, Walk};
use super::call_tree::Path;
use super::modules::{Identity, Module, Modules};
use super::stack::Stack;
use super::unwind_rules::Rules;

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
    /// The node at `path`, which is that of the frame at `address` below `parent`.
    fn node(&mut self, path: Path, parent: NodeId, address: u64) -> NodeId;
    /// The node at `path` will be asked for.
    fn prefetch(&self, path: Path);
    /// A module was met for the first time.
    fn module(&mut self, module: &Module, identity: Identity<'_>);
    /// A module was unloaded. It is not forgotten yet, so that nobody has met what is there now,
    /// unless another thread has found the same.
    fn unloaded(&mut self, module: &Module, modules: &Modules);
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
    /// How many frames are remembered, the outermost first.
    length: usize,
    /// Of how many of them, the outermost, the frame pointers matter.
    with_frame_pointers: usize,
    /// What lies outside of the outermost remembered frame.
    root: NodeId,
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

/// A capture under way. As with [`Walk`], what is done seldom takes one and gives another one back.
#[derive(Debug, Clone, Copy)]
struct Capture {
    walk: Walk,
    /// How many remembered frames may still turn out to be unchanged.
    kept: usize,
    /// The first of the frames unwound anew.
    new: usize,
    /// The node of the remembered frame that lies directly inside of the kept ones.
    changed_node: Option<NodeId>,
    /// Whose slot the present frame pointer was read from, by its place among the frames unwound
    /// anew: the one that comes next has the place before the first. Nobody's: the innermost one.
    source: usize,
    /// The innermost source of a frame pointer that mattered, one added, counted as `source`.
    used: usize,
}

impl Backtrace {
    /// Nothing remembered.
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        stack: Stack::NONE,
        length: 0,
        with_frame_pointers: 0,
        root: NodeId::ROOT,
        limited: false,
        elsewhere: false,
        late: false,
        replacements: 0,
        frames: Frames::NONE,
    };

    /// Forgets the previous backtrace.
    pub(super) const fn reset(&mut self) {
        self.length = 0;
        self.with_frame_pointers = 0;
        self.stack = Stack::NONE;
        self.root = NodeId::ROOT;
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
            changed_node: None,
            source: CAPACITY - 1,
            used: 0,
        };
        if let Some(root) = self.unwind(&mut capture, shared, sink) {
            capture = self.begin_anew(capture, root);
        }
        self.elsewhere = capture.walk.elsewhere;
        self.late |= capture.walk.late;
        if capture.kept + (CAPACITY - capture.new) > shared.depth {
            capture = self.limit(capture, shared.depth);
        }
        self.join(&capture, forgotten, sink)
    }

    /// Unwinds until a remembered frame is met whose callers are unchanged; otherwise answers what
    /// lies outside of the last frame found.
    #[inline(always)]
    fn unwind(
        &mut self,
        capture: &mut Capture,
        shared: &Shared<'_>,
        sink: &mut impl Sink,
    ) -> Option<NodeId> {
        loop {
            if self.meets(capture) {
                let outside = capture.kept - 1;
                match self.frames.innermost_changed(outside, self.with_frame_pointers) {
                    None => return None,
                    Some(index) => *capture = self.go_on_from(*capture, index + 1),
                }
            } else {
                if CAPACITY - capture.new > shared.depth {
                    // One more than allowed: there is something to leave out.
                    return Some(NodeId::CUT);
                }
                self.push(capture);
            }
            let step = capture.walk.step(shared, sink);
            if capture.walk.used_frame_pointer {
                capture.used = capture.used.max(capture.source + 1);
            }
            match step {
                Step::Caller => {}
                Step::Outermost => return Some(NodeId::ROOT),
                Step::Cut => return Some(NodeId::CUT),
            }
            if capture.walk.frame.frame_pointer_slot != frames::NO_SLOT {
                capture.source = capture.new - 1;
            }
        }
    }

    /// Whether a remembered frame has the state of the present one. Remembered frames further in
    /// have returned.
    #[inline(always)]
    fn meets(&mut self, capture: &mut Capture) -> bool {
        let frame = &capture.walk.frame;
        while let Some(index) = capture.kept.checked_sub(1) {
            if self.frames.stack_pointer(index) > frame.stack_pointer {
                return false;
            }
            if self.frames.stack_pointer(index) == frame.stack_pointer
                && self.frames.address(index) == frame.address
            {
                let matters = index < self.with_frame_pointers;
                if !matters || self.frames.frame_pointer(index) == frame.frame_pointer {
                    if matters {
                        capture.used = capture.used.max(capture.source + 1);
                    }
                    self.frames.put(index, frame);
                    self.frames.unlist(index);
                    return true;
                }
            }
            capture.kept = index;
            capture.changed_node = Some(self.frames.node(index));
        }
        false
    }

    /// Puts the present frame before those unwound so far.
    #[inline(always)]
    fn push(&mut self, capture: &mut Capture) {
        capture.new -= 1;
        if capture.new < capture.kept {
            // No room for both: unwinding goes on without what was remembered.
            capture.changed_node = Some(self.frames.node(0));
            capture.kept = 0;
        }
        self.frames.put(capture.new, &capture.walk.frame);
    }

    /// Goes on from the remembered frame `index`: those outside of it are not what they were.
    #[cold]
    #[inline(never)]
    fn go_on_from(&mut self, mut capture: Capture, index: usize) -> Capture {
        let met = capture.kept - 1;
        let source = self.frames.refresh_frame_pointer(index, met);
        let mattered = self.with_frame_pointers.min(capture.kept);
        self.take_back(&mut capture, index);
        if source < met {
            capture.source = capture.new + source - index;
        }
        if mattered > index {
            capture.used = capture.used.max(capture.new + mattered - index);
        }
        capture.walk.go_on(self.frames.frame(capture.new));
        capture
    }

    /// Counts the remembered frames from `index` on to those unwound anew.
    fn take_back(&mut self, capture: &mut Capture, index: usize) {
        capture.changed_node = Some(self.frames.node(index));
        capture.new -= capture.kept - index;
        self.frames.move_inwards(index, capture.kept, capture.new);
        capture.kept = index;
    }

    /// All frames were unwound, and `root` lies outside of them.
    #[cold]
    #[inline(never)]
    fn begin_anew(&mut self, mut capture: Capture, root: NodeId) -> Capture {
        capture.kept = 0;
        if self.elsewhere && root == self.root {
            // Nothing could be met on the way; what is as it was is known only now.
            let same = |index: &usize| {
                let (one, other) =
                    (self.frames.frame(*index), self.frames.frame(capture.new + index));
                one.address == other.address && one.stack_pointer == other.stack_pointer
            };
            let both = self.length.min(capture.new).min(CAPACITY - capture.new);
            capture.kept = (0..both).take_while(same).count();
            capture.new += capture.kept;
        }
        capture.changed_node = (capture.kept < self.length).then(|| self.frames.node(capture.kept));
        self.root = root;
        capture
    }

    /// Leaves the outermost frames out: there are more than `depth`.
    #[cold]
    #[inline(never)]
    fn limit(&mut self, mut capture: Capture, depth: usize) -> Capture {
        // The nodes of all others hang from another root now.
        let dropped = capture.kept + (CAPACITY - capture.new) - depth;
        if dropped < capture.kept {
            self.take_back(&mut capture, dropped);
        } else {
            capture.new += dropped - capture.kept;
        }
        capture.kept = 0;
        self.root = NodeId::CUT;
        self.limited = true;
        capture
    }

    /// Puts the new frames behind the kept ones and finds their nodes.
    #[inline(always)]
    fn join(&mut self, capture: &Capture, forgotten: bool, sink: &mut impl Sink) -> Captured {
        let Capture { kept, new, changed_node, .. } = *capture;
        let count = CAPACITY - new;
        let length = kept + count;
        let (mut node, mut path) = match kept.checked_sub(1) {
            Some(index) => (self.frames.node(index), self.frames.path(index)),
            None => (self.root, Path::of_root(self.root)),
        };
        // The way to each node is known before any of them is: so their entries are fetched together
        // and not one behind the other.
        for index in 0..count {
            self.frames.shift(new + index, kept + index);
            path = path.below(self.frames.address(kept + index));
            self.frames.set_path(kept + index, path);
            if count > 1 {
                sink.prefetch(path);
            }
        }
        for index in kept..length {
            node = sink.node(self.frames.path(index), node, self.frames.address(index));
            self.frames.set_node(index, node);
        }
        self.frames.unlist(kept);
        self.length = length;
        let used = (kept + capture.used).saturating_sub(new);
        self.with_frame_pointers = self.with_frame_pointers.min(kept).max(used);
        let shares_more = count != 0 && changed_node == Some(self.frames.node(kept));
        let kept_frames = (forgotten || shares_more).then_some(kept as u32);
        Captured {
            node,
            stack_pointer: length
                .checked_sub(1)
                .map_or(0, |index| self.frames.stack_pointer(index)),
            kept_frames,
        }
    }

    /// Forgets what does not count any more: the stack pointer left the mapping last known, or frames
    /// were left out, which would come back as inner frames return. Answers whether there was any.
    #[cold]
    #[inline(never)]
    fn forget(&mut self, stack_pointer: u64) -> bool {
        let had_frames = self.length != 0;
        if !self.stack.contains(stack_pointer, 8) {
            let stack = Stack::around(stack_pointer);
            // A stack that grew is still the same one.
            if stack.high != self.stack.high {
                self.length = 0;
            }
            self.stack = stack;
        }
        if self.limited {
            self.length = 0;
            self.limited = false;
        }
        had_frames && self.length == 0
    }

    /// Forgets everything where the code of a remembered frame is not the same module's any more:
    /// memory may hold what it held, but the addresses are another function's. Answers whether there
    /// was anything to forget.
    ///
    /// The loader is asked once for each run of frames of one module that can be unloaded. Another
    /// thread may have met what is in its place already, which the loader then finds as it should be:
    /// so the number of modules that are gone counts too, and is read last.
    #[cold]
    #[inline(never)]
    fn forget_replaced(&mut self, modules: &Modules) -> bool {
        let mut asked: Option<Module> = None;
        let mut replaced = false;
        self.late = false;
        for index in 0..self.length {
            // A return address can lie behind the last instruction of its function.
            let address = self.frames.address(index).wrapping_sub(1);
            if asked.is_some_and(|module| module.start <= address && address < module.end) {
                continue;
            }
            asked = modules.find(address);
            if let Some(module) = asked.filter(|module| module.late) {
                self.late = true;
                replaced |= !modules.is_current(&module, address);
            }
        }
        let replacements = modules.replacements();
        replaced |= replacements != self.replacements;
        self.replacements = replacements;
        if replaced {
            self.length = 0;
            self.late = false;
        }
        replaced
    }

    /// The addresses of the backtrace captured last, the outermost first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        (0..self.length).map(|index| self.frames.address(index))
    }
}

#[cfg(test)]
mod tests;
