//! A filter of system calls, as sandboxes put one on what they run.

use std::ffi::{c_int, c_long};
use std::io;

/// Has the kernel refuse these calls to every thread of this process, for good, with this error.
pub(crate) fn forbid(calls: &[c_long], error: c_int) {
    let statement = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    // The call's number comes first in what the kernel tells.
    let mut steps = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        // To the last step, over the calls that follow and the last but one.
        let ahead = (calls.len() - index) as u8;
        steps.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, ahead, *call as u32));
    }
    let answers = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | error as u32];
    steps.extend(answers.map(|answer| statement(libc::BPF_RET | libc::BPF_K, 0, answer)));
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the process runs no other program.
    let status = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the program is valid for reads, with as many steps as it says.
    let status = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}
