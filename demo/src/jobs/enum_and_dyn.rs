//! Several kinds of a thing in one list.

use std::fmt::Debug;
use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// An enum is as large as its largest variant and so has a known size, where a trait object's
    /// size is unknown and each one must lie behind a pointer that is followed at every call.
    "enum-and-dyn", stack_only, heap_heavy
}

/// How many shapes a drawing has.
const SHAPES: usize = 48;

#[derive(Clone, Copy, Debug)]
enum Shape {
    Square { side: u64 },
    Rectangle { width: u64, height: u64 },
    Triangle { base: u64, height: u64 },
}

impl Shape {
    fn random(numbers: &mut Numbers) -> Shape {
        let mut length = || numbers.below(100) + 1;
        let (first, second) = (length(), length());
        match numbers.below(3) {
            0 => Shape::Square { side: first },
            1 => Shape::Rectangle { width: first, height: second },
            _ => Shape::Triangle { base: first, height: second },
        }
    }

    fn area(self) -> u64 {
        match self {
            Shape::Square { side } => side * side,
            Shape::Rectangle { width, height } => width * height,
            Shape::Triangle { base, height } => base * height / 2,
        }
    }
}

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut areas = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let drawing: [Shape; SHAPES] = std::array::from_fn(|_| Shape::random(&mut numbers));
        areas += black_box(&drawing).iter().map(|shape| shape.area()).sum::<u64>();
    }
    Ok(answer(areas))
}

trait HasArea: Debug {
    fn area(&self) -> u64;
}

#[derive(Debug)]
struct Square {
    side: u64,
}

#[derive(Debug)]
struct Rectangle {
    width: u64,
    height: u64,
}

#[derive(Debug)]
struct Triangle {
    base: u64,
    height: u64,
}

impl HasArea for Square {
    fn area(&self) -> u64 {
        self.side * self.side
    }
}

impl HasArea for Rectangle {
    fn area(&self) -> u64 {
        self.width * self.height
    }
}

impl HasArea for Triangle {
    fn area(&self) -> u64 {
        self.base * self.height / 2
    }
}

fn random_object(numbers: &mut Numbers) -> Box<dyn HasArea> {
    match Shape::random(numbers) {
        Shape::Square { side } => Box::new(Square { side }),
        Shape::Rectangle { width, height } => Box::new(Rectangle { width, height }),
        Shape::Triangle { base, height } => Box::new(Triangle { base, height }),
    }
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut areas = 0;
    for round in 0..input.scale {
        let mut numbers = Numbers::of_round(round);
        let drawing: Vec<Box<dyn HasArea>> =
            (0..SHAPES).map(|_| random_object(&mut numbers)).collect();
        areas += black_box(&drawing).iter().map(|shape| shape.area()).sum::<u64>();
    }
    Ok(answer(areas))
}

fn answer(areas: u64) -> Answer {
    Answer::Number { what: "sum of the areas", value: areas }
}
