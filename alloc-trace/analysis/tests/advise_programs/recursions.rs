//! Programs that call themselves.

use std::hint::black_box;

use crate::programs::{ROUNDS, sum};

#[derive(Debug)]
#[expect(clippy::vec_box, reason = "the fault that is to be found, or not")]
struct Tree {
    branches: Vec<Box<Tree>>,
}

#[inline(never)]
fn tree(depth: usize) -> Tree {
    let branches = (0..if depth == 0 { 0 } else { 4 }).map(|_| Box::new(tree(depth - 1)));
    Tree { branches: branches.collect() }
}

/// Lives within one call, but is a collection.
#[inline(never)]
pub(crate) fn boxed_tree() {
    black_box(tree(4).branches.len());
}

#[derive(Debug)]
struct Like {
    inner: Option<Box<Like>>,
    number: u64,
}

#[inline(never)]
fn like(depth: u64) -> Box<Like> {
    let inner = (depth > 0).then(|| like(depth - 1));
    Box::new(Like { inner, number: depth })
}

#[inline(never)]
pub(crate) fn boxed_in_their_like() {
    for _ in 0..ROUNDS {
        let like = black_box(like(3));
        black_box(like.number + like.inner.as_ref().map_or(0, |inner| inner.number));
    }
}

/// Each call has a list of its own, which lives as long as the calls within it.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let list = vec![depth; 8];
    let below = if depth > 0 { descend(depth - 1) } else { 0 };
    below + sum(&list)
}

/// Deeper than what a frame may hold at a time.
#[inline(never)]
pub(crate) fn list_in_each_call() {
    for _ in 0..ROUNDS {
        black_box(descend(40));
    }
}
