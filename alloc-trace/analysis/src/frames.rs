//! The frames of every place, functions that the compiler inlined included, and how much of them two
//! successive events of a thread have in common.
//!
//! # Activations
//!
//! A frame stands for an *activation*: one call of its function, from entry to return. Between two
//! events of a thread some of the outermost frames stay as they were; [`Frames::between`] answers
//! with a *mark* which of them:
//!
//! - An even mark 2·n: the n outermost frames are as they were, and what lies inside of them is new.
//! - An odd mark 2·n + 1: the same, and the frame directly inside of them is of the same function as
//!   before, called from the same place, but is at another of its own calls. Nothing says that it
//!   returned in between, so it counts as the same activation.
//!
//! So a frame, counted from 0 at the outermost, lives on where the mark is at least 2·frame + 1, and
//! through any number of events where the least of their marks is.
//!
//! What stays unknown: a function that returned and was called again from the same place, without an
//! event in between that shows it, has the same frame. Records do not tell these apart.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::call_site::{CallSite, FrameKind};
use crate::call_tree::{CallTree, Place};
use crate::frame::Frame;
use crate::holder::{self, Holder, Part};
use crate::surroundings::Surroundings;
use crate::symbols::Symbols;

/// How much two successive events have in common: see the module.
pub(crate) type Mark = u32;

/// A function's number in [`Frames`].
pub(crate) type FunctionIndex = u32;

/// One frame of one return address.
#[derive(Debug, Clone)]
struct InlineFrame {
    function: FunctionIndex,
    place: CallSite,
    kind: FrameKind,
    /// What a function of the library works on.
    part: Option<Part>,
}

/// The frame that encloses a block's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encloser {
    /// Its number, counted from 0 at the outermost.
    pub(crate) frame: u32,
    pub(crate) function: FunctionIndex,
}

/// The frames of all places.
#[derive(Debug)]
pub(crate) struct Frames {
    /// The frames at each return address, the outermost first.
    addresses: Vec<Box<[InlineFrame]>>,
    /// The place of the frames outside of each; a root's is itself. Ways outwards need nothing else.
    parents: Vec<Place>,
    places: Vec<PlaceFrames>,
    functions: Vec<Arc<str>>,
    /// What is asked for at each place, as far as that was looked for.
    holders: Vec<Option<Option<Holder>>>,
    /// The marks of the pairs that were met last, each at the hash of its pair.
    marks: Vec<(Place, Place, Mark)>,
    /// What was found last of a place and so many of its outermost frames, each at the hash of the two.
    enclosers: Vec<(Place, u32, Option<Encloser>)>,
}

#[derive(Debug, Clone, Copy)]
struct PlaceFrames {
    /// The index of its return address in [`Frames::addresses`]; `u32::MAX` for the roots.
    address: u32,
    /// How many frames it has in all.
    frames: u32,
    /// How many it has up to the innermost one of the program, that one included.
    program_frames: u32,
}

impl PlaceFrames {
    const ROOT: Self = Self { address: u32::MAX, frames: 0, program_frames: 0 };
}

/// So many pairs are remembered: what a second-level cache has room for. Most programs have
/// few pairs that follow each other, and where there are many, a comparison costs no more than a look
/// into a table that is in no cache.
const REMEMBERED_PAIRS: usize = 1 << 16;

/// Where what is known of a pair stands, if anything is.
fn remembered(one: usize, other: usize) -> usize {
    let pair = (one as u64) << 32 | other as u64;
    (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % REMEMBERED_PAIRS
}

impl Frames {
    pub(crate) fn new(call_tree: &CallTree, symbols: &mut Symbols) -> Self {
        let mut this = Self {
            addresses: Vec::new(),
            parents: Vec::with_capacity(call_tree.len()),
            places: Vec::with_capacity(call_tree.len()),
            functions: Vec::new(),
            holders: vec![None; call_tree.len()],
            marks: vec![(Place::LOST, Place::LOST, 0); REMEMBERED_PAIRS],
            enclosers: vec![(Place::LOST, 0, None); REMEMBERED_PAIRS],
        };
        // By return address and what surrounds it; with what surrounds what is called there.
        let mut numbers: FxHashMap<(u64, Surroundings), (u32, Surroundings)> = FxHashMap::default();
        let mut inside_of: Vec<Surroundings> = Vec::with_capacity(call_tree.len());
        let mut names: FxHashMap<Arc<str>, FunctionIndex> = FxHashMap::default();
        for place in call_tree.places() {
            let Some((address, parent)) = call_tree.frame(place) else {
                this.parents.push(place);
                this.places.push(PlaceFrames::ROOT);
                inside_of.push(Surroundings::default());
                continue;
            };
            let surroundings = inside_of.get(parent.index()).copied().unwrap_or_default();
            let (number, inside) = *numbers.entry((address, surroundings)).or_insert_with(|| {
                let frames = symbols.frames(address);
                let mut surroundings = surroundings;
                let of = |frame: &Frame| {
                    let next = this.functions.len() as FunctionIndex;
                    let function = *names.entry(Arc::clone(&frame.function)).or_insert(next);
                    if function == next {
                        this.functions.push(Arc::clone(&frame.function));
                    }
                    let (kind, inside) = surroundings.enter(frame);
                    surroundings = inside;
                    let is_library = matches!(kind, FrameKind::Allocator | FrameKind::Library);
                    let part = || holder::part(&frame.function, frame.file.as_deref());
                    InlineFrame {
                        function,
                        place: CallSite::of(frame),
                        kind,
                        part: is_library.then(part).flatten(),
                    }
                };
                this.addresses.push(frames.iter().rev().map(of).collect());
                ((this.addresses.len() - 1) as u32, surroundings)
            });
            inside_of.push(inside);
            let outside = this.place(parent);
            let own: &[InlineFrame] =
                this.addresses.get(number as usize).map_or(&[], |frames| frames);
            let program = own.iter().rposition(|frame| frame.kind == FrameKind::Program);
            this.parents.push(parent);
            this.places.push(PlaceFrames {
                address: number,
                frames: outside.frames + own.len() as u32,
                program_frames: match program {
                    Some(index) => outside.frames + index as u32 + 1,
                    None => outside.program_frames,
                },
            });
        }
        this
    }

    /// The name of a function.
    pub(crate) fn function(&self, function: FunctionIndex) -> Option<&Arc<str>> {
        self.functions.get(function as usize)
    }

    /// What [`Self::between`] waits for first: asked for many at once, by whoever throws it away.
    #[inline]
    pub(crate) fn touch_pair(&self, before: Place, now: Place) -> u64 {
        u64::from(self.marks[remembered(before.index(), now.index())].2)
    }

    /// The mark between two successive events of a thread; `kept` as the later one states it.
    pub(crate) fn between(&mut self, before: Place, now: Place, kept: Option<u32>) -> Mark {
        if let Some(kept) = kept {
            return 2 * self.frames_outside(now, kept);
        }
        if before == now {
            return 2 * self.place(now).frames;
        }
        let slot = remembered(before.index(), now.index());
        let (known_before, known_now, mark) = self.marks[slot];
        if (known_before, known_now) == (before, now) {
            return mark;
        }
        let mark = self.compare(before, now);
        self.marks[slot] = (before, now, mark);
        mark
    }

    /// The innermost frame of the program that lives as long as a block that was allocated at
    /// `place`, given the least mark of the thread's events from then until its free.
    ///
    /// `None` where no frame of the program does, and where the life lies within a library that the
    /// program called: what it does inside is not the program's to change.
    pub(crate) fn encloser(&mut self, place: Place, least: Mark) -> Option<Encloser> {
        let PlaceFrames { frames, program_frames, .. } = self.place(place);
        let enclosing = least.div_ceil(2).min(frames);
        if enclosing == 0 || enclosing > program_frames {
            return None;
        }
        let slot = remembered(place.index(), enclosing as usize);
        let (known_place, known_enclosing, found) = self.enclosers[slot];
        if (known_place, known_enclosing) == (place, enclosing) {
            return found;
        }
        let found = self.find_encloser(place, enclosing);
        self.enclosers[slot] = (place, enclosing, found);
        found
    }

    /// The innermost frame of the program among the `enclosing` outermost ones of a place.
    fn find_encloser(&self, place: Place, enclosing: u32) -> Option<Encloser> {
        let mut at = place;
        while let Some(own) = self.own(at) {
            let outside = self.place(at).frames - own.len() as u32;
            let enclosing = enclosing.saturating_sub(outside) as usize;
            for (index, frame) in own.iter().enumerate().take(enclosing).rev() {
                match frame.kind {
                    FrameKind::Program => {
                        let (frame, function) = (outside + index as u32, frame.function);
                        return Some(Encloser { frame, function });
                    }
                    FrameKind::Entry => return None,
                    FrameKind::Allocator | FrameKind::Library => {}
                }
            }
            at = self.parent(at);
        }
        None
    }

    /// What the blocks that are allocated at a place are the memory of.
    pub(crate) fn holder(&mut self, place: Place) -> Option<Holder> {
        let index = place.index();
        if let Some(&Some(known)) = self.holders.get(index) {
            return known;
        }
        let ways = std::iter::successors(Some(place), |&at| Some(self.parent(at)));
        let own = ways.map_while(|at| self.own(at));
        let frames = own.flat_map(|own| own.iter().rev());
        let found = holder::holder(frames.map(|frame| (frame.kind, frame.part)));
        if let Some(known) = self.holders.get_mut(index) {
            *known = Some(found);
        }
        found
    }

    fn own(&self, place: Place) -> Option<&[InlineFrame]> {
        self.addresses.get(self.place(place).address as usize).map(|list| &**list)
    }

    #[inline]
    fn parent(&self, place: Place) -> Place {
        self.parents.get(place.index()).copied().unwrap_or(Place::ROOT)
    }

    fn place(&self, place: Place) -> PlaceFrames {
        self.places.get(place.index()).copied().unwrap_or(PlaceFrames::ROOT)
    }

    /// How many frames the `kept` outermost return addresses of a place have.
    fn frames_outside(&self, place: Place, kept: u32) -> u32 {
        let ways = || std::iter::successors(Some(place), |&at| Some(self.parent(at)));
        let depth = ways().take_while(|&at| self.own(at).is_some()).count();
        let at = ways().nth(depth.saturating_sub(kept as usize));
        at.map_or(0, |at| self.place(at).frames)
    }

    fn compare(&self, before: Place, now: Place) -> Mark {
        // Up to where both are the same; the last steps are the places directly inside of that.
        // A parent comes before its children, so that the later of two places is none that leads to the other: a step
        // outwards is its. Where most pairs are new nothing else takes as long, and no branch asks whose it is.
        let (mut later, mut earlier) = (before.max(now), before.min(now));
        let (mut inside_later, mut inside_earlier) = (Place::LOST, Place::LOST);
        while later != earlier {
            if later <= Place::CUT {
                // One of them was cut: which frames they share is unknown.
                return 0;
            }
            let outside = self.parent(later);
            let overtakes = outside < earlier;
            let inside = later;
            later = if overtakes { earlier } else { outside };
            earlier = if overtakes { outside } else { earlier };
            inside_later = if overtakes { inside_earlier } else { inside };
            inside_earlier = if overtakes { inside } else { inside_earlier };
        }
        let shared = self.place(later).frames;
        if later == Place::CUT && shared == 0 {
            return 0;
        }
        // Either may be where the other leads: then there is no frame of its own.
        let (Some(old), Some(new)) = (self.own(inside_later), self.own(inside_earlier)) else {
            return 2 * shared;
        };
        if self.place(inside_later).address == self.place(inside_earlier).address {
            // One return address with two numbers: the recorder met it anew.
            return 2 * shared;
        }
        let both = || old.iter().zip(new);
        // A last frame's own place in its function is the return address, which differs; the frames
        // that it is inlined into are at the same call where file and line are the same.
        let inner = old.len().min(new.len()).saturating_sub(1);
        let equal = both().take(inner).take_while(|(old, new)| old.place == new.place).count();
        let moved_on = both().nth(equal).is_some_and(|(old, new)| old.function == new.function);
        2 * (shared + equal as u32) + u32::from(moved_on)
    }
}

#[cfg(test)]
mod tests {
    use alloc_trace_format::{NodeDefinition, NodeId};

    use super::*;
    use crate::call_tree::{Definitions, TreeForm};

    /// Frames without names: each return address is a function of its own.
    fn frames(nodes: &[(u32, u32, u64)]) -> (Frames, CallTree) {
        let mut definitions = Definitions::default();
        for &(id, parent, address) in nodes {
            definitions.add(&NodeDefinition { id: NodeId(id), parent: NodeId(parent), address });
        }
        let tree = CallTree::new(&definitions, TreeForm::Numbered);
        let frames = Frames::new(&tree, &mut Symbols::new(&[], 0).without_names());
        (frames, tree)
    }

    #[test]
    fn a_mark_is_twice_the_frames_that_two_events_share() {
        // main, job, make; main, job, drop; main, other; another thread's main that was cut.
        let nodes =
            [(2, 0, 10), (3, 2, 20), (4, 3, 30), (5, 3, 40), (6, 2, 50), (7, 1, 10), (8, 2, 20)];
        let (mut frames, tree) = frames(&nodes);
        let mut mark = |before, now, kept| {
            let place = |node| tree.place(NodeId(node)).expect("defined");
            frames.between(place(before), place(now), kept)
        };
        assert_eq!(mark(4, 4, None), 6, "as it was");
        assert_eq!(mark(4, 5, None), 4);
        assert_eq!(mark(4, 6, None), 2);
        assert_eq!(mark(6, 4, None), 2);
        assert_eq!(mark(4, 3, None), 4, "one lies within the other");
        assert_eq!(mark(3, 4, None), 4);
        assert_eq!(mark(4, 7, None), 0, "what was cut shares nothing that is known");
        assert_eq!(mark(3, 8, None), 2, "one return address with two numbers was met anew");
        assert_eq!(mark(4, 4, Some(1)), 2, "as the event states it");
        assert_eq!(mark(4, 4, Some(9)), 6);
    }

    #[test]
    fn the_encloser_is_a_frame_within_the_least_mark() {
        let (mut frames, tree) = frames(&[(2, 0, 10), (3, 2, 20)]);
        let place = tree.place(NodeId(3)).expect("defined");
        let mut frame = |least| frames.encloser(place, least).map(|encloser| encloser.frame);
        assert_eq!(
            [0, 1, 2, 3, 4, 9, 2].map(&mut frame),
            [None, Some(0), Some(0), Some(1), Some(1), Some(1), Some(0)]
        );
    }
}
