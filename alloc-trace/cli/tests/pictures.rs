//! The pictures that `flame` and `timeline` draw, in a real browser.

mod browser;
mod bursts;
mod support;

use std::path::PathBuf;

use alloc_trace_analysis::Measure;
use alloc_trace_cli::units::{count, duration};
use serde_json::Value;

use browser::Page;
use bursts::{CALLEES, Made, assert_no_complaints, make, report, requests, write_bursts};
use support::{command, text};

/// A picture of a recording, by the command of this name.
fn draw(made: &Made, arguments: &[&str]) -> PathBuf {
    let path = made.recording.with_file_name(arguments.join("-") + ".svg");
    let output =
        command().args(arguments).arg(&made.recording).arg("-o").arg(&path).output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    path
}

#[test]
fn a_flame_graph_opens_in_a_browser_and_has_the_figures_of_the_report() {
    let Some(browser) = browser::find() else { return };
    let made = make(&|name| format!("{name} <&>"), &[]);
    let whole = report(&made.recording, &[]);
    let sites = whole["sites"].as_array().expect("sites");
    // Functions that call no other, so that they have what their call site has.
    let last = format!("[{:#x}]", 0x1000 * CALLEES);
    let site = sites.iter().find(|site| site["function"] == *last).expect("the site");
    let total = |key: &str| whole[key].as_u64().expect("a figure");
    for (measure, whole, of_site) in [
        ("bytes", total("allocated_bytes"), &site["allocated_bytes"]),
        ("requests", requests(&whole), &Value::from(requests(site))),
        ("temporary", total("temporary_allocations"), &site["temporary_allocations"]),
        ("live", total("live_bytes_at_end"), &site["live_bytes_at_end"]),
        ("live-blocks", total("live_blocks_at_end"), &site["live_blocks_at_end"]),
        ("peak", total("peak_bytes"), &site["at_peak_bytes"]),
        ("lifetime", total("lifetime_ns"), &site["lifetime_ns"]),
    ] {
        let svg = draw(&made, &["flame", "--measure", measure]);
        let svg = std::fs::read_to_string(svg).expect("text");
        let samples = |value: u64| {
            let digits = value.to_string();
            let with_commas = digits.as_bytes().rchunks(3).rev().map(text).collect::<Vec<_>>();
            with_commas.join(",")
        };
        let all = format!("<title>all ({} ", samples(whole));
        assert!(svg.contains(&all), "{measure}: {all}");
        let of_site = of_site.as_u64().expect("a figure");
        if of_site > 0 {
            let one = format!("<title>{last} ({} ", samples(of_site));
            assert!(svg.contains(&one), "{measure}: {one}");
        }
    }
    let page = &mut Page::open(&browser, &draw(&made, &["flame"]), 1200, 700);
    page.wait_for("document.querySelectorAll('#frames g').length > 20");
    let width = "document.querySelector('#frames g rect').getAttribute('width')";
    let before = page.get(width);
    page.get(
        "[...document.querySelectorAll('#frames g')]\
         .find((g) => g.textContent.startsWith('[0x2000]'))\
         .dispatchEvent(new MouseEvent('click', { bubbles: true }))",
    );
    page.settle();
    let zoomed = "[...document.querySelectorAll('#frames g')]\
                  .find((g) => g.textContent.startsWith('[0x2000]'))\
                  .querySelector('rect').width.baseVal.value";
    assert!(page.get(zoomed).as_f64() > Some(1_000.0), "{before}");
    assert_no_complaints(page);
}

/// A figure of bytes as the command shows it.
fn bytes(figure: &Value) -> String {
    alloc_trace_cli::units::bytes(figure.as_u64().expect("a figure"))
}

#[test]
fn a_timeline_opens_in_a_browser_with_peak_markers_and_spans() {
    let Some(browser) = browser::find() else { return };
    let made = make(&|name| format!("{name} <&>"), &[]);
    // Those of all commands, and one more.
    let measures = Measure::ALL.into_iter().map(Measure::name).chain(["freed"]);
    let at_peak = report(&made.recording, &["--live-at", "peak"]);
    let whole = report(&made.recording, &[]);
    assert_eq!(at_peak["allocated_bytes"], whole["peak_bytes"]);
    for measure in measures {
        let page =
            &mut Page::open(&browser, &draw(&made, &["timeline", "--measure", measure]), 1200, 700);
        page.wait_for("document.documentElement?.nodeName === 'svg'");
        let texts =
            page.get("[...document.querySelectorAll('text')].map((it) => it.textContent.trim())");
        let texts: Vec<&str> =
            texts.as_array().expect("texts").iter().filter_map(Value::as_str).collect();
        for name in ["warm <&>", "load <&>", "serve <&>", "resident", "≤ 9.3 MiB"] {
            // Of spans that asked for nothing that is shown there is no lane.
            let is_there = texts.contains(&name) || (measure, name) == ("at-peak", "load <&>");
            assert!(is_there, "{measure}: {name} is not in {texts:?}");
        }
        let title = texts.iter().find(|text| text.contains("bursts.trace: ")).expect("a title");
        let figure = match measure {
            "live" | "peak" => format!("peak {}", bytes(&whole["peak_bytes"])),
            "at-peak" => format!("live at the peak {}, by when", bytes(&whole["peak_bytes"])),
            "bytes" => format!("allocated {} in", bytes(&whole["allocated_bytes"])),
            "freed" => format!("freed {} in", bytes(&whole["freed_bytes"])),
            "requests" => format!("requested {} in", count(requests(&whole))),
            "temporary" => {
                let temporary = whole["temporary_allocations"].as_u64().expect("a figure");
                format!("temporary {} in", count(temporary))
            }
            "lifetime" => {
                let blocks = requests(&whole);
                let mean = whole["lifetime_ns"].as_u64().expect("a figure") / blocks;
                format!("mean lifetime {} of {} blocks", duration(mean), count(blocks))
            }
            _ => "live blocks".to_owned(),
        };
        assert!(title.contains(&figure), "{measure}: {figure} is not in {title}");
        assert_no_complaints(page);
    }
    let svg = std::fs::read_to_string(draw(&made, &["timeline"])).expect("text");
    assert!(svg.contains("live bytes, peak "), "its title");
    assert_eq!(svg.matches("<circle").count(), 1, "the peak");
}

#[test]
fn an_inverted_flame_graph_goes_from_the_call_sites_outwards_as_the_tree_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bursts.trace");
    write_bursts(&path, &str::to_owned);
    // The bars that lie on the one of everything: of the picture, those with the largest depth but one.
    let first = |inverted: &[&str]| {
        let mut flame = command();
        let output = flame.arg("flame").args(inverted).arg(&path).output().expect("run");
        let svg = text(&output.stdout).to_owned();
        let mut bars: Vec<(f64, String)> = Vec::new();
        for bar in svg.split("<title>").skip(1) {
            let name = bar.split([' ', '<']).next().unwrap_or_default().to_owned();
            let y = bar.split(" y=\"").nth(1).and_then(|y| y.split('"').next()?.parse().ok());
            bars.extend(y.map(|y| (y, name)));
        }
        let all = bars.iter().find(|(_, name)| name == "all").map(|&(y, _)| y).expect("its root");
        let step = |y: f64| (y - all).abs();
        let others = bars.iter().filter(|(y, _)| step(*y) > 0.0);
        let nearest = others.map(|(y, _)| step(*y)).fold(f64::MAX, f64::min);
        let first = bars.iter().filter(|(y, _)| step(*y) == nearest).map(|(_, name)| name.clone());
        first.collect::<std::collections::BTreeSet<String>>()
    };
    let output = command().arg("flame").arg(&path).output().expect("run");
    assert!(text(&output.stdout).contains(">all</text>"), "where no script runs, too");
    let (inwards, outwards) = (first(&[]), first(&["--inverted"]));
    assert!(!inwards.is_empty() && !outwards.is_empty());
    assert_ne!(inwards, outwards);
}

#[test]
fn there_is_no_picture_of_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bursts.trace");
    write_bursts(&path, &str::to_owned);
    let [new, old] = ["new.svg", "old.svg"].map(|name| directory.path().join(name));
    std::fs::write(&old, "a picture").expect("written");
    for svg in [&new, &old] {
        let mut flame = command();
        flame.args(["flame", "--size", "1GiB.."]).arg(&path).arg("-o").arg(svg);
        let output = flame.output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text(&output.stderr),
            "alloc-trace: there is nothing to show: no allocated bytes; pick another --measure, or \
             less narrow filters\n"
        );
    }
    assert!(!new.exists(), "no empty file is left");
    assert_eq!(std::fs::read_to_string(&old).expect("there"), "a picture");
}

#[test]
fn what_was_live_at_the_peak_is_not_asked_of_what_was_live_at_another_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bursts.trace");
    write_bursts(&path, &str::to_owned);
    let timeline = |measure: &str| {
        let arguments = ["timeline", "--live-at=1ms", "--measure", measure];
        command().args(arguments).arg(&path).output().expect("run")
    };
    let refused = timeline("at-peak");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("with --live-at give --measure bytes"));
    assert!(timeline("bytes").status.success());
}
