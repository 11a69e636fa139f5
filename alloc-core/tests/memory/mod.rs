//! How much memory this process has, and may have.
#![allow(dead_code, reason = "not every program asks for all of it")]

/// Bytes of the process's address space that are mapped.
pub(crate) fn mapped_bytes() -> usize {
    statm_bytes(0)
}

/// Bytes of the process that are in memory.
pub(crate) fn resident_bytes() -> usize {
    statm_bytes(1)
}

/// A field of `/proc/self/statm`, which counts in the OS's pages.
fn statm_bytes(field: usize) -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the kernel's figures");
    let pages = statm.split(' ').nth(field).and_then(|pages| pages.parse::<usize>().ok());
    // SAFETY: has no preconditions.
    pages.expect("a number") * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

/// Limits the address space that the process may map, for good.
pub(crate) fn limit_address_space(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the limit is valid for reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}
