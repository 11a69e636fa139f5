//! The chart: for each workload, every allocator's time in relation to ours.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Error;
use super::results::{Results, cell_name};
use crate::allocator::{self, OURS};
use crate::measured::Measured;
use crate::statistics::{Spread, geometric_mean};
use crate::workloads::{self, Workload};

const ROW: i32 = 26;
const LEFT: i32 = 190;
const TOP: i32 = 92;
const WIDTH: i32 = 900;
const RIGHT: i32 = 40;
/// The axis ends here, in multiples of our time; what lies beyond is drawn at its end.
const RANGE: (f64, f64) = (0.5, 8.0);

/// A place on the axis, in pixels.
fn place(ratio: f64) -> i32 {
    let (low, high) = (RANGE.0.ln(), RANGE.1.ln());
    let part = (ratio.clamp(RANGE.0, RANGE.1).ln() - low) / (high - low);
    LEFT + (part * f64::from(WIDTH - LEFT - RIGHT)) as i32
}

/// Each workload's name with every peer's time in relation to ours, over all numbers of threads.
fn rows(results: &Results) -> Vec<(String, Vec<(usize, f64)>)> {
    let times = |cell: &str, allocator| -> Vec<f64> {
        results.runs(cell, allocator).iter().map(Measured::ns_per_operation).collect()
    };
    let of_workload = |workload: &Workload| {
        let peers = allocator::ALL.iter().enumerate().filter(|(_, peer)| peer.name != OURS);
        let peers = peers.filter_map(|(index, peer)| {
            let cells = workload.threads.iter().map(|threads| cell_name(workload.name, *threads));
            let ratios: Vec<_> = cells
                .map(|cell| (times(&cell, peer.name), times(&cell, OURS)))
                .filter(|(theirs, ours)| !theirs.is_empty() && !ours.is_empty())
                .map(|(theirs, ours)| Spread::of_ratios(&theirs, &ours).median)
                .collect();
            (!ratios.is_empty()).then(|| (index, geometric_mean(ratios)))
        });
        (workload.name.to_owned(), peers.collect::<Vec<_>>())
    };
    let mut rows: Vec<_> = workloads::ALL.iter().map(of_workload).collect();
    rows.retain(|(_, peers)| !peers.is_empty());
    let mut all: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (peer, ratio) in rows.iter().flat_map(|(_, peers)| peers) {
        all.entry(*peer).or_default().push(*ratio);
    }
    let means = all.into_iter().map(|(peer, ratios)| (peer, geometric_mean(ratios)));
    rows.push(("geometric mean".to_owned(), means.collect()));
    rows
}

/// Draws the chart into a file.
///
/// # Errors
///
/// If it cannot be written, or there are no results.
pub fn draw(results: &Results, file: &Path) -> Result<(), Error> {
    let rows = rows(results);
    let height = TOP + ROW * rows.len() as i32 + 34;
    let area = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let ink = RGBColor(32, 36, 42);
    let faint = RGBColor(214, 218, 224);
    let font = |size: u32| ("sans-serif", size).into_font().color(&ink);
    let title = "Time of each allocator in relation to CoreAlloc's (left of 1: faster than it)";
    area.draw(&Text::new(title, (16, 14), font(17)))?;
    let color = |index: usize| Palette99::pick(index).to_rgba();
    for (place_in_legend, (index, peer)) in
        allocator::ALL.iter().enumerate().filter(|(_, peer)| peer.name != OURS).enumerate()
    {
        let (x, y) = (22 + place_in_legend as i32 * 96, 52);
        area.draw(&Circle::new((x, y), 5, color(index).filled()))?;
        area.draw(&Text::new(peer.name, (x + 10, y - 7), font(13)))?;
    }
    let bottom = TOP + ROW * rows.len() as i32;
    for tick in [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0] {
        let x = place(tick);
        let style = if tick == 1.0 { ink.stroke_width(2) } else { faint.stroke_width(1) };
        area.draw(&PathElement::new([(x, TOP - 6), (x, bottom)], style))?;
        let centered = font(12).pos(Pos::new(HPos::Center, VPos::Top));
        // What lies beyond is drawn at the edge.
        let beyond = if tick == RANGE.1 { " and more" } else { "" };
        area.draw(&Text::new(format!("{tick}{beyond}"), (x, bottom + 8), centered))?;
    }
    for (index, (name, peers)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as i32 + ROW / 2;
        let right = font(13).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(name.as_str(), (LEFT - 14, y), right))?;
        area.draw(&PathElement::new([(LEFT, y), (WIDTH - RIGHT, y)], faint.stroke_width(1)))?;
        for (peer, ratio) in peers {
            area.draw(&Circle::new((place(*ratio), y), 5, color(*peer).mix(0.85).filled()))?;
        }
    }
    Ok(area.present()?)
}
