//! Which call sites of a function are which of the same function's in another build, by their lines alone.
//!
//! Calls keep their order: of two that are found again the first stays the first. Where at least half of the
//! lines of the side that has fewer are the other's too, the function has not moved, and what is on a line of both is
//! one call; the others are looked at between those. Where there are as many calls on both sides they are paired
//! one by one. Else the function is thought to be moved by so many lines as leave the least distance between
//! what is paired, and few rather than many; what has no partner then is new, or gone.

/// For so many pairs of lines each distance between two of them is tried.
const MOST_PAIRS: usize = 1024;
/// For so many the least distance is looked for at all. A function that has thousands of call sites on either
/// side was made by a machine, or by somebody who means to keep the reader busy.
const MOST_DISTANCES: usize = 1 << 20;

/// The pairs among two lists of lines, each in order and without doubles, as indices of both.
pub(super) fn pair(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    let same = same_lines(old, new);
    if same.len() * 2 < old.len().min(new.len()) || same.is_empty() {
        return fit(old, new);
    }
    let mut pairs = Vec::new();
    let (mut old_from, mut new_from) = (0, 0);
    for &(old_at, new_at) in same.iter().chain([&(old.len(), new.len())]) {
        let between = fit(&old[old_from..old_at], &new[new_from..new_at]);
        pairs.extend(between.into_iter().map(|(one, other)| (old_from + one, new_from + other)));
        if old_at < old.len() {
            pairs.push((old_at, new_at));
        }
        (old_from, new_from) = (old_at + 1, new_at + 1);
    }
    pairs
}

fn same_lines(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    let at = |(index, line): (usize, &u32)| Some((index, new.binary_search(line).ok()?));
    old.iter().enumerate().filter_map(at).collect()
}

/// Pairs as many as there are on the side with fewer.
fn fit(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    if old.len() > new.len() {
        return fit(new, old).into_iter().map(|(one, other)| (other, one)).collect();
    }
    if old.len() == new.len() || old.is_empty() {
        return (0..old.len()).map(|index| (index, index)).collect();
    }
    let combinations = old.len() * new.len();
    if combinations > MOST_DISTANCES {
        return Vec::new();
    }
    let mut moves = vec![0];
    if combinations <= MOST_PAIRS {
        let by = |&old: &u32| new.iter().map(move |&new| i64::from(new) - i64::from(old));
        moves.extend(old.iter().flat_map(by));
        moves.sort_unstable_by_key(|&by| (by.abs(), by));
        moves.dedup();
    }
    let distances = moves.into_iter().map(|by| moved(old, new, by));
    distances.min_by_key(|&(distance, _)| distance).map_or_else(Vec::new, |(_, pairs)| pairs)
}

/// The pairs with the least distance in all where the first side, which has fewer lines, was moved by so many.
fn moved(old: &[u32], new: &[u32], by: i64) -> (u64, Vec<(usize, usize)>) {
    let spare = new.len() - old.len();
    // Of the first lines so far: by how many of the other side were left out, the least distance, and how many
    // had been left out before the last of them.
    let mut least = vec![0_u64; spare + 1];
    let mut left_out = Vec::with_capacity(old.len());
    for (index, &line) in old.iter().enumerate() {
        let (mut best, mut best_at) = (u64::MAX, 0);
        let mut chosen = Vec::with_capacity(spare + 1);
        for (skipped, least) in least.iter_mut().enumerate() {
            if *least < best {
                (best, best_at) = (*least, skipped);
            }
            let other = i64::from(new[index + skipped]);
            *least = best.saturating_add(other.abs_diff(i64::from(line) + by));
            chosen.push(best_at);
        }
        left_out.push(chosen);
    }
    let (mut skipped, distance) =
        (0..).zip(least).min_by_key(|&(_, distance)| distance).unwrap_or_default();
    let mut pairs = Vec::with_capacity(old.len());
    for (index, chosen) in left_out.iter().enumerate().rev() {
        pairs.push((index, index + skipped));
        skipped = chosen[skipped];
    }
    pairs.reverse();
    (distance, pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pairs by their lines.
    fn paired(old: &[u32], new: &[u32]) -> Vec<(u32, u32)> {
        pair(old, new).into_iter().map(|(one, other)| (old[one], new[other])).collect()
    }

    #[test]
    fn as_many_calls_are_paired_in_their_order_however_far_they_moved() {
        assert_eq!(paired(&[10, 20], &[310, 350]), [(10, 310), (20, 350)]);
    }

    #[test]
    fn of_a_function_that_has_not_moved_only_calls_between_the_same_ones_are_paired() {
        assert_eq!(paired(&[10, 20], &[20, 30]), [(20, 20)]);
        assert_eq!(paired(&[10, 20, 30], &[10, 22, 30]), [(10, 10), (20, 22), (30, 30)]);
        assert_eq!(paired(&[10, 20, 30], &[10, 30, 40]), [(10, 10), (30, 30)]);
    }

    #[test]
    fn what_is_left_over_is_new_or_gone_wherever_it_stands() {
        // Moved by 100 lines, and the middle one is gone; or is new.
        assert_eq!(paired(&[10, 20, 30], &[110, 130]), [(10, 110), (30, 130)]);
        assert_eq!(paired(&[110, 130], &[10, 20, 30]), [(110, 10), (130, 30)]);
        // Three lines more above.
        assert_eq!(paired(&[10, 20, 30], &[3, 13, 23, 33]), [(10, 13), (20, 23), (30, 33)]);
        assert_eq!(paired(&[10], &[12, 40]), [(10, 12)]);
        assert_eq!(paired(&[], &[1]), []);
    }

    #[test]
    fn thousands_of_calls_are_no_work_without_end() {
        let lines = |from: u32, count: u32| (from..from + count).collect::<Vec<_>>();
        assert_eq!(pair(&lines(1, 900), &lines(10_000, 1_000)).len(), 900);
        assert_eq!(pair(&lines(1, 60_000), &lines(100_000, 70_000)), []);
        assert_eq!(pair(&lines(1, 60_000), &lines(1, 70_000)).len(), 60_000);
        assert_eq!(pair(&lines(1, 60_000), &lines(100_000, 60_000)).len(), 60_000);
    }

    proptest! {
        #[test]
        fn pairs_are_in_order_and_the_least_distance_is_that_of_all_choices(
            old in prop::collection::btree_set(0_u32..60, 0..6),
            new in prop::collection::btree_set(0_u32..60, 0..8),
        ) {
            let (old, new): (Vec<_>, Vec<_>) = (old.into_iter().collect(), new.into_iter().collect());
            let pairs = pair(&old, &new);
            prop_assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1));
            prop_assert!(pairs.iter().all(|&(one, other)| one < old.len() && other < new.len()));
            if old.len() < new.len() {
                let (distance, pairs) = moved(&old, &new, 3);
                let of = |chosen: &[usize]| -> u64 {
                    let both = old.iter().zip(chosen);
                    both.map(|(&old, &at)| new[at].abs_diff(old + 3)).map(u64::from).sum()
                };
                let found: Vec<_> = pairs.iter().map(|pair| pair.1).collect();
                prop_assert_eq!(of(&found), distance);
                let choices = (0_u32..1 << new.len()).filter(|bits| bits.count_ones() as usize == old.len());
                for bits in choices {
                    let chosen: Vec<_> = (0..new.len()).filter(|at| bits >> at & 1 == 1).collect();
                    prop_assert!(of(&chosen) >= distance);
                }
            }
        }
    }
}
