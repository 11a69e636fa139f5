//! What could leave the heap, or use it less: findings, each with its call site, its evidence and
//! what it would save.
//!
//! A *block* here is one piece of data from its allocation to its free: a reallocation carries it on,
//! and it stays its allocation's. It belongs to the call site, the thread and the moment of its
//! allocation. Each rule is one file; each looks at what was gathered of the blocks of one call site that are the
//! memory of one thing: a list, boxes, text.
//!
//! # What a stack candidate rests on
//!
//! A recording tells for each event how many of the thread's outermost frames are the same
//! activations as at the event before. A frame that stays from a block's allocation to its free
//! *encloses* the block's life. What no recording tells: a function that returned and was called
//! again from the same place, with no event in between that shows it. A block that is handed from
//! one such call to the next counts as enclosed by the function.

mod activations;
mod batch;
mod block;
mod gather;
mod growth;
mod late_drops;
mod leaks;
mod made_in;
mod makers;
mod origins;
mod quantity;
mod remote_frees;
mod site;
mod sizes;
mod small_boxes;
mod stack;
mod sums;
mod table_entries;
mod teller;
mod temporaries;
mod watermark;

use std::sync::Arc;

use alloc_trace_format::Recording;
use serde::Serialize;

use self::gather::Gather;
use self::site::{Context, SiteEvidence};
use crate::call_site::CallSite;
use crate::error::AnalysisError;
use crate::holder::Holder;
use crate::options::Options;
use crate::recording_state::RecordingState;
use crate::replay::{Prepared, Replay};
use crate::sites::RUNTIME;

/// What could leave the heap.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Advice {
    /// How far the recording can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// Whether there are backtraces, or no event that could have one. Without them all blocks are of one call site, and whether a
    /// block could live on the stack cannot be told.
    pub backtraces: bool,
    /// In the order of [`Rule`]; within a rule by the events that would be saved, then the bytes. Stack
    /// candidates that may be handed from one call to the next come after those that are not.
    pub findings: Vec<Finding>,
}

/// Something that could be done better at a call site.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was found.
    pub rule: Rule,
    /// Where the blocks are allocated.
    #[serde(flatten)]
    pub site: CallSite,
    /// What the blocks are the memory of, as far as the names of the library's functions that were called there
    /// tell. Where a call site allocates several such things each is judged by itself.
    pub holder: Option<Holder>,
    /// How many blocks of that kind the call site allocated.
    pub blocks: u64,
    /// Requested bytes that would not be asked for, copied or held: the rule says which.
    pub bytes: u64,
    /// Heap events that would not happen, at most.
    pub events: u64,
    /// What the finding rests on.
    pub evidence: Evidence,
    /// What to do, in Rust's words.
    pub remedy: String,
}

/// What a finding is about. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// Blocks that could be values in a stack frame. `bytes` are those requested.
    Stack,
    /// Blocks that grow by reallocation. `bytes` are those that moving could copy.
    Growth,
    /// One buffer after the other where one would do. `bytes` are those requested after the first.
    Temporaries,
    /// Blocks that are freed long after anything happened at their call site, or long after the `tracing`
    /// span that they were made in had closed. `bytes` are theirs.
    LateDrops,
    /// Blocks that are never freed. `bytes` are theirs.
    Leaks,
    /// Many small blocks that live together. `bytes` are those beyond the payload, at the peak.
    SmallBoxes,
    /// Blocks that other threads free. `bytes` are theirs.
    RemoteFrees,
}

impl Rule {
    /// All rules, in the order in which findings are given.
    pub const ALL: [Self; 7] = [
        Self::Stack,
        Self::Growth,
        Self::Temporaries,
        Self::LateDrops,
        Self::Leaks,
        Self::SmallBoxes,
        Self::RemoteFrees,
    ];
}

/// What a finding rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Evidence {
    /// Of [`Rule::Stack`].
    Stack {
        /// The smallest block, in requested bytes; where 95 % of them have one size, that.
        min_size: u64,
        /// The size that 95 % of them do not exceed.
        max_size: u64,
        /// Blocks whose whole life lay within one activation of a function in which few lived at a time.
        enclosed: u64,
        /// The most of them that lived at a time within one such activation.
        at_once: u64,
        /// The function whose frame enclosed most of them.
        frame: Arc<str>,
        /// How many lived within an activation of that one.
        in_frame: u64,
        /// How many were freed while one was live that their thread had made here later. Where nearly all
        /// were, they may be handed from one call to the next, through a field or a static.
        after_next: u64,
    },
    /// Of [`Rule::Growth`].
    Growth {
        /// Blocks that were reallocated to a larger size.
        grown: u64,
        /// Reallocations, those that made blocks smaller left out.
        reallocations: u64,
        /// Those of them that moved the block.
        moves: u64,
        /// The capacity in bytes that would have served half of the blocks that grew.
        capacity_50: u64,
        /// The one that would have served nine in ten.
        capacity_90: u64,
        /// The one that would have served all.
        capacity_100: u64,
        /// An element's size, guessed from how `Vec` begins to grow.
        element_size: Option<u64>,
        /// What the capacity does that saves the most beyond what it costs; where none does, what the one
        /// does that would have served nine in ten.
        reserve: Option<Reserve>,
        /// Whether that capacity saves more than it costs.
        worth_it: bool,
        /// Blocks that grew, never shrank, and lived for half of the recording after they had grown.
        never_shrunk: u64,
        /// Their bytes; up to half of them may never have been used.
        never_shrunk_bytes: u64,
    },
    /// Of [`Rule::Temporaries`].
    Temporaries {
        /// The size that most of them have.
        size: u64,
        /// How many have it.
        of_that_size: u64,
        /// The largest size.
        max_size: u64,
        /// Blocks whose predecessor in their thread had the same backtrace and was freed already.
        repeats: u64,
    },
    /// Of [`Rule::LateDrops`].
    LateDrops {
        /// Blocks that were freed late; where `span` is given those that were never freed are among them.
        late: u64,
        /// The least time from the call site's last request to such a free, in nanoseconds; where `span` is
        /// given from the end of a block's span to its free, or to the end of the recording.
        least_idle_ns: u64,
        /// The spans that they outlived, where those tell more.
        span: Option<OutlivedSpan>,
    },
    /// Of [`Rule::Leaks`].
    Leaks {
        /// Blocks that were never freed.
        never_freed: u64,
        /// How many of them are of the first, second, third and last quarter of all that the call
        /// site allocated.
        in_quarters: [u64; 4],
        /// The time from the call site's first request to its last one, in nanoseconds.
        over_ns: u64,
    },
    /// Of [`Rule::SmallBoxes`].
    SmallBoxes {
        /// The smallest size; where nine in ten have one size, that.
        min_size: u64,
        /// The size that nine in ten of them do not exceed.
        size: u64,
        /// The most that lived at a time.
        peak_blocks: u64,
    },
    /// Of [`Rule::RemoteFrees`].
    RemoteFrees {
        /// Blocks that another thread freed.
        remote: u64,
        /// Blocks that were freed at all.
        freed: u64,
    },
}

/// What blocks outlived that were made in it, or in spans within it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutlivedSpan {
    /// The name of those spans.
    pub name: Arc<str>,
    /// How long the longest of them lived, in nanoseconds.
    pub longest_ns: u64,
    /// How many of the blocks were never freed.
    pub never_freed: u64,
    /// What the blocks held past their spans, in bytes, on average over the recording.
    pub held_bytes: u64,
}

/// What a capacity would do that every block of a call site had from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reserve {
    /// The capacity, in bytes.
    pub capacity: u64,
    /// How many of the blocks that grew would not have grown.
    pub served: u64,
    /// The reallocations that would not happen.
    pub reallocations: u64,
    /// The bytes that these copied at most.
    pub copied_bytes: u64,
    /// The bytes that would be held at a time beyond what the blocks need, those included that never
    /// grew.
    pub held_bytes: u64,
}

/// What is worth a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub(crate) min_blocks: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { min_blocks: 10 }
    }
}

impl Thresholds {
    /// Nothing is said of a call site with fewer blocks than this; 10 by default.
    ///
    /// With 1 every block is a case; the rules have bounds of their own, and stay.
    #[must_use]
    pub const fn min_blocks(mut self, blocks: u64) -> Self {
        self.min_blocks = blocks;
        self
    }
}

impl Advice {
    /// Reads a whole recording and looks for what could be done better.
    ///
    /// ```no_run
    /// use alloc_trace_analysis::{Advice, Options, Recording, Thresholds};
    ///
    /// let recording = Recording::open("app.trace".as_ref())?;
    /// let advice = Advice::of(&recording, Options::default(), Thresholds::default())?;
    /// for finding in &advice.findings {
    ///     println!("{}: {}", finding.site.function, finding.remedy);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the operating system cannot read the file.
    pub fn of(
        recording: &Recording,
        options: Options,
        thresholds: Thresholds,
    ) -> Result<Self, AnalysisError> {
        let prepared = Self::prepare(recording, options)?;
        Self::of_prepared(recording, prepared, thresholds)
    }

    pub(crate) fn prepare(
        recording: &Recording,
        options: Options,
    ) -> Result<Prepared<'_>, AnalysisError> {
        Prepared::new(recording, Options { activations: true, ..options })
    }

    pub(crate) fn of_prepared(
        recording: &Recording,
        prepared: Prepared<'_>,
        thresholds: Thresholds,
    ) -> Result<Self, AnalysisError> {
        let mut replay = Replay::new(prepared).with_span_lives();
        let mut gather = Gather::new(&replay.prepared);
        while gather.go_on(&mut replay)? {}
        let backtraces = gather.has_backtraces();
        let inferred_frees = gather.inferred_frees();
        let peak_bytes = gather.peak_bytes();
        let sites = gather.finish(&mut replay);
        let (prepared, kinds) = (&replay.prepared, replay.spans.kinds());
        let clock = *recording.clock();
        let start = recording.header().start.ticks;
        let ns = |ticks| clock.ns(start.saturating_add(ticks));
        let context = Context {
            thresholds,
            peak_bytes,
            events: sites.iter().map(|site| site.events).sum(),
            bytes: sites.iter().fold(0, |sum, site| sum.saturating_add(site.bytes)),
            duration: prepared.definitions.last_stamp.saturating_sub(start),
            function: &|function| {
                let name = prepared.frames.as_ref().and_then(|frames| frames.function(function));
                name.map_or_else(|| "[unknown]".into(), Arc::clone)
            },
            span: &|kind| {
                kinds.get(kind as usize).map_or_else(|| "".into(), |kind| Arc::clone(&kind.name))
            },
            ns: &ns,
        };
        let mut findings = Vec::new();
        // Of what the runtime does for itself nobody can change anything.
        for evidence in sites.iter().filter(|evidence| evidence.site != RUNTIME) {
            let Some(site) = prepared.sites.get(evidence.site) else { continue };
            let found = judge(evidence, &context);
            findings.extend(found.into_iter().map(|verdict| Finding {
                rule: verdict.rule,
                site: site.clone(),
                holder: evidence.holder,
                blocks: evidence.blocks,
                bytes: verdict.bytes,
                events: verdict.events,
                evidence: verdict.evidence,
                remedy: verdict.remedy,
            }));
        }
        findings.sort_by(|one, other| {
            let saved = |finding: &Finding| (finding.events, finding.bytes);
            let last = |finding: &Finding| finding.evidence.is_handed_on();
            let order = (one.rule, last(one)).cmp(&(other.rule, last(other)));
            let order = order.then_with(|| saved(other).cmp(&saved(one)));
            order.then_with(|| one.site.cmp(&other.site))
        });
        let state = RecordingState::new(recording, prepared).inferred(inferred_frees);
        Ok(Self { state, backtraces, findings })
    }
}

/// What a rule says of a call site.
#[derive(Debug)]
struct Verdict {
    rule: Rule,
    bytes: u64,
    events: u64,
    evidence: Evidence,
    remedy: String,
}

/// Asks every rule. What could live on the stack is told no more of: it needs no block at all.
fn judge(site: &SiteEvidence, context: &Context<'_>) -> Vec<Verdict> {
    let growth = growth::judge(site, context);
    let stack = stack::judge(site, context);
    if stack.as_ref().is_some_and(|stack| !stack.evidence.is_handed_on()) {
        return stack.into_iter().chain(growth).collect();
    }
    let late = late_drops::judge(site, context);
    let lasting = match late {
        // Who owns what is never freed is asked first.
        Some(late) if late_drops::is_mostly_left(&late.evidence) => {
            leaks::judge(site, context).or(Some(late))
        }
        Some(late) => Some(late),
        None => leaks::judge(site, context),
    };
    [
        stack,
        growth,
        temporaries::judge(site, context),
        lasting,
        small_boxes::judge(site, context),
        remote_frees::judge(site, context),
    ]
    .into_iter()
    .flatten()
    .collect()
}
