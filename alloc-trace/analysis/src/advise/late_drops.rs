//! Blocks that are freed long after anything happened at their call site.
//!
//! Told where that is a part of what the program held at its peak: see [`PEAK_PART`]. A free is late where the call site's last request lies at least half of the recording before it.
//! Whether a block is read meanwhile is not recorded.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

/// Less than this is not worth an earlier drop.
const BYTES: u64 = 4096;
/// Nor is less than this part of what the program held at its peak.
const PEAK_PART: u64 = 20;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let least_bytes = BYTES.max(context.peak_bytes / PEAK_PART);
    let least_idle = site.least_idle.filter(|_| site.late_bytes >= least_bytes)?;
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
