//! Many small blocks that live together, where what surrounds a block weighs as much as the block.
//!
//! Nine in ten have one size, or are lists or text, and small. Many are [`AT_ONCE`]; of values of one size
//! in a `Box`, an `Rc` or an `Arc` it is enough that as many are made and freed by their own thread, if more live
//! at a time than a stack frame's array would hold ([`super::stack`]), and they are a part of the program's
//! events that matters. There it is the requests that cost, such as those of a list of `Box<dyn …>` that is made in each
//! round.

use super::quantity::in_bytes;
use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict, stack};
use crate::holder::Holder;

/// The largest block that is small.
const SMALL_BYTES: u64 = 64;
/// So many of them, in percent, are to be small.
const NEARLY_ALL_PERCENT: u64 = 90;
/// From so many at a time on it matters.
const AT_ONCE: u64 = 1000;
/// What a block costs beyond its payload: the pointer to it, and rounding up to this.
const POINTER_BYTES: u64 = 8;
const ROUNDED_TO_BYTES: u64 = 16;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    // Where nothing is known of what they are, a list may be among them.
    let one_size = site.prevailing_size(NEARLY_ALL_PERCENT);
    let size = one_size.unwrap_or_else(|| site.sizes().percentile(NEARLY_ALL_PERCENT));
    let min_size = one_size.unwrap_or_else(|| site.sizes().min());
    let holder = site.holder;
    // Ranges of one buffer may have any length, and an element of a list one only.
    let of_ranges = matches!(holder, Some(Holder::Vec | Holder::Text));
    let own = site.enclosed.values().map(|enclosed| enclosed.blocks).sum::<u64>();
    let again_and_again = matches!(holder, Some(Holder::Box | Holder::Shared))
        && site.peak_blocks > stack::AT_ONCE
        && own >= AT_ONCE
        && own * 100 >= site.blocks * NEARLY_ALL_PERCENT
        && context.matters(site.events, 0);
    let is_case = site.blocks >= context.thresholds.min_blocks
        && (site.peak_blocks >= AT_ONCE || again_and_again)
        && (of_ranges || one_size.is_some())
        && size <= SMALL_BYTES
        && !matches!(holder, Some(Holder::Channel | Holder::Thread));
    let usual = site.sizes().percentile(50);
    let overhead = usual.next_multiple_of(ROUNDED_TO_BYTES) - usual + POINTER_BYTES;
    is_case.then(|| Verdict {
        rule: Rule::SmallBoxes,
        bytes: site.peak_blocks * overhead,
        events: site.events,
        evidence: Evidence::SmallBoxes { min_size, size, peak_blocks: site.peak_blocks },
        remedy: match holder {
            Some(Holder::Vec | Holder::Text) => {
                "hold all of them in one buffer and refer to them by range, in place of one each; \
                 where they are parts of what is there anyway, borrow them from it"
                    .into()
            }
            Some(Holder::HashTable | Holder::BTree) => {
                "hold the entries of all of them in one map, whose key says whose they are, or in a \
                 sorted Vec, in place of a map each"
                    .into()
            }
            Some(Holder::Shared) => format!(
                "hold the {} by value in one Vec and refer to them by index, in place of an Rc or an \
                 Arc each",
                in_bytes(size)
            ),
            _ => format!(
                "hold the {} by value in one Vec and refer to them by index, in place of a Box each; \
                 of Box<dyn …> the types become variants of an enum",
                in_bytes(size)
            ),
        },
    })
}
