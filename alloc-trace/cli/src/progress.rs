//! Progress of long work, for whoever waits at a terminal.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is under way. Nothing is shown of it on what is no terminal; and nothing is left when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

/// How often it moves.
const TICK: Duration = Duration::from_millis(120);

impl Progress {
    /// Work that takes as long as it takes: its time is shown.
    pub(crate) fn of(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        // Hides itself where standard error is no terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.into());
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// A recording is read.
    pub(crate) fn reading(file: &Path) -> Self {
        let name = file.file_name().unwrap_or(file.as_os_str());
        Self::of(format!("reading {}", name.display()))
    }

    /// Other work begins.
    pub(crate) fn now(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
