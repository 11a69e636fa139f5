//! Speedscope's JSON: the frames once, and a profile of weighted backtraces for each measure.

use std::io::{self, Write};

use alloc_trace_analysis::{CallTreeWeights, Measure};
use serde::Serialize;

use crate::json;
use crate::measures;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    shared: Shared<'a>,
    profiles: Vec<Profile>,
    name: &'a str,
    active_profile_index: usize,
    exporter: &'static str,
}

#[derive(Debug, Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Debug, Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: u64,
    end_value: u128,
    /// Indices of frames, the outermost first.
    samples: Vec<Vec<u32>>,
    weights: Vec<u128>,
}

/// Writes the measures that add up, `first` being the one that is shown.
pub(crate) fn write(
    out: &mut dyn Write,
    weights: &CallTreeWeights,
    name: &str,
    first: Measure,
) -> io::Result<()> {
    let backtraces = &weights.backtraces;
    let frames = backtraces.frames.iter().map(|frame| Frame {
        name: &frame.function,
        file: frame.file.as_deref(),
        line: frame.line,
    });
    let measures: Vec<Measure> =
        Measure::ALL.into_iter().filter(|measure| measure.adds_up()).collect();
    let profiles = measures.iter().map(|&measure| profile(weights, measure)).collect();
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        shared: Shared { frames: frames.collect() },
        profiles,
        name,
        active_profile_index: measures
            .iter()
            .position(|&measure| measure == first)
            .unwrap_or_default(),
        exporter: concat!("alloc-trace ", env!("CARGO_PKG_VERSION")),
    };
    json::write(out, &file)?;
    writeln!(out)
}

fn profile(weights: &CallTreeWeights, measure: Measure) -> Profile {
    let (mut samples, mut values) = (Vec::new(), Vec::new());
    for (node, figures) in (0..).zip(&weights.own) {
        let value = measure.of(figures);
        if value > 0 {
            samples.push(stack(weights, node));
            values.push(value);
        }
    }
    Profile {
        r#type: "sampled",
        name: measures::phrase(measure),
        unit: match measure {
            Measure::Lifetime => "nanoseconds",
            measure if measure.is_bytes() => "bytes",
            _ => "none",
        },
        start_value: 0,
        end_value: values.iter().sum(),
        samples,
        weights: values,
    }
}

/// The frames of a backtrace, the outermost first.
fn stack(weights: &CallTreeWeights, node: u32) -> Vec<u32> {
    let nodes = &weights.backtraces.nodes;
    let at = |number: u32| nodes.get(number as usize);
    let way = std::iter::successors(at(node), |node| at(node.parent?));
    let mut frames: Vec<u32> = way.filter_map(|node| node.frame).collect();
    frames.reverse();
    frames
}
