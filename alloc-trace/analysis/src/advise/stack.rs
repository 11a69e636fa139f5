//! Blocks that could be values in a stack frame.
//!
//! A call site is a candidate if at least 95 % of its blocks were freed by their own thread within one
//! activation of a function of the program, are small ([`FIXED_BYTES`] if all have one size,
//! [`BOUNDED_BYTES`] otherwise), and few lived at a time within an activation ([`AT_ONCE`], of
//! [`FRAME_BYTES`] together).

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict, in_bytes};

/// The largest block of a call site whose blocks all have one size.
const FIXED_BYTES: u64 = 1024;
/// The largest block of a call site whose blocks have several sizes.
const BOUNDED_BYTES: u64 = 256;
/// The most blocks that live at a time: beyond it is a collection.
pub(super) const AT_ONCE: u64 = 16;
/// What they may take of a frame together.
const FRAME_BYTES: u64 = 4096;
/// The share of blocks that must be enclosed, in percent.
const ENCLOSED_PERCENT: u64 = 95;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let (min_size, max_size) = (site.sizes.min(), site.sizes.max());
    let enclosed: u64 = site.enclosed.values().map(|enclosed| enclosed.blocks).sum();
    let at_once = site.enclosed.values().map(|enclosed| enclosed.at_once).max()?;
    let fixed = min_size == max_size && !site.resized;
    let bound = if fixed { FIXED_BYTES } else { BOUNDED_BYTES };
    let is_candidate = site.blocks >= context.thresholds.min_blocks
        && enclosed * 100 >= site.blocks * ENCLOSED_PERCENT
        && max_size <= bound
        && at_once <= AT_ONCE
        && at_once.saturating_mul(max_size) <= FRAME_BYTES;
    if !is_candidate {
        return None;
    }
    let most = |&(function, enclosed): &(_, &super::site::Enclosed)| {
        (enclosed.blocks, std::cmp::Reverse(function))
    };
    let enclosers = site.enclosed.iter().map(|(&function, enclosed)| (function, enclosed));
    let (function, in_frame) = enclosers.max_by_key(most)?;
    let frame = (context.function)(function);
    let remedy = match (fixed, at_once) {
        (true, 0..=2) => format!(
            "hold it by value: a plain value or an array of {} in place of a Box or a Vec",
            in_bytes(max_size)
        ),
        (true, _) => format!(
            "hold them by value, in an array or an ArrayVec of {at_once} with {} each",
            in_bytes(max_size)
        ),
        (false, _) => format!(
            "use an ArrayVec or a SmallVec with room for {} in place of a Vec or a String",
            in_bytes(max_size)
        ),
    };
    Some(Verdict {
        rule: Rule::Stack,
        bytes: site.bytes,
        events: site.events,
        evidence: Evidence::Stack {
            min_size,
            max_size,
            enclosed,
            at_once,
            frame,
            in_frame: in_frame.blocks,
        },
        remedy,
    })
}
