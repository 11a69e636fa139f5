//! How the library is linked: it stays when it is closed, and has nothing of Rust's runtime in it.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // `dlclose` leaves it where it is: threads end through it.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    leave_runtime_out()
}

/// No code of this library panics or unwinds, so that nothing refers to the standard library's, of
/// which 300 KiB would be mapped into each process. But rustc has the linker take it in, and lld, the
/// default on x86_64, keeps what tables for unwinding name, whether or not any code needs them. GNU's
/// linker drops it.
///
/// The unwinder that the standard library asks for is dropped with it only where it is a static one;
/// the shared one would be loaded into each process. So what is found under its name is the static one.
fn leave_runtime_out() -> io::Result<()> {
    println!("cargo::rustc-link-arg-cdylib=-fuse-ld=bfd");
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(folder.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    Ok(())
}
