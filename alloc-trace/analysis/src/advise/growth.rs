//! Blocks that grow by reallocation, where their size could have been asked for at once.

use super::site::{Context, SiteEvidence};
use super::{Evidence, Rule, Verdict, in_bytes};

pub(super) fn judge(site: &SiteEvidence, context: &Context<'_>) -> Option<Verdict> {
    let growth = &site.growth;
    // A single block that grew by many steps is as good a case as many that grew by few.
    if growth.reallocations < context.thresholds.min_blocks {
        return None;
    }
    let [half, most, all] = [50, 90, 100].map(|percent| growth.largest.percentile(percent));
    let element_size = growth.beginning.and_then(element_size);
    let capacity = |bytes: u64| match element_size {
        Some(element) => format!("with_capacity({})", bytes / element),
        None => format!("with_capacity for {}", in_bytes(bytes)),
    };
    let mut remedy = if most == all {
        format!("reserve once: {} would have served them", capacity(all))
    } else {
        format!(
            "reserve once: {} would have served 90 % of them, {} all",
            capacity(most),
            capacity(all)
        )
    };
    if growth.never_shrunk > 0 {
        remedy.push_str("; what stays for long after it grew: shrink_to_fit");
    }
    Some(Verdict {
        rule: Rule::Growth,
        bytes: growth.copied_bytes,
        events: growth.reallocations,
        evidence: Evidence::Growth {
            grown: growth.blocks,
            reallocations: growth.reallocations,
            moves: growth.moves,
            capacity_50: half,
            capacity_90: most,
            capacity_100: all,
            element_size,
            never_shrunk: growth.never_shrunk,
            never_shrunk_bytes: growth.never_shrunk_bytes,
        },
        remedy,
    })
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
