//! Compares malloc libraries under unmodified programs: `programs run`, `programs count`,
//! `programs report`.
//!
//! In each round every program runs under every library, in an order of the round's own; whole
//! processes are measured, from outside. An answer that differs between libraries is an error.

mod library;
mod malloc_family;
mod program;
mod redis;
mod report;
mod results;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use peers::budget::Budget;
use peers::choice::{self, has};
use peers::kept;
use peers::random::Random;
use peers::warm_up;

use library::Library;
use program::{Place, Program, Ran, Scale};
use results::{Results, Run};

/// Compares `CoreAlloc` with other people's allocators under unmodified programs, through
/// `LD_PRELOAD`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The file of results, to which each run adds.
    #[arg(long, global = true, default_value = "target/programs.json")]
    results: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the programs in turn, and measure time, memory and page faults.
    Run {
        #[command(flatten)]
        choice: Choice,
        /// Times that each program runs under each library.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Begin no further program after so many seconds; a later run goes on from there.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        budget: u64,
    },
    /// Count the instructions in the allocator, with valgrind's callgrind.
    Count {
        #[command(flatten)]
        choice: Choice,
    },
    /// Print the tables.
    Report,
    /// Touch memory and release it: what is done before each measured run, in a process of its own.
    #[command(hide = true)]
    WarmUp,
}

/// Which programs and libraries.
#[derive(Debug, Args)]
struct Choice {
    /// Only programs whose name has one of these in it.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    only: Vec<String>,
    /// Only libraries whose name has one of these in it.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    libraries: Vec<String>,
}

impl Choice {
    fn programs(&self) -> io::Result<Vec<Program>> {
        choice::check(&self.only, "program", program::ALL.map(|program| program.name))?;
        Ok(program::ALL.into_iter().filter(|program| has(&self.only, program.name)).collect())
    }

    fn libraries(&self) -> io::Result<Vec<Library>> {
        let built = target().join("libraries");
        fs::create_dir_all(&built)?;
        let all = library::all(&built)?;
        choice::check(&self.libraries, "library", all.iter().map(|library| library.name))?;
        Ok(all.into_iter().filter(|library| has(&self.libraries, library.name)).collect())
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.results.as_path();
    let done = match arguments.command {
        Command::Run { choice, rounds, budget } => run(&choice, rounds, budget, file),
        Command::Count { choice } => count(&choice, file),
        Command::Report => kept::load(file).map(|results| report::print(&results)),
        Command::WarmUp => {
            warm_up::touch_and_release();
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("programs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(choice: &Choice, rounds: usize, budget: u64, file: &Path) -> io::Result<()> {
    let mut results: Results = kept::load(file)?;
    results.machine = peers::machine::describe();
    let libraries = choice.libraries()?;
    let folder = folder("timed")?;
    let budget = Budget::of(Some(budget));
    let mut random = Random::new(u64::from(std::process::id()));
    for round in 0..rounds {
        let mut programs = choice.programs()?;
        random.shuffle(&mut programs);
        for program in programs {
            // A program's round is run whole or not at all: its ratios are taken within it.
            let mut waiting: Vec<_> = libraries
                .iter()
                .filter(|library| {
                    let cell = results.cell(program.name, library.name);
                    cell.runs.len() <= round && cell.failed.is_none()
                })
                .collect();
            if waiting.is_empty() {
                continue;
            }
            if budget.is_used_up(round) {
                return Ok(());
            }
            random.shuffle(&mut waiting);
            for library in waiting {
                warm_up::apart()?;
                let place = Place {
                    folder: &folder,
                    scale: Scale::Timed,
                    library: library.path.as_deref(),
                    under: &[],
                };
                record(&mut results, &program, library, program.run(&place))?;
            }
            kept::store(file, &results)?;
            eprintln!("round {} of {}", round + 1, program.name);
        }
    }
    Ok(())
}

/// Notes a run, or why there is none. An answer other than another library's is an error.
fn record(
    results: &mut Results,
    program: &Program,
    library: &Library,
    ran: io::Result<Ran>,
) -> io::Result<()> {
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) if library.name == library::OURS || library.path.is_none() => return Err(error),
        Err(error) => {
            // A peer that a program does not survive is a result too.
            eprintln!("under {}: {error}", library.name);
            results.cell(program.name, library.name).failed = Some(error.to_string());
            return Ok(());
        }
    };
    let others = results.programs.get(program.name).into_iter().flat_map(|cells| cells.values());
    if others.flat_map(|cell| &cell.runs).any(|other| other.checksum != ran.checksum) {
        let said = format!("{}: another answer under {}", program.name, library.name);
        return Err(io::Error::other(said));
    }
    let run = Run { cost: ran.cost, checksum: ran.checksum };
    results.cell(program.name, library.name).runs.push(run);
    Ok(())
}

fn count(choice: &Choice, file: &Path) -> io::Result<()> {
    let mut results: Results = kept::load(file)?;
    let folder = folder("counted")?;
    for program in choice.programs()? {
        for library in choice.libraries()? {
            let counts = folder.join("counts");
            if counts.exists() {
                fs::remove_dir_all(&counts)?;
            }
            fs::create_dir_all(&counts)?;
            let library_path = library.path.as_ref().map(fs::canonicalize).transpose()?;
            let place = Place {
                folder: &folder,
                scale: Scale::Counted,
                library: library_path.as_deref(),
                under: &malloc_family::counting(&counts),
            };
            if let Err(error) = program.run(&place) {
                eprintln!("not counted under {}: {error}", library.name);
                continue;
            }
            let instructions = malloc_family::instructions(&counts, library_path.as_deref())?;
            results.cell(program.name, library.name).instructions = Some(instructions);
            kept::store(file, &results)?;
            eprintln!("{} under {}: {instructions}", program.name, library.name);
        }
    }
    Ok(())
}

/// A folder for what programs need and write.
fn folder(name: &str) -> io::Result<PathBuf> {
    let folder = target().join("programs").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
