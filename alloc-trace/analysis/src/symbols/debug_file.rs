//! Debug information in a file of its own, where GDB looks for it too: by build id under
//! `/usr/lib/debug`, and by the name that the module links to, or its own with `.debug`, in the module's
//! directory, in `.debug` within that, and in the same directory under `/usr/lib/debug`. Last, and only
//! where that is wanted, debuginfod servers are asked.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::Object;
use object::read::ReadCache;

use super::found::{Found, hexadecimal};

const SYSTEM: &str = "/usr/lib/debug";

/// The file of a module's debug information, if there is one that is sure to belong to it.
pub(super) fn find(module: &Path, found: &Found) -> Option<PathBuf> {
    candidates(module, found).into_iter().find(|path| belongs(path, found))
}

/// Where a file of debug information goes on that has a part in common with others (`dwz` takes that out of the
/// packages of several systems): the name of that file as it is stated, and that file, if it is here and belongs to it.
/// `None` where it is whole.
pub(super) fn shared(path: &Path) -> Option<(Vec<u8>, Option<PathBuf>)> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let object = object::File::parse(&cache).ok()?;
    let (name, build_id) = object.gnu_debugaltlink().ok()??;
    let stated = Path::new(OsStr::from_bytes(name));
    // From where the file really is, whatever led to it.
    let directory = path.canonicalize().ok();
    let beside =
        directory.as_deref().and_then(Path::parent).map(|directory| directory.join(stated));
    let belongs = |path: &PathBuf| {
        Found::examine(path).is_ok_and(|other| !build_id.is_empty() && other.build_id == build_id)
    };
    let found = beside.into_iter().chain(by_build_id(build_id)).find(belongs);
    Some((name.to_owned(), found))
}

/// The program of elfutils that asks the servers of `DEBUGINFOD_URLS`, and keeps what they answer.
const DEBUGINFOD_FIND: &str = "debuginfod-find";

/// Asks debuginfod servers for it.
pub(super) fn download(found: &Found) -> Option<PathBuf> {
    if found.build_id.is_empty() {
        return None;
    }
    let mut command = Command::new(DEBUGINFOD_FIND);
    command.arg("debuginfo").arg(hexadecimal(&found.build_id));
    // Its progress and its errors are for whoever waits at the terminal.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().ok()?;
    let path = output.stdout.trim_ascii_end();
    let answered = output.status.success() && !path.is_empty();
    let path = answered.then(|| PathBuf::from(OsStr::from_bytes(path)))?;
    belongs(&path, found).then_some(path)
}

/// Where the debug information of a build is installed.
fn by_build_id(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let name = format!(".build-id/{first:02x}/{}.debug", hexadecimal(rest));
    Some(Path::new(SYSTEM).join(name))
}

fn candidates(module: &Path, found: &Found) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    paths.extend(by_build_id(&found.build_id));
    let Some(directory) = module.parent() else { return paths };
    let own = module.file_name().map(|name| {
        let mut name = name.to_owned();
        name.push(".debug");
        PathBuf::from(name)
    });
    let link = found.debug_link.as_ref().map(|(name, _)| name.clone());
    for name in link.into_iter().chain(own) {
        // A link is the name of a file, whatever else it says.
        let Some(name) = name.file_name() else { continue };
        paths.push(directory.join(name));
        paths.push(directory.join(".debug").join(name));
        if let Ok(within) = directory.strip_prefix("/") {
            paths.push(Path::new(SYSTEM).join(within).join(name));
        }
    }
    paths.retain(|path| path != module);
    paths
}

/// Whether a file has the module's build id, or the checksum that the module links to.
fn belongs(path: &Path, found: &Found) -> bool {
    if found.build_id.is_empty() {
        let linked = found.debug_link.as_ref().map(|&(_, checksum)| checksum);
        return linked.is_some() && checksum(path).ok() == linked;
    }
    Found::examine(path).is_ok_and(|other| other.build_id == found.build_id)
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
