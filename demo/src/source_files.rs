//! The list of files to lex, made before either way begins.
//!
//! Responsible for finding them and for keeping their paths in the form that a system call takes,
//! so that the stack-only way can open them as they are. It never opens a file.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The Rust sources under a directory, in the order of their paths' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFiles {
    /// Paths come from the file system and so hold no zero byte.
    paths: Vec<CString>,
}

impl SourceFiles {
    /// Finds every regular file named `*.rs` under `directory`, at any depth.
    ///
    /// Folders named `target` or with a name that begins with a dot are left out, except
    /// `directory` itself. Links are not followed, again except `directory` itself.
    ///
    /// # Errors
    ///
    /// If a directory cannot be read, be it `directory` or one below it, or if there is no such
    /// file.
    pub fn under(directory: impl AsRef<Path>) -> Result<SourceFiles, SourceFilesError> {
        let directory = directory.as_ref();
        let mut paths = Vec::new();
        // A list of folders rather than a recursive call, so that the depth of the tree costs no
        // stack.
        let mut folders = vec![directory.to_owned()];
        while let Some(folder) = folders.pop() {
            let unreadable = |error| SourceFilesError::Unreadable { path: folder.clone(), error };
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let kind = entry.file_type().map_err(unreadable)?;
                if kind.is_dir() {
                    if !is_left_out(&entry.file_name()) {
                        folders.push(entry.path());
                    }
                } else if kind.is_file() {
                    let path = entry.path();
                    if path.extension() == Some(OsStr::new("rs")) {
                        let bytes = path.into_os_string().into_vec();
                        let zero = |error| unreadable(io::Error::from(error));
                        paths.push(CString::new(bytes).map_err(zero)?);
                    }
                }
            }
        }
        if paths.is_empty() {
            return Err(SourceFilesError::NoSources { directory: directory.to_owned() });
        }
        paths.sort();
        Ok(SourceFiles { paths })
    }

    /// How many files there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "a list without files is an error")]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// The files in order. Neither this nor what it gives allocates.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SourceFile<'_>> {
        self.paths.iter().map(|path| SourceFile { path })
    }
}

fn is_left_out(name: &OsStr) -> bool {
    name == "target" || name.as_bytes().starts_with(b".")
}

/// One file of [`SourceFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFile<'f> {
    path: &'f CStr,
}

impl<'f> SourceFile<'f> {
    /// Its path as the standard library takes it.
    pub fn path(self) -> &'f Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Its path as the kernel takes it.
    pub fn c_path(self) -> &'f CStr {
        self.path
    }
}

/// Why there is no list of files.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceFilesError {
    /// A directory could not be read.
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no `*.rs` file.
    NoSources {
        /// Where it was looked for.
        directory: PathBuf,
    },
}

impl fmt::Display for SourceFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceFilesError::Unreadable { path, .. } => {
                write!(f, "cannot read the directory {}", path.display())
            }
            SourceFilesError::NoSources { directory } => {
                write!(f, "no .rs file under {}", directory.display())
            }
        }
    }
}

impl std::error::Error for SourceFilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SourceFilesError::Unreadable { error, .. } => Some(error),
            SourceFilesError::NoSources { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn names(root: &Path) -> Vec<String> {
        let files = SourceFiles::under(root).unwrap();
        let relative = |file: SourceFile<'_>| file.path().strip_prefix(root).unwrap().to_owned();
        files.iter().map(|file| relative(file).display().to_string()).collect()
    }

    #[test]
    fn sources_are_found_in_order_and_the_rest_left_out() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for path in ["z.rs", "a/b/c.rs", "a/target/no.rs", "a/.git/no.rs", "a/no.txt", "rs", "a.rs"]
        {
            write(root, path);
        }
        write(root, "folder.rs/in.rs");
        symlink(root.join("z.rs"), root.join("link.rs")).unwrap();
        symlink(root.join("a"), root.join("linked")).unwrap();
        assert_eq!(names(root), ["a.rs", "a/b/c.rs", "folder.rs/in.rs", "z.rs"]);
    }

    #[test]
    fn the_directory_itself_may_be_hidden_a_target_or_a_link() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), ".target/x.rs");
        symlink(root.path().join(".target"), root.path().join("target")).unwrap();
        assert_eq!(names(&root.path().join("target")), ["x.rs"]);
    }

    #[test]
    fn a_deep_tree_is_walked_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(1500);
        write(root.path(), &format!("{deep}x.rs"));
        assert_eq!(names(root.path()).len(), 1);
    }

    #[test]
    fn a_missing_and_an_empty_directory_are_named() {
        let root = tempfile::tempdir().unwrap();
        let missing = SourceFiles::under(root.path().join("missing")).unwrap_err();
        assert!(missing.to_string().ends_with("/missing"), "{missing}");
        assert!(missing.source().is_some());
        let empty = SourceFiles::under(root.path()).unwrap_err();
        assert_eq!(empty.to_string(), format!("no .rs file under {}", root.path().display()));
    }
}
