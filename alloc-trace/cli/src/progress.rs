//! Progress of long work, for whoever waits at a terminal.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alloc_trace_analysis::{ReadProgress, Recording};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable::printable;
use crate::units::{bytes, duration};

/// Work that is under way. Nothing is shown of it on what is no terminal; and nothing is left when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Shows how far a recording has been read, until this is dropped.
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// How often it moves.
const TICK: Duration = Duration::from_millis(120);

impl Progress {
    /// A recording is read.
    pub(crate) fn reading(recording: &Recording) -> Self {
        let file = recording.path();
        let name = file.file_name().unwrap_or(file.as_os_str());
        let what = format!("reading {}", printable(&name.to_string_lossy()));
        let bar = ProgressBar::new_spinner();
        // Hides itself where standard error is no terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.clone());
        let watch = (!bar.is_hidden()).then(|| {
            bar.enable_steady_tick(TICK);
            let (bar, progress) = (bar.clone(), Arc::clone(recording.progress()));
            let (end, ended) = mpsc::channel::<()>();
            let mut watch = Watch { what, total: recording.logged_bytes(), pass: None };
            let show = move || {
                while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    bar.set_message(watch.look(&progress, Instant::now()));
                }
            };
            (end, thread::spawn(show))
        });
        Self { bar, watch }
    }

    /// Other work begins.
    pub(crate) fn now(&mut self, what: impl Into<String>) {
        self.stop_watching();
        self.bar.set_message(what.into());
    }

    fn stop_watching(&mut self) {
        if let Some((end, watch)) = self.watch.take() {
            drop(end);
            // What it panicked with was printed; there is nobody to tell.
            drop(watch.join());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop_watching();
        self.bar.finish_and_clear();
    }
}

/// How far a recording has been read, over time.
#[derive(Debug)]
struct Watch {
    what: String,
    /// The bytes of a pass.
    total: u64,
    /// The pass that was seen last, and when.
    pass: Option<(u64, Instant)>,
}

impl Watch {
    fn look(&mut self, progress: &ReadProgress, now: Instant) -> String {
        let (pass, done) = (progress.passes(), progress.bytes());
        let began = match self.pass {
            Some((seen, began)) if seen == pass => began,
            _ => self.pass.insert((pass, now)).1,
        };
        let part = told(done, self.total, now.saturating_duration_since(began));
        let pass = if pass > 1 { format!(", pass {pass}") } else { String::new() };
        format!("{}{pass}{part}", self.what)
    }
}

/// How far a pass has come, how fast it is and how long it will take.
fn told(done: u64, total: u64, elapsed: Duration) -> String {
    if total == 0 || done == 0 {
        return String::new();
    }
    let done = done.min(total);
    let mut text = format!(": {} of {}", bytes(done), bytes(total));
    let seconds = elapsed.as_secs_f64();
    // A rate of the first moments tells nothing.
    if seconds >= 0.5 {
        let rate = done as f64 / seconds;
        let left = (total - done) as f64 / rate;
        text += &format!(", {}/s, {} left", bytes(rate as u64), duration((left * 1e9) as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_tells_how_far_it_is_how_fast_and_how_long_it_takes() {
        assert_eq!(told(0, 100, Duration::from_secs(1)), "");
        assert_eq!(told(5, 0, Duration::from_secs(1)), "");
        assert_eq!(told(1 << 20, 4 << 20, Duration::from_millis(1)), ": 1.0 MiB of 4.0 MiB");
        let told = told(1 << 20, 4 << 20, Duration::from_secs(2));
        assert_eq!(told, ": 1.0 MiB of 4.0 MiB, 512 KiB/s, 6.00 s left");
    }
}
