//! Values that refer to each other in a circle.
//!
//! Josephus's problem: of people in a circle every third leaves, until one is left.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// Ownership frees what an owner holds when the owner goes, where the last node of an Rc circle
    /// owns itself, so that in every round one node is left that nobody cleans up.
    "indices-and-cycles", stack_only, heap_heavy
}

/// The most people in a circle.
const PEOPLE_MAX: usize = 64;

/// How many steps it is from one who leaves to the next.
const STEP: usize = 3;

/// How many people there are in a round: 2 to [`PEOPLE_MAX`].
fn people(round: usize) -> usize {
    2 + Numbers::of_round(round).below(PEOPLE_MAX as u64 - 1) as usize
}

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut places = 0;
    for round in 0..input.scale {
        let people = people(round);
        // Who stands behind whom, by index.
        let mut next: [usize; PEOPLE_MAX] = std::array::from_fn(|place| (place + 1) % people);
        let mut current = people - 1;
        for _ in 1..people {
            for _ in 1..STEP {
                current = next[current];
            }
            next[current] = next[next[current]];
        }
        places += 1 + black_box(&next)[current] as u64;
    }
    Ok(answer(places))
}

#[derive(Debug)]
struct Person {
    place: u64,
    next: RefCell<Option<Rc<Person>>>,
}

impl Person {
    fn next(&self) -> Rc<Person> {
        self.next.borrow().clone().expect("in a circle everybody has somebody behind them")
    }
}

/// Leaks one `Person` a round, on purpose: see the job's point.
fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut places = 0;
    for round in 0..input.scale {
        let mut current = circle(people(round));
        while !Rc::ptr_eq(&current, &current.next()) {
            for _ in 1..STEP {
                current = current.next();
            }
            let behind = current.next().next();
            *current.next.borrow_mut() = Some(behind);
        }
        places += black_box(&current).place;
    }
    Ok(answer(places))
}

/// A circle of `people`, of whom the last is returned.
fn circle(people: usize) -> Rc<Person> {
    let last = Rc::new(Person { place: people as u64, next: RefCell::new(None) });
    let mut next = Rc::clone(&last);
    for place in (1..people as u64).rev() {
        next = Rc::new(Person { place, next: RefCell::new(Some(next)) });
    }
    *last.next.borrow_mut() = Some(next);
    last
}

fn answer(places: u64) -> Answer {
    Answer::Number { what: "sum of the last ones' places", value: places }
}
