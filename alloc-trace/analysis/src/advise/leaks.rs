//! Call sites most of whose blocks are never freed.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let is_case = site.live >= context.thresholds.min_blocks && site.live * 2 > site.blocks;
    is_case.then(|| Verdict {
        rule: Rule::Leaks,
        bytes: site.live_bytes,
        events: 0,
        evidence: Evidence::Leaks { never_freed: site.live },
        remedy: "find who owns them: a cycle of Rc needs a Weak, a forgotten or leaked value an \
                 owner, a collection that only grows a bound"
            .into(),
    })
}
