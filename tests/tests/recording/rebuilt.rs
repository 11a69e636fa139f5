//! Two builds of one program, compared: its functions are found again though their source moved to
//! another directory, another file and other lines.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{alloc_trace, run};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const MAIN: &str = "
mod work;

#[global_allocator]
static ALLOCATOR: alloc_trace::TraceAlloc<std::alloc::System> =
    alloc_trace::TraceAlloc::new(std::alloc::System);

fn main() {
    work::read();
    work::index();
    work::changed();
}
";

/// A function that asks for so many blocks, one of two sites at a time.
fn function(name: &str, blocks: u32) -> String {
    format!(
        "#[inline(never)]\npub fn {name}() {{\n    for n in 0..{blocks}usize {{\n        \
         std::hint::black_box(Vec::<u8>::with_capacity(5_000 + n));\n        \
         std::hint::black_box(Box::new([n; 700]));\n    }}\n}}\n"
    )
}

/// Builds the program in `directory`; its dependencies are built once.
fn build(directory: &Path, work: &str, source: &str) -> PathBuf {
    let place = directory.join("src").join(work);
    fs::create_dir_all(place.parent().expect("a directory")).expect("made");
    fs::write(place, source).expect("written");
    fs::write(directory.join("src/main.rs"), MAIN).expect("written");
    let manifest = format!(
        "[workspace]\n[package]\nname = \"rebuilt\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [dependencies]\nalloc-trace = {{ path = '{REPOSITORY}/alloc-trace', default-features = false }}\n"
    );
    fs::write(directory.join("Cargo.toml"), manifest).expect("written");
    fs::copy(Path::new(REPOSITORY).join("Cargo.lock"), directory.join("Cargo.lock"))
        .expect("copied");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let attempt = |options: &[&str]| {
        let mut command = Command::new(&cargo);
        command.current_dir(directory).args(["build", "--quiet"]).args(options);
        command.env("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/rebuilt"));
        command.env_remove("ALLOC_TRACE").output().expect("cargo runs")
    };
    let mut output = attempt(&["--offline"]);
    if !output.status.success() {
        output = attempt(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The next build is given the same name.
    let program = directory.join("program");
    fs::copy(concat!(env!("CARGO_TARGET_TMPDIR"), "/rebuilt/debug/rebuilt"), &program)
        .expect("copied");
    program
}

#[test]
fn functions_of_a_program_that_was_built_anew_are_found_again() {
    let temporary = TempDir::new().expect("a directory");
    let directory = |name| temporary.path().join(name);
    let source = [function("read", 3), function("index", 20), function("changed", 5)].concat();
    let before = build(&directory("before"), "work.rs", &source);
    let lines = "// A line that was not there.\n".repeat(40);
    let source =
        [lines, function("changed", 9), function("index", 20), function("read", 3)].concat();
    let after = build(&directory("elsewhere/after"), "work/mod.rs", &source);
    let recordings = [before, after].map(|program| {
        let recording = program.with_extension("trace");
        run(Command::new(&program).env("ALLOC_TRACE", &recording)).success();
        recording
    });
    let said =
        run(alloc_trace().args(["diff", "--json", "--by", "site"]).args(&recordings)).success();
    let said: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let rows = said["tables"][0]["rows"].as_array().expect("rows");
    let requests = |side: &serde_json::Value| side["allocations"].as_u64();
    let mut found: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let name = row["function"].as_str()?.strip_prefix("rebuilt::work::")?;
            Some((name, (requests(&row["before"]), requests(&row["after"]))))
        })
        .collect();
    found.sort_unstable();
    // Each has two call sites, which stay two.
    let expected = [("changed", 5, 9), ("index", 20, 20), ("read", 3, 3)];
    let expected = expected.map(|(name, before, after)| [(name, (Some(before), Some(after))); 2]);
    assert_eq!(found, expected.concat(), "{rows:#?}");
    let parted =
        rows.iter().filter(|row| row["before"].is_null() || row["after"].is_null()).count();
    assert_eq!(parted, 0, "{rows:#?}");
}
