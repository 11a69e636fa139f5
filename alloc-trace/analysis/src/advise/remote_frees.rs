//! Call sites whose blocks are mostly freed by other threads: each costs both heaps more.
//!
//! What the standard library has for a thread is freed by whichever is done last, and nobody can have it sent
//! otherwise: of that only is told that there could be fewer threads, where they are many and matter.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};
use crate::holder::Holder;

/// From so many on it matters.
const BLOCKS: u64 = 100;
/// From so many on those of threads do: there are about five to each.
const BLOCKS_OF_THREADS: u64 = 5000;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let of_threads = site.holder == Some(Holder::Thread);
    let least = if of_threads { BLOCKS_OF_THREADS } else { BLOCKS };
    let is_case = site.remote >= least.max(context.thresholds.min_blocks)
        && site.remote * 2 > site.freed
        && (!of_threads || context.matters(site.events, 0));
    let remedy = if of_threads {
        "start fewer threads: keep them for more than one piece of work each"
    } else {
        "send many values in one block, or send buffers back to be used again"
    };
    is_case.then(|| Verdict {
        rule: Rule::RemoteFrees,
        bytes: site.remote_bytes,
        events: site.remote,
        evidence: Evidence::RemoteFrees { remote: site.remote, freed: site.freed },
        remedy: remedy.into(),
    })
}
