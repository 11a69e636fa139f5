//! `alloc-trace completions`: a script that has a shell complete the command's arguments.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArguments};
use crate::error::CommandError;
use crate::output::Output;
use crate::style::ColorChoice;

/// The generator for bash spells a hyphen of the command's name in two ways, so that no arm of its
/// script is ever met (clap-rs/clap#6421): the arms are renamed to what the script looks for.
const ARMS: &str = "alloc__subcmd__trace__subcmd__";
const STATES: &str = "alloc__trace__subcmd__";

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<ExitCode, CommandError> {
    let mut output = Output::open(&arguments.output, ColorChoice::Never)?;
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    // The generator takes it that its writer never fails.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script).replace(ARMS, STATES);
    output.write(|out| out.write_all(script.as_bytes()))?;
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}
