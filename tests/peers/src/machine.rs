//! Where results were made.

use std::fs;
use std::process::Command;

/// The processor, the kernel, the compiler and the C library.
#[must_use]
pub fn describe() -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.as_deref().and_then(|text| text.lines().next()).unwrap_or("?").trim().to_owned()
    };
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    format!(
        "{} x {}, Linux {}, {}, {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        model.trim_start_matches([' ', '\t', ':']),
        said("uname", &["-r"]),
        said("rustc", &["--version"]),
        said("ldd", &["--version"]),
    )
}
