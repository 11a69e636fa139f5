//! Compares allocators: `allocators build`, `allocators run`, `allocators burst`, `allocators report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use peers::allocator::{self, Allocator};
use peers::allocators::{Error, Plan, build, chart, report, results::Results, run};
use peers::choice;
use peers::workloads::{self, Workload};

/// Compares `CoreAlloc` with other people's allocators, each as a program's global allocator.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the workloads under each allocator.
    Build(Choice),
    /// Run them in turn and add what was measured to a file of results.
    Run {
        #[command(flatten)]
        choice: Choice,
        /// Times that each workload is run under each allocator.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Stop after so many seconds; a later run goes on from there.
        #[arg(long, value_name = "SECONDS")]
        budget: Option<u64>,
        /// The file of results.
        #[arg(short, long, default_value = "target/allocators.json")]
        output: PathBuf,
    },
    /// Print how much of a burst's memory goes back to the system, under each allocator.
    Burst(Choice),
    /// Print the tables of a file of results, and draw its chart.
    Report {
        /// The file of results.
        #[arg(default_value = "target/allocators.json")]
        results: PathBuf,
        /// Draw the chart into this file.
        #[arg(long, value_name = "FILE")]
        chart: Option<PathBuf>,
    },
}

/// Which allocators and workloads.
#[derive(Debug, Args)]
struct Choice {
    /// Only these allocators, by name and set off by commas.
    #[arg(long, value_delimiter = ',', value_parser = allocator_named)]
    allocators: Vec<Allocator>,
    /// Only workloads whose name has this in it.
    #[arg(long, value_name = "TEXT")]
    workload: Option<String>,
    /// Only with these numbers of threads.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// How time grows with the number of live blocks, in place of the workloads.
    #[arg(long)]
    live_sets: bool,
    /// The workloads that are run once, when all is done, in place of the others.
    #[arg(long, conflicts_with = "live_sets")]
    kept_aside: bool,
}

fn allocator_named(name: &str) -> Result<Allocator, String> {
    let known = || allocator::ALL.map(|allocator| allocator.name).join(", ");
    Allocator::named(name).ok_or_else(|| format!("no such allocator; there are {}", known()))
}

impl Choice {
    fn plan(&self) -> Result<Plan, Error> {
        let sets: &[&'static [Workload]] = match (self.live_sets, self.kept_aside) {
            (true, _) => &[workloads::LIVE_SETS, workloads::LIVE_SETS_ALONE],
            (_, true) => &[workloads::KEPT_ASIDE],
            _ => &[workloads::ALL],
        };
        let all = || sets.iter().copied().flatten();
        let text = self.workload.as_slice();
        choice::check(text, "workload", all().map(|workload| workload.name))?;
        let workloads = all().filter(|workload| choice::has(text, workload.name));
        let cells = workloads.flat_map(|workload| {
            let threads = workload.threads.iter().copied();
            threads.map(move |threads| (workload, threads))
        });
        let wanted = |threads| self.threads.is_empty() || self.threads.contains(&threads);
        let cells: Vec<_> = cells.filter(|(_, threads)| wanted(*threads)).collect();
        if cells.is_empty() {
            return Err("none of these workloads is run with that many threads".into());
        }
        let allocators = match self.allocators.as_slice() {
            [] => allocator::ALL.to_vec(),
            some => some.to_vec(),
        };
        Ok(Plan { allocators, cells })
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Build(choice) => choice.plan().and_then(|plan| build::build(&plan.allocators)),
        Command::Run { choice, rounds, budget, output } => {
            choice.plan().and_then(|plan| run::run(&plan, rounds, budget, &output))
        }
        Command::Burst(choice) => choice
            .plan()
            .and_then(|plan| run::bursts(&plan.allocators))
            .map(|bursts| print!("{}", report::bursts(&bursts))),
        Command::Report { results, chart } => Results::load(&results).and_then(|results| {
            print!("{}", report::tables(&results));
            chart.map_or(Ok(()), |file| chart::draw(&results, &file))
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allocators: {error}");
            ExitCode::FAILURE
        }
    }
}
