//! The call sites of a recording: every backtrace has one, and many share it.

use std::sync::Arc;

use alloc_trace_format::NodeId;
use rustc_hash::FxHashMap;

use crate::call_site::{self, CallSite, FrameKind};
use crate::call_tree::{CallTree, Place};
use crate::frame::Frame;
use crate::surroundings::{self, Surroundings, responsible};
use crate::symbols::{SymbolProblem, Symbols};

/// A call site's number in [`Sites`].
pub(crate) type SiteIndex = u32;

/// The site of events whose backtrace was lost.
const UNKNOWN: SiteIndex = 0;
/// The site of events without a backtrace.
const NO_BACKTRACE: SiteIndex = 1;
/// The site of what Rust's runtime asks for on its own behalf. Some of it stays until the end and is no
/// leak of the program's. Where no frame is folded away it is not told apart.
pub(crate) const RUNTIME: SiteIndex = 2;

/// All call sites of a recording.
#[derive(Debug)]
pub(crate) struct Sites {
    sites: Vec<CallSite>,
    /// The site of each place of the call tree.
    by_place: Vec<SiteIndex>,
    problems: Vec<SymbolProblem>,
}

impl Sites {
    /// With `all_frames` a call site is the innermost frame, whatever code that is.
    pub(crate) fn new(call_tree: &CallTree, symbols: &mut Symbols, all_frames: bool) -> Self {
        Finder::new(symbols, all_frames).run(call_tree)
    }

    /// The site of a place, or of an event whose backtrace was lost.
    #[inline]
    pub(crate) fn at(&self, place: Option<Place>) -> SiteIndex {
        place.map_or(UNKNOWN, |place| self.of_place(place))
    }

    fn traced(&self, place: Option<Place>) -> Traced {
        Traced { place: place.unwrap_or(Place::LOST), site: self.at(place) }
    }

    /// The site of a place of the call tree.
    pub(crate) fn of_place(&self, place: Place) -> SiteIndex {
        self.by_place.get(place.index()).copied().unwrap_or(UNKNOWN)
    }

    pub(crate) fn get(&self, index: SiteIndex) -> Option<&CallSite> {
        self.sites.get(index as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.sites.len()
    }

    pub(crate) fn problems(&self) -> &[SymbolProblem] {
        &self.problems
    }
}

/// Where a backtrace leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traced {
    pub(crate) place: Place,
    pub(crate) site: SiteIndex,
}

impl Traced {
    /// Nowhere.
    pub(crate) const NONE: Self = Self { place: Place::LOST, site: UNKNOWN };
}

/// From the recorder's numbers to places and sites.
///
/// Nearly every event asks, and finds its entry in no near cache: both stand together.
#[derive(Debug)]
pub(crate) struct TracedNodes(Vec<Traced>);

impl TracedNodes {
    pub(crate) fn new(call_tree: &CallTree, sites: &Sites) -> Self {
        Self(call_tree.lowest().map(|place| sites.traced(place)).collect())
    }

    #[inline]
    pub(crate) fn get(&self, node: NodeId, call_tree: &CallTree, sites: &Sites) -> Traced {
        match self.0.get(node.0 as usize) {
            Some(&traced) => traced,
            None => sites.traced(call_tree.place(node)),
        }
    }
}

/// What a place hands on to those inside of it.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// The site of the innermost frame of the program: that of whatever the place calls, as long as that has
    /// no frame of the program itself.
    program: Option<SiteIndex>,
    surroundings: Surroundings,
}

/// What each place hands on, in five bytes: there may be millions.
#[derive(Debug)]
struct Ways {
    /// [`Self::NONE`] where there is none.
    programs: Vec<SiteIndex>,
    surroundings: Vec<Surroundings>,
}

impl Ways {
    const NONE: SiteIndex = SiteIndex::MAX;

    fn new(len: usize) -> Self {
        Self { programs: Vec::with_capacity(len), surroundings: Vec::with_capacity(len) }
    }

    fn push(&mut self, way: Way) {
        self.programs.push(way.program.unwrap_or(Self::NONE));
        self.surroundings.push(way.surroundings);
    }

    fn get(&self, place: Place) -> Way {
        let program = self.programs.get(place.index()).copied().filter(|&site| site != Self::NONE);
        let surroundings = self.surroundings.get(place.index()).copied().unwrap_or_default();
        Way { program, surroundings }
    }
}

/// What the frames at a return address are.
#[derive(Debug, Clone, Copy)]
enum Own {
    /// There is one of the program.
    Program(SiteIndex),
    /// They are such that nothing outside is the program's.
    Entry,
    /// Neither.
    Other,
}

/// Finds the site of every place.
struct Finder<'a> {
    symbols: &'a mut Symbols,
    /// What the frames at each return address are, and what surrounds what they call: many places have one.
    addresses: FxHashMap<(u64, Surroundings), (Own, Surroundings)>,
    sites: Vec<CallSite>,
    numbers: FxHashMap<CallSite, SiteIndex>,
    all_frames: bool,
}

impl<'a> Finder<'a> {
    fn new(symbols: &'a mut Symbols, all_frames: bool) -> Self {
        let mut finder = Self {
            symbols,
            addresses: FxHashMap::default(),
            sites: Vec::new(),
            numbers: FxHashMap::default(),
            all_frames,
        };
        for name in ["[unknown]", "[no backtrace]", "[runtime]"] {
            finder.number(CallSite { function: name.into(), file: None, line: None });
        }
        finder
    }

    fn run(mut self, call_tree: &CallTree) -> Sites {
        let len = call_tree.len();
        let (mut by_place, mut ways) = (Vec::with_capacity(len), Ways::new(len));
        for place in call_tree.places() {
            let (site, way) = match call_tree.frame(place) {
                None => (NO_BACKTRACE, Way::default()),
                Some((address, parent)) => self.site(call_tree, place, address, ways.get(parent)),
            };
            by_place.push(site);
            ways.push(way);
        }
        Sites { sites: self.sites, by_place, problems: self.symbols.problems() }
    }

    /// The site of a place, from its own frames and what was found for those outside.
    fn site(
        &mut self,
        call_tree: &CallTree,
        place: Place,
        address: u64,
        outside: Way,
    ) -> (SiteIndex, Way) {
        let (own, surroundings) = self.own(address, outside.surroundings);
        let program = match own {
            Own::Program(site) => Some(site),
            // The frames that surround `main` end the search.
            Own::Entry => None,
            Own::Other => outside.program,
        };
        let way = Way { program, surroundings };
        if surroundings == Surroundings::Runtime && !self.all_frames {
            return (RUNTIME, way);
        }
        if let Some(site) = program {
            return (site, way);
        }
        // Nothing of the program's: then the innermost frame that is not the allocator's.
        let frames: Vec<Arc<[Frame]>> =
            call_tree.frames(place).map(|address| self.symbols.frames(address)).collect();
        // An event is asked for by code outside of the C runtime, where the allocator is. What has none of
        // that is only on the way to others, as what calls `main` is.
        let innermost = frames.first().and_then(|frames| frames.first());
        let asked = innermost.is_some_and(|frame| !call_site::is_in_runtime_module(frame));
        let lacks_line = |frame| asked && call_site::is_in_runtime_module(frame);
        let site = match responsible(&frames) {
            Some((frame, _)) if lacks_line(frame) => {
                let frames: Vec<Arc<[Frame]>> = call_tree
                    .frames(place)
                    .map(|address| self.symbols.whole_frames(address))
                    .collect();
                responsible(&frames).map_or(UNKNOWN, |(_, site)| self.number(site))
            }
            Some((_, site)) => self.number(site),
            None => UNKNOWN,
        };
        (site, way)
    }

    fn own(&mut self, address: u64, outside: Surroundings) -> (Own, Surroundings) {
        if let Some(&known) = self.addresses.get(&(address, outside)) {
            return known;
        }
        let frames = self.symbols.frames(address);
        let listed: Vec<&Frame> = frames.iter().collect();
        let (kinds, inside) = surroundings::kinds(&listed, outside);
        // Where nothing is folded away all code counts as the program's.
        let innermost = listed.first().filter(|_| self.all_frames).map(|&frame| (frame, true));
        let own = match innermost.or_else(|| call_site::call_site(&listed, &kinds)) {
            Some((frame, true)) => Own::Program(self.number(CallSite::of(frame))),
            _ if kinds.contains(&FrameKind::Entry) => Own::Entry,
            _ => Own::Other,
        };
        self.addresses.insert((address, outside), (own, inside));
        (own, inside)
    }

    fn number(&mut self, site: CallSite) -> SiteIndex {
        if let Some(&number) = self.numbers.get(&site) {
            return number;
        }
        let number = self.sites.len() as SiteIndex;
        self.sites.push(site.clone());
        self.numbers.insert(site, number);
        number
    }
}
