//! How a series is drawn: as an area, with markers, and below it the resident memory and the spans.

use std::fmt::Display;
use std::io;

use alloc_trace_analysis::{Cell, Intervals, Row, SpanKey};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::series::{Series, Unit};
use crate::table::from_the_front;
use crate::units::bytes;

const HEIGHT: u32 = 420;
const LEFT: u32 = 96;
const MARGIN: u32 = 14;
const LANE: u32 = 18;
const STRIP: u32 = 54;
/// How many spans and markers are shown, those that asked for most and those that came first.
const LANES: usize = 8;
const MARKERS: usize = 40;

const AREA: RGBColor = RGBColor(47, 127, 214);
const PEAK: RGBColor = RGBColor(192, 42, 29);
const MARKER: RGBColor = RGBColor(106, 53, 181);
const GROUND: RGBColor = RGBColor(244, 246, 249);
const RESIDENT: RGBColor = RGBColor(120, 120, 120);
const TEXT: RGBColor = RGBColor(60, 70, 82);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The picture, as SVG.
pub(super) fn draw(
    intervals: &Intervals,
    series: &Series,
    title: &str,
    width: u32,
) -> io::Result<String> {
    let lanes = lanes(intervals);
    let strip = if intervals.resident.is_empty() { 0 } else { STRIP };
    let below = if lanes.is_empty() { 0 } else { LANE * lanes.len() as u32 + MARGIN };
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (width, HEIGHT + strip + below)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (upper, lower) = root.split_vertically(HEIGHT);
        draw_series(&upper, intervals, series, title)?;
        let (resident, lower) = lower.split_vertically(strip);
        draw_resident(&resident, intervals, width)?;
        draw_lanes(&lower, intervals, &lanes, width)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// The whole of the time that is shown, in nanoseconds.
fn whole_ns(intervals: &Intervals) -> f64 {
    (intervals.bins.len() as u64 * intervals.bin_ns) as f64
}

fn draw_series(
    area: &Area<'_>,
    intervals: &Intervals,
    series: &Series,
    title: &str,
) -> io::Result<()> {
    let most = series.points.iter().map(|point| point.1).fold(1.0, f64::max);
    let (value_unit, value_name) = unit_of(most, series.unit);
    let whole = whole_ns(intervals);
    let (time_unit, time_name) = time_unit(whole);
    let scaled = |&(ns, value): &(f64, f64)| (ns / time_unit, value / value_unit);
    let top = most / value_unit * 1.12;
    let room = (area.dim_in_pixel().0 / 9) as usize;
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .caption(from_the_front(title, room), ("sans-serif", 17).into_font().color(&TEXT))
        .x_label_area_size(42)
        .y_label_area_size(LEFT - MARGIN)
        .build_cartesian_2d(0.0..whole / time_unit, 0.0..top)
        .map_err(failed)?;
    let labels = ("sans-serif", 13).into_font().color(&TEXT);
    let description = if value_name.is_empty() {
        series.name.to_owned()
    } else {
        format!("{} ({value_name})", series.name)
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(TEXT.mix(0.15))
        .axis_style(TEXT.mix(0.5))
        .x_labels(10)
        .y_labels(7)
        .x_desc(format!("time ({time_name})"))
        .y_desc(description)
        .label_style(labels.clone())
        .axis_desc_style(labels)
        .x_label_formatter(&|value| brief(*value))
        .y_label_formatter(&|value| brief(*value))
        .draw()
        .map_err(failed)?;
    let points = series.points.iter().map(scaled);
    let area = AreaSeries::new(points, 0.0, AREA.mix(0.22)).border_style(AREA);
    chart.draw_series(area).map_err(failed)?;
    if let Some(peak) = &series.peak {
        let peak = scaled(peak);
        chart.draw_series([Circle::new(peak, 4, PEAK.filled())]).map_err(failed)?;
    }
    draw_markers(&mut chart, intervals, time_unit, top)
}

fn draw_markers(
    chart: &mut Chart<'_, '_>,
    intervals: &Intervals,
    time_unit: f64,
    top: f64,
) -> io::Result<()> {
    let whole = whole_ns(intervals) / time_unit;
    let (width, _) = chart.plotting_area().dim_in_pixel();
    let mut free = f64::NEG_INFINITY;
    for (text, ns) in intervals.markers.iter().take(MARKERS) {
        let x = *ns as f64 / time_unit;
        let line = PathElement::new(vec![(x, 0.0), (x, top)], MARKER.mix(0.6));
        chart.draw_series([line]).map_err(failed)?;
        // A text is left out where it would lie on the one before.
        let text = from_the_front(text, 28);
        let length = text.chars().count() as f64 * 7.5 / f64::from(width) * whole;
        if x < free {
            continue;
        }
        let (side, offset) = if x + length > whole { (HPos::Right, -4) } else { (HPos::Left, 4) };
        let style = ("sans-serif", 12).into_font().color(&MARKER).pos(Pos::new(side, VPos::Top));
        let label = EmptyElement::at((x, top)) + Text::new(text, (offset, 2), style);
        chart.draw_series([label]).map_err(failed)?;
        free = x + length;
    }
    Ok(())
}

/// How much memory the process had resident, on a scale of its own: it is far more than what is live
/// where that is little, and the recorder's own is in it.
fn draw_resident(area: &Area<'_>, intervals: &Intervals, width: u32) -> io::Result<()> {
    let Some(most) = intervals.resident.iter().map(|&(_, size)| size).max() else {
        return Ok(());
    };
    let (left, right) = (LEFT as i32, (width - MARGIN) as i32);
    let (top, bottom) = (0, STRIP as i32 - MARGIN as i32);
    let whole = whole_ns(intervals).max(1.0);
    let x = |ns: u64| left + (ns as f64 / whole * f64::from(right - left)) as i32;
    let y =
        |size: u64| bottom - (size as f64 / most.max(1) as f64 * f64::from(bottom - top)) as i32;
    let ground = Rectangle::new([(left, top), (right, bottom)], GROUND.filled());
    area.draw(&ground).map_err(failed)?;
    // A sample holds until the next one.
    let mut line = Vec::with_capacity(2 * intervals.resident.len() + 1);
    for &(ns, size) in &intervals.resident {
        if let Some(&(_, before)) = line.last() {
            line.push((x(ns), before));
        }
        line.push((x(ns), y(size)));
    }
    if let Some(&(_, last)) = line.last() {
        line.push((x(intervals.state.duration_ns), last));
    }
    area.draw(&PathElement::new(line, RESIDENT.stroke_width(2))).map_err(failed)?;
    let style =
        ("sans-serif", 12).into_font().color(&TEXT).pos(Pos::new(HPos::Right, VPos::Center));
    let labels = [("resident".to_owned(), top + 10), (format!("≤ {}", bytes(most)), top + 26)];
    for (text, y) in labels {
        area.draw(&Text::new(text, (left - 6, y), style.clone())).map_err(failed)?;
    }
    Ok(())
}

/// The spans that asked for most.
fn lanes(intervals: &Intervals) -> Vec<&Row<Option<SpanKey>>> {
    let mut rows: Vec<_> = intervals.spans.iter().filter(|row| row.key.is_some()).collect();
    let allocated = |row: &Row<Option<SpanKey>>| {
        row.cells.iter().fold(0_u64, |sum, cell| sum.saturating_add(cell.allocated_bytes))
    };
    rows.sort_by_key(|row| std::cmp::Reverse(allocated(row)));
    rows.truncate(LANES);
    rows
}

/// A lane for each span: the bins in which it asked for memory, the darker the more often.
fn draw_lanes(
    area: &Area<'_>,
    intervals: &Intervals,
    lanes: &[&Row<Option<SpanKey>>],
    width: u32,
) -> io::Result<()> {
    let (left, right) = (LEFT as i32, (width - MARGIN) as i32);
    let bins = intervals.bins.len() as f64;
    let x = |bin: u32| left + (f64::from(bin) / bins * f64::from(right - left)) as i32;
    let style =
        ("sans-serif", 12).into_font().color(&TEXT).pos(Pos::new(HPos::Right, VPos::Center));
    for (lane, row) in (0_i32..).zip(lanes) {
        let Some(span) = &row.key else { continue };
        let (top, bottom) = (lane * LANE as i32, lane * LANE as i32 + LANE as i32 - 4);
        let ground = Rectangle::new([(left, top), (right, bottom)], GROUND.filled());
        area.draw(&ground).map_err(failed)?;
        let most = row.cells.iter().map(|cell| cell.requests).max().unwrap_or(0).max(1);
        for cell in row.cells.iter().filter(|cell| cell.requests > 0) {
            let Cell { bin, requests, .. } = *cell;
            let depth = 0.25 + 0.75 * (requests as f64 / most as f64).sqrt();
            let to = x(bin + 1).max(x(bin) + 1);
            let part = Rectangle::new([(x(bin), top), (to, bottom)], AREA.mix(depth).filled());
            area.draw(&part).map_err(failed)?;
        }
        let name = from_the_front(&span.name, 12);
        let label = Text::new(name, (left - 6, (top + bottom) / 2), style.clone());
        area.draw(&label).map_err(failed)?;
    }
    Ok(())
}

/// A unit in which the greatest value has few digits.
fn unit_of(most: f64, unit: Unit) -> (f64, &'static str) {
    const BYTES: [(f64, &str); 5] = [
        (1_099_511_627_776.0, "TiB"),
        (1_073_741_824.0, "GiB"),
        (1_048_576.0, "MiB"),
        (1_024.0, "KiB"),
        (1.0, "B"),
    ];
    const COUNTS: [(f64, &str); 4] =
        [(1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, "")];
    let units: &[(f64, &str)] = match unit {
        Unit::Bytes => &BYTES,
        Unit::Count => &COUNTS,
        Unit::Nanoseconds => return time_unit(most),
    };
    units.iter().copied().find(|(unit, _)| most >= *unit).unwrap_or((1.0, ""))
}

fn time_unit(most_ns: f64) -> (f64, &'static str) {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    units.into_iter().find(|(unit, _)| most_ns >= *unit).unwrap_or((1.0, "ns"))
}

/// A number with no more digits than it needs.
fn brief(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_greatest_value() {
        assert_eq!(unit_of(1_048_576.0, Unit::Bytes).1, "MiB");
        assert_eq!(unit_of(1_048_575.0, Unit::Bytes).1, "KiB");
        assert_eq!(unit_of(0.5, Unit::Bytes), (1.0, ""));
        assert_eq!(unit_of(2_500.0, Unit::Count), (1e3, "thousands"));
        assert_eq!(unit_of(2_500.0, Unit::Nanoseconds), (1e3, "µs"));
        assert_eq!(time_unit(12e6), (1e6, "ms"));
        assert_eq!([0.0, 1.5, 20.0, 0.125].map(brief), ["0", "1.5", "20", "0.125"]);
    }
}
