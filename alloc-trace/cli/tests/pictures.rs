//! The pictures that `flame` and `timeline` draw, in a real browser.

mod browser;
mod bursts;
mod support;

use std::path::PathBuf;

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

#[test]
fn a_timeline_opens_in_a_browser_with_peak_markers_and_spans() {
    let Some(browser) = browser::find() else { return };
    let made = make(&|name| format!("{name} <&>"), &[]);
    let measures = ["live", "live-blocks", "bytes", "freed", "requests", "temporary"];
    for measure in measures {
        let page =
            &mut Page::open(&browser, &draw(&made, &["timeline", "--measure", measure]), 1200, 700);
        page.wait_for("document.documentElement?.nodeName === 'svg'");
        let texts =
            page.get("[...document.querySelectorAll('text')].map((it) => it.textContent.trim())");
        let texts: Vec<&str> =
            texts.as_array().expect("texts").iter().filter_map(Value::as_str).collect();
        for name in ["warm <&>", "load <&>", "serve <&>", "resident", "≤ 9.3 MiB"] {
            assert!(texts.contains(&name), "{measure}: {name} is not in {texts:?}");
        }
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
