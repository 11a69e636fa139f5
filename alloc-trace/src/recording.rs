//! Recordings as a program starts and stops them.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use alloc_trace_format::EndReason;

use crate::recorder;

/// How much of each event's backtrace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Stacks {
    /// No backtraces: events cost less, and call sites are unknown.
    Off,
    /// All frames, up to 128; deeper backtraces are marked as cut.
    #[default]
    Full,
    /// At most this many of the innermost frames: 1 to 128, and what lies beyond is taken as the nearest
    /// of these.
    Depth(u8),
}

/// How full chunks of a recording are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// As they were written: about three times as many bytes, and some nanoseconds less an event.
    Off,
    /// Packed and compressed at level 1.
    #[default]
    Fast,
    /// Packed and compressed at a level from 1 to 9, and what lies beyond is taken as the nearest of these:
    /// a few per cent fewer bytes for more time.
    Level(u8),
}

/// A recording under way. It is stopped when this is dropped, or at the latest when the process
/// exits.
///
/// There is one at a time in a process. A forked child goes on in a recording of its own, which its copy of
/// this value does not end.
#[derive(Debug)]
#[must_use = "a recording ends when this value is dropped"]
pub struct Recording {
    path: PathBuf,
    pid: u32,
    ended: bool,
    #[cfg(feature = "tracing-events")]
    live: Option<crate::live_events::LiveEvents>,
}

/// What a recording shall be. Every setter states its default; [`RecordingBuilder::start`] begins it.
///
/// ```
/// use alloc_trace::{Recording, Stacks, TraceAlloc};
/// use std::alloc::System;
///
/// #[global_allocator]
/// static ALLOCATOR: TraceAlloc<System> = TraceAlloc::new(System);
///
/// # fn main() -> Result<(), alloc_trace::StartError> {
/// # let folder = std::env::temp_dir().display().to_string();
/// let recording = Recording::builder()
///     .output(format!("{folder}/{{name}}.{{pid}}.trace"))
///     .stacks(Stacks::Depth(32))
///     .limit_bytes(1 << 30)
///     .not_threads("logger*")
///     .start()?;
/// alloc_trace::mark("loaded");
/// let file = recording.stop();
/// let end = format!(".{}.trace", std::process::id());
/// assert!(file.is_file() && file.display().to_string().ends_with(&end));
/// # std::fs::remove_file(&file).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `start`"]
pub struct RecordingBuilder {
    output: Option<PathBuf>,
    stacks: Stacks,
    compression: Compression,
    window_bytes: Option<usize>,
    limit_bytes: Option<u64>,
    ring: bool,
    paused: bool,
    signal: Option<i32>,
    snapshot_signal: Option<i32>,
    only_threads: Option<String>,
    not_threads: Option<String>,
    #[cfg(feature = "tracing-events")]
    tracing_events: bool,
    #[cfg(feature = "tracing-events")]
    site_names: Option<crate::live_events::SiteNames>,
}

impl fmt::Debug for RecordingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RecordingBuilder");
        debug.field("output", &self.output).field("stacks", &self.stacks);
        debug.field("compression", &self.compression).field("window_bytes", &self.window_bytes);
        #[cfg(feature = "tracing-events")]
        debug.field("tracing_events", &self.tracing_events);
        debug.finish_non_exhaustive()
    }
}

impl Recording {
    /// What a recording shall be: by default one with full backtraces, into
    /// `alloc-trace.<pid>.trace` in the working directory.
    pub fn builder() -> RecordingBuilder {
        RecordingBuilder::default()
    }

    /// The file that is written: its whole path, as long as the working directory has one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the recording and answers the file it is in.
    ///
    /// With [`RecordingBuilder::tracing_events`] this returns when every event recorded so far has
    /// been given to the subscriber.
    pub fn stop(mut self) -> PathBuf {
        self.end();
        std::mem::take(&mut self.path)
    }

    fn end(&mut self) {
        // A forked child has a copy of this value; its recording is another one.
        if self.pid != std::process::id() {
            #[cfg(feature = "tracing-events")]
            if let Some(live) = &mut self.live {
                live.forget();
            }
            return;
        }
        if !self.ended {
            self.ended = true;
            recorder::stop(EndReason::Stopped);
        }
        #[cfg(feature = "tracing-events")]
        drop(self.live.take());
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

impl RecordingBuilder {
    /// The file to write: `alloc-trace.{pid}.trace` by default. In the path `{pid}` stands for the process's
    /// id and `{name}` for its program's name. A finished recording of an
    /// unrelated earlier run at that path is replaced. Where another process is writing one, where it was or may have
    /// been made by this process or by one that it comes of, where a `{pid}` was an earlier process's, too, and in forked
    /// children, `.<pid>` is added to the name. A file that is no recording is never touched.
    ///
    /// A relative path is looked up when the recording begins; [`Recording::path`] is absolute.
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    /// How much of each backtrace is recorded: [`Stacks::Full`] by default.
    pub const fn stacks(mut self, stacks: Stacks) -> Self {
        self.stacks = stacks;
        self
    }

    /// How full chunks are stored: [`Compression::Fast`] by default.
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The length of the window through which records go to the file, 1 MiB to 8 MiB: 3 MiB by
    /// default, of which a thread touches a sixteenth. What lies beyond is taken as the nearest of
    /// these. A smaller one saves memory and compresses less.
    pub const fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = Some(bytes);
        self
    }

    /// How long the file may become: without a limit by default. When it would become longer the
    /// recording ends, with that reason, and the program runs on. A limit that has no room for the window
    /// is refused by [`start`](Self::start).
    pub const fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = Some(bytes);
        self
    }

    /// Whether the recording keeps its last part where it would become longer than the limit:
    /// `false` by default.
    ///
    /// The limit is 256 MiB then if none is given; 16 MiB is enough for any window. It bounds the whole file but for
    /// what more than 48 live threads need of the window, 0.7 MiB for each 256 of them. Of what was written
    /// over the blocks stay known that are still live, with their call sites, threads and times. What is
    /// live must fit into an eighth of the file, at some 15 bytes a block; else the recording ends with
    /// that reason.
    pub const fn ring(mut self, yes: bool) -> Self {
        self.ring = yes;
        self
    }

    /// Whether the recording begins paused, until [`resume`]: `false` by default.
    pub const fn paused(mut self, yes: bool) -> Self {
        self.paused = yes;
        self
    }

    /// A signal that pauses the recording and goes on with it, in turn, such as `SIGUSR1`: none by
    /// default. A signal that the program handles or ignores already, and one that cannot be handled, is
    /// left alone, and that is said on standard error.
    pub const fn signal(mut self, signal: i32) -> Self {
        self.signal = Some(signal);
        self
    }

    /// A signal that asks for a [`heap_snapshot`], such as `SIGUSR2`: none by default. It is left alone where
    /// [`signal`](Self::signal) says so. The thread takes the snapshot that the signal reaches; where the
    /// recording leaves that one out, the next thread that fills a chunk.
    pub const fn snapshot_signal(mut self, signal: i32) -> Self {
        self.snapshot_signal = Some(signal);
        self
    }

    /// Only threads whose names match are recorded: all by default. `*` stands for any text, and a
    /// name is what the kernel has of it, 15 bytes. A pattern has 32 bytes at most.
    pub fn only_threads(mut self, pattern: impl Into<String>) -> Self {
        self.only_threads = Some(pattern.into());
        self
    }

    /// Threads whose names match are not recorded: none by default. Patterns are as in
    /// [`RecordingBuilder::only_threads`]. Where both are given, a thread is recorded whose name matches that
    /// one and not this one.
    pub fn not_threads(mut self, pattern: impl Into<String>) -> Self {
        self.not_threads = Some(pattern.into());
        self
    }

    /// Whether each record also becomes a `tracing` event: `false` by default.
    ///
    /// The events have the target `alloc_trace::heap`, the level TRACE, and the fields `kind`,
    /// `addr`, `size`, `align`, `new_addr`, `new_size`, `thread`, `span` and `site`. They go to the
    /// subscriber that is the default of the calling thread, or to the global one if that is set
    /// later. A thread of the recorder's own emits them some milliseconds after they happened, in
    /// their order: so a subscriber may allocate, lock and format as it likes. That thread's own
    /// heap events are in the recording, marked as the recorder's.
    ///
    /// An event's parent is its span, where the subscriber has a [`SpanLayer`](crate::SpanLayer). For that a
    /// span closes only when the events in it have been emitted. If the subscriber wants an event only in
    /// its spans, the emitting thread enters them for it.
    #[cfg(feature = "tracing-events")]
    pub const fn tracing_events(mut self, yes: bool) -> Self {
        self.tracing_events = yes;
        self
    }

    /// How the `site` of a `tracing` event is named: by default as `module+offset`, from which
    /// `addr2line` finds the rest.
    ///
    /// The closure is given the return addresses of a backtrace, the innermost first, once for each
    /// backtrace, on the thread that emits the events.
    #[cfg(feature = "tracing-events")]
    pub fn site_names(mut self, names: impl FnMut(&[u64]) -> String + Send + 'static) -> Self {
        self.site_names = Some(Box::new(names));
        self
    }

    /// Begins the recording. It ends when the value that this answers is dropped.
    ///
    /// # Errors
    ///
    /// Where another recording runs in this process ([`StartError::AlreadyRecording`]): a program that was
    /// told by `ALLOC_TRACE` to record is recording already when its `main` begins. Where the file cannot be
    /// made, or is there and no recording; where an option cannot be met, as [`StartError`] lists them;
    /// where there is no memory; and where the target is not supported.
    pub fn start(self) -> Result<Recording, StartError> {
        if recorder::SUPPORTED && is_recording() {
            // The builder is released where the other recording, which knows its blocks, sees it.
            return Err(StartError::AlreadyRecording);
        }
        recorder::unrecorded(|| self.begin())
    }

    fn begin(self) -> Result<Recording, StartError> {
        let output = self.output.unwrap_or_else(|| "alloc-trace.{pid}.trace".into());
        if !recorder::SUPPORTED {
            return Err(StartError::Unsupported);
        }
        let mut options = recorder_options(&output, self.stacks)?;
        let output = os_path(options.path.as_bytes());
        options.set_compression(match self.compression {
            Compression::Off => 0,
            Compression::Fast => 1,
            Compression::Level(level) => i32::from(level).clamp(1, 9),
        });
        if let Some(bytes) = self.window_bytes {
            options.set_window(bytes);
        }
        options.set_limit(self.limit_bytes);
        options.set_ring(self.ring);
        options.set_pausing(self.paused, self.signal);
        options.set_snapshot_signal(self.snapshot_signal);
        for (names, only) in [(&self.only_threads, true), (&self.not_threads, false)] {
            if let Some(names) = names
                && !options.set_threads(names.as_bytes(), only)
            {
                return Err(StartError::ThreadNames { pattern: names.clone() });
            }
        }
        if is_recording() {
            return Err(StartError::AlreadyRecording);
        }
        #[cfg(feature = "tracing-events")]
        if self.ring && self.tracing_events {
            return Err(StartError::RingWithEvents);
        }
        #[cfg(feature = "tracing-events")]
        let live = if self.tracing_events {
            let spawned = crate::live_events::LiveEvents::spawn(self.site_names);
            Some(spawned.map_err(|source| StartError::Thread { source })?)
        } else {
            None
        };
        recorder::start(&options).map_err(|error| StartError::new(error, &output))?;
        let path = recorder::current_path().map_or(output, |path| os_path(path.as_bytes()));
        let recording = Recording {
            path,
            pid: std::process::id(),
            ended: false,
            #[cfg(feature = "tracing-events")]
            live,
        };
        #[cfg(feature = "tracing-events")]
        if let Some(live) = &recording.live {
            live.follow(&recording.path).map_err(|source| StartError::Thread { source })?;
        }
        Ok(recording)
    }
}

/// Pauses the recording that runs; answers whether one did.
///
/// While it is paused a request costs what it costs without a recording. What is allocated meanwhile
/// is not known, so its frees are *unmatched*; markers tell where the gaps are.
pub fn pause() -> bool {
    recorder::pause()
}

/// Goes on with a recording that is paused; answers whether there is one.
pub fn resume() -> bool {
    recorder::resume()
}

/// Whether a recording runs in this process, and is not paused.
#[must_use]
pub fn is_recording() -> bool {
    crate::mode::is_recording()
}

/// Records a marker: a moment that readers can refer to by name.
///
/// Does nothing while nothing is recorded. Texts over 1,024 bytes are cut.
///
/// In a signal handler that interrupts the recorder itself the marker is not written; it is counted among what is lost.
pub fn mark(text: &str) {
    recorder::mark(text);
}

/// Records what the heap of `alloc-core` holds at this moment: segments, pages, and how full those of
/// each size class are. Answers whether a recording runs that is not paused and takes this thread.
///
/// A recording has such snapshots from its beginning and its end, and from whenever the process had
/// more memory resident by a tenth than at any snapshot before, as far as full chunks of records make
/// the recorder look (at most every 10 ms). Nothing is written where the heap holds nothing, because the
/// program has another allocator, and without the feature `heap-snapshots`.
///
/// Takes time in proportion to the heap, some nanoseconds for each of its pages and, for each size
/// class, each of its threads, and up to 8 KiB of stack. In a signal handler that interrupts the recorder
/// it is taken as soon as the recorder can.
pub fn heap_snapshot() -> bool {
    recorder::heap_snapshot()
}

fn recorder_options(output: &Path, stacks: Stacks) -> Result<recorder::Options, StartError> {
    let mut options = recorder::Options::DEFAULT;
    let fits = recorder::set_path(&mut options, path_bytes(output));
    if !fits || output.as_os_str().is_empty() {
        return Err(StartError::Path { path: output.to_owned() });
    }
    options.depth = match stacks {
        Stacks::Off => 0,
        Stacks::Full => recorder::MAX_DEPTH,
        Stacks::Depth(depth) => usize::from(depth).clamp(1, recorder::MAX_DEPTH),
    };
    Ok(options)
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

#[cfg(unix)]
fn os_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[cfg(not(unix))]
fn os_path(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Why a recording did not begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Another recording runs in this process.
    AlreadyRecording,
    /// The recorder does not support this target.
    Unsupported,
    /// The path is empty, too long, or holds a zero byte.
    Path {
        /// The path.
        path: PathBuf,
    },
    /// At the path there is something that is no recording, and that is left alone.
    NotARecording {
        /// The path.
        path: PathBuf,
    },
    /// A pattern of thread names is longer than 32 bytes.
    ThreadNames {
        /// The pattern.
        pattern: String,
    },
    /// The file cannot be made or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The limit is too low: a ring needs 16 MiB at most, others the window and some more.
    LimitTooLow,
    /// A ring was asked for together with `tracing` events, which are read from the whole recording.
    RingWithEvents,
    /// There is no memory for the recorder.
    OutOfMemory,
    /// The thread that emits `tracing` events cannot be started, or cannot read the recording.
    Thread {
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    fn new(error: recorder::StartError, path: &Path) -> Self {
        match error {
            recorder::StartError::AlreadyRecording => Self::AlreadyRecording,
            recorder::StartError::OutOfMemory => Self::OutOfMemory,
            recorder::StartError::NotARecording => Self::NotARecording { path: path.to_owned() },
            recorder::StartError::LimitTooLow => Self::LimitTooLow,
            recorder::StartError::File(code) => {
                Self::File { path: path.to_owned(), source: io::Error::from_raw_os_error(code) }
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRecording => f.write_str("another recording runs in this process"),
            Self::Unsupported => {
                f.write_str("recordings are supported on x86-64 and aarch64 Linux only")
            }
            Self::Path { path } => write!(f, "{}: not a usable path", path.display()),
            Self::NotARecording { path } => {
                write!(f, "{}: exists and is not a recording; it is left alone", path.display())
            }
            Self::File { path, .. } => write!(f, "cannot record to {}", path.display()),
            Self::ThreadNames { pattern } => {
                write!(f, "{pattern}: too long for a pattern of thread names")
            }
            Self::LimitTooLow => f.write_str(
                "the limit is too low: a ring needs 16 MiB at most, others the window and some more",
            ),
            Self::RingWithEvents => f.write_str("a ring gives no tracing events"),
            Self::OutOfMemory => f.write_str("no memory for the recorder"),
            Self::Thread { .. } => f.write_str("cannot start the thread that emits tracing events"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Thread { source } => Some(source),
            _ => None,
        }
    }
}
