//! Where a command writes to: standard output, or a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use alloc_trace_analysis::Recording;
use terminal_size::{Height, Width};

use crate::error::CommandError;
use crate::style::{ColorChoice, Style};

/// A buffered output that knows its name and how wide it is.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    writer: BufWriter<Counted>,
    /// Whether the file was not there before.
    is_new: bool,
    /// The columns that a line may take.
    pub(crate) columns: usize,
    /// The same, where it is a terminal.
    pub(crate) terminal_columns: Option<usize>,
    pub(crate) style: Style,
}

/// What is written to, and how many bytes were.
#[derive(Debug)]
struct Counted {
    target: Target,
    written: u64,
}

#[derive(Debug)]
enum Target {
    Stdout(io::Stdout),
    File {
        file: File,
        /// Whether what was there is still to be cut off.
        full: bool,
    },
}

/// What is not written to a terminal is made for one of this width.
const COLUMNS: usize = 80;
/// In less nothing can be laid out; longer lines are hard to follow.
const NARROWEST: usize = 40;
const WIDEST: usize = 160;

/// The columns that a line may take on a terminal, or where there is none.
pub(crate) fn columns(terminal: Option<(Width, Height)>) -> usize {
    terminal.map_or(COLUMNS, |(width, _)| usize::from(width.0).clamp(NARROWEST, WIDEST))
}

impl Output {
    /// Opens a file to write to; `-` is standard output. What was there is replaced once there is
    /// something to replace it with: a command that fails leaves it.
    ///
    /// A recording is not replaced: it would mostly be the one that is being read.
    pub(crate) fn open(path: &Path, color: ColorChoice) -> Result<Self, CommandError> {
        let mut is_new = false;
        let (target, terminal) = if path.as_os_str() == "-" {
            let stdout = io::stdout();
            let terminal = stdout.is_terminal();
            (Target::Stdout(stdout), terminal)
        } else {
            if path.is_file() && Recording::open(path).is_ok() {
                let path = path.to_owned();
                return Err(CommandError::WouldReplaceRecording { path });
            }
            let mut options = OpenOptions::new();
            let file = match options.write(true).create_new(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    options.create_new(false).create(true).truncate(false).open(path)
                }
                made => {
                    is_new = made.is_ok();
                    made
                }
            };
            let file = file.map_err(|error| CommandError::write(path, error))?;
            let full = file.metadata().is_ok_and(|metadata| metadata.is_file());
            (Target::File { file, full }, false)
        };
        let columns = columns(terminal.then(terminal_size::terminal_size).flatten());
        Ok(Self {
            path: path.to_owned(),
            writer: BufWriter::with_capacity(64 << 10, Counted { target, written: 0 }),
            is_new,
            columns,
            terminal_columns: terminal.then_some(columns),
            style: Style::new(color, terminal),
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
    pub(crate) fn finish(self) -> Result<(), CommandError> {
        self.finish_counted().map(drop)
    }

    /// Sends on what is still buffered, and answers how many bytes were written in all.
    pub(crate) fn finish_counted(mut self) -> Result<u64, CommandError> {
        self.is_new = false;
        let flushed = self.writer.flush().and_then(|()| self.writer.get_mut().target.end());
        flushed.map_err(|error| CommandError::write(&self.path, error))?;
        Ok(self.writer.get_ref().written)
    }
}

/// A command that failed before it wrote anything leaves no empty file.
impl Drop for Output {
    fn drop(&mut self) {
        if let Target::File { full: true, .. } = self.writer.get_ref().target
            && self.is_new
        {
            // Who took it away meanwhile has done the same.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Target {
    /// Nothing more comes: where nothing came, the file is empty.
    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, full: true } => file.set_len(0),
            _ => Ok(()),
        }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File { file, full } => {
                if std::mem::take(full) {
                    file.set_len(0)?;
                }
                file.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}
