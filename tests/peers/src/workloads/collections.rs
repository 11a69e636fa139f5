//! Maps that take up and give up entries.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::race::{Done, Raced, race};
use crate::random::Random;

/// A map of strings to strings of some length: entries come and go, at about 20,000 of them.
pub(super) fn hash_map(threads: usize) -> Raced {
    let steps = 2_400_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut map: HashMap<String, String, BuildHasherDefault<DefaultHasher>> =
            HashMap::default();
        let mut checksum = 0u64;
        for _ in 0..steps {
            let key = format!("key-{}", random.below(40_000));
            if random.below(2) == 0 {
                let value = "v".repeat(1 + random.below(100));
                map.insert(key, value);
            } else if let Some(value) = map.remove(&key) {
                checksum += value.len() as u64;
            }
        }
        Done { operations: steps, checksum: checksum + map.len() as u64 }
    })
}

/// A tree whose values are vectors: entries come and go, at about 50,000 of them.
pub(super) fn btree_map(threads: usize) -> Raced {
    let steps = 2_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut map = BTreeMap::new();
        let mut checksum = 0u64;
        for step in 0..steps {
            let key = random.below(100_000);
            if random.below(2) == 0 {
                map.insert(key, vec![step; 1 + random.below(8)]);
            } else if let Some(value) = map.remove(&key) {
                checksum += value.len() as u64;
            }
        }
        Done { operations: steps, checksum: checksum + map.len() as u64 }
    })
}
