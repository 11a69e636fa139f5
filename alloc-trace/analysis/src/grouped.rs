//! The figures of a recording by any one thing that its requests differ in.

mod classes;
mod lifetimes;

use std::sync::Arc;

use alloc_trace_format::{Clock, Recording, Stamp};
use rustc_hash::FxHashMap;
use serde::Serialize;

use self::lifetimes::ByLifetime;
use crate::call_site::{CallSite, crate_name};
use crate::error::AnalysisError;
use crate::figures::Figures;
use crate::held_size::{HeldSize, LargeSizes};
use crate::ledger::{Account, Ledger, Posted, Posting, Release};
use crate::options::Options;
use crate::owners::{Owner, OwnerParts};
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::sites::{RUNTIME, SiteIndex};
use crate::tallies::{Levels, Tallies};

/// What events are grouped by. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum By {
    /// The call site.
    Site,
    /// The call site's function.
    Function,
    /// The call site's source file.
    File,
    /// The crate of the call site's function, C and C++ functions being of none.
    Crate,
    /// The thread.
    Thread,
    /// The innermost span.
    Span,
    /// The requested size, by powers of two.
    Size,
    /// How long blocks lived, by 1, 2 and 5 times powers of ten.
    Lifetime,
}

/// A recording's figures in groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Grouped {
    /// How far the recording can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// What the groups are.
    pub by: By,
    /// The figures of the whole program.
    pub total: Figures,
    /// The groups that have any event; by allocated bytes, those of sizes and lifetimes by these.
    pub groups: Vec<Group>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// What its events have in common.
    #[serde(flatten)]
    pub key: GroupKey,
    /// Its figures. Of sizes, an event counts by what it asks for or frees. Of lifetimes only what
    /// obtained and freed the blocks counts, and as a lifetime is known at its end only, the group's
    /// own peak is not: `peak_bytes` is `at_peak_bytes` there.
    #[serde(flatten)]
    pub figures: Figures,
    /// What of its live blocks at the end Rust's runtime made for itself and keeps, as
    /// [`Summary::runtime_blocks_at_end`](crate::Summary::runtime_blocks_at_end).
    pub runtime_blocks_at_end: u64,
    /// The requested bytes of these blocks.
    pub runtime_bytes_at_end: u64,
    /// How long its blocks lived.
    pub lifetimes: Lifetimes,
}

/// What the events of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum GroupKey {
    /// Their call site.
    Site(CallSite),
    /// Its function.
    Function {
        /// Its demangled name.
        function: Arc<str>,
    },
    /// Its source file.
    File {
        /// `None` where it is not known.
        file: Option<Arc<str>>,
    },
    /// Its crate.
    Crate {
        /// `None` where it is not known, or the function is in none.
        #[serde(rename = "crate")]
        name: Option<Arc<str>>,
    },
    /// Their thread.
    Thread {
        /// The recording's number for it.
        thread: u32,
        /// Its last name.
        name: Option<Arc<str>>,
    },
    /// The name, target and level of the innermost span.
    Span {
        /// Its name; `None` outside of spans.
        span: Option<Arc<str>>,
        /// Its target.
        target: Option<Arc<str>>,
        /// Its fields, where spans are told apart by them (see [`Options::span_fields`]).
        fields: Option<Arc<str>>,
        /// Its level: 1 for ERROR to 5 for TRACE, 0 where that is unknown.
        level: u8,
    },
    /// Their size.
    Size {
        /// The least size, in bytes.
        min_size: u64,
        /// The greatest.
        max_size: u64,
    },
    /// How long their blocks lived.
    Lifetime {
        /// Whether they have a block in the recording: requests that failed have none, and of a block
        /// older than the recording only its end is there.
        known_block: bool,
        /// The least lifetime; `None` for blocks that were live at the end, and without a block.
        min_lifetime_ns: Option<u64>,
        /// The greatest.
        max_lifetime_ns: Option<u64>,
    },
}

/// How long the blocks of a group lived, of those that were released: freed or reallocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Lifetimes {
    /// How many blocks were released.
    pub released_blocks: u64,
    /// The shortest lifetime, in nanoseconds.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The mean, rounded down.
    pub mean_ns: u64,
}

/// Lifetimes as they are added up.
#[derive(Debug, Clone, Copy, Default)]
struct LifetimeSum {
    blocks: u64,
    min_ns: u64,
    max_ns: u64,
    total_ns: u128,
}

impl LifetimeSum {
    fn add(&mut self, ns: u64) {
        self.min_ns = if self.blocks == 0 { ns } else { self.min_ns.min(ns) };
        self.max_ns = self.max_ns.max(ns);
        self.blocks += 1;
        self.total_ns += u128::from(ns);
    }

    fn close(&self) -> Lifetimes {
        let mean = self.total_ns / u128::from(self.blocks.max(1));
        Lifetimes {
            released_blocks: self.blocks,
            min_ns: self.min_ns,
            max_ns: self.max_ns,
            mean_ns: u64::try_from(mean).unwrap_or(u64::MAX),
        }
    }
}

impl Grouped {
    /// Reads a whole recording and sums it up by groups.
    ///
    /// ```no_run
    /// use alloc_trace_analysis::{By, Grouped, Options, Recording};
    ///
    /// let recording = Recording::open("app.trace".as_ref())?;
    /// let by_size = Grouped::of(&recording, Options::default(), By::Size)?;
    /// for group in &by_size.groups {
    ///     println!("{:?}: {} bytes", group.key, group.figures.allocated_bytes);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(recording: &Recording, options: Options, by: By) -> Result<Self, AnalysisError> {
        let mut replay = Replay::new(Prepared::new(recording, options)?);
        if by == By::Lifetime {
            return ByLifetime::run(recording, &mut replay);
        }
        let account = Grouping::new(by, *recording.clock(), &replay.prepared);
        let mut ledger = Ledger::run(account, &mut replay)?;
        ledger.account.tallies.finish(replay.prepared.definitions.last_stamp);
        let Grouping { tallies, levels, lifetimes, clock, names, .. } = &ledger.account;
        let owners = &ledger.owners;
        let mut figures = levels.figures(tallies, |owner| Some(owners.get(owner).key));
        let of_runtime = levels.figures(tallies, |owner| {
            let parts = owners.get(owner);
            (parts.span == IS_RUNTIME_S).then_some(parts.key)
        });
        let lifetimes = lifetimes.iter().map(LifetimeSum::close);
        let lifetimes = lifetimes.chain(std::iter::repeat(Lifetimes::default()));
        let mut groups: Vec<Group> = (0..)
            .zip(figures.iter_mut())
            .zip(lifetimes)
            .filter(|((_, figures), _)| figures.events > 0 || figures.allocated_bytes > 0)
            .filter_map(|((group, figures), lifetimes)| {
                figures.finish(|stamp| clock.ns(stamp));
                let key = key(by, group, names, &replay)?;
                let runtime = of_runtime.get(group as usize).copied().unwrap_or_default();
                Some(Group {
                    key,
                    figures: *figures,
                    runtime_blocks_at_end: runtime.live_blocks_at_end,
                    runtime_bytes_at_end: runtime.live_bytes_at_end,
                    lifetimes,
                })
            })
            .collect();
        if by == By::Size {
            groups.sort_by(|one, other| one.key.cmp(&other.key));
        } else {
            groups.sort_by(|one, other| {
                let bytes = other.figures.allocated_bytes.cmp(&one.figures.allocated_bytes);
                bytes.then_with(|| one.key.cmp(&other.key))
            });
        }
        let mut total = tallies.total();
        total.finish(|stamp| clock.ns(stamp));
        let state = RecordingState::new(recording, &replay.prepared);
        Ok(Self { state: state.inferred(ledger.inferred_frees), by, total, groups })
    }
}

/// The key of a group, by its number.
fn key(by: By, group: u32, names: &[Option<Arc<str>>], replay: &Replay<'_>) -> Option<GroupKey> {
    let prepared = &replay.prepared;
    let name = || names.get(group as usize).cloned().flatten();
    Some(match by {
        By::Site => GroupKey::Site(prepared.sites.get(group)?.clone()),
        By::Function => GroupKey::Function { function: name()? },
        By::File => GroupKey::File { file: name() },
        By::Crate => GroupKey::Crate { name: name() },
        By::Thread => {
            let thread = prepared.definitions.threads.get(group as usize)?;
            let name = thread.name.as_deref().map(Arc::from);
            GroupKey::Thread { thread: thread.id.0, name }
        }
        By::Span => {
            let kind = match group.checked_sub(1) {
                Some(kind) => Some(replay.spans.kinds().get(kind as usize)?),
                None => None,
            };
            GroupKey::Span {
                span: kind.map(|kind| Arc::clone(&kind.name)),
                target: kind.map(|kind| Arc::clone(&kind.target)),
                fields: kind.and_then(|kind| kind.fields.clone()),
                level: kind.map_or(0, |kind| kind.level),
            }
        }
        By::Size => {
            let (min_size, max_size) = classes::sizes(group);
            GroupKey::Size { min_size, max_size }
        }
        By::Lifetime => return None,
    })
}

/// In place of a span's number, which no group here is told by twice: the owner is Rust's runtime.
const IS_RUNTIME_S: u32 = 1;

/// Whether an event is of Rust's runtime itself.
#[inline]
fn runtime_s(posting: &Posting) -> u32 {
    if posting.site == RUNTIME { IS_RUNTIME_S } else { 0 }
}

struct Grouping {
    by: By,
    clock: Clock,
    /// Where call sites share groups: the group of each site, and the groups' names.
    of_sites: Vec<u32>,
    names: Vec<Option<Arc<str>>>,
    tallies: Tallies,
    levels: Levels,
    lifetimes: Vec<LifetimeSum>,
    large: LargeSizes,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    obtained: Stamp,
    size: HeldSize,
    owner: Owner,
}

impl Grouping {
    fn new(by: By, clock: Clock, prepared: &Prepared<'_>) -> Self {
        let name = |site: &CallSite| match by {
            By::Function => Some(Arc::clone(&site.function)),
            By::File => site.file.clone(),
            By::Crate => crate_name(site).map(Arc::from),
            _ => None,
        };
        let mut numbers: FxHashMap<Option<Arc<str>>, u32> = FxHashMap::default();
        let mut names = Vec::new();
        let sites = (0..prepared.sites.len() as SiteIndex).filter_map(|at| prepared.sites.get(at));
        let mut number = |site: &CallSite| {
            let name = name(site);
            *numbers.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                (names.len() - 1) as u32
            })
        };
        let of_sites = match by {
            By::Function | By::File | By::Crate => sites.map(&mut number).collect(),
            _ => Vec::new(),
        };
        Self {
            by,
            clock,
            of_sites,
            names,
            tallies: Tallies::new(clock),
            levels: Levels::default(),
            lifetimes: Vec::new(),
            large: LargeSizes::default(),
        }
    }
}

impl Account for Grouping {
    type Held = Held;

    const NONE: Held = Held { obtained: 0, size: HeldSize::ZERO, owner: 0 };

    #[inline]
    fn parts(&self, posting: &Posting) -> OwnerParts {
        let key = match self.by {
            By::Site => posting.site,
            By::Function | By::File | By::Crate => {
                self.of_sites.get(posting.site as usize).copied().unwrap_or_default()
            }
            By::Thread => posting.thread,
            By::Span => posting.span_kind,
            By::Size => classes::of_size(posting.event.size),
            By::Lifetime => 0,
        };
        OwnerParts { key, thread: posting.thread, span: runtime_s(posting) }
    }

    #[inline]
    fn touch(&mut self, owner: Owner) -> u64 {
        self.tallies.touch(owner)
    }

    #[inline]
    fn made(&mut self, owner: Owner, _: OwnerParts, posting: &Posting) {
        self.tallies.count(owner, &posting.event);
    }

    #[inline]
    fn obtained(&mut self, owner: Owner, parts: OwnerParts, posting: &Posting) -> Held {
        let Posted { address, size, stamp, .. } = posting.event;
        self.tallies.obtain(owner, size, stamp);
        self.levels.rise(parts.key, size, stamp);
        Held { obtained: stamp, size: self.large.hold(address, size), owner }
    }

    #[inline]
    fn owner(held: &Held) -> Owner {
        held.owner
    }

    #[inline]
    fn released(&mut self, held: Held, release: &Release<'_>) {
        let size = self.large.release(release.address, held.size);
        self.tallies.release(held.owner, size, release.by.event.stamp, release.temporary);
        let group = release.owner.key;
        self.levels.fall(group, size);
        if group as usize >= self.lifetimes.len() {
            self.lifetimes.resize(group as usize + 1, LifetimeSum::default());
        }
        let (begin, end) = (self.clock.ns(held.obtained), self.clock.ns(release.by.event.stamp));
        self.lifetimes[group as usize].add(end.saturating_sub(begin));
    }
}
