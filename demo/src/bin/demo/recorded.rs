//! The jobs once more, recorded: each way in a span of its own, the first heap events as log lines.

use std::error::Error;
use std::path::{Path, PathBuf};

use alloc_trace::{Recording, SpanLayer, StartError};
use alloc_trace_analysis::{self as analysis, Options, Summary, Symbols};
use demo::jobs::{Input, Job};
use tracing::{Span, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use crate::log_lines::{FirstEvents, Lines};

/// Heap events that are shown as log lines.
const LINES: usize = 12;

/// What recording the jobs gave.
pub(crate) struct Recorded {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<String>,
    pub(crate) summary: Summary,
}

/// Does every job both ways while it is recorded. `None` where the environment had the process
/// recorded anyway: then that recording has it all.
pub(crate) fn record(
    path: &Path,
    jobs: &[Job],
    input: &Input,
) -> Result<Option<Recorded>, Box<dyn Error>> {
    let lines = Lines::default();
    let format = tracing_subscriber::fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(lines.clone())
        .with_filter(FirstEvents::new("heap_heavy", LINES));
    let subscriber = tracing_subscriber::registry().with(SpanLayer::new()).with(format);
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let builder = Recording::builder()
        .output(path)
        .tracing_events(true)
        .site_names(site_names(path.to_owned()));
    let recording = match builder.start() {
        Err(StartError::AlreadyRecording) => return Ok(None),
        result => result?,
    };
    // Kept open until the last event has been emitted, so that each line can name its span.
    let mut spans = Vec::new();
    for job in jobs {
        let stack_only = info_span!("stack_only", job = job.name);
        let answer = stack_only.in_scope(|| (job.stack_only)(input)).map_err(text)?;
        let heap_heavy = info_span!("heap_heavy", job = job.name);
        let other = heap_heavy.in_scope(|| (job.heap_heavy)(input)).map_err(text)?;
        if answer != other {
            return Err(format!("{}: another answer while recorded", job.name).into());
        }
        spans.extend::<[Span; 2]>([stack_only, heap_heavy]);
    }
    let path = recording.stop();
    drop(spans);
    let read = analysis::Recording::open(&path)?;
    let summary = Summary::of(&read, Options::default().span_fields(true))?;
    Ok(Some(Recorded { path, lines: lines.take(), summary }))
}

/// A job's error, which borrows from its input, as text.
fn text(error: impl Error) -> String {
    error.to_string()
}

/// Names call sites with the symbols of the program itself, once the recording lists its modules.
fn site_names(path: PathBuf) -> impl FnMut(&[u64]) -> String + Send {
    let mut symbols: Option<Symbols> = None;
    move |return_addresses| {
        if symbols.is_none() {
            symbols =
                analysis::Recording::open(&path).and_then(|recording| Symbols::of(&recording)).ok();
        }
        let site = symbols.as_mut().and_then(|symbols| symbols.call_site(return_addresses));
        site.map_or_else(|| "[unknown]".to_owned(), |site| site.function.to_string())
    }
}
