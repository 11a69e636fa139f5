//! Many small blocks that live together, where what surrounds a block weighs as much as the block.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict, in_bytes};
use crate::holder::Holder;

/// The largest block that is small.
const SMALL_BYTES: u64 = 64;
/// From so many at a time on it matters.
const AT_ONCE: u64 = 1000;
/// What a block costs beyond its payload: the pointer to it, and rounding up to this.
const POINTER_BYTES: u64 = 8;
const ROUNDED_TO_BYTES: u64 = 16;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let size = site.sizes.max();
    let is_case = site.blocks >= context.thresholds.min_blocks
        && site.peak_blocks >= AT_ONCE
        && site.sizes.min() == size
        && !site.resized
        && size <= SMALL_BYTES;
    let overhead = size.next_multiple_of(ROUNDED_TO_BYTES) - size + POINTER_BYTES;
    is_case.then(|| Verdict {
        rule: Rule::SmallBoxes,
        bytes: site.peak_blocks * overhead,
        events: site.events,
        evidence: Evidence::SmallBoxes { size, peak_blocks: site.peak_blocks },
        remedy: match site.holder() {
            Some(Holder::Vec | Holder::Text) => {
                "hold all of them in one buffer and refer to them by range, in place of one each"
                    .into()
            }
            holder => format!(
                "hold the {} by value in one Vec and refer to them by index, in place of {} each",
                in_bytes(size),
                if holder == Some(Holder::Shared) { "an Rc or an Arc" } else { "a Box" }
            ),
        },
    })
}
