//! Runs every job both ways and prints the answers: `demo [DIRECTORY]`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use demo::jobs::{Input, JOBS};
use demo::source_files::SourceFiles;

/// Rounds of each small job.
const SCALE: usize = 1000;

fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).map_or_else(repository, PathBuf::from);
    let files = match SourceFiles::under(directory) {
        Ok(files) => files,
        Err(error) => return failure(&error),
    };
    let input = Input { files, scale: SCALE };
    for job in JOBS {
        match (job.stack_only)(&input).and_then(|answer| Ok((answer, (job.heap_heavy)(&input)?))) {
            Ok((stack_only, heap_heavy)) if stack_only == heap_heavy => {
                println!("{}: {stack_only}\n    {}", job.name, job.point);
            }
            Ok((stack_only, heap_heavy)) => {
                eprintln!("demo: {}: {stack_only}, but {heap_heavy}", job.name);
                return ExitCode::FAILURE;
            }
            Err(error) => return failure(&error),
        }
    }
    ExitCode::SUCCESS
}

/// What is lexed if no directory is given: this repository.
fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Tells an error and its causes.
fn failure(error: &dyn Error) -> ExitCode {
    eprint!("demo: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}
