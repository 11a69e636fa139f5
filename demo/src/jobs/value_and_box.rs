//! One value that is handed from call to call.

use std::hint::black_box;

use super::{Answer, Input, JobError, Numbers};

job! {
    /// A value is moved by copying its few bytes from frame to frame, where a Box of it is an
    /// allocation, a pointer to follow at each use, and a free.
    "value-and-box", stack_only, heap_heavy
}

/// How often the ball is moved in a round.
const STEPS: usize = 100;

/// The side of the square that the ball stays in.
const SIDE: i64 = 10_000;

/// A ball that bounces off four walls.
#[derive(Debug)]
struct Ball {
    x: i64,
    y: i64,
    speed_x: i64,
    speed_y: i64,
}

impl Ball {
    fn of_round(round: usize) -> Ball {
        let mut numbers = Numbers::of_round(round);
        let mut below = |limit: i64| numbers.below(limit.unsigned_abs()).cast_signed();
        Ball { x: below(SIDE), y: below(SIDE), speed_x: below(1000), speed_y: below(1000) }
    }

    fn step(&self) -> Ball {
        let (x, speed_x) = bounce(self.x + self.speed_x, self.speed_x);
        let (y, speed_y) = bounce(self.y + self.speed_y, self.speed_y);
        Ball { x, y, speed_x, speed_y }
    }
}

fn bounce(position: i64, speed: i64) -> (i64, i64) {
    if position < 0 {
        (-position, -speed)
    } else if position > SIDE {
        (2 * SIDE - position, -speed)
    } else {
        (position, speed)
    }
}

fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut distance = 0;
    for round in 0..input.scale {
        let mut ball = Ball::of_round(round);
        for _ in 0..STEPS {
            ball = black_box(ball.step());
        }
        distance += (ball.x + ball.y).unsigned_abs();
    }
    Ok(answer(distance))
}

fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut distance = 0;
    for round in 0..input.scale {
        let mut ball = Box::new(Ball::of_round(round));
        for _ in 0..STEPS {
            ball = black_box(Box::new(ball.step()));
        }
        distance += (ball.x + ball.y).unsigned_abs();
    }
    Ok(answer(distance))
}

fn answer(distance: u64) -> Answer {
    Answer::Number { what: "sum of the distances from the corner", value: distance }
}
