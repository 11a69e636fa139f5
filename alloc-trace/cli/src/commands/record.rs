//! `alloc-trace record`: runs a program and tells where its recording is.

mod destination;
mod forward;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use alloc_trace_format::{ExitStatus, Recording, append_exit_status};

use self::destination::{Destination, environment_value};
use crate::args::RecordArguments;
use crate::error::{self, CommandError};
use crate::message;
use crate::printable::printable;
use crate::recorder_option::RecorderOption;
use crate::units::counted;

/// The environment variable that tells the recorder where to record to.
const VARIABLE: &str = "ALLOC_TRACE";

pub(crate) fn run(arguments: &RecordArguments) -> Result<ExitCode, CommandError> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(CommandError::Usage("no program to record".into()));
    };
    let path = match &arguments.output {
        Some(path) if path.as_os_str() == "-" => {
            return Err(CommandError::Usage(
                "a recording is written through a memory map and cannot go to standard output"
                    .into(),
            ));
        }
        Some(path) => path.clone(),
        None => default_path(program).into(),
    };
    let destination = Destination::examine(&path)?;
    let no_stacks = arguments.no_stacks.then_some("stacks=off");
    let options = no_stacks.into_iter().chain(arguments.options.iter().map(RecorderOption::as_str));
    let signals = forward::Signals::block()?;
    let child = Command::new(program)
        .args(rest)
        .env(VARIABLE, environment_value(destination.path(), options))
        .spawn();
    let mut child = child.map_err(|source| {
        let hint = hint(Path::new(program), &source);
        CommandError::Run { program: program.to_string_lossy().into_owned(), hint, source }
    })?;
    signals.send_to(child.id());
    let status = child
        .wait()
        .map_err(|source| CommandError::Io { attempt: "wait for the program", source })?;

    let (code, known) = match (status.code(), status.signal()) {
        (Some(code), _) => (code as u8, Some(ExitStatus::Code(code))),
        (None, Some(signal)) => ((128 + signal) as u8, Some(ExitStatus::Signal(signal))),
        (None, None) => (1, None),
    };
    tell(program, &destination, child.id(), known);
    Ok(ExitCode::from(code))
}

/// Says on standard error what became of the recording. Whatever went wrong with it, the exit
/// status stays the program's.
fn tell(program: &OsStr, template: &Destination, pid: u32, status: Option<ExitStatus>) {
    let destination = &template.of_process(pid);
    let path = destination.path();
    let beside = destination.recordings_beside(template);
    let result = destination.new_recording().and_then(|header| {
        let Some(header) = header else { return Ok(None) };
        // Of a process further down, as that of a shell script, this is not the status.
        if let Some(status) = status.filter(|_| header.pid == pid) {
            append_exit_status(path, status)?;
        }
        Recording::open(path).map(Some)
    });
    match result {
        Ok(Some(recording)) => {
            let shown = printable(&destination.shown().to_string_lossy()).into_owned();
            let events = counted(recording.events(), "heap event");
            message::print(&format!("recorded {events} in {shown}"));
            message::print(&format!("read it with: alloc-trace report {shown}"));
        }
        // What it started may have recorded all the same.
        Ok(None) if !beside.is_empty() => {}
        Ok(None) => eprintln!("{}", nothing_recorded(program)),
        Err(error) => error::print(&CommandError::from(error)),
    }
    if let Some(first) = beside.first() {
        let processes = counted(beside.len() as u64, "further recording");
        let first = first.to_string_lossy();
        message::print(&format!("{processes} of processes that it started: {first} …"));
    }
}

/// What may be the matter with a program that cannot be run, as far as that can be seen.
fn hint(program: &Path, why: &io::Error) -> Option<String> {
    const NO_FORMAT: i32 = 8;
    let shown = printable(&program.to_string_lossy()).into_owned();
    let by_name =
        program.components().count() == 1 && !program.as_os_str().as_bytes().contains(&b'/');
    let metadata = fs::metadata(program).ok();
    let hint = match (why.kind(), metadata) {
        (io::ErrorKind::NotFound, Some(here)) if by_name && here.is_file() => {
            format!("it is not in the directories of PATH; the one that is here is ./{shown}")
        }
        (io::ErrorKind::NotFound, Some(_)) if !by_name => {
            "it is there, but not what it is run by: the interpreter in the first line of a script, or \
             the loader that a program was linked for"
                .into()
        }
        (io::ErrorKind::NotFound, _) if by_name => {
            "it is not in the directories of PATH; give its path if it is elsewhere".into()
        }
        (io::ErrorKind::PermissionDenied, Some(found)) if found.is_dir() => {
            "it is a directory".into()
        }
        (io::ErrorKind::PermissionDenied, Some(found)) if found.mode() & 0o111 == 0 => {
            format!("it is not executable: chmod +x {shown}, or name its interpreter before it")
        }
        _ if why.raw_os_error() == Some(NO_FORMAT) => {
            "it is neither a program for this machine nor a script whose first line names its \
             interpreter"
                .into()
        }
        _ => return None,
    };
    Some(hint)
}

fn nothing_recorded(program: &OsStr) -> String {
    format!(
        "alloc-trace: nothing was recorded: {} does not use alloc-trace as its global\n\
         allocator, or never reached it. In the program's main.rs:\n\
         \n\
         \x20   #[global_allocator]\n\
         \x20   static ALLOCATOR: alloc_trace::TraceAlloc<std::alloc::System> =\n\
         \x20       alloc_trace::TraceAlloc::new(std::alloc::System);",
        printable(&program.to_string_lossy())
    )
}

/// `alloc-trace.PROGRAM.PID.trace`, the process being this one: so it is known before the program runs.
fn default_path(program: &OsStr) -> OsString {
    let name = Path::new(program).file_name().unwrap_or(OsStr::new("program"));
    let mut path = OsString::from("alloc-trace.");
    path.push(name);
    path.push(format!(".{}.trace", std::process::id()));
    path
}
