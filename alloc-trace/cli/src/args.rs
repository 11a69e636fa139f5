//! What can be written on the command line.

mod by;
mod diff;
mod export;
mod flame;
mod html;
mod timeline;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;

use alloc_trace_analysis::Options;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::debuginfod;
use crate::error::CommandError;
use crate::filters::FilterArguments;
use crate::limits::{
    Allowed, parse_growth, parse_number_limit, parse_percent_limit, parse_size_limit,
};

use crate::output::Output;
use crate::quantities::parse_count;
use crate::recorder_option::RecorderOption;
use crate::style::ColorChoice;

pub(crate) use self::by::{ByName, LeakKey, SortKey};
pub(crate) use self::diff::DiffArguments;
pub(crate) use self::export::{ExportArguments, ExportFormat};
pub(crate) use self::flame::FlameArguments;
pub(crate) use self::html::HtmlArguments;
pub(crate) use self::timeline::{Plotted, TimelineArguments};
pub(crate) use self::tree::TreeArguments;

/// Records every heap event of a program, and tells what happened on its heap.
#[derive(Debug, Parser)]
#[command(name = "alloc-trace", version, arg_required_else_help = true, max_term_width = 80)]
#[command(after_help = "Exit status: 0 on success, 1 where something could not be read or \
                        written or a limit was exceeded, 2 for wrong usage; `record` passes on the \
                        program's.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Record(RecordArguments),
    Report(ReportArguments),
    Events(EventsArguments),
    Tree(TreeArguments),
    Leaks(LeaksArguments),
    Advise(AdviseArguments),
    Diff(DiffArguments),
    Check(CheckArguments),
    Flame(FlameArguments),
    Timeline(TimelineArguments),
    Html(HtmlArguments),
    Export(ExportArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

/// Run a program and record its heap events
///
/// The program must have alloc-trace as its global allocator. It is run with the environment
/// variable ALLOC_TRACE, which names the recording. Its exit status is passed on; 128 plus the
/// number of the signal where one killed it, 127 where it is not found and 126 where it cannot be
/// run. Interrupts of the terminal reach the program; SIGTERM and SIGHUP are sent on to it.
#[derive(Debug, Args)]
pub(crate) struct RecordArguments {
    /// The recording; an older recording there is replaced. {pid} in its name becomes the number of the
    /// program's process. By default alloc-trace.PROGRAM.PID.trace in the current directory, PID being that
    /// of `alloc-trace`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Record no backtraces: a smaller recording, made faster, without call sites
    #[arg(long)]
    pub(crate) no_stacks: bool,

    /// An option of the recorder, as behind the path in ALLOC_TRACE: `limit=256M`, `ring`, `threads=worker-*`,
    /// `stacks=16`, `compress=3`, `paused`, `signal=USR1`, `snapshot-signal=USR2`, `not-threads=…`,
    /// `window=8M`, `check`. Can be given more than once
    #[arg(short = 'O', long = "option", value_name = "KEY[=VALUE]", value_parser = RecorderOption::parse)]
    pub(crate) options: Vec<RecorderOption>,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM [ARGS]")]
    pub(crate) command: Vec<OsString>,
}

/// Sum up a recording: totals, peak, leaks, call sites, spans and threads
///
/// Sizes are requested bytes. "At end" is what was never freed. A temporary allocation is a block
/// that was freed, by whichever thread, before the thread that allocated it made its next
/// successful request.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object with all figures, and all call sites unless --top is given
    #[arg(long)]
    pub(crate) json: bool,

    /// Only one table, of all that differs in this
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<ByName>,

    /// What puts a row first [default: bytes; sizes and lifetimes in their own order]
    #[arg(long, visible_alias = "measure", value_enum, value_name = "MEASURE")]
    pub(crate) sort: Option<SortKey>,

    /// How many call sites, spans and threads to show [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// What every command that reads a recording takes.
#[derive(Debug, Args)]
pub(crate) struct ReadingArguments {
    /// Tell spans of one name apart by their fields
    #[arg(long)]
    pub(crate) span_fields: bool,

    /// Fold nothing away: show frames of allocators, runtime and standard libraries too. A call site is
    /// the innermost frame then
    #[arg(long)]
    pub(crate) full: bool,

    /// Look up no names: call sites are modules and offsets
    #[arg(long)]
    pub(crate) no_symbols: bool,

    /// Ask debuginfod servers for debug information that is not here, by running debuginfod-find; the
    /// variable DEBUGINFOD_URLS says which
    #[arg(long, conflicts_with = "no_symbols")]
    pub(crate) debuginfod: bool,

    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,

    /// Write to FILE; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) filters: FilterArguments,
}

impl ReadingArguments {
    /// Whether the filters pick a part of the recording only.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.filters.filter().is_empty()
    }

    /// Opens the output, before any work: nobody is to wait for one that cannot be written.
    pub(crate) fn open_output(&self) -> Result<Output, CommandError> {
        if self.debuginfod {
            debuginfod::look()?;
        }
        Output::open(&self.output, self.color)
    }

    /// How the recording is to be analysed.
    pub(crate) fn options(&self) -> Options {
        Options::default()
            .symbols(!self.no_symbols)
            .keep_symbols(true)
            .debuginfod(self.debuginfod)
            .all_frames(self.full)
            .span_fields(self.span_fields)
            .filter(self.filters.filter())
    }
}

/// Print every heap event, a line each
///
/// A line has the event's number, time, thread, kind, address, size, alignment, call site and span.
/// Of a reallocation the address and the size are the new ones; --json has the old ones too. A
/// failed request has the address 0x0. The filters pick events, frees too, each by what it is
/// itself; by lifetime and by what was live, a free is picked by the block that it releases.
#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    /// Stop after so many events
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) limit: Option<u64>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// List what was never freed, by call site
///
/// Sizes are requested bytes. A block that was reallocated belongs to the call site, the thread and
/// the span of its last reallocation, and its age counts from there.
#[derive(Debug, Args)]
pub(crate) struct LeaksArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object, with all call sites unless --top is given
    #[arg(long)]
    pub(crate) json: bool,

    /// By what else than call sites
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<ByName>,

    /// What puts a row first
    #[arg(long, value_enum, value_name = "KEY", default_value_t = LeakKey::Bytes)]
    pub(crate) sort: LeakKey,

    /// How many call sites to show [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// Compare a recording with limits: exit status 1 where one is exceeded
///
/// Prints a line for each limit that is exceeded, and nothing otherwise. Sizes are requested bytes,
/// as in 4096, 64KiB or 1.5M. With --baseline a limit can also be what that recording has and
/// so much more: +5%, +64KiB, +0. A recording that is not complete fails.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// An earlier recording that limits are counted from; the filters pick from both
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,

    /// How much more than in the baseline everything may be that has no limit of its own, as in 5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_growth, requires = "baseline")]
    pub(crate) max_growth: Option<f64>,

    /// The most bytes that may be live at a time
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub(crate) max_peak: Option<Allowed>,

    /// The most bytes that may never be freed
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub(crate) max_leaked: Option<Allowed>,

    /// The most blocks that may never be freed
    #[arg(long, value_name = "N", value_parser = parse_number_limit)]
    pub(crate) max_leaked_blocks: Option<Allowed>,

    /// The most requests for memory: allocations and reallocations
    #[arg(long, value_name = "N", value_parser = parse_number_limit)]
    pub(crate) max_allocations: Option<Allowed>,

    /// The most bytes that may be requested in all
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub(crate) max_bytes: Option<Allowed>,

    /// The most temporary allocations, in percent of the requests
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent_limit)]
    pub(crate) max_temporary: Option<Allowed>,

    /// Check a recording that is not complete by what there is of it
    #[arg(long)]
    pub(crate) allow_incomplete: bool,

    /// Write one JSON object with every limit and what it is compared with
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// Tell what could leave the heap, or use it less
///
/// Each finding names the call site of the allocations, what it rests on, what it would save, and
/// what to do. A stack candidate is a call site whose blocks are small, few at a time, and freed by
/// their own thread within one activation of a function: they could live in its frame. Functions
/// that return and are called again from the same place, without a heap event that shows it, cannot
/// be told from one activation.
#[derive(Debug, Args)]
pub(crate) struct AdviseArguments {
    /// The recording, finished or still being written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Write one JSON object with all findings, unless --top is given
    #[arg(long)]
    pub(crate) json: bool,

    /// Only findings of this rule; can be given several times
    #[arg(long, value_enum, value_name = "RULE")]
    pub(crate) rule: Vec<RuleName>,

    /// How many findings of each rule to show [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,

    /// Only call sites that allocated at least so many blocks
    #[arg(long, value_name = "N", value_parser = parse_count, default_value_t = 10)]
    pub(crate) min_blocks: u64,

    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}

/// What advice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuleName {
    /// Blocks that could be values in a stack frame
    Stack,
    /// Blocks that grow by reallocation
    Growth,
    /// One buffer after the other where one would do
    Temporaries,
    /// Blocks that are freed long after they were of use
    LateDrops,
    /// Blocks that are never freed
    Leaks,
    /// Many small blocks that live together
    SmallBoxes,
    /// Blocks that other threads free
    RemoteFrees,
}

impl RuleName {
    pub(crate) const fn rule(self) -> alloc_trace_analysis::Rule {
        use alloc_trace_analysis::Rule;
        match self {
            Self::Stack => Rule::Stack,
            Self::Growth => Rule::Growth,
            Self::Temporaries => Rule::Temporaries,
            Self::LateDrops => Rule::LateDrops,
            Self::Leaks => Rule::Leaks,
            Self::SmallBoxes => Rule::SmallBoxes,
            Self::RemoteFrees => Rule::RemoteFrees,
        }
    }
}

/// Write a script that has a shell complete the command's arguments
///
/// For bash, `source <(alloc-trace completions bash)` in ~/.bashrc, or the script under the name
/// alloc-trace in a directory that bash-completion reads; for zsh, the script as _alloc-trace in a
/// directory of $fpath; for fish, as ~/.config/fish/completions/alloc-trace.fish.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,

    /// Write to FILE; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
}

/// Write the manual page of the command, or of one of its commands
///
/// `alloc-trace man report | man -l -` shows one; `alloc-trace man --directory
/// ~/.local/share/man/man1` writes all of them to where `man` looks.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The command whose page to write [default: that of alloc-trace itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,

    /// Write to FILE; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Write all pages, as files in this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["command", "output"])]
    pub(crate) directory: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
