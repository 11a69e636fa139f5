//! Where a command writes to: standard output, or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use alloc_trace_analysis::Recording;

use crate::error::CommandError;
use crate::style::Style;

/// A buffered output that knows its name and how wide it is.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    writer: BufWriter<Target>,
    /// The columns that a line may take.
    pub(crate) columns: usize,
    pub(crate) style: Style,
}

#[derive(Debug)]
enum Target {
    Stdout(io::Stdout),
    File(File),
}

/// What is not written to a terminal is made for one of this width.
const COLUMNS: usize = 80;

impl Output {
    /// Opens a file to write to, replacing what was there; `-` is standard output.
    ///
    /// A recording is not replaced: it would mostly be the one that is being read.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let (target, terminal) = if path.as_os_str() == "-" {
            let stdout = io::stdout();
            let terminal = stdout.is_terminal();
            (Target::Stdout(stdout), terminal)
        } else {
            if path.is_file() && Recording::open(path).is_ok() {
                let path = path.to_owned();
                return Err(CommandError::WouldReplaceRecording { path });
            }
            let file = File::create(path).map_err(|error| CommandError::write(path, error))?;
            (Target::File(file), false)
        };
        let width = terminal.then(terminal_size::terminal_size).flatten();
        let columns = width.map_or(COLUMNS, |(width, _)| usize::from(width.0).max(COLUMNS));
        Ok(Self {
            path: path.to_owned(),
            writer: BufWriter::with_capacity(64 << 10, target),
            columns,
            style: Style::new(terminal),
        })
    }

    /// Gives the writer to `write`, and sends on what it wrote.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        write(&mut self.writer).map_err(|error| CommandError::write(&self.path, error))
    }

    /// The writer itself, for formats whose crate wants to own it.
    #[cfg(feature = "parquet")]
    pub(crate) fn sink(&mut self) -> impl Write + Send + '_ {
        &mut self.writer
    }

    /// Sends on what is still buffered.
    pub(crate) fn finish(mut self) -> Result<(), CommandError> {
        self.writer.flush().map_err(|error| CommandError::write(&self.path, error))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
