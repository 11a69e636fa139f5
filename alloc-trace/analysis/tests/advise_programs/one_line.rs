//! Programs that make several things on one line.

use std::hint::black_box;
use std::rc::Rc;

use crate::programs::ROUNDS;

/// The list and what it shares are of one line.
#[inline(never)]
pub(crate) fn shared_numbers() {
    let list: Vec<Rc<u64>> = (0..10 * ROUNDS).map(Rc::new).collect();
    black_box(list.len());
}

/// So many that the list for them grows eleven times.
pub(crate) const BOXES: u64 = 40 * ROUNDS;

/// The list grows while it is filled.
#[inline(never)]
pub(crate) fn boxes_in_a_list() {
    let mut list = Vec::new();
    (0..BOXES).for_each(|number| list.push(Box::new(number)));
    black_box(list.len());
}
