//! What is recorded of whole programs, and what is read of it.
//!
//! Each test runs a scenario (see `tests/src/scenario.rs`) in a process of its own, which is killed
//! when it takes longer than anything here takes, and reads the recording: record by record
//! ([`history::History`]), with the analysis, and with the `alloc-trace` command.

mod backtraces;
mod command_line;
mod drain;
mod ends;
mod exact;
mod heap;
mod history;
mod hostile;
mod kinship;
mod libraries;
mod live_events;
mod options;
mod pressure;
mod program;
mod rebuilt;
mod ring;
mod ring_steps;
mod ring_turns;
mod several_processes;
mod signals;
mod spans;
mod starts;
mod stepped;
mod stepped_threads;
mod threads;
