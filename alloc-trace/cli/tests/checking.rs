//! `check`: limits that are kept and limits that are not.

mod support;

use serde_json::Value;

use support::{check, faults, run, sample, text, write_sample};

#[test]
fn growth_is_counted_from_a_baseline() {
    let (directory, path) = sample(true);
    let (_other, faults) = faults(true);
    let baseline = format!("--baseline={}", path.display());
    assert_eq!(check(&path, &[&baseline, "--max-growth=0%"]), (String::new(), Some(0)));
    let from = format!("in {}", path.display());
    let expected = format!(
        "\
never freed: 19.7 KiB (20,199 B) exceeds 5.0 KiB (5,124 B), from 4.9 KiB (5,024 B) {from}
blocks never freed: 200 exceeds 3, from 2 {from}
allocations: 2,401 exceeds 5, from 5 {from}
allocated: 13.3 MiB (13,915,399 B) exceeds 1.0 MiB (1,063,700 B), from 1.0 MiB (1,053,700 B) {from}
"
    );
    let limits = [
        &baseline,
        "--max-growth=900%",
        "--max-leaked=+100",
        "--max-leaked-blocks=+50%",
        "--max-allocations=+0",
        "--max-bytes=+10000",
        "--max-temporary=+20",
    ];
    assert_eq!(check(&faults, &limits), (expected, Some(1)));
    let output = run(&[&"check", &faults, &"--json", &baseline, &"--max-allocations=+100%"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "limit": "allocations", "max": 10.0, "baseline": 5.0, "actual": 2_401.0, "kept": false,
    });
    assert_eq!(answer["limits"], serde_json::json!([expected]));

    let cut = directory.path().join("cut.trace");
    write_sample(&cut, 42, false);
    let baseline = format!("--baseline={}", cut.display());
    let (printed, code) = check(&path, &[&baseline, "--max-growth=100%"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("incomplete: in the baseline: the recording ended"), "{printed}");
    let kept = check(&path, &[&baseline, "--max-growth=100%", "--allow-incomplete"]);
    assert_eq!(kept, (String::new(), Some(0)));
}

#[test]
fn limits_that_are_kept_say_nothing_and_those_that_are_not_a_line_each() {
    let (_directory, path) = sample(true);
    let kept = ["--max-peak=2MiB", "--max-leaked=5024", "--max-leaked-blocks=2"];
    assert_eq!(check(&path, &kept), (String::new(), Some(0)));
    let all = [
        "--max-peak=1MiB",
        "--max-leaked=0",
        "--max-leaked-blocks=1",
        "--max-allocations=4",
        "--max-bytes=1M",
        "--max-temporary=19.5%",
    ];
    let expected = "\
peak: 1.0 MiB (1,053,576 B) exceeds 1.0 MiB (1,048,576 B)
never freed: 4.9 KiB (5,024 B) exceeds 0 B
blocks never freed: 2 exceeds 1
allocations: 5 exceeds 4
allocated: 1.0 MiB (1,053,700 B) exceeds 1.0 MiB (1,048,576 B)
temporary: 20.00 % exceeds 19.50 %
";
    assert_eq!(check(&path, &all), (expected.to_owned(), Some(1)));
    let output = run(&[&"check", &path, &"--json", &"--max-leaked=0", &"--max-peak=1G"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "passed": false, "complete": true, "incomplete": [],
        "limits": [
            {
                "limit": "peak", "max": 1_073_741_824.0, "baseline": null,
                "actual": 1_053_576.0, "kept": true,
            },
            {
                "limit": "leaked", "max": 0.0, "baseline": null, "actual": 5_024.0, "kept": false,
            },
        ],
    });
    assert_eq!(answer, expected);
}

#[test]
fn an_incomplete_recording_fails_unless_that_is_allowed() {
    let (_directory, path) = sample(false);
    let (printed, code) = check(&path, &["--max-peak=2MiB"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("incomplete: the recording ended without"), "{printed}");
    assert!(printed.contains("--allow-incomplete"), "{printed}");
    let allowed = check(&path, &["--max-peak=2MiB", "--allow-incomplete"]);
    assert_eq!(allowed, (String::new(), Some(0)));
    assert_eq!(check(&path, &["--max-peak=1", "--allow-incomplete"]).1, Some(1));
}

#[test]
fn warnings_about_a_baseline_name_its_file() {
    let (directory, path) = sample(true);
    let cut = directory.path().join("cut.trace");
    write_sample(&cut, 42, false);
    let baseline = format!("--baseline={}", cut.display());
    let output = run(&[&"check", &path, &baseline, &"--max-growth=9%", &"--allow-incomplete"]);
    let told = text(&output.stderr);
    let expected = format!("alloc-trace: {}: the recording ended without", cut.display());
    assert!(told.starts_with(&expected) && told.lines().count() == 1, "{told}");
    let output = run(&[&"diff", &path, &cut]);
    assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
}

#[test]
fn limits_are_understood_as_sizes_and_counts_are_everywhere() {
    let (_directory, path) = sample(true);
    for limits in [["--max-peak=1.5MiB"], ["--max-peak=2MB"], ["--max-bytes=1TiB"]] {
        assert_eq!(check(&path, &limits), (String::new(), Some(0)), "{limits:?}");
    }
    assert_eq!(check(&path, &["--max-peak=4k"]).1, Some(1));
    assert_eq!(check(&path, &["--max-peak=1MB"]).1, Some(1));
    assert_eq!(check(&path, &["--max-allocations=1,000"]).1, Some(0));
}
