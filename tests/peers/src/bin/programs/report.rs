//! The tables, and what was aimed at.

use peers::comparison::{Comparison, verdict};

use crate::library::{NONE, OURS};
use crate::program;
use crate::results::{Cell, Results, Run};

/// The order of the columns.
const PEERS: [&str; 8] = [
    "mimalloc 3",
    "mimalloc 2",
    "mimalloc 2.0.9",
    "snmalloc",
    "rpmalloc",
    "jemalloc",
    "tcmalloc",
    NONE,
];

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn print(results: &Results) {
    let by = |measure: fn(&Run) -> f64| {
        compare(results, move |cell| cell.runs.iter().map(measure).collect())
    };
    let time = by(|run| run.cost.wall_ns as f64);
    let processor = by(|run| run.cost.cpu_ns() as f64);
    let memory = by(|run| run.cost.peak_resident_bytes as f64);
    let faults = by(|run| run.cost.minor_faults as f64);
    let instructions =
        compare(results, |cell| cell.instructions.map(|it| it as f64).into_iter().collect());
    println!("{}\n", results.machine);
    println!("Ours in relation to each peer's; below 1 it is less.\n");
    for (title, compared, unit, scale) in [
        ("Wall time", &time, "ms", 1e6),
        ("Processor time", &processor, "ms", 1e6),
        ("Peak resident memory", &memory, "MiB", MIB),
        ("Page faults", &faults, "thousand", 1e3),
        ("Instructions in the malloc family, of a smaller run", &instructions, "million", 1e6),
    ] {
        if !compared.rows.is_empty() {
            println!("{title}\n\n{}", compared.table("program", unit, scale));
        }
    }
    for (program, cells) in &results.programs {
        for (library, cell) in cells {
            if let Some(reason) = &cell.failed {
                println!("{program} does not survive {library}: {reason}\n");
            }
        }
    }
    print_verdicts(&time, &memory, &faults, &instructions);
}

fn compare(results: &Results, values: impl Fn(&Cell) -> Vec<f64>) -> Comparison {
    let rows = program::ALL.iter().map(|program| program.name.to_owned());
    Comparison::new(OURS, PEERS, rows, |program, library| {
        let cell = results.programs.get(program).and_then(|cells| cells.get(library));
        cell.map(&values).unwrap_or_default()
    })
}

fn print_verdicts(
    time: &Comparison,
    memory: &Comparison,
    faults: &Comparison,
    instructions: &Comparison,
) {
    let Some(best) = time.best_all_round() else { return };
    let name = time.peers[best];
    print!(
        "{}",
        verdict(&format!("time against the fastest peer, {name}"), time.mean_to(best), 1.0)
    );
    let in_relation = |compared: &Comparison, name: &str| {
        let peer = compared.peers.iter().position(|peer| *peer == name)?;
        Some(compared.mean_to(peer))
    };
    for (what, compared) in
        [("instructions in the malloc family", instructions), ("page faults", faults)]
    {
        if let Some(mean) = in_relation(compared, name) {
            print!("{}", verdict(&format!("{what} against {name}"), mean, 0.90));
        }
    }
    // The leanest of the peers that are nearly as fast as the fastest.
    let near = (0..time.peers.len())
        .filter(|peer| time.mean_to(best) / time.mean_to(*peer) <= 1.10)
        .filter_map(|peer| Some((time.peers[peer], in_relation(memory, time.peers[peer])?)));
    if let Some((lean, mean)) = near.max_by(|a, b| a.1.total_cmp(&b.1)) {
        let what = format!("resident memory against {lean}, the leanest within 10 % of that time");
        print!("{}", verdict(&what, mean, 1.05));
    }
}
