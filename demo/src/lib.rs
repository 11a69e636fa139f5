//! The same jobs done on the stack only and heap-heavy, side by side.
//!
//! Responsible for the jobs alone: each is one computation written in two ways that give the same
//! [`Answer`](jobs::Answer). One runs on real input, the Rust sources under a directory; the others
//! are small, and each shows one point of the Rust Book's account of the stack and the heap.
//! Measuring and presenting them is not done here.
//!
//! What a job works on is prepared before either way. Between the first and the last instruction of
//! a stack-only way there is no heap event, neither of Rust's nor of C's allocator; its answer and
//! its error are values of fixed size, which become text only when somebody formats them.
//!
//! # Examples
//!
//! ```
//! use demo::jobs::{Input, JOBS};
//! use demo::source_files::SourceFiles;
//!
//! let files = SourceFiles::under(env!("CARGO_MANIFEST_DIR"))?;
//! let input = Input { files, scale: 1 };
//! for job in JOBS {
//!     let answer = (job.stack_only)(&input).map_err(|error| error.to_string())?;
//!     assert_eq!((job.heap_heavy)(&input).map_err(|error| error.to_string())?, answer);
//!     println!("{}: {answer}\n    {}", job.name, job.point);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod jobs;
pub mod source_files;
pub mod stack_lexer;
pub mod token_counts;
pub mod token_trees;
