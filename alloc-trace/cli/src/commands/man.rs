//! `alloc-trace man`: the manual, made from the definition of the arguments.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::{Arguments, ManArguments};
use crate::error::CommandError;
use crate::output::Output;
use crate::style::ColorChoice;

pub(crate) fn run(arguments: &ManArguments) -> Result<ExitCode, CommandError> {
    let mut command = Arguments::command();
    // Gives every command what it inherits from the one above it.
    command.build();
    if let Some(directory) = &arguments.directory {
        write_all(directory, &command)?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = match &arguments.command {
        None => page(command),
        Some(name) => page(subcommand(&command, name)?),
    };
    let mut output = Output::open(&arguments.output, ColorChoice::Never)?;
    output.write(|out| out.write_all(&page.map_err(io::Error::other)?))?;
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// One file for the command and one for each of its own commands, as `man` looks for them.
fn write_all(directory: &Path, command: &Command) -> Result<(), CommandError> {
    std::fs::create_dir_all(directory).map_err(|error| CommandError::write(directory, error))?;
    for name in std::iter::once(None).chain(names(command).map(Some)) {
        let (file, page) = match name {
            None => ("alloc-trace.1".to_owned(), page(command.clone())),
            Some(name) => (format!("alloc-trace-{name}.1"), page(subcommand(command, name)?)),
        };
        let path = directory.join(file);
        let mut output = Output::open(&path, ColorChoice::Never)?;
        output.write(|out| out.write_all(&page.map_err(io::Error::other)?))?;
        output.finish()?;
    }
    Ok(())
}

/// One of the command's own commands.
fn subcommand(command: &Command, name: &str) -> Result<Command, CommandError> {
    let names: Vec<&str> = names(command).collect();
    let found = command.find_subcommand(name).ok_or_else(|| {
        CommandError::Usage(format!("man: no command is named `{name}`; {} are", names.join(", ")))
    })?;
    // Built, it goes by `alloc-trace-NAME`, the name under which `man` finds it.
    Ok(found.clone())
}

fn names(command: &Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().map(Command::get_name).filter(|&name| name != "help")
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}
