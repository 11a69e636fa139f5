//! Workloads that nobody looks at while a heap is tuned. They are run when all is done.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Mutex;

use super::blocks::{Block, layout};
use super::race::{Done, Raced, race};
use crate::random::Random;

/// Algebra: expressions of boxed nodes that are built, differentiated and simplified.
pub(super) fn expressions(threads: usize) -> Raced {
    let rounds = 12_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut checksum = 0u64;
        for _ in 0..rounds {
            let expression = Expression::random(&mut random, 6);
            let derived = expression.derived().simplified();
            checksum = checksum.wrapping_add(derived.size());
        }
        Done { operations: rounds, checksum }
    })
}

#[derive(Clone)]
enum Expression {
    Number(i64),
    Variable,
    Sum(Box<Expression>, Box<Expression>),
    Product(Box<Expression>, Box<Expression>),
}

impl Expression {
    fn random(random: &mut Random, depth: u32) -> Self {
        if depth == 0 {
            return if random.below(2) == 0 {
                Self::Variable
            } else {
                Self::Number(random.below(5) as i64)
            };
        }
        let left = Box::new(Self::random(random, depth - 1));
        let right = Box::new(Self::random(random, depth - 1));
        if random.below(2) == 0 { Self::Sum(left, right) } else { Self::Product(left, right) }
    }

    fn derived(&self) -> Self {
        match self {
            Self::Number(_) => Self::Number(0),
            Self::Variable => Self::Number(1),
            Self::Sum(left, right) => Self::Sum(left.derived().into(), right.derived().into()),
            Self::Product(left, right) => Self::Sum(
                Self::Product(left.derived().into(), right.clone()).into(),
                Self::Product(left.clone(), right.derived().into()).into(),
            ),
        }
    }

    fn simplified(self) -> Self {
        match self {
            Self::Sum(left, right) => match (left.simplified(), right.simplified()) {
                (Self::Number(0), other) | (other, Self::Number(0)) => other,
                (left, right) => Self::Sum(left.into(), right.into()),
            },
            Self::Product(left, right) => match (left.simplified(), right.simplified()) {
                (Self::Number(0), _) | (_, Self::Number(0)) => Self::Number(0),
                (Self::Number(1), other) | (other, Self::Number(1)) => other,
                (left, right) => Self::Product(left.into(), right.into()),
            },
            other => other,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Number(number) => number.unsigned_abs(),
            Self::Variable => 1,
            Self::Sum(left, right) | Self::Product(left, right) => 1 + left.size() + right.size(),
        }
    }
}

/// Text: lines are split, counted by word, and put together again.
pub(super) fn text(threads: usize) -> Raced {
    let rounds = 160_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut kept = VecDeque::new();
        let mut checksum = 0u64;
        for round in 0..rounds {
            let mut line = String::new();
            for _ in 0..4 + random.below(12) {
                write!(line, "word{} ", random.below(4_000)).expect("a string takes everything");
            }
            let words: Vec<_> = line.split_whitespace().map(str::to_uppercase).collect();
            for word in &words {
                *counts.entry(word.clone()).or_default() += 1;
            }
            kept.push_back(words.join("-").replace("WORD", &round.to_string()));
            if kept.len() > 1_000 {
                checksum += kept.pop_front().map_or(0, |line: String| line.len() as u64);
            }
        }
        Done { operations: rounds, checksum: checksum + counts.len() as u64 }
    })
}

/// A persistent list: versions share their tails, and are dropped in another order than they came.
pub(super) fn shared_lists(threads: usize) -> Raced {
    let rounds = 4_000_000 / threads as u64;
    race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut versions: Vec<List> = vec![None; 512];
        let mut checksum = 0u64;
        for round in 0..rounds {
            let (from, to) = (random.below(512), random.below(512));
            let tail = versions[from].clone();
            let length = tail.as_ref().map_or(0, |node| node.length);
            // Lists stay short, so that the last owner of one drops it without deep recursion.
            versions[to] = if length < 64 {
                let text = if round % 4 == 0 { Some("x".repeat(random.below(80))) } else { None };
                Some(Rc::new(Node { length: length + 1, text, tail }))
            } else {
                checksum +=
                    tail.as_ref().and_then(|node| node.text.as_ref()).map_or(1, String::len) as u64;
                None
            };
        }
        let left: u64 = versions.iter().flatten().map(|node| node.deep_length()).sum();
        Done { operations: rounds, checksum: checksum + left }
    })
}

type List = Option<Rc<Node>>;

struct Node {
    length: u64,
    text: Option<String>,
    tail: List,
}

impl Node {
    fn deep_length(&self) -> u64 {
        1 + self.tail.as_ref().map_or(0, |tail| tail.deep_length())
    }
}

/// A server whose work changes hands: threads replace blocks in shared sets, whichever thread's they
/// are.
pub(super) fn changing_owners(threads: usize) -> Raced {
    const SETS: usize = 16;
    const BLOCKS: usize = 1_000;
    const STEP: usize = 64;
    let sets: Vec<Mutex<Vec<Block>>> = (0..SETS)
        .map(|set| {
            let mut random = Random::new(set as u64 + 99);
            let blocks = (0..BLOCKS).map(|_| Block::new(layout(random.size()), 1));
            Mutex::new(blocks.collect())
        })
        .collect();
    let rounds = 60_000 / threads as u64;
    let mut raced = race(threads, |index, start| {
        let mut random = Random::new(index as u64 + 1);
        start.ready();
        let mut checksum = 0;
        for _ in 0..rounds {
            let mut set = sets[random.below(SETS)].lock().expect("a lock");
            for _ in 0..STEP {
                let place = random.below(BLOCKS);
                let fresh = Block::new(layout(random.size()), 1);
                checksum += std::mem::replace(&mut set[place], fresh).free();
            }
        }
        Done { operations: rounds * STEP as u64, checksum }
    });
    for set in sets {
        let blocks = set.into_inner().expect("a lock");
        raced.checksum += blocks.into_iter().map(Block::free).sum::<u64>();
    }
    raced
}
