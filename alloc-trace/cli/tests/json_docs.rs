//! `docs/json.md` and what `--json` writes say the same.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use support::{command, text, write_faults, write_sample};

const DOCS: &str = include_str!("../docs/json.md");

/// Everything that the documentation sets in code type.
fn mentioned() -> BTreeSet<String> {
    DOCS.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys that tables of keys list: what is in code type in their first column.
fn listed() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut of_keys = false;
    for line in DOCS.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            of_keys &= line.starts_with('|');
            continue;
        };
        let first = row.split(" |").next().unwrap_or_default();
        if matches!(first, "key" | "figure") {
            of_keys = true;
        } else if of_keys {
            keys.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    keys
}

fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key.clone());
                collect(value, keys);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let [sample, cut, faults] = ["sample", "cut", "faults"].map(|name| directory.path().join(name));
    write_sample(&sample, 42, true);
    write_sample(&cut, 42, false);
    write_faults(&faults, true);
    let mut keys = BTreeSet::new();
    let mut run = |arguments: &[&str], files: &[&Path]| {
        let output = command().args(arguments).args(files).output().expect("run");
        for object in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
            let object = object.expect("JSON");
            assert!(object.is_object(), "{arguments:?}: {}", text(&output.stderr));
            collect(&object, &mut keys);
        }
    };
    for file in [&sample, &cut, &faults] {
        for subcommand in ["report", "events", "tree", "leaks", "advise", "timeline"] {
            run(&[subcommand, "--json"], &[file]);
        }
        for by in ["site", "function", "file", "crate", "thread", "span", "size", "lifetime"] {
            run(&["report", "--json", "--by", by], &[file]);
        }
        run(&["check", "--json", "--max-peak=1"], &[file]);
        run(&["export", "--format=jsonl"], &[file]);
        run(&["diff", "--json"], &[&sample, file]);
        let made = directory.path().join("made");
        let made = made.to_str().expect("text");
        run(&["flame", "--json", "-o", made], &[file]);
        run(&["html", "--json", "-o", made], &[file]);
        run(&["export", "--json", "--format=csv", "-o", made], &[file]);
    }
    let mentioned = mentioned();
    let undocumented: Vec<&String> = keys.difference(&mentioned).collect();
    assert!(undocumented.is_empty(), "not in docs/json.md: {undocumented:?}");
    let listed = listed();
    assert!(listed.len() > 40, "the tables of keys were not found: {listed:?}");
    let missing: Vec<&String> = listed.difference(&keys).collect();
    assert!(missing.is_empty(), "in docs/json.md only: {missing:?}");
}
