//! What the demo is told on its command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;

/// The same jobs done on the stack only and heap-heavy, side by side.
///
/// One job lexes every Rust source under a directory; the others are small, and each shows one
/// thing. The heap events of all of them are recorded: `alloc-trace report FILE` reads the
/// recording.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// The directory whose Rust sources are lexed [default: this repository]
    directory: Option<PathBuf>,

    /// Write the figures as JSON: a list with one object for each job
    #[arg(long)]
    pub(crate) json: bool,

    /// Where the recording goes [default: demo.trace in the build's target directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How often the small jobs do their work
    #[arg(long, value_name = "ROUNDS", default_value_t = 1000)]
    pub(crate) scale: usize,
}

impl Arguments {
    /// The directory whose sources are lexed.
    pub(crate) fn directory(&self) -> &Path {
        let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        self.directory.as_deref().unwrap_or(repository)
    }

    /// The file that the recording goes to. The default's directory is made if it does not exist.
    pub(crate) fn output(&self) -> io::Result<PathBuf> {
        if let Some(output) = &self.output {
            return Ok(output.clone());
        }
        let target = built_in().unwrap_or_else(|| "target".into());
        std::fs::create_dir_all(&target)?;
        Ok(target.join("demo.trace"))
    }
}

/// The target directory that this program was built in, which cargo marks with a tag.
fn built_in() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let mut directories = executable.ancestors();
    directories.find(|directory| directory.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_given_file_is_taken_as_it_is() {
        let arguments = Arguments::parse_from(["demo", "-o", "/no/where/a.trace", "src"]);
        assert_eq!(
            arguments.output().expect("no directory is made"),
            Path::new("/no/where/a.trace")
        );
        assert_eq!(arguments.directory(), Path::new("src"));
    }
}
