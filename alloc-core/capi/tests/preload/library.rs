//! What the tests run: this package's library, and the programs of `tests/programs`, built once
//! each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The library to preload.
pub(crate) static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| build(!cfg!(debug_assertions)));

/// The library as a release build has it.
pub(crate) static RELEASE_LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| build(true));

/// Builds the library. Cargo tells tests nothing of a `cdylib`, so it is asked to build it, and its
/// messages say where it is.
fn build(release: bool) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", env!("CARGO_PKG_NAME"), "--lib"]);
    cargo.args(["--message-format", "json-render-diagnostics", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    if release {
        cargo.arg("--release");
    }
    for (feature, is_on) in
        [("hardened", cfg!(feature = "hardened")), ("valgrind", cfg!(feature = "valgrind"))]
    {
        if is_on {
            cargo.args(["--features", feature]);
        }
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo's messages are text");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "alloc_core_capi")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .find(|path| path.extension().is_some_and(|extension| extension == "so"))
        .expect("cargo says where the library is")
}

/// A program of `tests/programs`, compiled. `None`, and a loud note, if there is no compiler; on a
/// build server that is a failure.
fn compile(compiler: &str, source: &str, name: &str, options: &[&str]) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let output = Command::new(compiler)
        .args(["-O1", "-g", "-fno-builtin", "-Wall", "-Wextra", "-pthread", "-o"])
        .args([&built, &source])
        .args(options)
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}", source.display());
            Some(built)
        }
        Err(error) => {
            let loud =
                format!("SKIPPED, not tested: {name} needs the compiler `{compiler}`: {error}");
            assert!(std::env::var_os("CI").is_none(), "{loud}");
            eprintln!("{loud}");
            None
        }
    }
}

pub(crate) static RULES: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| compile("cc", "rules.c", "rules", &["-Wno-deprecated-declarations", "-ldl"]));

/// A program with faults for memcheck.
#[cfg(feature = "valgrind")]
pub(crate) static FAULTS: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| compile("cc", "faults.c", "faults", &[]));

/// A library for `rules` to load.
pub(crate) static PLUGIN: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| compile("cc", "plugin.c", "plugin.so", &["-shared", "-fPIC"]));

const CPP: [&str; 2] = ["-std=c++17", "-fsized-deallocation"];

pub(crate) static OPERATORS: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| compile("c++", "operators.cpp", "operators", &CPP));

/// The same program with operators of its own.
pub(crate) static REPLACED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let options = [CPP[0], CPP[1], "-Wno-sized-deallocation", "-DREPLACE"];
    compile("c++", "operators.cpp", "replaced", &options)
});
