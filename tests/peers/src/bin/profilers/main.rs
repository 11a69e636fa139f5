//! Compares profilers on one program: `profilers build`, `profilers run`, `profilers report`.
//!
//! In each round every profiler that is found here traces every workload, in an order of the round's
//! own. Whole processes are measured, from outside, until all that the profiler started has ended;
//! what the untraced program costs in the same round is taken off. Our recordings are read, and must
//! be whole and hold every event.

mod profiler;
mod report;
mod results;
mod workload;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use peers::budget::Budget;
use peers::child;
use peers::choice::{self, has};
use peers::kept;
use peers::packages;
use peers::random::Random;
use peers::traced::Traced;
use peers::warm_up;

use profiler::{COUNTING, Profiler, UNTRACED};
use results::{Cell, Results, Run, cell_name};
use workload::Workload;

/// Compares `alloc-trace` with other people's heap profilers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The file of results, to which each run adds.
    #[arg(long, global = true, default_value = "target/profilers.json")]
    results: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the traced program under each profiler, and the command line that reads ours.
    Build,
    /// Trace the workloads in turn, and measure.
    Run {
        #[command(flatten)]
        choice: Choice,
        /// Times that each workload is traced by each profiler.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Begin no further workload after so many seconds; a later run goes on from there.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        budget: u64,
    },
    /// Print the tables.
    Report,
    /// Touch memory and release it: what is done before each measured run, in a process of its own.
    #[command(hide = true)]
    WarmUp,
}

/// Which workloads and profilers. The untraced program is always run.
#[derive(Debug, Args)]
struct Choice {
    /// Only workloads whose name has one of these in it.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    only: Vec<String>,
    /// Only profilers whose name has one of these in it.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    profilers: Vec<String>,
}

impl Choice {
    fn profilers(&self) -> Vec<Profiler> {
        let chosen = profiler::ALL
            .into_iter()
            .filter(|profiler| profiler.name == UNTRACED || has(&self.profilers, profiler.name));
        chosen
            .filter(|profiler| match profiler.missing() {
                Some(reason) => {
                    eprintln!("left out: {}: {reason}", profiler.name);
                    false
                }
                None => true,
            })
            .collect()
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.results.as_path();
    let done = match arguments.command {
        Command::Build => build(),
        Command::Run { choice, rounds, budget } => run(&choice, rounds, budget, file),
        Command::Report => kept::load(file).map(|results| report::print(&results)),
        Command::WarmUp => {
            warm_up::touch_and_release();
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profilers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root, whose workspace has the command line.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn build() -> io::Result<()> {
    for feature in [None, Some(COUNTING), Some("trace"), Some("dhat-rs")] {
        packages::build("traced", feature, &profiler::built(feature))?;
    }
    let mut cargo = Process::new("cargo");
    cargo.args(["build", "--release", "--locked", "-p", "alloc-trace-cli"]);
    let status = cargo.current_dir(repository()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("alloc-trace-cli does not build")) }
}

fn run(choice: &Choice, rounds: usize, budget: u64, file: &Path) -> io::Result<()> {
    choice::check(&choice.only, "workload", workload::ALL.map(|workload| workload.name))?;
    choice::check(&choice.profilers, "profiler", profiler::ALL.map(|profiler| profiler.name))?;
    let mut results: Results = kept::load(file)?;
    results.machine = peers::machine::describe();
    let profilers = choice.profilers();
    results.versions = profilers.iter().filter_map(Profiler::version).collect();
    results.versions.dedup();
    let folder = target().join("profilers");
    fs::create_dir_all(&folder)?;
    let sources = folder.join("sources");
    workload::write_sources(&sources)?;
    let bench = Bench { folder, sources };
    let budget = Budget::of(Some(budget));
    let mut random = Random::new(u64::from(std::process::id()));
    for round in 0..rounds {
        let mut workloads: Vec<_> =
            workload::ALL.into_iter().filter(|workload| has(&choice.only, workload.name)).collect();
        random.shuffle(&mut workloads);
        for workload in workloads {
            for slow in [false, true] {
                let mut order: Vec<_> = profilers
                    .iter()
                    .filter(|profiler| profiler.slow == slow || profiler.name == UNTRACED)
                    .collect();
                let size = if slow { workload.size / 10 } else { workload.size };
                let cell = results.cells.entry(cell_name(workload.name, size)).or_default();
                order.retain(|profiler| cell.rounds(profiler.name) <= round);
                if order.iter().all(|profiler| profiler.name == UNTRACED) {
                    continue;
                }
                if budget.is_used_up(round) {
                    return Ok(());
                }
                random.shuffle(&mut order);
                bench.round(cell, &workload, size, &order)?;
                kept::store(file, &results)?;
                eprintln!("round {} of {} {size}", round + 1, workload.name);
            }
        }
    }
    Ok(())
}

/// Where programs are traced.
struct Bench {
    folder: PathBuf,
    sources: PathBuf,
}

/// No run takes nearly as long.
const LIMIT: Duration = Duration::from_secs(200);

impl Bench {
    /// Traces a workload by each of some profilers.
    fn round(
        &self,
        cell: &mut Cell,
        workload: &Workload,
        size: u64,
        order: &[&Profiler],
    ) -> io::Result<()> {
        if cell.events == 0 {
            let counting = Process::new(profiler::built(Some(COUNTING)));
            let (_, traced) = self.trace(counting, workload, size)?;
            cell.events = traced.events.ok_or_else(|| io::Error::other("nothing was counted"))?;
            cell.checksum = traced.checksum;
        }
        for profiler in order {
            let recording = self.folder.join("recording");
            if recording.exists() {
                fs::remove_dir_all(&recording)?;
            }
            fs::create_dir_all(&recording)?;
            warm_up::apart()?;
            let (cost, traced) = self.trace(profiler.command(&recording), workload, size)?;
            if traced.checksum != cell.checksum {
                let said = format!("{}: another answer under {}", workload.name, profiler.name);
                return Err(io::Error::other(said));
            }
            if profiler.is_ours() {
                check(&recording.join("recording"), cell.events)?;
            }
            cell.runs.entry(profiler.name.to_owned()).or_default().push(Run {
                cost,
                peak_resident_bytes: traced.peak_resident_bytes,
                recording_bytes: profiler::bytes_in(&recording)?,
            });
        }
        Ok(())
    }

    /// Runs a command with a workload, and tells what it cost and said. What it says lies outside of
    /// the folder of the recording.
    fn trace(
        &self,
        mut command: Process,
        workload: &Workload,
        size: u64,
    ) -> io::Result<(child::Cost, Traced)> {
        let output = self.folder.join("output");
        command.arg(workload.name).arg(size.to_string()).env("SOURCES", &self.sources);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(Stdio::null());
        let cost = child::run(&mut command, LIMIT)?;
        // Some profilers speak on the program's standard output too.
        let text = fs::read_to_string(&output)?;
        let said = text.lines().find(|line| line.starts_with("{\"events\""));
        let said = said.ok_or_else(|| io::Error::other(format!("{command:?} said nothing")))?;
        Ok((cost, serde_json::from_str(said)?))
    }
}

/// Reads one of our recordings: it must be complete, with nothing lost, and hold at least the events
/// that were counted without it.
fn check(recording: &Path, events: u64) -> io::Result<()> {
    let mut reader = Process::new(repository().join("target/release/alloc-trace"));
    let output = reader.args(["report", "--json"]).arg(recording).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let recorded = report["events"].as_u64().unwrap_or(0);
    if report["complete"] != true || report["lost_records"] != 0 || recorded < events {
        return Err(io::Error::other(format!(
            "the recording has {recorded} of {events} events, complete: {}, lost: {}",
            report["complete"], report["lost_records"]
        )));
    }
    Ok(())
}
