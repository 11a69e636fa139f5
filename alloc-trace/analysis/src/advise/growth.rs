//! Blocks that grow by reallocation, where their size could have been asked for at once.
//!
//! A capacity is for every block of the call site, for those too that never grow. What it saves is the
//! reallocations to no more than it and what they copy; what it costs is what the smaller blocks ask for
//! beyond their need, and once more that part of it that is held at a time. That capacity is named that
//! saves the most beyond its cost; where none saves more than it costs none is recommended.

use super::quantity::exact;
use super::site::{Context, GrowthEvidence, SiteEvidence};
use super::{Evidence, Reserve, Rule, Verdict, table_entries};
use crate::holder::Holder;

/// What a reallocation costs beside its copy: about as much as copying this.
const STEP_BYTES: u64 = 64;

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let growth = &site.growth;
    // A single block that grew by many steps is as good a case as many that grew by few.
    if growth.steps.reallocations < context.thresholds.min_blocks {
        return None;
    }
    let [half, most, all] = [50, 90, 100].map(|percent| growth.largest.percentile(percent));
    let holder = site.holder;
    let beginning = growth.beginning;
    let element_size = match holder {
        Some(Holder::HashTable) => None,
        // A text's capacity is in bytes.
        Some(Holder::Text) => Some(1),
        _ => beginning.and_then(element_size),
    };
    let capacity = |bytes: u64| match (holder, element_size) {
        (Some(Holder::HashTable), _) => {
            let entries = |(first, second, _)| table_entries::entries(first, second, bytes);
            beginning.and_then(entries).map_or_else(
                || format!("with_capacity for the entries that fit {}", exact(bytes)),
                |entries| format!("with_capacity({entries})"),
            )
        }
        (_, Some(element)) => format!("with_capacity({})", bytes / element),
        (_, None) => format!("with_capacity for {}", exact(bytes)),
    };
    let reserves = reserves(site, growth);
    let best = reserves.iter().copied().max_by_key(Weighed::worth).filter(|best| best.worth() > 0);
    let usual = || reserves.iter().copied().find(|weighed| weighed.reserve.capacity >= most);
    let mut remedy = match best {
        Some(Weighed { reserve, .. }) => {
            let served = match reserve.served * 100 / growth.blocks.max(1) {
                100 => "them".to_owned(),
                percent => format!("{percent} % of those that grew"),
            };
            format!("reserve once: {} would have served {served}", capacity(reserve.capacity))
        }
        None => "no one capacity for all of them saves more than it costs: reserve what each one \
                 needs, where that is known before it is filled"
            .into(),
    };
    if growth.never_shrunk > 0 {
        remedy.push_str("; what stays for long after it grew: shrink_to_fit");
    }
    Some(Verdict {
        rule: Rule::Growth,
        bytes: growth.steps.copied_bytes,
        events: growth.steps.reallocations,
        evidence: Evidence::Growth {
            grown: growth.blocks,
            reallocations: growth.steps.reallocations,
            moves: growth.moves,
            capacity_50: half,
            capacity_90: most,
            capacity_100: all,
            element_size,
            reserve: best.or_else(usual).map(|weighed| weighed.reserve),
            worth_it: best.is_some(),
            never_shrunk: growth.never_shrunk,
            never_shrunk_bytes: growth.never_shrunk_bytes,
        },
        remedy,
    })
}

/// A capacity, and what all blocks of the call site would ask for beyond their need.
#[derive(Debug, Clone, Copy)]
struct Weighed {
    reserve: Reserve,
    unused_bytes: u64,
}

impl Weighed {
    /// What it saves beyond what it costs, in bytes that need not be copied.
    fn worth(&self) -> i128 {
        let Reserve { reallocations, copied_bytes, held_bytes, .. } = self.reserve;
        let saved = i128::from(copied_bytes) + i128::from(reallocations) * i128::from(STEP_BYTES);
        saved - i128::from(self.unused_bytes) - i128::from(held_bytes)
    }
}

/// Each size that a block grew to, as a capacity for all of them; in order.
fn reserves(site: &SiteEvidence, growth: &GrowthEvidence) -> Vec<Weighed> {
    let mut sizes = growth.sizes.in_order().into_iter().peekable();
    let mut steps = growth.steps.in_order().into_iter().peekable();
    let (mut smaller, mut smaller_bytes) = (0_u64, 0_u128);
    let (mut reallocations, mut copied_bytes, mut served) = (0_u64, 0_u64, 0_u64);
    let weigh = |(capacity, count): (u64, u64)| {
        while let Some((size, count)) = sizes.next_if(|&(size, _)| size < capacity) {
            smaller += count;
            smaller_bytes += u128::from(size) * u128::from(count);
        }
        while let Some((_, count, copied)) = steps.next_if(|&(size, ..)| size <= capacity) {
            reallocations += count;
            copied_bytes = copied_bytes.saturating_add(copied);
        }
        served += count;
        let unused = u128::from(capacity) * u128::from(smaller) - smaller_bytes;
        let held = unused * u128::from(site.peak_blocks) / u128::from(site.blocks.max(1));
        let in_bytes = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX);
        Weighed {
            reserve: Reserve {
                capacity,
                served,
                reallocations,
                copied_bytes,
                held_bytes: in_bytes(held),
            },
            unused_bytes: in_bytes(unused),
        }
    };
    growth.largest.in_order().into_iter().map(weigh).collect()
}

/// The size of a `Vec`'s elements, from its first two sizes and its alignment.
///
/// `Vec` begins with room for 8 elements of one byte or 4 larger ones, and a full `vec![x]` of one
/// goes on with as many; other beginnings tell nothing.
fn element_size((first, second, align): (u64, u64, u64)) -> Option<u64> {
    let is_size = |size: &u64| *size > 0 && size.is_multiple_of(align);
    if align == 1 {
        return (first == 8 && second == 16).then_some(1);
    }
    if second > 2 * first {
        return second.is_multiple_of(4).then_some(second / 4).filter(|size| size == &first);
    }
    first.is_multiple_of(4).then_some(first / 4).filter(is_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_known_where_a_vec_began_as_it_does() {
        assert_eq!(element_size((8, 16, 1)), Some(1));
        assert_eq!(element_size((32, 64, 8)), Some(8));
        assert_eq!(element_size((96, 192, 8)), Some(24));
        assert_eq!(element_size((8, 32, 8)), Some(8), "vec![x]");
        assert_eq!(element_size((100, 200, 1)), None);
        assert_eq!(element_size((10, 20, 2)), None);
        assert_eq!(element_size((0, 8, 8)), None);
    }
}
