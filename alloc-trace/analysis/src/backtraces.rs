//! Backtraces as a person reads them: a tree of frames, inlined functions included.
//!
//! By default a node is a frame of the program's own code, and the frame of a leaf is the call site:
//! allocator, runtime and library frames are folded away. What has no frame of the program is below
//! the root with its call site alone.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::call_site::FrameKind;
use crate::call_tree::{CallTree, Place};
use crate::frame::Frame;
use crate::sites::{RUNTIME, Sites};
use crate::surroundings::Surroundings;
use crate::symbols::Symbols;

/// A tree of frames. Node 0 is the root; a parent's number is less than its children's.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Backtraces {
    /// The frames, each once.
    pub frames: Vec<Frame>,
    /// For each frame a return address that it was found at, as one of many where several calls are one
    /// frame; 0 where there is none.
    #[serde(skip)]
    pub addresses: Vec<u64>,
    /// The nodes.
    pub nodes: Vec<BacktraceNode>,
    /// The node of each place of the call tree.
    #[serde(skip)]
    by_place: Vec<u32>,
    /// The node of backtraces that were lost.
    #[serde(skip)]
    lost: u32,
}

/// A node of [`Backtraces`]: the frames on the way to it are a backtrace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct BacktraceNode {
    /// The node of the frames outside; `None` for the root.
    pub parent: Option<u32>,
    /// Its innermost frame, as an index of [`Backtraces::frames`]; `None` for the root.
    pub frame: Option<u32>,
}

const ROOT: u32 = 0;

impl Backtraces {
    /// `full`: nothing is folded away.
    pub(crate) fn new(
        call_tree: &CallTree,
        sites: &Sites,
        symbols: &mut Symbols,
        full: bool,
    ) -> Self {
        Builder::default().run(call_tree, sites, symbols, full)
    }

    /// The frame of a node; `None` for the root.
    #[must_use]
    pub fn frame(&self, node: u32) -> Option<&Frame> {
        let node = self.nodes.get(node as usize)?;
        self.frames.get(node.frame? as usize)
    }

    /// The frames of a backtrace, the innermost first.
    pub fn frames_of(&self, node: u32) -> impl Iterator<Item = &Frame> {
        let way = std::iter::successors(Some(node), |&node| self.nodes.get(node as usize)?.parent);
        way.filter_map(|node| self.frame(node))
    }

    #[inline]
    pub(crate) fn node(&self, place: Place) -> u32 {
        self.by_place.get(place.index()).copied().unwrap_or(self.lost)
    }
}

/// What a place hands on to those inside of it.
#[derive(Debug, Clone, Copy)]
struct Way {
    node: u32,
    /// Whether there is a frame of the program on it.
    program: bool,
    surroundings: Surroundings,
}

impl Way {
    const ROOT: Self = Self { node: ROOT, program: false, surroundings: Surroundings::Program };
}

/// The frames at a return address by number, the outermost first, what kind each is, and what surrounds what
/// they call.
type At = (Arc<[(u32, FrameKind)]>, Surroundings);

#[derive(Debug, Default)]
struct Builder {
    frames: Vec<Frame>,
    /// A return address of each.
    frame_addresses: Vec<u64>,
    frame_numbers: FxHashMap<Frame, u32>,
    nodes: Vec<BacktraceNode>,
    node_numbers: FxHashMap<(u32, u32), u32>,
    /// What is at each return address, by what surrounds it.
    addresses: FxHashMap<(u64, Surroundings), At>,
}

impl Builder {
    fn run(
        mut self,
        call_tree: &CallTree,
        sites: &Sites,
        symbols: &mut Symbols,
        full: bool,
    ) -> Backtraces {
        self.nodes.push(BacktraceNode { parent: None, frame: None });
        let lost = self.named(sites.at(None), sites);
        let cut = self.child_named(ROOT, "[backtrace was cut]");
        let mut ways: Vec<Way> = Vec::with_capacity(call_tree.len());
        let mut by_place = Vec::with_capacity(call_tree.len());
        for place in call_tree.places() {
            let site = sites.at(Some(place));
            let Some((address, parent)) = call_tree.frame(place) else {
                let node = if place == Place::CUT { cut } else { ROOT };
                ways.push(Way { node, ..Way::ROOT });
                by_place.push(self.named(site, sites));
                continue;
            };
            let mut way = ways.get(parent.index()).copied().unwrap_or(Way::ROOT);
            let (frames, inside) = self.at(address, way.surroundings, symbols, full);
            for &(frame, kind) in frames.iter() {
                match kind {
                    _ if full => way.node = self.child(way.node, frame),
                    FrameKind::Program => {
                        (way.node, way.program) = (self.child(way.node, frame), true);
                    }
                    // Nothing outside of it is the program's.
                    FrameKind::Entry => (way.node, way.program) = (ROOT, false),
                    FrameKind::Allocator | FrameKind::Library => {}
                }
            }
            way.surroundings = inside;
            ways.push(way);
            let known = full || (way.program && site != RUNTIME);
            by_place.push(if known { way.node } else { self.named(site, sites) });
        }
        let (frames, addresses, nodes) = (self.frames, self.frame_addresses, self.nodes);
        Backtraces { frames, addresses, nodes, by_place, lost }
    }

    /// The frames at a return address, and what kind each is. Of one that is folded away the number says
    /// nothing.
    fn at(&mut self, address: u64, outside: Surroundings, symbols: &mut Symbols, full: bool) -> At {
        if let Some((frames, inside)) = self.addresses.get(&(address, outside)) {
            return (Arc::clone(frames), *inside);
        }
        let frames = symbols.frames(address);
        let mut surroundings = outside;
        let numbered: Arc<[(u32, FrameKind)]> = frames
            .iter()
            .rev()
            .map(|frame| {
                let (kind, inside) = surroundings.enter(frame);
                surroundings = inside;
                let shown = full || kind == FrameKind::Program;
                (if shown { self.number(frame.clone(), address) } else { 0 }, kind)
            })
            .collect();
        self.addresses.insert((address, outside), (Arc::clone(&numbered), surroundings));
        (numbered, surroundings)
    }

    fn number(&mut self, frame: Frame, address: u64) -> u32 {
        let next = self.frames.len() as u32;
        let number = *self.frame_numbers.entry(frame.clone()).or_insert(next);
        if number == next {
            self.frames.push(frame);
            self.frame_addresses.push(address);
        }
        number
    }

    fn child(&mut self, parent: u32, frame: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let number = *self.node_numbers.entry((parent, frame)).or_insert(next);
        if number == next {
            self.nodes.push(BacktraceNode { parent: Some(parent), frame: Some(frame) });
        }
        number
    }

    /// A node below the root that has a call site in place of frames.
    fn named(&mut self, site: u32, sites: &Sites) -> u32 {
        let Some(site) = sites.get(site) else { return ROOT };
        let named = !site.function.starts_with('[');
        let (function, file) = (Arc::clone(&site.function), site.file.clone());
        let frame = Frame { function, file, line: site.line, module: None, named };
        let frame = self.number(frame, 0);
        self.child(ROOT, frame)
    }

    fn child_named(&mut self, parent: u32, name: &str) -> u32 {
        let function = name.into();
        let frame = Frame { function, file: None, line: None, module: None, named: false };
        let frame = self.number(frame, 0);
        self.child(parent, frame)
    }
}
