//! One buffer after the other, where one that is used again would do.
//!
//! A call site is a case if at least half of its blocks were allocated with the backtrace of the one
//! before in their thread, which was freed already, and not by another thread: that one has no buffer to
//! give back. Those of a `Box` or of what is not known have one size, nine in ten of them; a list, a text
//! or a hash table takes any. Others may live meanwhile: what is kept is no buffer, and what is dropped at
//! once is. What the standard library has for a thread nobody can make once.
//!
//! Told of from [`REPEATS`] on, and of fewer where they are a part of the program's events or bytes.

use super::quantity::in_bytes;
use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict};
use crate::holder::Holder;

/// From so many repetitions on it is a hot loop.
const REPEATS: u64 = 100;
/// Where this part of the blocks is not dropped at once, some of them are wanted.
const KEPT_PART: u64 = 100;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let (size, of_that_size) = site.sizes().most_frequent();
    let holder = site.holder;
    let one_size = of_that_size * 10 >= site.blocks * 9;
    let takes_any = matches!(holder, Some(Holder::Vec | Holder::Text | Holder::HashTable));
    let usual = if one_size { size } else { site.sizes().mean() };
    let (bytes, events) = (site.repeats.saturating_mul(usual), site.repeats * 2);
    let is_case = site.blocks >= context.thresholds.min_blocks
        && (site.repeats >= REPEATS
            || (site.repeats >= context.thresholds.min_blocks && context.matters(events, bytes)))
        && site.repeats * 2 >= site.blocks
        && (one_size || takes_any)
        && site.remote * 2 <= site.freed
        && holder != Some(Holder::Thread);
    let kept = site.blocks.saturating_sub(site.brief);
    let some_kept = kept >= context.thresholds.min_blocks && kept * KEPT_PART >= site.blocks;
    is_case.then(|| Verdict {
        rule: Rule::Temporaries,
        bytes,
        events,
        evidence: Evidence::Temporaries {
            size,
            of_that_size,
            max_size: site.sizes().max(),
            repeats: site.repeats,
        },
        remedy: remedy(holder, some_kept, one_size.then_some(size)),
    })
}

/// What to do; `size` is that of all of them, where they have one.
fn remedy(holder: Option<Holder>, some_kept: bool, size: Option<u64>) -> String {
    let (it, them) = match size {
        Some(size) => (format!("the {}", in_bytes(size)), "them"),
        None => ("the buffer".to_owned(), "it"),
    };
    match holder {
        Some(Holder::Channel) => {
            "make one channel before the loop and use it for all of them; each \
                                  sender can have a clone of its Sender"
                .into()
        }
        Some(Holder::BTree) => {
            "hold the few entries in a sorted Vec that is cleared and used again: \
                                a BTreeMap that is cleared gives its nodes back"
                .into()
        }
        // A key that is made in order to ask whether there is one like it.
        Some(Holder::Text | Holder::Vec) if some_kept => {
            "most are dropped at once and few are kept: borrow to look up or to compare, such as \
             get_mut(&str) before entry(String), and make one only where it is kept; else use one \
             buffer again: clear() keeps the capacity"
                .into()
        }
        Some(Holder::Box | Holder::Shared) if some_kept => {
            "most are dropped at once and few are kept: hold the value itself until it is known to \
             be kept"
                .into()
        }
        Some(Holder::Box | Holder::Shared) => {
            format!("make {it} once, before the loop, and give them a new value each time")
        }
        _ => {
            format!(
                "allocate {it} once, before the loop, and use {them} again: clear() keeps the capacity"
            )
        }
    }
}
