//! The alloc-trace command: record a program, read the recording.
//!
//! Each subcommand is one thin file in `commands`: it parses nothing, takes its arguments as data,
//! asks `alloc-trace-analysis` and writes to whatever writer it is given. What several of them need
//! to look alike is in `units`, `table` and `style`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod debuginfod;
mod error;
mod export;
mod filters;
mod json;
mod limits;
mod measures;
mod message;
mod never_freed;
mod open;
mod output;
mod printable;
mod progress;
mod quantities;
mod recorder_option;
mod style;
mod table;
mod text;
mod warnings;
mod written;

use std::process::ExitCode;

use alloc_trace_cli::units;
use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Record(arguments) => commands::record::run(arguments),
        Command::Report(arguments) => commands::report::run(arguments),
        Command::Advise(arguments) => commands::advise::run(arguments),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Flame(arguments) => commands::flame::run(arguments),
        Command::Timeline(arguments) => commands::timeline::run(arguments),
        Command::Html(arguments) => commands::html::run(arguments),
        Command::Leaks(arguments) => commands::leaks::run(arguments),
        Command::Events(arguments) => commands::events::run(arguments),
        Command::Diff(arguments) => commands::diff::run(arguments),
        Command::Tree(arguments) => commands::tree::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Completions(arguments) => commands::completions::run(arguments),
        Command::Man(arguments) => commands::man::run(arguments),
    };
    match result {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            error::print(&error);
            error.exit_code()
        }
    }
}
