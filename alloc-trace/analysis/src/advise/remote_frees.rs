//! Call sites whose blocks are mostly freed by other threads: each costs both heaps more.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

/// From so many on it matters.
const BLOCKS: u64 = 100;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let is_case =
        site.remote >= BLOCKS.max(context.thresholds.min_blocks) && site.remote * 2 > site.freed;
    is_case.then(|| Verdict {
        rule: Rule::RemoteFrees,
        bytes: site.remote_bytes,
        events: site.remote,
        evidence: Evidence::RemoteFrees { remote: site.remote, freed: site.freed },
        remedy: "send many values in one block, or send buffers back to be used again".into(),
    })
}
