//! Incremental backtraces of stacks that no processor made: functions of few forms call each other in
//! every order, so that what one left in memory often looks like what another one expects there.
//!
//! What is expected is known from the calls that were made, without any unwinding.

use super::super::unwind_rules::{Framed, Rule};
use super::tests::{Numbers, State, assert_frame_pointers, shared_prefix, states};
use super::*;

const WORDS: usize = 256;

/// The place of a call in the code: how its function has its frame there.
#[derive(Clone, Copy)]
struct Site {
    /// The address behind the call.
    address: u64,
    /// Words from the function's registers to its caller's stack pointer.
    words: u64,
    /// Whether they count from the frame pointer.
    from_frame_pointer: bool,
    /// Whether the caller's frame pointer is saved.
    saves: bool,
}

/// A function that made its call.
#[derive(Clone, Copy)]
struct Active {
    site: Site,
    stack_pointer: u64,
    /// The stack and frame pointers that its caller has.
    callers: (u64, u64),
    frame_pointer: u64,
}

struct Machine {
    memory: Vec<u64>,
    sites: Vec<Site>,
    /// Code that the outermost functions are in, of two kinds.
    outermost: [u64; 2],
    root: usize,
    active: Vec<Active>,
    rules: Rules,
    random: u64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let rules = Rules::new().expect("memory");
        let mut sites = Vec::new();
        for words in 2..5_u64 {
            for (from_frame_pointer, saves) in [(false, false), (false, true), (true, true)] {
                for _ in 0..2 {
                    let address = 0x4000 + 0x10 * sites.len() as u64;
                    let rule = Framed {
                        from_frame_pointer,
                        stack_pointer_offset: 8 * words.cast_signed(),
                        return_address_offset: Some(-8),
                        frame_pointer_offset: saves.then_some(-16),
                    };
                    rules.insert(address - 1, &Rule::Framed(rule), false);
                    sites.push(Site { address, words, from_frame_pointer, saves });
                }
            }
        }
        let outermost = [0x3000, 0x3010];
        rules.insert(outermost[0] - 1, &Rule::Outermost, false);
        rules.insert(outermost[1] - 1, &Rule::Unknown, false);
        let (memory, active) = (vec![0; WORDS], Vec::new());
        Self { memory, sites, outermost, root: 0, active, rules, random: seed }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn stack(&self) -> Stack {
        let low = self.memory.as_ptr().expose_provenance() as u64;
        Stack { low, high: low + 8 * WORDS as u64 }
    }

    fn write(&mut self, address: u64, word: u64) {
        let index = (address - self.stack().low) / 8;
        self.memory[index as usize] = word;
    }

    /// Stack and frame pointers of the function that runs, where it makes its call.
    fn registers(&self) -> (u64, u64) {
        self.active
            .last()
            .map_or((self.stack().high, 0), |active| (active.stack_pointer, active.frame_pointer))
    }

    /// Where the function that runs has its call.
    fn address(&self) -> u64 {
        self.active.last().map_or(self.outermost[self.root], |active| active.site.address)
    }

    fn any_site(&mut self) -> Site {
        let index = self.next(self.sites.len() as u64);
        self.sites[index as usize]
    }

    /// The running function calls one that makes a call at a site chosen at random.
    fn call(&mut self) {
        let site = self.next(self.sites.len() as u64);
        self.call_at(site as usize);
    }

    /// The running function calls one that makes a call at this site.
    fn call_at(&mut self, site: usize) {
        let (stack_pointer, frame_pointer) = self.registers();
        self.write(stack_pointer - 8, self.address());
        self.enter(self.sites[site], (stack_pointer, frame_pointer));
    }

    fn enter(&mut self, site: Site, callers: (u64, u64)) {
        let (outside, callers_frame_pointer) = callers;
        if site.saves {
            self.write(outside - 16, callers_frame_pointer);
        }
        let base = outside - 8 * site.words;
        let (stack_pointer, frame_pointer) = if site.from_frame_pointer {
            // Its own words lie below, in one case more of them than in the other.
            (base - 8 * self.next(2), base)
        } else if site.saves {
            // The register is used for anything; now and then for what others have there.
            let any = [callers_frame_pointer, 7, base, outside][self.next(4) as usize];
            (base, any)
        } else {
            (base, callers_frame_pointer)
        };
        self.active.push(Active { site, stack_pointer, callers, frame_pointer });
    }

    /// The running function makes another call, by a site of the same form.
    fn move_on(&mut self) {
        let Some(active) = self.active.last().copied() else { return };
        let alike = |site: &&Site| {
            site.words == active.site.words
                && site.saves == active.site.saves
                && site.from_frame_pointer == active.site.from_frame_pointer
        };
        let choices: Vec<Site> = self.sites.iter().filter(alike).copied().collect();
        let site = choices[self.next(choices.len() as u64) as usize];
        if let Some(active) = self.active.last_mut() {
            active.site = site;
        }
    }

    /// Returns from the running function, and calls another one in its place.
    fn replace(&mut self) {
        if let Some(active) = self.active.pop() {
            let site = self.any_site();
            self.enter(site, active.callers);
        }
    }

    fn step(&mut self, deepest: usize) {
        match self.next(8) {
            0 | 1 => self.move_on(),
            2 | 3 => self.replace(),
            4 => {
                for _ in 0..self.next(4) {
                    self.active.pop();
                }
            }
            5 if self.next(50) == 0 => {
                self.active.clear();
                self.root = self.next(2) as usize;
            }
            _ => {
                for _ in 0..self.next(4) {
                    if self.active.len() < deepest {
                        self.call();
                    }
                }
            }
        }
    }

    /// Addresses and stack pointers of all functions, the outermost first.
    fn states(&self) -> Vec<State> {
        let outermost = (self.outermost[self.root], self.stack().high);
        let active = self.active.iter().map(|active| (active.site.address, active.stack_pointer));
        std::iter::once(outermost).chain(active).collect()
    }
}

fn is_by_frame_pointer(backtrace: &Backtrace) -> bool {
    (0..backtrace.length).any(|index| backtrace.frames.matters(index))
}

fn run(seed: u64, depth: usize, deepest: usize, events: usize) {
    let mut machine = Machine::new(seed);
    let modules = Modules::new();
    let mut numbers = Numbers::default();
    let mut backtrace = Backtrace::NONE;
    backtrace.stack = machine.stack();
    let (mut in_place, mut kept) = (0, 0);
    for event in 0..events {
        machine.step(deepest);
        if machine.active.is_empty() {
            // The outermost one's own stack pointer lies outside of the stack.
            continue;
        }
        let (stack_pointer, frame_pointer) = machine.registers();
        let program_counter = machine.address();
        let registers = Registers { program_counter, stack_pointer, frame_pointer };
        let before = states(&backtrace);
        let by_frame_pointer_before = is_by_frame_pointer(&backtrace);
        let (root_before, was_limited) = (backtrace.root, backtrace.limited);
        let shared = Shared { modules: &modules, rules: &machine.rules, depth };
        let find = |path, parent| numbers.find(path, parent);
        let captured = match backtrace.capture_in_place(registers, shared.rules, find) {
            Some(captured) => {
                in_place += 1;
                captured
            }
            None => backtrace.capture(registers, &shared, &mut numbers),
        };

        let all = machine.states();
        let dropped = all.len().saturating_sub(depth);
        let expected = &all[dropped..];
        let after = states(&backtrace);
        assert_eq!(after, expected, "event {event} of {seed}");
        let whole = dropped == 0 && machine.root == 0;
        let root = if whole { NodeId::ROOT } else { NodeId::CUT };
        let addresses = expected.iter().map(|state| state.0).collect();
        assert_eq!(
            numbers.backtrace(captured.node()),
            (addresses, root),
            "event {event} of {seed}"
        );
        let mut full = Backtrace::NONE;
        full.stack = machine.stack();
        full.capture(registers, &shared, &mut numbers);
        assert_frame_pointers(&backtrace, &full);
        if !was_limited && dropped == 0 && !before.is_empty() {
            let same = shared_prefix(&before, &after, |one, other| one == other);
            let same_root = root == root_before;
            let by_frame_pointer = by_frame_pointer_before || is_by_frame_pointer(&backtrace);
            let same_nodes = shared_prefix(&before, &after, |one, other| one.0 == other.0);
            let proves = same_root && same < same_nodes;
            match captured.kept_frames() {
                // Another frame pointer, where it matters, proves a new activation too.
                Some(kept) if by_frame_pointer => {
                    assert!(same_root && (kept as usize) < same_nodes, "event {event} of {seed}");
                    assert!(kept as usize <= same, "event {event} of {seed}");
                }
                None if by_frame_pointer => assert!(!proves, "event {event} of {seed}"),
                kept => {
                    assert_eq!(kept, proves.then_some(same as u32), "event {event} of {seed}");
                }
            }
            kept += usize::from(captured.kept_frames().is_some());
        }
    }
    if depth >= deepest {
        assert!(in_place > events / 20 && in_place < events, "{in_place} of {events} in place");
        assert!(kept > 0, "no activation was told from the one before");
    }
}

#[test]
fn whatever_functions_leave_on_the_stack_the_calls_are_found() {
    for seed in 1..=8 {
        run(seed * 0x9e37_79b9, MAX_DEPTH, 6, 20_000);
        run(seed * 0x9e37_79b9, MAX_DEPTH, 30, 20_000);
    }
}

#[test]
fn a_limit_of_depth_leaves_the_innermost_calls() {
    for seed in 1..=4 {
        run(seed * 0x7f4a_7c15, 5, 12, 20_000);
        run(seed * 0x7f4a_7c15, 1, 4, 5_000);
    }
}

/// Captures after each of these states of a stack, as sites from the outermost function inwards: each
/// keeps what it has in common with the one before and calls the rest anew. The last must be captured in
/// place, or must not.
fn follow(stacks: &[&[usize]], in_place: bool) {
    let mut machine = Machine::new(1);
    let modules = Modules::new();
    let mut numbers = Numbers::default();
    let mut backtrace = Backtrace::NONE;
    backtrace.stack = machine.stack();
    let mut was: &[usize] = &[];
    let mut was_in_place = false;
    for stack in stacks {
        let common = was.iter().zip(*stack).take_while(|(one, other)| one == other).count();
        machine.active.truncate(common);
        stack[common..].iter().for_each(|&site| machine.call_at(site));
        was = stack;
        let (stack_pointer, frame_pointer) = machine.registers();
        let registers =
            Registers { program_counter: machine.address(), stack_pointer, frame_pointer };
        let shared = Shared { modules: &modules, rules: &machine.rules, depth: MAX_DEPTH };
        let find = |path, parent| numbers.find(path, parent);
        let found = backtrace.capture_in_place(registers, shared.rules, find);
        was_in_place = found.is_some();
        let captured = found.unwrap_or_else(|| backtrace.capture(registers, &shared, &mut numbers));
        let expected = machine.states();
        assert_eq!(states(&backtrace), expected, "{stack:?}");
        let addresses = expected.iter().map(|state| state.0).collect();
        assert_eq!(numbers.backtrace(captured.node()), (addresses, NodeId::ROOT), "{stack:?}");
    }
    assert_eq!(was_in_place, in_place);
}

/// Sites of functions that have a frame of so many words and save nothing, two each.
const TWO: [usize; 2] = [0, 1];
const THREE: [usize; 2] = [6, 7];
const FOUR: [usize; 2] = [12, 13];

#[test]
fn another_call_of_the_innermost_function_is_found_in_place() {
    let [outer, middle, inner] = [TWO[0], THREE[0], FOUR[0]];
    let [one, other] = TWO;
    let stacks: [&[usize]; 4] = [
        &[outer, middle, inner, one],
        &[outer, middle, inner, other],
        &[outer, middle, inner, one],
        &[outer, middle, inner, other],
    ];
    follow(&stacks, true);
}

#[test]
fn another_caller_further_out_is_seen_below_a_caller_that_is_the_same() {
    // All frames but one are as they were, and the path through the one that was there before is known.
    // The call before is not remembered: it saved a frame pointer, which this one does not.
    let (outer, inner, saves) = (TWO[0], FOUR[0], 2);
    let stacks: [&[usize]; 3] = [
        &[outer, THREE[0], inner, TWO[1]],
        &[outer, THREE[0], inner, saves],
        &[outer, THREE[1], inner, TWO[1]],
    ];
    follow(&stacks, false);
}

#[test]
fn a_caller_of_the_same_address_elsewhere_on_the_stack_is_another_one() {
    // A function calls itself and then another one; or, with the same stack pointer in the end, one of
    // a larger frame. What it had saved for its own call still lies where it did.
    let (outer, recursive) = (TWO[0], TWO[1]);
    let stacks: [&[usize]; 3] = [
        &[outer, recursive, recursive, FOUR[0]],
        &[outer, recursive, recursive, TWO[0]],
        &[outer, recursive, FOUR[0]],
    ];
    follow(&stacks, false);
}
