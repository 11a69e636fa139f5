//! The jobs, and what each takes and gives.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::source_files::SourceFiles;
use crate::token_counts::LexedFiles;

/// Makes a module's `JOB` of a name and its two ways. The doc comment is the job's point, so that
/// what is printed and what is documented are the same sentence.
macro_rules! job {
    ($(#[doc = $point:literal])+ $name:literal, $stack_only:path, $heap_heavy:path) => {
        $(#[doc = $point])+
        pub const JOB: $crate::jobs::Job = $crate::jobs::Job {
            name: $name,
            point: concat!($($point),+).trim_ascii(),
            stack_only: $stack_only,
            heap_heavy: $heap_heavy,
        };
    };
}

pub mod array_and_vec;
pub mod borrow_and_clone;
pub mod buffer_and_whole;
pub mod capacity_and_growth;
pub mod contiguous_and_linked;
pub mod enum_and_dyn;
pub mod indices_and_cycles;
pub mod lex;
pub mod slices_and_strings;
pub mod value_and_box;

/// Every job: the one on real input, then the small ones.
pub const JOBS: &[Job] = &[
    lex::JOB,
    array_and_vec::JOB,
    value_and_box::JOB,
    slices_and_strings::JOB,
    enum_and_dyn::JOB,
    contiguous_and_linked::JOB,
    capacity_and_growth::JOB,
    buffer_and_whole::JOB,
    borrow_and_clone::JOB,
    indices_and_cycles::JOB,
];

/// One of a job's two ways.
///
/// A job may be run any number of times on the same input, and gives the same answer each time.
pub type Way = fn(&Input) -> Result<Answer, JobError<'_>>;

/// A job: one computation, done in two ways.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its name, in words joined by hyphens.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub point: &'static str,
    /// The way without a single heap event.
    pub stack_only: Way,
    /// The way that such programs are commonly written.
    pub heap_heavy: Way,
}

/// What the jobs work on, prepared before either way begins.
#[derive(Clone, Debug)]
pub struct Input {
    /// The files that the job on real input lexes.
    pub files: SourceFiles,
    /// How often a small job does its work. Time and heap events grow with it, the stack does not;
    /// one round is a fraction of a microsecond up to some tens of them. No round is an answer too.
    pub scale: usize,
}

/// What a job finds out. The two ways of a job give equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a box would be a heap event of the stack-only way")]
pub enum Answer {
    /// Of the job on real input.
    Lexed(LexedFiles),
    /// Of a small job.
    Number {
        /// What the value is, as words to be printed before it.
        what: &'static str,
        /// The value.
        value: u64,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Lexed(lexed) => lexed.fmt(f),
            Answer::Number { what, value } => write!(f, "{what} {value}"),
        }
    }
}

/// Why a job has no answer. It borrows from the job's input, so that making it does not allocate.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError<'i> {
    /// A file could not be opened or read.
    Unreadable {
        /// The file.
        path: &'i Path,
        /// Why.
        error: io::Error,
    },
    /// A file goes past a stated bound, so that the answer would be wrong.
    FilePastBound {
        /// The file.
        path: &'i Path,
        /// The bound.
        bound: Bound,
    },
    /// A small job's data goes past a stated bound.
    PastBound(Bound),
}

/// A bound that fixed memory brings with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded, as words to be printed before the limit: "groups nested deeper than".
    pub what: &'static str,
    /// The most that there is room for.
    pub limit: usize,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.limit)
    }
}

impl fmt::Display for JobError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Unreadable { path, .. } => write!(f, "cannot read {}", path.display()),
            JobError::FilePastBound { path, bound } => {
                write!(f, "{}: more than there is room for: {bound}", path.display())
            }
            JobError::PastBound(bound) => write!(f, "more than there is room for: {bound}"),
        }
    }
}

impl Error for JobError<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            JobError::Unreadable { error, .. } => Some(error),
            JobError::FilePastBound { .. } | JobError::PastBound(_) => None,
        }
    }
}

/// The numbers that the small jobs work on: Marsaglia's 64-bit xorshift, "Xorshift RNGs" (2003),
/// with the shifts 13, 7 and 17. Both ways of a job begin with the same seed.
#[derive(Clone, Debug)]
struct Numbers(u64);

impl Numbers {
    /// Numbers for one round of a job.
    fn of_round(round: usize) -> Numbers {
        // Any seed but zero will do; an odd multiplier keeps rounds apart.
        Numbers((round as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(scale: usize) -> Input {
        Input { files: SourceFiles::under(env!("CARGO_MANIFEST_DIR")).unwrap(), scale }
    }

    #[test]
    fn both_ways_of_every_job_agree_at_every_scale() {
        for scale in [0, 1, 2, 7, 40] {
            let input = input(scale);
            for job in JOBS {
                let stack_only = (job.stack_only)(&input).unwrap();
                assert_eq!((job.heap_heavy)(&input).unwrap(), stack_only, "{} x {scale}", job.name);
                assert_eq!((job.stack_only)(&input).unwrap(), stack_only, "{} again", job.name);
            }
        }
    }

    #[test]
    fn the_answers_of_small_jobs_depend_on_the_scale() {
        let (one, two) = (input(1), input(2));
        for job in JOBS.iter().filter(|job| job.name != lex::JOB.name) {
            let answers = ((job.stack_only)(&one).unwrap(), (job.stack_only)(&two).unwrap());
            assert_ne!(answers.0, answers.1, "{}", job.name);
        }
    }

    #[test]
    fn every_job_has_a_name_of_its_own_and_a_point_of_one_sentence() {
        for (i, job) in JOBS.iter().enumerate() {
            assert!(JOBS[..i].iter().all(|other| other.name != job.name), "{}", job.name);
            assert!(job.point.ends_with('.') && !job.point.contains(['\n', '`']), "{}", job.point);
            assert!(!job.point.contains(". ") && !job.point.contains("  "), "{}", job.point);
        }
    }

    #[test]
    fn an_answer_is_json_without_a_tag() {
        let number = Answer::Number { what: "sum", value: 3 };
        let json = serde_json::to_value(&number).unwrap();
        assert_eq!(json, serde_json::json!({ "what": "sum", "value": 3 }));
        assert_eq!(number.to_string(), "sum 3");
        let json = serde_json::to_value(Answer::Lexed(LexedFiles::default())).unwrap();
        assert_eq!(json["rejected_files"], 0);
    }
}
