//! The page that `alloc-trace html` makes, in a real browser: what is clicked, dragged, typed and read.

mod browser;
mod bursts;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use alloc_trace_cli::units::{bytes, duration};
use alloc_trace_format::{EventKind, Record, RecordingWriter, Window};
use serde_json::Value;

use browser::Page;
use bursts::{CALLEES, Made, assert_no_complaints, make, report, requests};
use support::{command, event, header, start, text};

/// The columns of the page's tables, as they stand there.
const COLUMNS: [&str; 8] =
    ["bytes", "requests", "temporary", "kept", "released", "live", "atPeak", "peak"];

/// The table that is shown: of each row its name and its figures.
fn table(page: &mut Page) -> Vec<(String, BTreeMap<&'static str, Option<u64>>)> {
    let rows = page.get(
        "[...document.querySelectorAll('#table tbody tr')].map((row) => \
         [row.cells[0].innerText, [...row.cells].slice(1).map((cell) => cell.dataset.value ?? null)])",
    );
    let rows = rows.as_array().expect("rows");
    let rows = rows.iter().map(|row| {
        let figure =
            |index: usize| row[1][index].as_str().map(|text| text.parse().expect("a number"));
        let name = row[0].as_str().expect("a name").split('\n').next().unwrap_or_default();
        let figures = COLUMNS.iter().enumerate().map(|(index, &column)| (column, figure(index)));
        (name.to_owned(), figures.collect())
    });
    rows.collect()
}

fn tile(page: &mut Page, measure: &str) -> u64 {
    let value = page
        .get(&format!("document.querySelector('#tiles [data-measure={measure}]').dataset.value"));
    value.as_str().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{measure}"))
}

/// What tables are of.
const AXES: [&str; 8] = ["site", "function", "file", "crate", "thread", "span", "size", "lifetime"];

/// What the command line says by one of these, by what the page calls it.
fn groups(recording: &Path, axis: &str, when: &[&str]) -> BTreeMap<String, Value> {
    let report = report(recording, &[&["--by", axis], when].concat());
    let groups = report["groups"].as_array().expect("groups").iter();
    let known = groups.filter(|group| group["known_block"] != false);
    known.map(|group| (name_of(axis, group), group.clone())).collect()
}

/// What the page calls a group of the command line.
fn name_of(axis: &str, group: &Value) -> String {
    let text = |key: &str, none: &str| group[key].as_str().unwrap_or(none).to_owned();
    match axis {
        "site" | "function" => text("function", ""),
        "file" => text("file", "[unknown file]"),
        "crate" => text("crate", "[no crate]"),
        "thread" => text("name", ""),
        "span" => text("span", "[outside of spans]"),
        "size" => match group["min_size"].as_u64().expect("a size") {
            least @ 0..2 => bytes(least),
            2 => "2 – 3 B".to_owned(),
            least @ 3..1024 => format!("{} – {} B", bytes(least), 2 * least - 1),
            least => format!("{} – <{}", bytes(least), bytes(2 * least)),
        },
        _ => match group["min_lifetime_ns"].as_u64() {
            None => "never freed".to_owned(),
            Some(0) => "under 100 ns".to_owned(),
            Some(least) => {
                let most = group["max_lifetime_ns"].as_u64().expect("a time");
                format!("{} – {}", round(least), round(most + 1))
            }
        },
    }
}

/// A round time without the digits that say nothing.
fn round(ns: u64) -> String {
    let text = duration(ns);
    match text.split_once('.') {
        Some((whole, rest)) => match rest.trim_start_matches('0').split_once(' ') {
            Some(("", unit)) => format!("{whole} {unit}"),
            _ => text,
        },
        None => text,
    }
}

/// Compares what the page shows of its interval with what the command line says of the same time.
fn assert_same_as_report(page: &mut Page, made: &Made, from_ns: u64, to_ns: u64) {
    let (from, to) = (format!("{from_ns}ns"), format!("{to_ns}ns"));
    let requested = report(&made.recording, &["--from", &from, "--to", &to]);
    let live = report(&made.recording, &["--live-at", &to]);
    assert_eq!(tile(page, "bytes"), requested["allocated_bytes"]);
    assert_eq!(tile(page, "kept"), requested["live_bytes_at_end"]);
    assert_eq!(tile(page, "temporary"), requested["temporary_allocations"]);
    assert_eq!(tile(page, "live"), live["allocated_bytes"]);
    for axis in AXES {
        page.click(&format!("#axes [data-axis={axis}]"));
        let rows = table(page);
        let groups = |when: &[&str]| groups(&made.recording, axis, when);
        let requested = groups(&["--from", &from, "--to", &to]);
        let live = groups(&["--live-at", &to]);
        let mut met = 0;
        for (name, figures) in &rows {
            let found = requested.get(name).cloned().unwrap_or_default();
            let figure = |key: &str| found[key].as_u64().unwrap_or(0);
            assert_eq!(figures["bytes"], Some(figure("allocated_bytes")), "{axis} {name}");
            assert_eq!(figures["kept"], Some(figure("live_bytes_at_end")), "{axis} {name}");
            let temporary = Some(figure("temporary_allocations"));
            assert_eq!(figures["temporary"], temporary, "{axis} {name}");
            if !found.is_null() {
                assert_eq!(figures["requests"], Some(requests(&found)), "{axis} {name}");
                met += usize::from(requests(&found) > 0);
            }
            let live = live.get(name).and_then(|group| group["allocated_bytes"].as_u64());
            assert_eq!(figures["live"], Some(live.unwrap_or(0)), "{axis} {name}");
        }
        let all = requested.values().filter(|group| requests(group) > 0);
        assert_eq!(met, all.count(), "every group by {axis}: {:?}", requested.keys());
    }
    page.click("#axes [data-axis=site]");
}

/// The interval that the page has, by the command line that it shows.
fn interval(page: &mut Page) -> (u64, u64) {
    let line = page.text("#same code");
    let after = |flag: &str| {
        let mut words = line.split(' ').skip_while(|word| *word != flag).skip(1);
        let time = words.next().and_then(|word| word.strip_suffix("ns"));
        time.and_then(|time| time.parse().ok()).unwrap_or_else(|| panic!("{flag}: {line}"))
    };
    (after("--from"), after("--to"))
}

fn open(browser: &Path, page: &Path) -> Page {
    let mut page = Page::open(browser, page, 1280, 900);
    page.wait_for("document.documentElement?.dataset.state === 'ready'");
    page
}

#[test]
fn an_interval_that_is_brushed_has_the_figures_of_the_command_line() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &["--bins=200"]);
    let page = &mut open(&browser, &made.page);

    // The whole recording, peaks included.
    let whole = report(&made.recording, &[]);
    assert_eq!(tile(page, "peak"), whole["peak_bytes"]);
    assert_eq!(tile(page, "released"), whole["freed_bytes"]);
    let rows = table(page);
    let sites = whole["sites"].as_array().expect("sites");
    assert_eq!(rows.len(), sites.len());
    for (name, figures) in &rows {
        let site = sites.iter().find(|site| site["function"] == **name).expect("the site");
        assert_eq!(figures["peak"], site["peak_bytes"].as_u64(), "{name}");
    }
    let at_peak: u64 = rows.iter().filter_map(|(_, figures)| figures["atPeak"]).sum();
    assert_eq!(at_peak, whole["peak_bytes"], "the parts of the peak add up");
    let duration = whole["duration_ns"].as_u64().expect("a time");
    assert_same_as_report(page, &made, 0, duration);

    // Dragged over with the mouse.
    let [left, top, width, height] = page.place("#chart");
    let y = top + height / 2.0;
    page.drag((left + width * 0.30, y), (left + width * 0.62, y));
    let (from_ns, to_ns) = interval(page);
    assert!(0 < from_ns && from_ns < to_ns && to_ns < duration, "{from_ns} {to_ns}");
    assert_same_as_report(page, &made, from_ns, to_ns);

    // Its end moved on by keys, its beginning to the very beginning.
    page.focus("#to");
    page.press("ArrowRight");
    let (_, moved) = interval(page);
    assert!(moved > to_ns);
    page.focus("#from");
    page.press("Home");
    assert_eq!(interval(page), (0, moved));
    assert_same_as_report(page, &made, 0, moved);

    // From the peak on, and from the marker.
    page.click("#from-peak");
    let from_ns = page.get("Number(document.querySelector('#from').getAttribute('aria-valuenow'))");
    assert!(from_ns.as_f64().is_some_and(|bin| bin > 0.0));
    let marker = page.get("document.querySelector('#marker').options[1].value");
    let marker = marker.as_str().expect("a time").to_owned();
    page.choose("#marker", &marker);
    let (from_ns, to_ns) = interval(page);
    let marker: u64 = marker.parse().expect("a number");
    assert!(from_ns <= marker && marker - from_ns < duration / 100, "{from_ns} {marker}");
    assert_same_as_report(page, &made, from_ns, to_ns);

    page.press("Escape");
    assert!(page.text("#interval").starts_with("whole recording"));
    assert_eq!(tile(page, "bytes"), whole["allocated_bytes"]);
    assert_no_complaints(page);
}

#[test]
fn tables_are_sorted_and_filtered() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &[]);
    let page = &mut open(&browser, &made.page);
    for (index, column) in COLUMNS.iter().enumerate() {
        let head = format!("#table th[data-column={column}] button");
        // The first column is what the table is sorted by already.
        page.click(&head);
        if index == 0 {
            page.click(&head);
        }
        let falling: Vec<Option<u64>> =
            table(page).iter().map(|(_, figures)| figures[column]).collect();
        assert!(falling.is_sorted_by(|one, other| one >= other), "{column}: {falling:?}");
        assert!(falling.first() > falling.last(), "{column} says nothing");
        let sorted = format!("document.querySelector('#table th[data-column={column}]').ariaSort");
        assert_eq!(page.get(&sorted), "descending");
        page.click(&head);
        let rising: Vec<Option<u64>> =
            table(page).iter().map(|(_, figures)| figures[column]).collect();
        assert!(rising.is_sorted(), "{column}: {rising:?}");
        assert_eq!(page.get(&sorted), "ascending");
    }
    let all = table(page).len();
    page.fill("#table-filter", "[0x1000]");
    assert_eq!(table(page).len(), 1);
    assert_eq!(table(page)[0].0, "[0x1000]");
    page.fill("#table-filter", "no such function");
    assert_eq!(table(page).len(), 0);
    page.fill("#table-filter", "");
    assert_eq!(table(page).len(), all);
    // Divided in any way, it is the same whole.
    let whole = tile(page, "bytes");
    for axis in ["function", "file", "crate", "thread", "span", "size", "lifetime"] {
        page.click(&format!("#axes [data-axis={axis}]"));
        let sum: u64 = table(page).iter().filter_map(|(_, figures)| figures["bytes"]).sum();
        assert_eq!(sum, whole, "{axis}");
    }
    // Along the row of choices by keys.
    page.focus("#axes [aria-checked=true]");
    page.press("ArrowRight");
    assert_eq!(
        page.get("document.querySelector('#axes [aria-checked=true]').dataset.axis"),
        "site"
    );
    assert_no_complaints(page);
}

#[test]
fn the_flame_graph_is_searched_and_zoomed_and_shows_any_measure() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &[]);
    let page = &mut open(&browser, &made.page);
    page.click("#tab-flame");
    let nodes = "document.querySelectorAll('#flame [data-node]').length";
    assert_eq!(page.get(nodes), CALLEES + 1, "all of them, and their sum");
    let whole = page.text("#flame-detail");
    assert!(whole.contains("100.0 %"), "{whole}");

    // Each measure has its own widths.
    let width = "document.querySelector('#flame [aria-label^=\"[0x2000]\"]').style.width";
    let mut widths = Vec::new();
    for measure in ["bytes", "requests", "live", "atPeak"] {
        page.choose("#flame-measure", measure);
        widths.push(page.get(width).to_string());
    }
    widths.dedup();
    assert!(widths.len() > 2, "{widths:?}");
    page.choose("#flame-measure", "requests");

    // A search marks what it finds, and says how much that is: as much as the report says, for the
    // function calls no other.
    let last = format!("[{:#x}]", 0x1000 * CALLEES);
    page.fill("#flame-search", &last);
    assert_eq!(page.get("document.querySelectorAll('#flame .found').length"), 1);
    let sites = report(&made.recording, &[]);
    let site = sites["sites"].as_array().expect("sites");
    let site = site.iter().find(|site| site["function"] == *last).expect("the site");
    let found = page.text("#flame-found");
    assert!(found.starts_with(&format!("1 match: {},", requests(site))), "{found}");
    page.fill("#flame-search", "");

    // A click zooms in: what lies beside is gone, what lies outside stays above.
    page.click("#flame [aria-label^=\"[0x2000]\"]");
    assert_eq!(page.get(nodes), 2 + 1 + 5);
    assert_eq!(page.get("document.querySelectorAll('#flame .above').length"), 2);
    page.press("Escape");
    assert_eq!(page.get(nodes), CALLEES + 1);

    // By keys: into the first callee, its neighbour, and back out.
    page.press("ArrowDown");
    page.press("ArrowDown");
    let label = "document.activeElement.getAttribute('aria-level')";
    assert_eq!(page.get(label), "3");
    let first = page.get("document.activeElement.dataset.node");
    page.press("ArrowRight");
    assert_ne!(page.get("document.activeElement.dataset.node"), first);
    page.press("Enter");
    assert_eq!(page.get("document.querySelectorAll('#flame .above').length"), 2);
    page.click("#flame-reset");
    assert_eq!(page.get(nodes), CALLEES + 1);

    // It follows the brush.
    let before = page.text("#flame-detail");
    page.click("#to-peak");
    assert_ne!(page.text("#flame-detail"), before);

    // A name in a table is looked for here.
    page.click("#tab-table");
    page.click("#table tbody .link");
    assert_eq!(page.get("document.querySelector('#panel-flame').hidden"), false);
    assert!(page.get("document.querySelectorAll('#flame .found').length").as_u64() > Some(0));
    assert_no_complaints(page);
}

#[test]
fn histograms_and_advice_are_those_of_the_command_line() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &[]);
    let page = &mut open(&browser, &made.page);
    page.click("#to-peak");
    page.click("#tab-histogram");
    let bytes = tile(page, "bytes");
    let sum = |page: &mut Page, id: &str| {
        let sum = page.get(&format!(
            "[...document.querySelectorAll('#{id} [role=row]')]\
             .reduce((sum, row) => sum + Number(row.dataset.value), 0)"
        ));
        sum.as_u64().expect("a sum")
    };
    page.choose("#histogram-measure", "bytes");
    assert_eq!((sum(page, "sizes"), sum(page, "lifetimes")), (bytes, bytes));
    // Over four kibibytes, as the command line counts them.
    page.press("Escape");
    page.choose("#histogram-measure", "requests");
    let large = report(&made.recording, &["--size", "4096..=8191"]);
    let row = "[...document.querySelectorAll('#sizes [role=row]')]\
               .find((row) => row.innerText.startsWith('4.0 KiB')).dataset.value";
    assert_eq!(page.get(row), requests(&large).to_string());
    let long = report(&made.recording, &["--lifetime", "20us..50us"]);
    let row = "[...document.querySelectorAll('#lifetimes [role=row]')]\
               .find((row) => row.innerText.startsWith('20 µs')).dataset.value";
    // The filter takes what was never freed as if it had lived to the end.
    let freed = requests(&long) - long["live_blocks_at_end"].as_u64().expect("a figure");
    assert_eq!(page.get(row), freed.to_string());

    page.focus("#tab-histogram");
    page.press("ArrowRight");
    let output = command().args(["advise", "--json"]).arg(&made.recording).output().expect("run");
    let advice: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = advice["findings"].as_array().expect("findings");
    assert!(!findings.is_empty());
    while page.get("document.querySelector('#advice > button') !== null") == true {
        page.click("#advice > button");
    }
    let remedies = page.get(
        "[...document.querySelectorAll('#advice .remedy')].map((it) => it.innerText.slice(2))",
    );
    let expected: Vec<&Value> = findings.iter().map(|finding| &finding["remedy"]).collect();
    assert_eq!(remedies.as_array().expect("a list").iter().collect::<Vec<_>>(), expected);
    assert_no_complaints(page);
}

#[test]
fn a_page_of_a_part_says_so_and_has_the_figures_of_that_part() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &["--thread", "worker"]);
    let page = &mut open(&browser, &made.page);
    assert!(page.text("#facts").starts_with("only of what the filters pick"));
    let part = report(&made.recording, &["--thread", "worker"]);
    assert_eq!(tile(page, "bytes"), part["allocated_bytes"]);
    assert_eq!(tile(page, "released"), part["freed_bytes"]);
    assert_eq!(tile(page, "peak"), part["peak_bytes"]);
    page.click("#to-peak");
    // A command without the filters would say something else.
    assert_eq!(page.get("document.querySelector('#same code')"), Value::Null);
    assert_no_complaints(page);
}

#[test]
fn names_are_texts_whatever_they_look_like() {
    let Some(browser) = browser::find() else { return };
    let hostile = |name: &str| {
        format!("{name}</script><script>window.hacked = 1</script><img src=x onerror='hacked = 1'>")
    };
    let made = make(&hostile, &[]);
    let page = &mut open(&browser, &made.page);
    assert_eq!(page.text("h1"), hostile("/usr/bin/bursts").rsplit('/').next().unwrap_or_default());
    assert!(page.text("#command").starts_with(&hostile("bursts")));
    page.click("#axes [data-axis=thread]");
    let mut names: Vec<String> = table(page).into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, [hostile("main"), hostile("worker")]);
    page.click("#axes [data-axis=span]");
    assert!(table(page).iter().any(|(name, _)| *name == hostile("load")));
    for tab in ["flame", "histogram", "advice", "table"] {
        page.click(&format!("#tab-{tab}"));
    }
    assert_eq!(page.get("typeof window.hacked"), "undefined");
    assert_no_complaints(page);
}

#[test]
fn a_page_that_was_cut_off_says_so() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &[]);
    let html = std::fs::read_to_string(&made.page).expect("a page");
    let data = html.find("id=\"data\">").expect("its data") + 200;
    std::fs::write(&made.page, format!("{}{}", &html[..data], &html[data + 400..]))
        .expect("written");
    let mut page = Page::open(&browser, &made.page, 800, 600);
    page.wait_for("document.querySelector('#failure')?.checkVisibility()");
    assert!(page.text("#failure").starts_with("This page cannot be shown: "));
}

#[test]
fn an_empty_recording_makes_a_page() {
    let Some(browser) = browser::find() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let recording = directory.path().join("empty.trace");
    let writer =
        RecordingWriter::create(&recording, &header(42), Window::default()).expect("created");
    writer.finish(None).expect("finished");
    let path = directory.path().join("empty.html");
    let output = command().arg("html").arg(&recording).arg("-o").arg(&path).output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = &mut open(&browser, &path);
    assert!(page.text("#warnings").contains("without its closing record"));
    assert_eq!(tile(page, "bytes"), 0);
    assert!(page.text("#facts").contains("0 heap events"), "{}", page.text("#facts"));
    let churn = "[...document.querySelectorAll('#timeline text')]\
                 .some((it) => it.textContent === '0 B')";
    assert_eq!(page.get(churn), true, "nothing was allocated in any second");
    for tab in ["flame", "histogram", "advice", "table"] {
        page.click(&format!("#tab-{tab}"));
    }
    assert_no_complaints(page);
}

#[test]
fn frees_of_blocks_older_than_the_recording_are_counted() {
    let Some(browser) = browser::find() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let recording = directory.path().join("older.trace");
    let mut writer =
        RecordingWriter::create(&recording, &header(42), Window::default()).expect("created");
    let mut write = |record: Record| writer.write(0, &record).expect("written");
    write(start(1, "main", false));
    for (kind, stamp, address) in [
        (EventKind::Alloc, 1_100, 0x10),
        (EventKind::Free, 1_200, 0x20),
        (EventKind::Free, 1_300, 0x10),
        (EventKind::Free, 1_400, 0x10),
    ] {
        write(Record::Event(event(kind, 1, stamp, address, 100)));
    }
    writer.finish(None).expect("finished");
    let path = directory.path().join("older.html");
    let output = command().arg("html").arg(&recording).arg("-o").arg(&path).output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(report(&recording, &[])["unmatched_frees"], 2);
    let page = &mut open(&browser, &path);
    let facts = page.text("#facts");
    assert!(facts.ends_with(" · 2 frees of blocks older than the recording"), "{facts}");
    assert_eq!(tile(page, "released"), 100, "of them nothing else is known");
    assert_no_complaints(page);
}

/// Takes the pictures of the README: of a page made here, or of the one that the variable `PAGE` names, into the
/// directory that `PICTURES` names; and says how long it took to open.
#[test]
fn pictures_are_taken_of_every_part_of_the_page() {
    let Some(browser) = browser::find() else { return };
    let made = make(&str::to_owned, &[]);
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let path = variable("PAGE").unwrap_or_else(|| made.page.clone());
    let into = variable("PICTURES").unwrap_or_else(|| made.page.with_file_name(""));
    let mut page = Page::open(&browser, &path, 1180, 860);
    let begin = Instant::now();
    page.wait_for("document.documentElement?.dataset.state === 'ready'");
    println!("waited {:?}", begin.elapsed());
    let shown = page.get(
        "[performance.getEntriesByType('navigation')[0].domInteractive, \
          performance.getEntriesByName('first-contentful-paint')[0]?.startTime, \
          performance.getEntriesByName('ready')[0]?.startTime]",
    );
    println!("ms to the page being read, painted, its figures being there: {shown}");
    page.click("#axes [data-axis=function]");
    let [left, top, width, height] = page.place("#chart");
    let y = top + height / 2.0;
    page.drag((left + width * 0.22, y), (left + width * 0.5, y));
    page.get("document.activeElement.blur(); scrollTo(0, 0)");
    page.photograph(&into.join("page.png"));
    page.prefer("dark");
    page.click("#tab-flame");
    page.choose("#flame-measure", "requests");
    page.get("document.querySelector('[role=tablist]').scrollIntoView({ behavior: 'instant' })");
    page.photograph(&into.join("page-flame.png"));
    page.prefer("light");
    page.click("#tab-histogram");
    page.photograph(&into.join("page-histogram.png"));
    page.click("#tab-advice");
    page.photograph(&into.join("page-advice.png"));
    assert_no_complaints(&mut page);
    let pictures = ["page", "page-flame", "page-histogram", "page-advice"].map(|name| {
        let png = std::fs::read(into.join(format!("{name}.png"))).expect("taken");
        assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n", "{name}");
        let pixels = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four"));
        assert!(pixels(16) >= 1_180 && pixels(20) >= 860, "{name}");
        // A page that shows nothing is one of a few kilobytes.
        assert!(png.len() > 20_000, "{name}: {} bytes", png.len());
        png
    });
    let different: std::collections::BTreeSet<&Vec<u8>> = pictures.iter().collect();
    assert_eq!(different.len(), pictures.len(), "each part is another one");
}
