//! The thread that gives memory back in the background: what it may do, and that it can be done without.
//! Each case is a process of its own with a time limit.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use alloc_core::CoreAlloc;

mod process;

use process::succeed;

#[global_allocator]
static HEAP: CoreAlloc = CoreAlloc::new();

/// A user that is nobody's in particular.
const USER: u32 = 4711;

/// What the kernel says of a thread under this name.
fn field(status: &str, name: &str) -> String {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| *found == name).expect("the kernel tells").1.trim().to_owned()
}

/// What the kernel says of all threads, and of the heap's.
fn threads() -> (Vec<String>, Option<String>) {
    let tasks = fs::read_dir("/proc/self/task").expect("this process's threads");
    // One that ends meanwhile has none.
    let all: Vec<_> = tasks
        .filter_map(|task| fs::read_to_string(task.expect("a thread").path().join("status")).ok())
        .collect();
    let helper = all.iter().find(|status| field(status, "Name") == "heap purge").cloned();
    (all, helper)
}

/// Frees so much that the heap starts its thread.
fn give_it_work() {
    drop(black_box(vec![1u8; 3 << 20]));
    let blocks: Vec<_> = (0..16).map(|_| vec![1u8; 1 << 20]).collect();
    drop(black_box(blocks));
}

/// Sees to it that the heap's thread runs.
fn helper() -> String {
    loop {
        give_it_work();
        if let Some(helper) = threads().1 {
            return helper;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_has_no_privileges() {
    succeed("it_has_no_privileges", || {
        let own = || fs::read_to_string("/proc/thread-self/status").expect("this thread's");
        let before = field(&own(), "CapEff");
        while field(&helper(), "NoNewPrivs") != "1" {
            thread::sleep(Duration::from_millis(1));
        }
        let helper = helper();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(&helper, set), 16), Ok(0), "{helper}");
        }
        assert_eq!(field(&own(), "CapEff"), before, "the program lost its own");
    });
}

#[test]
fn what_must_not_find_it_does_not() {
    succeed("what_must_not_find_it_does_not", || {
        let own = threads().0.len();
        for _ in 0..200 {
            helper();
            let (all, helper) = HEAP.without_background_thread(|| {
                give_it_work();
                threads()
            });
            assert_eq!((all.len(), helper), (own, None));
        }
        // And it may come back.
        helper();
        HEAP.purge_in_background(false);
        give_it_work();
        assert_eq!(threads().1, None);
        HEAP.purge_in_background(true);
        helper();
    });
}

#[test]
fn it_comes_back_after_a_panic_in_what_must_not_find_it() {
    succeed("it_comes_back_after_a_panic_in_what_must_not_find_it", || {
        let operation = || HEAP.without_background_thread(|| panic!("in the middle of it"));
        assert!(std::panic::catch_unwind(operation).is_err());
        helper();
    });
}

#[test]
fn it_does_not_stay_when_the_process_becomes_another_users() {
    // SAFETY: has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED, not tested: only root can become another user");
        return;
    }
    succeed("it_does_not_stay_when_the_process_becomes_another_users", || {
        helper();
        // SAFETY: has no preconditions.
        assert_eq!(unsafe { libc::setresuid(USER, USER, USER) }, 0);
        let user = [USER; 4].map(|user| user.to_string()).join("\t");
        let is_one = || {
            give_it_work();
            let (all, helper) = threads();
            helper.is_some() && all.iter().all(|status| field(status, "Uid") == user)
        };
        while !is_one() {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_user_namespace_can_be_entered() {
    succeed("a_user_namespace_can_be_entered", || {
        helper();
        // A process of two threads is refused, whatever the heap does.
        // SAFETY: the child does not touch what other threads of its parent's may have held.
        let child = unsafe { libc::fork() };
        if child == 0 {
            helper();
            // SAFETY: has no preconditions.
            let enter = || unsafe { libc::unshare(libc::CLONE_NEWUSER) };
            let is_refused = enter() != 0;
            let refusal = std::io::Error::last_os_error().raw_os_error();
            let is_entered = HEAP.without_background_thread(enter) == 0;
            // Some systems allow it to nobody.
            let is_forbidden = !is_entered && refusal != Some(libc::EINVAL);
            let is_right = is_forbidden || (is_refused && is_entered);
            // SAFETY: ends the child.
            unsafe { libc::_exit(if is_right { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    });
}
