//! Runs every job both ways and prints the answers.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use demo::jobs::{Input, JOBS};
use demo::source_files::SourceFiles;

/// Rounds of each small job.
const SCALE: usize = 1000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lexes the directory given as the only argument, or this repository.
fn run() -> Result<(), Box<dyn Error>> {
    let repository = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let directory = std::env::args_os().nth(1).map_or_else(repository, PathBuf::from);
    let input = Input { files: SourceFiles::under(directory)?, scale: SCALE };
    for job in JOBS {
        let stack_only = (job.stack_only)(&input).map_err(|error| error.to_string())?;
        let heap_heavy = (job.heap_heavy)(&input).map_err(|error| error.to_string())?;
        if heap_heavy != stack_only {
            return Err(format!("{}: {stack_only}, but {heap_heavy}", job.name).into());
        }
        println!("{}: {stack_only}\n    {}", job.name, job.point);
    }
    Ok(())
}
