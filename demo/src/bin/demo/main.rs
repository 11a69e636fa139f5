//! Does every job both ways, and shows what each way asked of the heap.
//!
//! Each way is run for its time with nothing watching, once more with its heap events counted, and
//! once more while everything is recorded: the table, the log lines and the call sites are of these.

#![forbid(unsafe_code)]

mod arguments;
mod comparison;
mod log_lines;
mod recorded;
mod screen;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use alloc_core::CoreAlloc;
use alloc_trace::TraceAlloc;
use clap::Parser;
use demo::jobs::{Input, JOBS};
use demo::source_files::SourceFiles;

use crate::arguments::Arguments;
use crate::comparison::Comparison;

#[global_allocator]
static ALLOCATOR: TraceAlloc<CoreAlloc> = TraceAlloc::new(CoreAlloc::new());

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    match run(&arguments, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = format!("demo: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                line.push_str(&format!(": {error}"));
                cause = error.source();
            }
            // Nothing is left to be done where standard error is closed too.
            let _ = writeln!(io::stderr(), "{line}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let input = Input { files: SourceFiles::under(arguments.directory())?, scale: arguments.scale };
    let comparisons = JOBS
        .iter()
        .map(|job| Comparison::of(job, &input))
        .collect::<Result<Vec<Comparison>, _>>()?;
    if !arguments.json {
        screen::comparisons(out, &input, &comparisons)?;
    }
    let recorded = recorded::record(&arguments.output()?, JOBS, &input)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &comparisons)?;
        writeln!(out)?;
    } else {
        screen::recorded(out, &recorded)?;
    }
    Ok(())
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    let kind = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(kind)
        || error
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind)
            .is_some_and(|kind| kind == io::ErrorKind::BrokenPipe)
}
