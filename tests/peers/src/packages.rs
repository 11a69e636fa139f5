//! The packages that this one may be built from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the sources of each lie, by its name. Cargo fetches what is missing.
///
/// # Errors
///
/// If cargo does not tell.
pub fn roots() -> io::Result<BTreeMap<String, PathBuf>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages
        .filter_map(|package| {
            let root = Path::new(package["manifest_path"].as_str()?).parent()?;
            Some((package["name"].as_str()?.to_owned(), root.to_owned()))
        })
        .collect())
}

/// Builds a binary of this package, with a feature, and keeps it as a file.
///
/// # Errors
///
/// If it does not build; the compiler has said why.
pub fn build(binary: &str, feature: Option<&str>, kept: &Path) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root).args(["build", "--release", "--bin", binary]);
    cargo.args(["--target-dir", "target"]);
    if let Some(feature) = feature {
        cargo.args(["--features", feature]);
    }
    if !cargo.status()?.success() {
        let feature = feature.unwrap_or("no feature");
        return Err(io::Error::other(format!("{binary} does not build with {feature}")));
    }
    if let Some(folder) = kept.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(root.join("target/release").join(binary), kept)?;
    Ok(())
}
