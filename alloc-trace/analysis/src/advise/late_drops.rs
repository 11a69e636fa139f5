//! Blocks that are freed long after anything happened at their call site.
//!
//! A free is late where the call site's last request lies at least half of the recording before it.
//! Whether a block is read meanwhile is not recorded.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

/// Less than this is not worth an earlier drop.
const BYTES: u64 = 4096;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let least_idle = site.least_idle.filter(|_| site.late_bytes >= BYTES)?;
    Some(Verdict {
        rule: Rule::LateDrops,
        bytes: site.late_bytes,
        events: 0,
        evidence: Evidence::LateDrops { late: site.late, least_idle_ns: (context.ns)(least_idle) },
        remedy: "if nothing reads it any more, end its life earlier: drop(…), a block around its \
                 use, or mem::take"
            .into(),
    })
}
