//! Blocks that could be values in a stack frame.
//!
//! A call site is a candidate if at least 95 % of its blocks were freed by their own thread within one
//! activation of a function of the program where few lived at a time ([`AT_ONCE`], of [`FRAME_BYTES`]
//! together), and as many are small: [`FIXED_BYTES`] if they have one size, [`BOUNDED_BYTES`] otherwise.
//!
//! Of a block that is handed from one call to the next, through a field or a static, nothing but a hint
//! is recorded: it is freed when the next block of its call site is there already, which of a recursion is gone by
//! then. Where nearly all are, the candidate is told of last, and what to look at first is said.

use super::quantity::in_bytes;
use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};
use crate::holder::Holder;

/// The largest block of a call site whose blocks all have one size.
const FIXED_BYTES: u64 = 1024;
/// The largest block of a call site whose blocks have several sizes.
const BOUNDED_BYTES: u64 = 256;
/// The most blocks that live at a time: beyond it is a collection.
pub(super) const AT_ONCE: u64 = 16;
/// What they may take of a frame together.
const FRAME_BYTES: u64 = 4096;
/// The share of blocks that must be enclosed and small, in percent.
const NEARLY_ALL_PERCENT: u64 = 95;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let few = || site.enclosed.values().filter(|enclosed| enclosed.at_once <= AT_ONCE);
    let enclosed: u64 = few().map(|enclosed| enclosed.blocks).sum();
    let at_once = few().map(|enclosed| enclosed.at_once).max()?;
    let fixed = site.prevailing_size(NEARLY_ALL_PERCENT);
    let max_size = fixed.unwrap_or_else(|| site.sizes().percentile(NEARLY_ALL_PERCENT));
    let min_size = fixed.unwrap_or_else(|| site.sizes().min());
    let fixed = fixed.is_some();
    let bound = if fixed { FIXED_BYTES } else { BOUNDED_BYTES };
    let is_candidate = site.blocks >= context.thresholds.min_blocks
        && enclosed * 100 >= site.blocks * NEARLY_ALL_PERCENT
        && max_size <= bound
        && at_once.saturating_mul(max_size) <= FRAME_BYTES;
    // What a channel or a thread holds is another's to free, at any time.
    if !is_candidate || matches!(site.holder, Some(Holder::Channel | Holder::Thread)) {
        return None;
    }
    let most = |&(function, enclosed): &(_, &super::site::Enclosed)| {
        (enclosed.blocks, std::cmp::Reverse(function))
    };
    let enclosers = site.enclosed.iter().filter(|(_, enclosed)| enclosed.at_once <= AT_ONCE);
    let enclosers = enclosers.map(|(&function, enclosed)| (function, enclosed));
    let (function, in_frame) = enclosers.max_by_key(most)?;
    let frame = (context.function)(function);
    let holder = match site.holder {
        // Values in a `Box` that have any number of bytes: a `Box<str>` or the like.
        Some(Holder::Box) if !fixed && site.align_log2 == 0 => Some(Holder::Text),
        holder => holder,
    };
    let mut remedy = remedy(holder, fixed, max_size, at_once);
    let evidence = Evidence::Stack {
        min_size,
        max_size,
        enclosed,
        at_once,
        frame,
        in_frame: in_frame.blocks,
        after_next: enclosed.saturating_sub(site.innermost),
    };
    if evidence.is_handed_on() {
        remedy = format!(
            "look first whether a field or a static hands each of them on to the next call: then \
             it cannot live in a frame; else {remedy}"
        );
    }
    Some(Verdict { rule: Rule::Stack, bytes: site.bytes, events: site.events, evidence, remedy })
}

impl Evidence {
    /// Whether nearly all blocks of a stack candidate were freed while a later one was live: they may be handed from
    /// one call to the next, and then could not live in a frame. Of blocks that fit a frame together at least
    /// the last one of them was not.
    #[must_use]
    pub fn is_handed_on(&self) -> bool {
        match *self {
            Self::Stack { enclosed, after_next, .. } => {
                (enclosed - after_next.min(enclosed)).saturating_mul(AT_ONCE) < enclosed
            }
            _ => false,
        }
    }
}

fn remedy(holder: Option<Holder>, fixed: bool, max_size: u64, at_once: u64) -> String {
    let (bytes, few) = (in_bytes(max_size), at_once <= 2);
    match (holder, fixed) {
        (Some(Holder::Box), true) => {
            let most =
                if few { String::new() } else { format!(": at most {at_once} live at a time") };
            // A value cannot hold one of its own type but in a box.
            let unless = if at_once > 1 {
                ", unless the type of the value holds such boxes itself"
            } else {
                ""
            };
            format!(
                "hold the {bytes} by value and lend them by reference, in place of a Box{unless}{most}"
            )
        }
        (Some(Holder::Box), false) => {
            "take a generic parameter, or an enum of the types, in place of \
                                       a Box<dyn …>"
                .into()
        }
        (Some(Holder::Shared), _) => "hold the value itself and lend it by reference: none of \
                                             those that share it outlives the frame"
            .into(),
        (Some(Holder::Vec), _) if few => format!(
            "use an array, or an ArrayVec or a SmallVec with room for {bytes}, in place of a Vec"
        ),
        (Some(Holder::Text), _) => format!(
            "borrow the text, or use an ArrayString or a SmallVec with room for {bytes}, in place of \
             text of its own"
        ),
        (Some(Holder::HashTable | Holder::BTree), _) => {
            "so few entries are found as fast in an array or an ArrayVec, in place of a map".into()
        }
        (None, true) if few => {
            format!(
                "hold it by value: a plain value or an array of {bytes} in place of a Box or a Vec"
            )
        }
        (_, true) => {
            format!("hold them by value, in an array or an ArrayVec of {at_once} with {bytes} each")
        }
        (_, false) => format!(
            "use an ArrayVec or a SmallVec with room for {bytes} in place of a Vec or a String"
        ),
    }
}
