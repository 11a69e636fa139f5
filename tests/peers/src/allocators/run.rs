//! Runs the workloads: in rounds, in each round every allocator once, in an order of its own.

use std::path::Path;
use std::process::Command;

use serde::de::DeserializeOwned;

use super::results::{Results, cell_name};
use super::{Error, Plan, build};
use crate::allocator::Allocator;
use crate::budget::Budget;
use crate::burst::Burst;
use crate::kept;
use crate::measured::Measured;
use crate::random::Random;
use crate::warm_up;

/// Runs a plan until every cell has its rounds, or the budget of seconds is used up.
///
/// # Errors
///
/// If a workload cannot be run, fails, or comes to something else than under the other allocators.
pub fn run(plan: &Plan, rounds: u32, budget: Option<u64>, file: &Path) -> Result<(), Error> {
    let mut results = Results::load_or_new(file)?;
    let budget = Budget::of(budget);
    let mut random = Random::new(u64::from(std::process::id()));
    for round in 0..rounds as usize {
        let mut cells = plan.cells.clone();
        random.shuffle(&mut cells);
        for (workload, threads) in cells {
            let cell = cell_name(workload.name, threads);
            // A round of a cell is run whole or not at all: its ratios are taken within it.
            let has_round =
                |allocator: &Allocator| results.runs(&cell, allocator.name).len() > round;
            let mut allocators = plan.allocators_of(workload);
            if allocators.iter().all(has_round) {
                continue;
            }
            if budget.is_used_up(round) {
                return Ok(());
            }
            random.shuffle(&mut allocators);
            for allocator in allocators {
                workload.warm_up();
                let measured = run_one(allocator, workload.name, threads)?;
                let of_cell = results.cells.entry(cell.clone()).or_default();
                let other =
                    of_cell.values().flatten().find(|run| run.checksum != measured.checksum);
                if other.is_some() {
                    return Err(format!("{cell}: another answer under {}", allocator.name).into());
                }
                of_cell.entry(allocator.name.to_owned()).or_default().push(measured);
            }
            kept::store(file, &results)?;
            eprintln!("round {} of {cell}", round + 1);
        }
    }
    Ok(())
}

/// Has every allocator take a burst.
///
/// # Errors
///
/// If one is not built, or fails.
pub fn bursts(allocators: &[Allocator]) -> Result<Vec<(&'static str, Burst)>, Error> {
    let mut bursts = Vec::new();
    for allocator in allocators {
        warm_up::touch_and_release();
        let burst = answer(*allocator, &["burst"])?;
        bursts.push((allocator.name, burst));
    }
    Ok(bursts)
}

fn run_one(allocator: Allocator, workload: &str, threads: usize) -> Result<Measured, Error> {
    answer(allocator, &[workload, &threads.to_string()])
}

/// What the workloads' program answers to its arguments.
fn answer<T: DeserializeOwned>(allocator: Allocator, arguments: &[&str]) -> Result<T, Error> {
    let program = build::program(allocator);
    let name = allocator.name;
    let output = Command::new(&program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{name} is not built (`allocators build`): {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(
            format!("{} under {name}: {}: {said}", arguments.join(" "), output.status).into()
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
