//! The libraries that are preloaded, and where they come from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use peers::packages;

/// An allocator as a library for `LD_PRELOAD`.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    /// What tables call it.
    pub(crate) name: &'static str,
    /// Where it is; none for what the program has without any.
    pub(crate) path: Option<PathBuf>,
}

/// Ours.
pub(crate) const OURS: &str = "CoreAlloc";

/// What each program has without a library.
pub(crate) const NONE: &str = "glibc";

/// A Debian package's library.
const PACKAGED: [(&str, &str); 3] = [
    ("mimalloc 2.0.9", "libmimalloc.so.2"),
    ("jemalloc", "libjemalloc.so.2"),
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
];

/// One that is compiled from the sources inside a crate, as the allocator's own build would.
struct Vendored {
    name: &'static str,
    package: &'static str,
    /// Below the package's root.
    sources: &'static [&'static str],
    include: &'static [&'static str],
    compiler: &'static str,
    flags: &'static [&'static str],
}

const MIMALLOC: &[&str] = &[
    "-std=gnu11",
    "-DMI_MALLOC_OVERRIDE",
    "-DMI_SHARED_LIB",
    "-DMI_SHARED_LIB_EXPORT",
    "-DMI_BUILD_RELEASE",
    "-fno-builtin-malloc",
];

const VENDORED: [Vendored; 4] = [
    Vendored {
        name: "mimalloc 3",
        package: "libmimalloc-sys",
        sources: &["c_src/mimalloc/v3/src/static.c"],
        include: &["c_src/mimalloc/v3/include", "c_src/mimalloc/v3/src"],
        compiler: "cc",
        flags: MIMALLOC,
    },
    Vendored {
        name: "mimalloc 2",
        package: "libmimalloc-sys",
        sources: &["c_src/mimalloc/v2/src/static.c"],
        include: &["c_src/mimalloc/v2/include", "c_src/mimalloc/v2/src"],
        compiler: "cc",
        flags: MIMALLOC,
    },
    Vendored {
        name: "snmalloc",
        package: "snmalloc-sys",
        sources: &[
            "upstream/src/snmalloc/override/malloc.cc",
            "upstream/src/snmalloc/override/new.cc",
        ],
        include: &["upstream/src"],
        compiler: "c++",
        flags: &[
            "-std=c++20",
            "-mcx16",
            "-mprfchw",
            "-fno-rtti",
            "-fomit-frame-pointer",
            "-DSNMALLOC_USE_WAIT_ON_ADDRESS=1",
            "-DSNMALLOC_USE_CXX11_THREAD_ATEXIT_DIRECT",
            "-DSNMALLOC_NO_REALLOCARRAY",
            "-DSNMALLOC_NO_REALLOCARR",
            "-DSNMALLOC_EXPORT=__attribute__((visibility(\"default\")))",
        ],
    },
    Vendored {
        name: "rpmalloc",
        package: "rpmalloc-sys",
        sources: &["rpmalloc/rpmalloc/rpmalloc.c"],
        include: &["rpmalloc/rpmalloc"],
        compiler: "cc",
        flags: &["-std=gnu11", "-DENABLE_PRELOAD=1", "-DENABLE_OVERRIDE=1", "-fno-builtin-malloc"],
    },
];

/// Finds or builds them all; ours comes first. One that cannot be had is left out, and said so.
pub(crate) fn all(build: &Path) -> io::Result<Vec<Library>> {
    let mut libraries = vec![ours()?];
    let sources = packages::roots()?;
    for vendored in &VENDORED {
        match vendored.build(build, &sources) {
            Ok(path) => libraries.push(Library { name: vendored.name, path: Some(path) }),
            Err(error) => eprintln!("left out: {}: {error}", vendored.name),
        }
    }
    for (name, file) in PACKAGED {
        let place = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
            .map(|folder| Path::new(folder).join(file))
            .into_iter()
            .find(|path| path.exists());
        match place {
            Some(path) => libraries.push(Library { name, path: Some(path) }),
            None => eprintln!("left out: {name}: {file} is not installed"),
        }
    }
    libraries.push(Library { name: NONE, path: None });
    Ok(libraries)
}

/// Builds our library from this clone, with the profile that its users have.
fn ours() -> io::Result<Library> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--locked", "-p", "alloc-core-capi"])
        .current_dir(&root)
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    if !status.success() {
        return Err(io::Error::other("alloc-core-capi does not build"));
    }
    let path = root.join("target/release/liballoc_core_capi.so").canonicalize()?;
    Ok(Library { name: OURS, path: Some(path) })
}

impl Vendored {
    fn build(&self, into: &Path, roots: &BTreeMap<String, PathBuf>) -> io::Result<PathBuf> {
        let root = roots.get(self.package).ok_or_else(|| io::Error::other("no such package"))?;
        let path = into.join(format!("lib{}.so", self.name.replace(' ', "-")));
        if path.exists() {
            return Ok(path);
        }
        let output = Command::new(self.compiler)
            .args(["-O3", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden", "-w"])
            .args(["-ftls-model=initial-exec", "-pthread"])
            .args(self.flags)
            .args(self.include.iter().map(|folder| format!("-I{}", root.join(folder).display())))
            .args(self.sources.iter().map(|source| root.join(source)))
            .arg("-o")
            .arg(&path)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let error = said.lines().find(|line| line.contains("error"));
            return Err(io::Error::other(error.unwrap_or("no reason was told").to_owned()));
        }
        Ok(path)
    }
}
