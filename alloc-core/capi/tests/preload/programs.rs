//! Unmodified programs do the same with the library as without it.

use std::process::Command;

use crate::process::{run, run_preloaded};

/// Runs a program twice. A program that is not installed is a loud note.
fn does_the_same(program: &str, arguments: &[&str]) {
    let command = || {
        let mut command = Command::new(program);
        command.args(arguments).env("PYTHONHASHSEED", "0").current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    };
    if let Err(error) = command().output() {
        eprintln!("SKIPPED, not tested: {program} is not here: {error}");
        return;
    }
    let without = run(&mut command());
    assert!(without.status.success(), "{program} does not work here: {without:?}");
    assert_eq!(run_preloaded(&mut command()), without);
}

#[test]
fn python_does_the_same() {
    let script = "
import hashlib, json, re, threading, subprocess
def work(n, out):
    words = {str(i): [i] * (i % 50) for i in range(n)}
    text = json.dumps(words, sort_keys=True)
    out.append(hashlib.sha256(re.sub('[13]', 'x', text).encode()).hexdigest())
for size in (20000, 20001):
    out = []
    threads = [threading.Thread(target=work, args=(size, out)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(out)
print(subprocess.check_output(['sh', '-c', 'echo from a child']))
";
    does_the_same("python3", &["-c", script]);
}

#[test]
fn perl_does_the_same() {
    let script = "my %h; $h{$_ % 7919} .= chr(65 + $_ % 26) x ($_ % 13) for 1..200000; \
                  print join(',', map { length $h{$_} } sort { $a <=> $b } keys %h), `echo child`";
    does_the_same("perl", &["-e", script]);
}

#[test]
fn sqlite_does_the_same() {
    let script = "create table t(a integer primary key, b text); \
                  with recursive c(x) as (select 1 union all select x + 1 from c where x < 50000) \
                  insert into t select x, hex(x * x) || printf('%0*d', x % 200, x) from c; \
                  create index i on t(b); delete from t where a % 3 = 0; \
                  select count(*), sum(length(b)), max(b) from t; \
                  select group_concat(b) from (select b from t order by b limit 1000);";
    does_the_same("sqlite3", &[":memory:", script]);
}

#[test]
fn git_does_the_same() {
    does_the_same("git", &["hash-object", "Cargo.toml", "src/lib.rs", "tests/programs/rules.c"]);
    does_the_same("git", &["diff", "--no-index", "--stat", "src", "src"]);
}

#[test]
fn a_compiler_does_the_same() {
    does_the_same("cc", &["-O2", "-g", "-S", "-w", "-o", "-", "tests/programs/rules.c"]);
    does_the_same("c++", &["-std=c++17", "-S", "-w", "-o", "-", "tests/programs/operators.cpp"]);
}

#[test]
fn a_shell_and_its_pipes_do_the_same() {
    let script = "for i in $(seq 300); do echo $((i * i)) $i; done | sort -n | awk '{s += $1} END \
                  {print s}'; ls -l src | wc -l; echo text | gzip | gunzip";
    does_the_same("sh", &["-c", script]);
}

#[test]
fn programs_start_in_twenty_megabytes_of_address_space() {
    // In the hardened build guards lie between.
    let kibibytes = if cfg!(feature = "hardened") { 24_000 } else { 20_000 };
    let script = "export LC_ALL=C; ls -l src && sed -n 1,3p src/lib.rs";
    does_the_same("sh", &["-c", &format!("ulimit -v {kibibytes}; {script}")]);
}

#[test]
fn no_thread_is_started_where_the_environment_says_so() {
    // Says the most threads that there were, until there were two or for two seconds.
    let script = "
import os, time
blocks = [bytes(3000 + i % 100) for i in range(20000)]
del blocks
most, end = 1, time.monotonic() + 2
while most == 1 and time.monotonic() < end:
    time.sleep(0.01)
    most = max(most, len(os.listdir('/proc/self/task')))
print(most)
";
    let command = || {
        let mut command = Command::new("python3");
        command.args(["-c", script]).env("PYTHONMALLOC", "malloc");
        command
    };
    if let Err(error) = command().output() {
        eprintln!("SKIPPED, not tested: python3 is not here: {error}");
        return;
    }
    let said = |command: &mut Command| run_preloaded(command).stdout;
    assert_eq!(said(&mut command()), "2\n");
    assert_eq!(said(command().env("ALLOC_CORE_PURGE_IN_BACKGROUND", "off")), "1\n");
}
