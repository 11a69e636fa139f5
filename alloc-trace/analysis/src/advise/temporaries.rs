//! One buffer after the other, where one that is used again would do.
//!
//! A call site is a case if nine in ten of its blocks have one size, and at least [`REPEATS`] and half
//! of them were allocated with the backtrace of the one before, which was freed already, and not by
//! another thread: that one has no buffer to give back.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict, in_bytes};
use crate::holder::Holder;

/// From so many repetitions on it is a hot loop.
const REPEATS: u64 = 100;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let (size, of_that_size) = site.sizes.most_frequent();
    let is_case = site.blocks >= context.thresholds.min_blocks
        && site.repeats >= REPEATS
        && site.repeats * 2 >= site.blocks
        && of_that_size * 10 >= site.blocks * 9
        && site.remote * 2 <= site.freed;
    is_case.then(|| Verdict {
        rule: Rule::Temporaries,
        bytes: site.repeats.saturating_mul(size),
        events: site.repeats * 2,
        evidence: Evidence::Temporaries { size, of_that_size, repeats: site.repeats },
        remedy: match site.holder() {
            Some(Holder::Box | Holder::Shared) => format!(
                "make the {} once, before the loop, and give them a new value each time",
                in_bytes(size)
            ),
            _ => format!(
                "allocate the {} once, before the loop, and use them again: clear() keeps the \
                 capacity",
                in_bytes(size)
            ),
        },
    })
}
