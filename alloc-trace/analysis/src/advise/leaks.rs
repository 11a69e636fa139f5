//! Call sites most of whose blocks are never freed, or that leave some behind again and again.
//!
//! Again and again: of the blocks that are never freed, an eighth or more is of each quarter of all
//! that the call site allocated. What a program builds once and keeps is of one time: where all requests of a
//! call site lie within an eighth of the recording, less than [`KEPT_BYTES`] are not told of.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};

/// Less than this is the program's own business, where it is there once.
const KEPT_BYTES: u64 = 4096;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let steady = site.left_in_quarters.iter().all(|&left| left > 0 && left * 8 >= site.live);
    let over = site.last_request.saturating_sub(site.first_request);
    let once = over < context.duration / 8;
    let is_case = site.live >= context.thresholds.min_blocks
        && (site.live * 2 > site.blocks || steady)
        && (!once || site.live_bytes >= KEPT_BYTES);
    let remedy = if once {
        "made at one time and kept to the end: right for what the program needs for as long as it \
         runs, such as a static; else a forgotten or leaked value, or a cycle of Rc that needs a Weak"
    } else {
        "find who owns them: a cycle of Rc needs a Weak, a forgotten or leaked value an owner, a \
         collection that only grows a bound"
    };
    is_case.then(|| Verdict {
        rule: Rule::Leaks,
        bytes: site.live_bytes,
        events: 0,
        evidence: Evidence::Leaks {
            never_freed: site.live,
            in_quarters: site.left_in_quarters,
            over_ns: (context.ns)(over),
        },
        remedy: remedy.into(),
    })
}
