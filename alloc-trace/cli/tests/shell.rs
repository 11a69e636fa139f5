//! Completions and manual pages: what the shell and `man` make of them.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output, Stdio};

use support::{command, text};

fn run(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    command().args(arguments.iter().map(|argument| argument.as_ref())).output().expect("run")
}

/// The commands that the help lists.
fn commands() -> Vec<String> {
    let help = run(&[&"--help"]);
    let lines = text(&help.stdout).lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty());
    // A description that goes on in a second line is indented further.
    let names = names.filter_map(|line| line.strip_prefix("  ").filter(|l| !l.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("alloc-trace");
    assert!(run(&[&"completions", &"bash", &"-o", &script]).status.success());
    let complete = |words: &[&str]| {
        let driver = r#"
            source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            [[ $(complete -p "$1") =~ -F\ ([^ ]+) ]]
            "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", driver, "bash"]).arg(&script).args(words);
        let output = bash.stderr(Stdio::inherit()).output().expect("bash");
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<String>>()
    };
    let offered = complete(&["alloc-trace", ""]);
    for name in commands() {
        assert!(offered.contains(&name), "{name} of {offered:?}");
    }
    assert_eq!(complete(&["alloc-trace", "rep"]), ["report"]);
    assert!(complete(&["alloc-trace", "report", "--so"]).contains(&"--sort".to_owned()));
    assert!(complete(&["alloc-trace", "report", "--sort", "te"]).contains(&"temporary".to_owned()));
}

#[test]
fn every_shell_has_completions_and_they_can_be_written_to_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = run(&[&"completions", &shell]);
        assert!(printed.status.success(), "{shell}");
        for name in commands() {
            assert!(text(&printed.stdout).contains(&name), "{name} in {shell}");
        }
        let path = directory.path().join(shell);
        assert!(run(&[&"completions", &shell, &"--output", &path]).status.success(), "{shell}");
        assert_eq!(fs::read(&path).expect("written"), printed.stdout, "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_the_command_and_for_each_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    assert!(run(&[&"man", &"--directory", &pages]).status.success());
    let read = |name: &str| {
        fs::read_to_string(pages.join(format!("{name}.1"))).expect("a page for each command")
    };
    let names = commands();
    assert_eq!(fs::read_dir(&pages).expect("there").count(), names.len() + 1);
    assert!(read("alloc-trace").contains(".TH alloc-trace 1"));
    for name in names {
        let page = read(&format!("alloc-trace-{name}"));
        assert!(page.contains(&format!(".TH alloc-trace-{name} 1")), "{name}: {page}");
        assert_eq!(text(&run(&[&"man", &name]).stdout), page, "{name}");
    }
    let report = read("alloc-trace-report");
    for part in ["\\-\\-sort", "Filters, by what was requested", "requested bytes"] {
        let part = part.to_lowercase();
        assert!(report.to_lowercase().contains(&part), "{part} in {report}");
    }
}
