//! The table: what each profiler adds to an event.

use peers::comparison::verdict;
use peers::statistics::Spread;

use crate::profiler::{self, OFF, UNTRACED, WITH, WITHOUT};
use crate::results::{Cell, Results, Run, cell_name};
use crate::workload::{self, Workload};

pub(crate) fn print(results: &Results) {
    println!("{}; {}\n", results.machine, results.versions.join("; "));
    println!(
        "Nanoseconds an event over the untraced program, with the interval; bytes an event on disk;"
    );
    println!("what the traced process's own peak grows by.\n");
    let mut verdicts = String::new();
    for workload in workload::ALL {
        print_workload(results, &workload, &mut verdicts);
    }
    let threads = ["two threads", "one thread"].map(|name| {
        let workload = workload::ALL.into_iter().find(|workload| workload.name == name)?;
        let cell = results.cells.get(&cell_name(workload.name, workload.size))?;
        Some(Added::of(cell, WITH)?.processor.median)
    });
    if let [Some(two), Some(one)] = threads {
        let what = "two threads, CPU of an event in relation to one thread's";
        verdicts.push_str(&verdict(what, two / one, 1.0));
    }
    print!("{verdicts}");
}

fn print_workload(results: &Results, workload: &Workload, verdicts: &mut String) {
    let Some(whole) = results.cells.get(&cell_name(workload.name, workload.size)) else { return };
    println!(
        "**{}**: {}; {:.1} M events\n",
        workload.name,
        workload.about,
        whole.events as f64 / 1e6
    );
    println!("| profiler | wall | CPU | bytes | MiB |\n|---|---:|---:|---:|---:|");
    for profiler in profiler::ALL {
        let size = if profiler.slow { workload.size / 10 } else { workload.size };
        let cell = results.cells.get(&cell_name(workload.name, size));
        let Some(added) = cell.and_then(|cell| Added::of(cell, profiler.name)) else { continue };
        let nothing = profiler.name == UNTRACED || profiler.name == OFF;
        let bytes = if nothing { "–".to_owned() } else { format!("{:.2}", added.bytes) };
        println!(
            "| {}{} | {} | {} | {bytes} | {:.1} |",
            profiler.name,
            if profiler.slow { ", a tenth of the events" } else { "" },
            shown(added.wall),
            shown(added.processor),
            added.memory / 1024.0 / 1024.0
        );
        judge(workload, profiler.name, &added, verdicts);
    }
    println!();
}

/// A spread of nanoseconds.
fn shown(Spread { low, median, high }: Spread) -> String {
    format!("{median:.1} ({low:.1}–{high:.1})")
}

fn judge(workload: &Workload, profiler: &str, added: &Added, verdicts: &mut String) {
    let name = workload.name;
    let worse = added.wall.median.max(added.processor.median);
    match (profiler, workload.limit_ns) {
        (WITH, Some(limit)) => {
            let what = format!("{name}, with backtraces, ns an event (wall and CPU)");
            verdicts.push_str(&verdict(&what, worse, limit));
            if name == "churn" {
                verdicts.push_str(&verdict("churn, bytes an event", added.bytes, 3.5));
            }
            let what = format!("{name}, MiB of memory");
            verdicts.push_str(&verdict(&what, added.memory / 1024.0 / 1024.0, 16.0));
        }
        (WITHOUT, Some(_)) if name.ends_with("churn") => {
            let what = format!("{name}, without backtraces, ns an event (wall and CPU)");
            verdicts.push_str(&verdict(&what, worse, 30.0));
        }
        (OFF, _) if name.ends_with("churn") => {
            let what = format!("{name}, recorder present but off, ns an event (wall and CPU)");
            verdicts.push_str(&verdict(&what, worse, 1.0));
        }
        _ => {}
    }
}

/// What a profiler adds.
struct Added {
    /// Wall time, in nanoseconds an event.
    wall: Spread,
    /// Processor time of all processes, in nanoseconds an event.
    processor: Spread,
    /// Bytes an event.
    bytes: f64,
    /// Memory of the traced process, in bytes.
    memory: f64,
}

impl Added {
    fn of(cell: &Cell, profiler: &str) -> Option<Self> {
        let untraced = cell.runs.get(UNTRACED)?;
        let traced = cell.runs.get(profiler)?;
        let events = cell.events as f64;
        let over = |measure: fn(&Run) -> f64| -> Vec<f64> {
            let pairs = traced.iter().zip(untraced);
            pairs.map(|(traced, untraced)| measure(traced) - measure(untraced)).collect()
        };
        let spread = |values: Vec<f64>| {
            (!values.is_empty()).then(|| {
                let Spread { low, median, high } = Spread::of(&values);
                Spread { low: low / events, median: median / events, high: high / events }
            })
        };
        Some(Self {
            wall: spread(over(|run| run.cost.wall_ns as f64))?,
            processor: spread(over(|run| run.cost.cpu_ns() as f64))?,
            bytes: spread(traced.iter().map(|run| run.recording_bytes as f64).collect())?.median,
            memory: Spread::of(&over(|run| run.peak_resident_bytes as f64)).median,
        })
    }
}
