//! One job, done both ways: the answers, the heap's part in them, and the time.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use demo::jobs::{Answer, Input, Job, Way};
use serde::Serialize;

/// Runs of each way of which the median time is taken.
const RUNS: usize = 5;

/// A job's two ways side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) job: &'static str,
    /// What the job shows, in one sentence.
    pub(crate) point: &'static str,
    pub(crate) stack_only: Figures,
    pub(crate) heap_heavy: Figures,
}

/// What one way of doing a job came to.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) answer: Answer,
    /// Allocations, zeroed allocations, reallocations and frees.
    pub(crate) heap_events: u64,
    /// Bytes asked for; a reallocation counts its new size.
    pub(crate) requested_bytes: u64,
    /// The most bytes, as requested, that were live at once.
    pub(crate) peak_bytes: u64,
    /// The median of several runs, with nothing watching.
    pub(crate) time_ns: u64,
}

impl Comparison {
    /// Does the job both ways. The two answers must be equal.
    pub(crate) fn of(job: &Job, input: &Input) -> Result<Self, Box<dyn Error>> {
        let stack_only = Figures::of(job.stack_only, input).map_err(|error| error.of(job))?;
        let heap_heavy = Figures::of(job.heap_heavy, input).map_err(|error| error.of(job))?;
        if stack_only.answer != heap_heavy.answer {
            let (one, other) = (&stack_only.answer, &heap_heavy.answer);
            return Err(format!("{}: {one} on the stack, but {other} on the heap", job.name).into());
        }
        Ok(Self { job: job.name, point: job.point, stack_only, heap_heavy })
    }
}

impl Figures {
    fn of(way: Way, input: &Input) -> Result<Self, Failure> {
        let (answer, heap) = alloc_trace::measure(|| way(input));
        let answer = answer.map_err(Failure::new)?;
        let mut times = [0; RUNS];
        for time in &mut times {
            let begin = Instant::now();
            let again = way(input).map_err(Failure::new)?;
            *time = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            std::hint::black_box(again);
        }
        times.sort_unstable();
        Ok(Self {
            answer,
            heap_events: heap.events(),
            requested_bytes: heap.requested_bytes,
            peak_bytes: heap.peak_bytes,
            time_ns: times[RUNS / 2],
        })
    }
}

/// A job's error, which borrows from its input, as text.
struct Failure(String);

impl Failure {
    fn new(error: impl Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self(text)
    }

    fn of(self, job: &Job) -> Box<dyn Error> {
        format!("{}: {self}", job.name).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
