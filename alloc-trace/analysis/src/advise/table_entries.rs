//! How many entries a hash table has room for, by the sizes of its memory.
//!
//! The standard library's table of `b` *buckets* is one block: their entries, rounded up to 16 bytes, a byte for each
//! bucket, and 16 more. It begins with 4 buckets, or with 8 where entries are small, and doubles; seven in
//! eight can be in use, of few one less than all. With 16 bytes in a group, as on x86_64, the first size tells how
//! many buckets there are: 4 or 8 more than a multiple of 16. Tables of one byte an entry are not known.

/// What is there beside the buckets.
const GROUP_BYTES: u64 = 16;

/// The entries that fit a table of so many bytes, one that first had and then grew to these; `None` where that does
/// not follow from them.
pub(super) fn entries(first: u64, second: u64, bytes: u64) -> Option<u64> {
    let buckets = match first % GROUP_BYTES {
        4 => 4,
        8 => 8,
        _ => return None,
    };
    // Rounding up hides an entry's exact size where it has few bytes.
    let most = first.checked_sub(buckets + GROUP_BYTES)? / buckets;
    let least = most.saturating_sub(GROUP_BYTES / buckets);
    let fitting = (least..=most).filter(|&entry| entry > 0).filter_map(|entry| {
        let is_table = table_bytes(buckets, entry)? == first;
        let has_grown = table_bytes(buckets * 2, entry)? == second;
        let all = std::iter::successors(Some(buckets), |buckets| buckets.checked_mul(2));
        let mut sizes = all.map_while(|all| Some((all, table_bytes(all, entry)?)));
        let (last, _) =
            sizes.find(|&(_, size)| size >= bytes).filter(|&(_, size)| size == bytes)?;
        (is_table && has_grown).then_some(last)
    });
    let mut found = None;
    for buckets in fitting {
        if found.is_some_and(|other| other != buckets) {
            return None;
        }
        found = Some(buckets);
    }
    found.map(|buckets| if buckets <= 8 { buckets - 1 } else { buckets / 8 * 7 })
}

fn table_bytes(buckets: u64, entry: u64) -> Option<u64> {
    let entries = buckets.checked_mul(entry)?.checked_next_multiple_of(GROUP_BYTES)?;
    entries.checked_add(buckets)?.checked_add(GROUP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_follow_from_how_a_table_grows() {
        // Of 16 bytes each: 4 buckets, 8, 16 and 2,048.
        assert_eq!(entries(84, 152, 288), Some(14));
        assert_eq!(entries(84, 152, 34_832), Some(1792));
        assert_eq!(entries(84, 152, 84), Some(3));
        // Of 12: 48 + 4 + 16 bytes, then 96 + 8 + 16. Of 2, which begin with 8.
        assert_eq!(entries(68, 120, 120), Some(7));
        assert_eq!(entries(40, 64, 112), Some(28));
        // Reserved first, grown otherwise, and of another size.
        assert_eq!(entries(2192, 4368, 8720), None);
        assert_eq!(entries(84, 300, 34_832), None);
        assert_eq!(entries(84, 152, 34_000), None);
        assert_eq!(entries(4, 8, 16), None);
        assert_eq!(entries(u64::MAX - 11, u64::MAX, u64::MAX), None);
    }
}
