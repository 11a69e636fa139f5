//! How a process is recorded that forks, executes, or ends in one of the many ways to end.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, abort, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use alloc_trace::{Recording, Stacks, StartError, is_recording};

use super::Given;
use crate::block::{Block, trail};
use crate::os::{self, BareThread};

/// Makes the trail of 65,000 and says whether it was recorded.
pub(super) fn nothing(given: &Given) {
    let stacks = given.number("depth").map_or(Stacks::Full, |depth| match depth {
        0 => Stacks::Off,
        depth => Stacks::Depth(depth as u8),
    });
    let recording =
        given.builder().map(|builder| builder.stacks(stacks).start().expect("a recording"));
    trail(65_000, 100);
    println!("{}", if is_recording() { "recorded" } else { "not recorded" });
    drop(recording);
    assert!(given.text("record").is_none() || !is_recording());
}

/// Three threads `progress-N` that make blocks without end: the one numbered I has 8 + I % 4,093
/// bytes and is freed at once. Every 64 blocks the thread says N and I in 16 bytes.
pub(super) fn progress(_given: &Given) {
    let threads = [0u64, 1, 2].map(|thread| {
        BareThread::start(&format!("progress-{thread}"), move || {
            for number in 0u64.. {
                Block::new(8 + (number % 4093) as usize, 8).free();
                if (number + 1).is_multiple_of(64) {
                    let mut words = [0; 16];
                    words[..8].copy_from_slice(&thread.to_le_bytes());
                    words[8..].copy_from_slice(&(number + 1).to_le_bytes());
                    os::say(&words);
                }
            }
        })
    });
    for thread in threads {
        thread.join();
    }
}

/// Makes blocks without end, the one numbered I of 1 + I % 500 bytes, aligned to 4,096, and frees each at
/// once; how many there are stands in the first eight bytes of a `file`, which is mapped. Behind the
/// first hundred it makes a system call.
pub(super) fn acknowledged(given: &Given) {
    let count = os::map_number(given.text("file").expect("a file"));
    for number in 0_u64.. {
        Block::new(1 + (number % 500) as usize, 4096).free();
        count.store(number + 1, Ordering::Release);
        if number == 100 {
            thread::yield_now();
        }
    }
}

/// Makes the trail of 65,000, 1,000 blocks, and ends as `how` says.
pub(super) fn end(given: &Given) {
    let recording = given.start();
    trail(65_000, 1000);
    match given.text("how").expect("how to end") {
        "return" => {}
        "abort" => abort(),
        "exit_now" => os::exit_now(3),
        "fault" => os::fault(),
        "kill" => os::raise(libc::SIGKILL),
        "terminate" => os::raise(libc::SIGTERM),
        "exit" => exit(3),
        "exit_in_thread" => {
            let _ = thread::spawn(|| {
                trail(67_000, 10);
                exit(4)
            })
            .join();
        }
        "panic_in_thread" => {
            let result = thread::spawn(|| panic!("on purpose")).join();
            assert!(result.is_err());
            trail(66_000, 10);
        }
        "panic" => panic!("on purpose"),
        "abort_in_panic" => {
            struct Again;
            impl Drop for Again {
                fn drop(&mut self) {
                    panic!("on purpose, twice");
                }
            }
            let _again = Again;
            panic!("on purpose");
        }
        other => panic!("no way to end: {other}"),
    }
    drop(recording);
}

/// Forks while three `threads` ask for blocks without a pause. The child makes the trail of 66,000 and
/// ends as `how` says, which can ask for a `clone` or `clone3` behind the C library's back, that the child
/// be nobody first, or that all this is done in the root directory; afterwards the parent makes that of 67,000 and says the child's id.
pub(super) fn fork(given: &Given) {
    let recording = given.start();
    let count = given.number("threads").unwrap_or(3);
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(Barrier::new(count + 1));
    let start = |number| {
        let (stop, begun) = (Arc::clone(&stop), Arc::clone(&begun));
        BareThread::start(&format!("busy-{number}"), move || {
            trail(70_000, 1);
            begun.wait();
            while !stop.load(Ordering::Relaxed) {
                trail(70_000, 1);
            }
        })
    };
    let threads: Vec<BareThread> = (0..count).map(start).collect();
    begun.wait();
    let how = given.text("how");
    if how == Some("elsewhere") {
        env::set_current_dir("/").expect("the root directory");
    }
    let child = match how {
        Some("clone") => os::clone_process(),
        Some("clone3") => os::clone3_process(),
        _ => os::fork(),
    };
    let Some(child) = child else {
        if how == Some("as_nobody") {
            os::become_nobody();
        }
        trail(66_000, 100);
        match how {
            Some("exit_now" | "clone" | "clone3") => os::exit_now(5),
            _ => exit(5),
        }
    };
    let status = os::wait(child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 5, "{status:#x}");
    trail(67_000, 100);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join();
    }
    println!("{child}");
    drop(recording);
}

/// Forks a child that makes the trail of 66,000 and forks in turn one that makes that of 68,000;
/// then makes the trail of 67,000. Says both ids, the grandchild's first.
pub(super) fn fork_again(_given: &Given) {
    let Some(child) = os::fork() else {
        trail(66_000, 100);
        let Some(grandchild) = os::fork() else {
            trail(68_000, 100);
            exit(5);
        };
        let status = os::wait(grandchild);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 5, "{status:#x}");
        println!("{grandchild}");
        exit(5);
    };
    let status = os::wait(child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 5, "{status:#x}");
    trail(67_000, 100);
    println!("{child}");
}

/// Runs itself as `nothing`, by `posix_spawn` or by `fork` and `exec`, with the trail of 66,000 made in
/// between if asked, and says the child's id.
pub(super) fn spawn(given: &Given) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg("nothing");
    match given.text("how") {
        Some("fork_and_exec") => {
            // SAFETY: the closure asks nothing of the child.
            unsafe { command.pre_exec(|| Ok(())) };
        }
        Some("allocate_before_exec") => {
            let before_exec = || {
                trail(66_000, 100);
                Ok(())
            };
            // SAFETY: this process has one thread, so no lock is held in the child for ever.
            unsafe { command.pre_exec(before_exec) };
        }
        _ => {}
    }
    let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("a child");
    assert!(child.wait().expect("its end").success());
    trail(67_000, 100);
    println!("{}", child.id());
}

/// Makes the trail of 67,000 and becomes `nothing`.
pub(super) fn exec(_given: &Given) {
    trail(67_000, 100);
    // Also where it cannot be asked which program this is.
    let program = env::args_os().next().expect("this program");
    let error = Command::new(program).arg("nothing").exec();
    panic!("{error}");
}

/// Makes the trail of 67,000 and has a shell run itself as `nothing` a moment later. It ends before that, or waits for the
/// shell, which does not wait either, as `how` says. Says the id of the program that is run.
#[expect(clippy::zombie_processes, reason = "the shell is to outlive who launched it")]
pub(super) fn launch(given: &Given) {
    trail(67_000, 100);
    let script = match given.text("how") {
        Some("by_itself") => "sleep 0.3; echo $$; exec \"$0\" nothing",
        _ => "(sleep 0.3; exec \"$0\" nothing) & echo $!",
    };
    let program = env::current_exe().expect("this program");
    let mut shell = Command::new("sh").args(["-c", script]).arg(program).spawn().expect("a shell");
    if given.text("how") != Some("by_itself") {
        assert!(shell.wait().expect("its end").success());
    }
}

/// The trails of 68,000 into the file `first`, of 69,000 into none, of 70,000 into the file
/// `second`; and those of 71,000 and 72,000 into both of them by a thread that lives through both.
pub(super) fn two_recordings(given: &Given) {
    let turn = Arc::new(Barrier::new(2));
    let thread = {
        let turn = Arc::clone(&turn);
        BareThread::start("lives-on", move || {
            for base in [71_000, 72_000] {
                turn.wait();
                trail(base, 100);
                turn.wait();
            }
        })
    };
    let path = |key| given.text(key).expect("a file");
    let first = Recording::builder().output(path("first")).start().expect("a recording");
    trail(68_000, 100);
    turn.wait();
    turn.wait();
    let second = Recording::builder().output(path("second"));
    assert!(matches!(second.start(), Err(StartError::AlreadyRecording)));
    assert_eq!(first.stop().to_str(), Some(path("first")));
    assert!(!is_recording());
    trail(69_000, 100);
    let second = Recording::builder().output(path("second")).start().expect("a second recording");
    trail(70_000, 100);
    turn.wait();
    turn.wait();
    assert_eq!(second.path().to_str(), Some(path("second")));
    drop(second);
    thread.join();
}

/// Asks for a recording that cannot be made, and says why.
pub(super) fn refused(given: &Given) {
    let builder = given.builder().expect("a file");
    let error = builder.start().expect_err("no recording");
    assert!(!is_recording());
    let source = std::error::Error::source(&error).map(ToString::to_string);
    println!("{error}: {}", source.unwrap_or_default());
    trail(65_000, 100);
}

/// Asks for another recording ten times while one runs, each with a path of 1,021 bytes.
pub(super) fn started_again(_given: &Given) {
    assert!(is_recording());
    for _ in 0..10 {
        let second = Recording::builder().output("x".repeat(1_021));
        assert!(matches!(second.start(), Err(StartError::AlreadyRecording)));
    }
}

/// Makes and frees blocks of 65,000 bytes until the recording has ended for want of room, and as many
/// again; says how many were made while it ran. No file may become longer than `bytes`.
pub(super) fn full_disk(given: &Given) {
    os::limit_file_bytes(given.number("bytes").expect("a limit") as u64);
    let recording = given.start();
    let mut made = 0;
    while is_recording() {
        trail(65_000, 1);
        made += 1;
    }
    trail(65_000, made);
    println!("{made}");
    drop(recording);
}
