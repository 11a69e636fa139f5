//! Finds a place by its parent and its return address, while a call tree is put together.
//!
//! A parser's tree has millions of places, and nearly every search waits for memory. So an entry is one word,
//! eight to a line of a cache, the table has its size from the beginning, and [`Index::touch`] lets searches
//! that are to come wait together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::{Place, Places};

/// An open table, at most half full.
#[derive(Debug)]
pub(super) struct Index {
    /// Of each entry the place in the lower half, 0 for none, since the root is in no table; above it a half
    /// of its hash, so that other places are seldom looked at.
    entries: Vec<u64>,
    /// Drawn anew each time: nobody can make a recording whose places all meet in one entry.
    seed: u64,
}

impl Index {
    /// A table for so many places at most.
    pub(super) fn new(most: usize) -> Self {
        let entries = vec![0; (most * 2).next_power_of_two()];
        Self { entries, seed: RandomState::new().hash_one(most) }
    }

    /// What a search for such a place waits for. The number says nothing, but has to be used.
    #[inline]
    pub(super) fn touch(&self, parent: Place, address: u64) -> u64 {
        let (first, _) = self.begin(parent, address);
        self.entries.get(first).copied().unwrap_or(0)
    }

    /// The place that is there, or `next`, which is put there; `places` has what each place is.
    #[inline]
    pub(super) fn find_or_put(
        &mut self,
        (parent, address): (Place, u64),
        next: Place,
        places: &Places,
    ) -> Place {
        let (mut at, half) = self.begin(parent, address);
        while let Some(entry) = self.entries.get_mut(at) {
            if *entry == 0 {
                *entry = half | u64::from(next.0);
                return next;
            }
            let place = Place(*entry as u32);
            if *entry ^ u64::from(place.0) == half && places.get(place) == Some((parent, address)) {
                return place;
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
        next
    }

    /// Where a search begins, and the upper half of the entry that it looks for.
    #[inline]
    fn begin(&self, parent: Place, address: u64) -> (usize, u64) {
        let mixed = address ^ u64::from(parent.0).rotate_left(40) ^ self.seed;
        let product = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
        let hash = product as u64 ^ (product >> 64) as u64;
        let half = hash & 0xffff_ffff_0000_0000;
        (hash as usize & (self.entries.len() - 1), half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_both_of_its_parts() {
        let mut places = Places::new(3 * 1_000);
        let mut index = Index::new(3 * 1_000);
        // Each twice: what was put in is found, and nothing else.
        for _ in 0..2 {
            let mut expected = 2;
            for parent in [Place::ROOT, Place::CUT, Place(7)] {
                for address in 0..1_000 {
                    let next = Place(places.len() as u32);
                    let place = index.find_or_put((parent, address), next, &places);
                    if place == next {
                        places.push(parent, address);
                    }
                    assert_eq!(place, Place(expected));
                    expected += 1;
                }
            }
        }
        assert_eq!(places.len(), 2 + 3 * 1_000);
    }
}
