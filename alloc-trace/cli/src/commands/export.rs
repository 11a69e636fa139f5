//! `alloc-trace export`: a recording in the format of another program.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use alloc_trace_analysis::{
    BlockRow, Blocks, CallTreeWeights, Intervals, MarkerMoment, Measure, Moments, Options, Program,
    ProgramPoints, Recording, RecordingState, Resolution,
};

use clap::ValueEnum;

use crate::args::ExportArguments;
use crate::args::ExportFormat as Format;
use crate::error::CommandError;
use crate::export::{collapsed, dhat, firefox, perfetto, pprof, rows, speedscope};
use crate::measures;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use crate::units::count;
use crate::warnings;
use crate::written::{self, Extent};

/// The bins of graphs: no screen has more columns.
const BINS: u32 = 4_096;

pub(crate) fn run(arguments: &ExportArguments) -> Result<ExitCode, CommandError> {
    let to_terminal = arguments.reading.output.as_os_str() == "-" && io::stdout().is_terminal();
    if to_terminal && arguments.format.is_binary() {
        return Err(CommandError::Usage(
            "export: this format is not for a terminal; give a file to write to with -o FILE, or \
             pipe it on"
                .into(),
        ));
    }
    let reading = &arguments.reading;
    written::refuse_mixture("export", arguments.json, reading)?;
    let recording = open::recording(&arguments.file)?;
    let export = Export { arguments, recording: &recording };
    // Before a file is replaced by nothing.
    let progress = Progress::reading(&recording);
    export.refuse_too_many_blocks()?;
    let mut output = reading.open_output()?;
    let (state, extent) = export.write(&mut output)?;
    let bytes = output.finish_counted()?;
    drop(progress);
    warnings::tell(&arguments.file, &state);
    if arguments.json {
        let format = arguments.format.to_possible_value();
        let format = format.as_ref().map_or("", |format| format.get_name());
        written::say(reading, format, bytes, arguments.format_measure(), extent, &state)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Format {
    const fn is_binary(self) -> bool {
        match self {
            Self::Pprof | Self::Perfetto => true,
            #[cfg(feature = "parquet")]
            Self::Parquet => true,
            _ => false,
        }
    }
}

impl ExportArguments {
    /// What the format shows first, where it has measures.
    fn format_measure(&self) -> Option<Measure> {
        let measure = measures::adding_up(self.measure.measure());
        let has = matches!(self.format, Format::Pprof | Format::Speedscope | Format::Collapsed);
        has.then_some(measure)
    }
}

/// How far the recording can be believed, and how much of it was written.
type Exported = (RecordingState, Extent);

struct Export<'a> {
    arguments: &'a ExportArguments,
    recording: &'a Recording,
}

impl Export<'_> {
    fn write(&self, output: &mut Output) -> Result<Exported, CommandError> {
        match self.arguments.format {
            Format::Pprof | Format::Speedscope | Format::Collapsed => self.stacks(output),
            Format::Dhat => self.dhat(output),
            Format::Firefox => self.firefox(output),
            Format::Perfetto => self.perfetto(output),
            Format::Jsonl => self.rows(output, rows::write_json),
            Format::Csv => {
                output.write(|out| rows::write_csv_heading(out))?;
                self.rows(output, rows::write_csv)
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => self.parquet(output),
        }
    }

    fn options(&self) -> Options {
        self.arguments.reading.options()
    }

    fn stacks(&self, output: &mut Output) -> Result<Exported, CommandError> {
        let weights = CallTreeWeights::of(self.recording, self.options())?;
        let measure = measures::adding_up(self.arguments.measure.measure());
        let program = Program::of(self.recording)?;
        output.write(|out| match self.arguments.format {
            Format::Pprof => {
                let times = pprof::Times {
                    started_at_unix_ns: self.recording.header().start_realtime_ns,
                    duration_ns: weights.state.duration_ns,
                };
                let executable = program.as_ref().map(|program| program.executable.as_str());
                pprof::write(out, &weights, times, executable, measure)
            }
            Format::Speedscope => {
                let name = titled(name(program.as_ref()), &weights.state);
                speedscope::write(out, &weights, &name, measure)
            }
            _ => collapsed::write(out, &weights, measure, 1),
        })?;
        let extent = Extent::from(&weights.total);
        Ok((weights.state, extent))
    }

    fn dhat(&self, output: &mut Output) -> Result<Exported, CommandError> {
        let points = ProgramPoints::of(self.recording, self.options())?;
        let program = Program::of(self.recording)?;
        let command = match &program {
            Some(program) if !program.arguments.is_empty() => program.arguments.join(" "),
            program => name(program.as_ref()).to_owned(),
        };
        let command = titled(&command, &points.state);
        let pid = self.recording.header().pid;
        output.write(|out| dhat::write(out, &points, &command, pid))?;
        let extent = Extent::from(&points.total);
        Ok((points.state, extent))
    }

    fn refuse_too_many_blocks(&self) -> Result<(), CommandError> {
        if self.arguments.format != Format::Firefox {
            return Ok(());
        }
        let max = self.arguments.max_blocks;
        let mut blocks = Blocks::of(self.recording, self.options().symbols(self.names_pick()))?;
        for _ in 0..max {
            if blocks.next_row()?.is_none() {
                return Ok(());
            }
        }
        match blocks.next_row()? {
            None => Ok(()),
            Some(_) => Err(CommandError::TooManyBlocks { max }),
        }
    }

    /// Whether what is picked depends on names.
    fn names_pick(&self) -> bool {
        let reading = &self.arguments.reading;
        reading.filters.asks_for_sites() && !reading.no_symbols
    }

    fn firefox(&self, output: &mut Output) -> Result<Exported, CommandError> {
        let options = self.options();
        let mut blocks = Blocks::of(self.recording, options.clone())?;
        let mut changes = firefox::Changes::default();
        while let Some(block) = blocks.next_row()? {
            changes.add(&block);
        }
        let intervals =
            Intervals::over_time(self.recording, options, Resolution::default().bins(BINS))?;
        let moments = self.moments(&intervals.state)?;
        let header = self.recording.header();
        let about = firefox::About {
            name: name(moments.program.as_ref()),
            pid: header.pid,
            started_at_unix_ns: header.start_realtime_ns,
        };
        let (state, extent) = (blocks.state(), Extent::from(&intervals));
        output.write(|out| {
            firefox::write(out, about, blocks.backtraces(), changes, &intervals, &moments)
        })?;
        Ok((state, extent))
    }

    fn perfetto(&self, output: &mut Output) -> Result<Exported, CommandError> {
        let options = self.options();
        let intervals =
            Intervals::over_time(self.recording, options, Resolution::default().bins(BINS))?;
        let moments = self.moments(&intervals.state)?;
        let program = moments.program.as_ref();
        let about = perfetto::About {
            name: name(program),
            arguments: program.map_or(&[], |program| &program.arguments),
            pid: self.recording.header().pid,
        };
        output.write(|out| perfetto::write(out, about, &intervals, &moments))?;
        let extent = Extent::from(&intervals);
        Ok((intervals.state, extent))
    }

    /// The moments of a recording. Where a part of it was written over, a marker at its end says so.
    fn moments(&self, state: &RecordingState) -> Result<Moments, CommandError> {
        let mut moments = Moments::of(self.recording)?;
        if let (Some(time_ns), Some(unknown)) = (state.horizon_ns, warnings::unknown_part(state)) {
            let thread = moments.threads.first().map_or(0, |thread| thread.thread);
            moments.markers.insert(0, MarkerMoment::new(time_ns, thread, unknown.into()));
        }
        if moments.omitted_spans > 0 {
            let omitted = format!(
                "of the times that threads were in spans, the {} longest are kept, \
                 and {} are not",
                count(moments.spans.len() as u64),
                count(moments.omitted_spans),
            );
            warnings::print(&self.arguments.file, &[omitted]);
        }
        Ok(moments)
    }

    fn rows(
        &self,
        output: &mut Output,
        write: impl Fn(&mut dyn Write, &BlockRow<'_>) -> io::Result<()>,
    ) -> Result<Exported, CommandError> {
        let mut blocks = Blocks::of(self.recording, self.options())?;
        let mut rows = 0;
        while let Some(block) = blocks.next_row()? {
            output.write(|out| write(out, &block))?;
            rows += 1;
        }
        Ok((blocks.state(), Extent::of_blocks(rows)))
    }

    #[cfg(feature = "parquet")]
    fn parquet(&self, output: &mut Output) -> Result<Exported, CommandError> {
        use crate::export::parquet::Writer;
        let failed = |error| CommandError::write(&self.arguments.reading.output, error);
        let mut blocks = Blocks::of(self.recording, self.options())?;
        let mut writer = Writer::new(output.sink()).map_err(failed)?;
        let mut rows = 0;
        while let Some(block) = blocks.next_row()? {
            writer.add(&block).map_err(failed)?;
            rows += 1;
        }
        writer.finish().map_err(failed)?;
        Ok((blocks.state(), Extent::of_blocks(rows)))
    }
}

/// A title that tells what of the recording is unknown.
fn titled(title: &str, state: &RecordingState) -> String {
    match warnings::unknown_part(state) {
        Some(unknown) => format!("{title} ({unknown})"),
        None => title.to_owned(),
    }
}

/// The program's name, as far as it is known.
fn name(program: Option<&Program>) -> &str {
    let executable = program.map(|program| program.executable.as_str());
    executable.and_then(|path| path.rsplit('/').next()).unwrap_or("unknown program")
}
