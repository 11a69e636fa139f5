//! Call sites most of whose blocks are never freed, or that leave some behind again and again.
//!
//! Again and again: of the blocks that are never freed, an eighth or more is of each quarter of all
//! that the call site allocated. What a program builds once and keeps is of one time.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let steady = site.left_in_quarters.iter().all(|&left| left > 0 && left * 8 >= site.live);
    let is_case =
        site.live >= context.thresholds.min_blocks && (site.live * 2 > site.blocks || steady);
    is_case.then(|| Verdict {
        rule: Rule::Leaks,
        bytes: site.live_bytes,
        events: 0,
        evidence: Evidence::Leaks { never_freed: site.live, in_quarters: site.left_in_quarters },
        remedy: "find who owns them: a cycle of Rc needs a Weak, a forgotten or leaked value an \
                 owner, a collection that only grows a bound"
            .into(),
    })
}
