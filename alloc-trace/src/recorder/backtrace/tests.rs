//! Incremental backtraces against full ones, and against the C library's, over random call trees.

use std::collections::{HashMap, HashSet};
use std::ffi::{c_int, c_void};
use std::hint::black_box;

use super::super::stack_switch::call_on;
use super::*;

unsafe extern "C" {
    /// glibc's own, by way of `_Unwind_Backtrace`.
    fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
}

/// Numbers nodes as they come, and never forgets.
#[derive(Default)]
pub(super) struct Numbers {
    nodes: HashMap<Path, NodeId>,
    /// Parent and address of each.
    definitions: HashMap<NodeId, (NodeId, u64)>,
    /// All of these, since code was last replaced.
    defined: HashSet<(NodeId, u64)>,
    /// How often a module was met.
    modules: usize,
}

impl Numbers {
    /// The addresses of a node and of those outside of it, the outermost first, and what lies outside.
    pub(super) fn backtrace(&self, mut node: NodeId) -> (Vec<u64>, NodeId) {
        let mut addresses = Vec::new();
        while let Some((parent, address)) = self.definitions.get(&node) {
            addresses.push(*address);
            node = *parent;
        }
        addresses.reverse();
        (addresses, node)
    }
}

impl Sink for Numbers {
    fn root_path(&self, root: NodeId) -> Path {
        Path::of_root(root, 0)
    }

    fn find(&self, path: Path, parent: Path) -> Option<NodeId> {
        let node = self.find_parent(path)?;
        let outside = self.definitions.get(&node).map(|(parent, _)| *parent);
        assert_eq!(self.nodes.get(&parent).copied(), outside.filter(|node| !node.is_root()));
        Some(node)
    }

    fn find_parent(&self, path: Path) -> Option<NodeId> {
        self.nodes.get(&path).copied()
    }

    fn define(&mut self, path: Path, parent: NodeId, address: u64) -> NodeId {
        let node = NodeId(NodeId::FIRST.0 + self.nodes.len() as u32);
        assert!(self.defined.insert((parent, address)), "a node that is known is defined again");
        assert_eq!(self.nodes.insert(path, node), None, "two nodes at one path");
        self.definitions.insert(node, (parent, address));
        node
    }

    fn module(&mut self, _module: &Module, _identity: Identity<'_>) {
        self.modules += 1;
    }

    fn unloaded(&mut self, _module: &Module, _modules: &Modules) {
        // From here on the same addresses are other code's.
        self.defined.clear();
    }
}

/// Where a frame has it, the stack pointer is aligned beyond the usual and the frame is left by its
/// frame pointer.
#[repr(align(128))]
struct Aligned([u8; 256]);

/// What the captures of one test share.
struct Tester {
    incremental: Backtrace,
    numbers: Numbers,
    modules: &'static Modules,
    rules: Rules,
    depth: usize,
    random: u64,
    captures: usize,
    /// How many of them were captured in place.
    in_place: usize,
    /// Which frame `padded` calls for.
    innermost_is_aligned: bool,
    /// Stacks that nothing runs on.
    stacks: Vec<Box<OtherStack>>,
    has_stacks: bool,
    /// Whether a stack lay in a frame of another: then fewer frames may be found to be kept than were.
    nested_stacks: bool,
}

/// How many stacks there are besides the thread's.
const STACKS: usize = 3;

/// Memory for a stack.
#[repr(align(16))]
struct OtherStack([u8; 1 << 20]);

/// Address and stack pointer.
pub(super) type State = (u64, u64);

/// The registers with which the caller goes on.
#[unsafe(naked)]
extern "C" fn here(_registers: &mut [u64; 3]) {
    #[cfg(target_arch = "x86_64")]
    std::arch::naked_asm!(
        "mov rax, [rsp]",
        "mov [rdi], rax",
        "lea rax, [rsp + 8]",
        "mov [rdi + 8], rax",
        "mov [rdi + 16], rbp",
        "ret",
    );
    #[cfg(target_arch = "aarch64")]
    std::arch::naked_asm!(
        "str x30, [x0]",
        "mov x1, sp",
        "str x1, [x0, #8]",
        "str x29, [x0, #16]",
        "ret",
    );
}

#[inline(always)]
fn registers() -> Registers {
    let mut registers = [0; 3];
    here(&mut registers);
    let [program_counter, stack_pointer, frame_pointer] = registers;
    Registers { program_counter, stack_pointer, frame_pointer }
}

impl Tester {
    fn new(depth: usize) -> Self {
        let modules: &'static Modules = Box::leak(Box::new(Modules::new()));
        modules.list(true, &mut |_, _| ());
        Self {
            incremental: Backtrace::NONE,
            numbers: Numbers::default(),
            modules,
            rules: Rules::new().expect("memory"),
            depth,
            random: 0x9e37_79b9_7f4a_7c15,
            captures: 0,
            in_place: 0,
            innermost_is_aligned: false,
            stacks: Vec::new(),
            has_stacks: false,
            nested_stacks: false,
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// As a hook does.
    fn capture_as_a_hook(&mut self, registers: Registers) -> Captured {
        let shared = Shared { modules: self.modules, rules: &self.rules, depth: self.depth };
        let numbers = &self.numbers;
        let find = |path, parent| numbers.find(path, parent);
        match self.incremental.capture_in_place(registers, shared.rules, find) {
            Some(captured) => {
                self.in_place += 1;
                captured
            }
            None => self.incremental.capture(registers, &shared, &mut self.numbers),
        }
    }

    /// The calling function's registers, by one of two calls: so the innermost address is another one where
    /// nothing else is.
    #[inline(always)]
    fn registers(&mut self) -> Registers {
        if self.next(2) == 0 {
            black_box(registers())
        } else {
            let mut found = registers();
            black_box(&mut found);
            found
        }
    }

    /// Captures here, both ways, and compares.
    #[inline(never)]
    fn capture(&mut self) {
        let registers = self.registers();
        self.compare(registers);
    }

    /// The same in a frame that is left by its frame pointer.
    #[inline(never)]
    fn capture_aligned(&mut self) {
        let local = black_box(Aligned([1; 256]));
        let registers = self.registers();
        self.compare(registers);
        black_box(&local.0);
    }

    /// Captures for the calling function, and compares.
    #[inline(always)]
    fn compare(&mut self, registers: Registers) {
        let before = states(&self.incremental);
        let was_limited = self.incremental.limited;
        let captured = self.capture_as_a_hook(registers);
        let after = states(&self.incremental);
        let shared = Shared { modules: self.modules, rules: &self.rules, depth: self.depth };

        let mut full = Backtrace::NONE;
        let expected = full.capture(registers, &shared, &mut self.numbers);
        assert_eq!(after, states(&full), "the frames of a full unwind");
        assert_frame_pointers(&self.incremental, &full);
        assert_eq!(captured.node(), expected.node(), "the node of a full unwind");
        let addresses = full.addresses().collect();
        assert_eq!(self.numbers.backtrace(captured.node()), (addresses, full.root));
        assert_eq!(self.incremental.root, full.root);

        if !was_limited && !self.incremental.limited && !before.is_empty() {
            let kept = shared_prefix(&before, &after, |one, other| one == other);
            let same_nodes = shared_prefix(&before, &after, |one, other| one.0 == other.0);
            let expected = (kept < same_nodes).then_some(kept as u32);
            // Those unwound anew take the places of remembered ones that cannot be met.
            let overlap = self.has_stacks && before.len() + after.len() > CAPACITY;
            match captured.kept_frames() {
                Some(fewer) if self.nested_stacks || overlap => assert!(fewer as usize <= kept),
                found => assert_eq!(found, expected, "{before:x?}\n{after:x?}"),
            }
        }

        let mut buffer = [std::ptr::null_mut(); 512];
        // SAFETY: the buffer has room for as many addresses.
        let length = unsafe { backtrace(buffer.as_mut_ptr(), 512) };
        let theirs: Vec<u64> = buffer[..length as usize]
            .iter()
            .rev()
            .map(|address| address.expose_provenance() as u64)
            .collect();
        let ours: Vec<u64> = after.iter().map(|state| state.0).collect();
        // Both have this function itself, at different places in it; ours may be cut outside.
        let theirs = &theirs[theirs.len().saturating_sub(self.depth)..];
        let outside = ours.len() - 1;
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(ours[..outside], theirs[..outside], "the frames that the C library finds");
        self.captures += 1;
    }

    /// Calls itself and others at random.
    #[inline(never)]
    fn wander(&mut self, depth: u64) {
        for _ in 0..self.next(3) + 1 {
            match self.next(if self.has_stacks { 7 } else { 6 }) {
                0 => self.repeat(),
                6 if self.nested_stacks && self.stacks.len() == STACKS && depth > 5 => {
                    self.on_a_stack_in_a_frame(depth - 1);
                }
                6 if depth > 0 => self.on_another_stack(depth - 1),
                _ if depth == 0 => self.capture(),
                1 => self.aligned(depth - 1),
                2 => self.sized(depth - 1),
                3 => {
                    let mut closure = |tester: &mut Self| tester.wander(depth - 1);
                    let dynamic: &mut dyn FnMut(&mut Self) = &mut closure;
                    black_box(dynamic)(self);
                }
                4 => caught(self, depth - 1),
                _ => self.wander(depth - 1),
            }
        }
    }

    /// Captures several times from one frame, by two calls.
    #[inline(never)]
    fn repeat(&mut self) {
        for _ in 0..self.next(4) + 1 {
            self.capture();
        }
        for _ in 0..self.next(4) + 1 {
            self.capture_aligned();
        }
        // The same aligned stack pointer below callers that are further out each time, all called by
        // one call with no other call in between: what was saved for the one before still lies where
        // it was.
        const FUNCTIONS: usize = 6;
        let padded: [fn(&mut Self); FUNCTIONS] = [
            Self::padded::<88>,
            Self::padded::<72>,
            Self::padded::<56>,
            Self::padded::<40>,
            Self::padded::<24>,
            Self::padded::<8>,
        ];
        for first in [true, false] {
            self.innermost_is_aligned = first;
            let mut index = 0;
            while index < FUNCTIONS {
                padded[index](self);
                index += 1;
            }
        }
    }

    /// Calls nothing else, which would write where the caller before this one had its frame.
    #[inline(never)]
    fn padded<const BYTES: usize>(&mut self) {
        let local = [self.innermost_is_aligned; BYTES];
        if local[BYTES - 1] {
            self.capture_aligned();
        } else {
            self.capture_below_aligned();
        }
        self.captures += usize::from(local[0] != self.innermost_is_aligned);
    }

    #[inline(never)]
    fn capture_below_aligned(&mut self) {
        let local = black_box(Aligned([1; 256]));
        self.capture();
        black_box(&local.0);
    }

    /// A frame whose stack pointer is aligned beyond the usual.
    #[inline(never)]
    fn aligned(&mut self, depth: u64) {
        let local = black_box(Aligned([depth as u8; 256]));
        self.wander(depth);
        black_box(&local.0);
    }

    /// A call on another stack, which one way out of two keeps the stack pointer of this one in memory.
    #[inline(never)]
    fn on_another_stack(&mut self, depth: u64) {
        let Some(mut stack) = self.stacks.pop() else { return self.wander(depth) };
        let end = stack.0.as_mut_ptr_range().end;
        if self.next(2) == 0 {
            let mut wander = || self.wander(depth);
            let mut call: &mut dyn FnMut() = &mut wander;
            // SAFETY: the stack is this call's; the function calls what it is given.
            unsafe { switch_by_memory((&raw mut call).cast(), call_closure, end) };
        } else {
            // SAFETY: the stack is this call's, and is larger than what these calls need.
            unsafe { call_on(end, || self.wander(depth)) };
        }
        self.stacks.push(stack);
        self.capture();
    }

    /// A call on a stack that lies in a frame of the present one.
    #[inline(never)]
    fn on_a_stack_in_a_frame(&mut self, depth: u64) {
        // There is no room for another such frame on it.
        let taken = self.stacks.pop();
        let mut stack = OtherStack([0; 1 << 20]);
        let end = stack.0.as_mut_ptr_range().end;
        // SAFETY: the stack is this call's, and is larger than what these calls need.
        unsafe { call_on(end, || self.wander(depth)) };
        black_box(&stack.0);
        self.stacks.extend(taken);
        self.capture();
    }

    /// A frame of several OS pages.
    #[inline(never)]
    fn sized(&mut self, depth: u64) {
        let local = black_box([depth as u8; 10_000]);
        self.wander(depth);
        black_box(&local);
    }
}

/// Calls `function(argument)` with the stack pointer at `stack_end`, below which its own one is kept.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C-unwind" fn switch_by_memory(
    argument: *mut c_void,
    function: unsafe extern "C-unwind" fn(*mut c_void),
    stack_end: *mut u8,
) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "sub rdx, 16",
        "mov [rdx], rsp",
        "mov rsp, rdx",
        // The caller's stack pointer is the word at the stack pointer, plus 16.
        ".cfi_escape 0x0f, 5, 0x77, 0, 0x06, 0x23, 16",
        "call rsi",
        "mov rsp, [rsp]",
        ".cfi_def_cfa rsp, 16",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// The same.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C-unwind" fn switch_by_memory(
    argument: *mut c_void,
    function: unsafe extern "C-unwind" fn(*mut c_void),
    stack_end: *mut u8,
) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "sub x2, x2, #16",
        "mov x9, sp",
        "str x9, [x2]",
        "mov sp, x2",
        ".cfi_escape 0x0f, 5, 0x8f, 0, 0x06, 0x23, 16",
        "blr x1",
        "ldr x9, [sp]",
        "mov sp, x9",
        ".cfi_def_cfa sp, 16",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa_offset 0",
        "ret",
        ".cfi_endproc",
    )
}

/// Calls the closure that a pointer leads to.
unsafe extern "C-unwind" fn call_closure(call: *mut c_void) {
    // SAFETY: the caller gives the place of one, which nobody else refers to meanwhile.
    let call = unsafe { &mut *call.cast::<&mut dyn FnMut()>() };
    call();
}

/// Frames between which a panic is caught.
#[inline(never)]
fn caught(tester: &mut Tester, depth: u64) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tester.wander(depth);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
    tester.capture();
}

pub(super) fn states(backtrace: &Backtrace) -> Vec<State> {
    let frames = &backtrace.frames;
    (0..backtrace.length)
        .map(|index| (frames.address(index), frames.stack_pointer(index)))
        .collect()
}

/// Frame pointers that matter to a full unwind matter, and those that matter are its.
pub(super) fn assert_frame_pointers(incremental: &Backtrace, full: &Backtrace) {
    for index in 0..incremental.length {
        let (one, other) = (&incremental.frames, &full.frames);
        assert!(one.matters(index) || !other.matters(index), "frame {index}");
        if one.matters(index) {
            assert_eq!(one.frame_pointer(index), other.frame_pointer(index), "frame {index}");
        }
    }
}

pub(super) fn shared_prefix(
    one: &[State],
    other: &[State],
    same: impl Fn(&State, &State) -> bool,
) -> usize {
    one.iter().zip(other).take_while(|(one, other)| same(one, other)).count()
}

/// On a thread of its own, so that the outermost frames are those of a thread.
fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(32 << 20).spawn(test);
    thread.expect("a thread").join().expect("no assertion failed");
}

#[test]
fn an_incremental_backtrace_is_a_full_one_over_random_call_trees() {
    on_a_thread(|| {
        let mut tester = Tester::new(MAX_DEPTH);
        while tester.captures < 20_000 {
            tester.wander(12);
        }
        let in_place = tester.in_place;
        assert!(in_place > 0 && in_place < tester.captures, "{in_place} captures in place");
    });
}

#[test]
fn backtraces_lead_through_other_stacks() {
    on_a_thread(|| {
        for nested_stacks in [false, true] {
            let mut tester = Tester::new(MAX_DEPTH);
            (tester.has_stacks, tester.nested_stacks) = (true, nested_stacks);
            tester.stacks = (0..STACKS).map(|_| Box::new(OtherStack([0; 1 << 20]))).collect();
            while tester.captures < 5_000 {
                tester.wander(12);
            }
        }
    });
}

/// What a coroutine does that another one resumes, between two captures in one place.
#[test]
fn a_stack_whose_caller_is_another_one_hangs_from_that() {
    on_a_thread(|| {
        let mut tester = Tester::new(MAX_DEPTH);
        let mut stack = Box::new(OtherStack([0; 1 << 20]));
        let end = stack.0.as_mut_ptr_range().end;
        // SAFETY: there `switch_by_memory` keeps the stack pointer that it goes back to.
        let kept = unsafe { end.cast::<[u64; 2]>().sub(1) }.cast::<*const u64>();
        // A saved frame pointer and a return address: there is no caller.
        let nobody = [0_u64; 2];
        let mut capture = || {
            // SAFETY: kept since this stack was switched to.
            let resumed_by = unsafe { kept.read_volatile() };
            let lengths = [resumed_by, nobody.as_ptr()].map(|caller| {
                // SAFETY: as above; nothing returns before it is put back.
                unsafe { kept.write_volatile(caller) };
                tester.capture_as_a_hook(registers());
                let found = states(&tester.incremental);
                found.len()
            });
            // SAFETY: as above.
            unsafe { kept.write_volatile(resumed_by) };
            assert!(lengths[0] > lengths[1] + 5, "{lengths:?}");
        };
        let mut call: &mut dyn FnMut() = &mut capture;
        // SAFETY: the stack is this call's; the function calls what it is given.
        unsafe { switch_by_memory((&raw mut call).cast(), call_closure, end) };
    });
}

#[test]
fn a_depth_limit_leaves_the_innermost_frames() {
    on_a_thread(|| {
        for depth in [1, 2, 7, 20] {
            let mut tester = Tester::new(depth);
            while tester.captures < 2_000 {
                tester.wander(12);
            }
        }
    });
}

#[test]
fn recursion_beyond_the_limit_is_cut_and_comes_back() {
    #[inline(never)]
    fn descend(tester: &mut Tester, levels: u64) {
        tester.capture();
        if levels > 0 {
            descend(tester, levels - 1);
            tester.capture();
        }
        black_box(levels);
    }
    on_a_thread(|| {
        let mut tester = Tester::new(MAX_DEPTH);
        descend(&mut tester, 3 * MAX_DEPTH as u64);
        assert_eq!(tester.incremental.root, NodeId::ROOT);
        assert!(!tester.incremental.limited);
    });
}

#[test]
fn moving_to_another_stack_and_back_forgets_what_was_on_the_first() {
    let mut tester = Tester::new(MAX_DEPTH);
    tester.capture();
    // The same remembered frames, looked at from another thread's stack.
    std::thread::scope(|scope| {
        scope.spawn(|| tester.capture_after_a_move()).join().expect("no assertion failed");
    });
    tester.capture_after_a_move();
}

#[test]
fn frames_kept_in_code_that_was_replaced_are_asked_for_again() {
    #[inline(never)]
    fn repeated(tester: &mut Tester, replaced: bool) -> Captured {
        let mut captured = None;
        for round in 0..2 {
            if round == 1 && replaced {
                let here = (repeated as *const ()).expose_provenance() as u64;
                tester.modules.pretend_late(Some(here));
            }
            captured = Some(tester.capture_as_a_hook(registers()));
        }
        captured.expect("two rounds")
    }
    on_a_thread(|| {
        let mut tester = Tester::new(MAX_DEPTH);
        tester.modules.pretend_late(None);
        let [kept, anew] = [false, true].map(|replaced| {
            let before = tester.numbers.modules;
            (repeated(&mut tester, replaced), tester.numbers.modules - before)
        });
        // Memory holds what it held, and the addresses are the same; only the module is not.
        assert_eq!((kept.0.kept_frames(), kept.1), (None, 0));
        assert_eq!((anew.0.kept_frames(), anew.1), (Some(0), 1));
        assert_ne!(anew.0.node(), kept.0.node(), "other code has other nodes");
        assert_eq!(
            tester.numbers.backtrace(anew.0.node()),
            tester.numbers.backtrace(kept.0.node())
        );
        assert!(tester.incremental.late);
    });
}

impl Tester {
    #[inline(never)]
    fn capture_after_a_move(&mut self) {
        let registers = registers();
        let captured = self.capture_as_a_hook(registers);
        let shared = Shared { modules: self.modules, rules: &self.rules, depth: self.depth };
        let mut full = Backtrace::NONE;
        full.capture(registers, &shared, &mut self.numbers);
        assert_eq!(states(&self.incremental), states(&full));
        assert_eq!(captured.kept_frames(), Some(0));
    }
}
