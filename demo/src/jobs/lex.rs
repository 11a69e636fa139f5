//! The job on real input: the tokens of every Rust source under a directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind};

use rustix::fs::{Mode, OFlags};

use super::{Answer, Bound, Input, JobError};
use crate::source_files::SourceFile;
use crate::stack_lexer::{self, BUFFER_BYTES, LexedSource, NESTING_MAX, StackLexError};
use crate::token_counts::{IDENTIFIER_MAX_BYTES, LexedFiles};
use crate::token_trees;

job! {
    /// A whole program's work can be done in one fixed buffer that data streams through, where the
    /// usual way copies each file into a String, the String into a tree, and each name into a
    /// String again.
    "lex", stack_only, heap_heavy
}

const NESTING: Bound = Bound { what: "groups nested deeper than", limit: NESTING_MAX };

const IDENTIFIER: Bound =
    Bound { what: "an identifier of more bytes than", limit: IDENTIFIER_MAX_BYTES };

/// Reads each file through one buffer in this frame. See [`stack_lexer`]. All frames together take
/// less than 64 KiB.
fn stack_only(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut lexed = LexedFiles::default();
    for file in input.files.iter() {
        let path = file.path();
        match open(file)
            .map_err(StackLexError::Read)
            .and_then(|source| stack_lexer::count_tokens(source, &mut buffer))
        {
            Ok(LexedSource { bytes, tokens }) => lexed.add_file(bytes, &tokens),
            Err(StackLexError::Rejected) => lexed.rejected_files += 1,
            Err(StackLexError::Read(error)) => return Err(JobError::Unreadable { path, error }),
            Err(StackLexError::NestingTooDeep) => {
                return Err(JobError::FilePastBound { path, bound: NESTING });
            }
            Err(StackLexError::IdentifierTooLong) => {
                return Err(JobError::FilePastBound { path, bound: IDENTIFIER });
            }
        }
    }
    Ok(Answer::Lexed(lexed))
}

/// Opens a file by the path that the list keeps ready: `File::open` would put a long one on the
/// heap.
fn open(file: SourceFile<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened =
        rustix::io::retry_on_intr(|| rustix::fs::open(file.c_path(), flags, Mode::empty()));
    Ok(File::from(opened?))
}

/// Reads each file whole and walks its token trees. See [`token_trees`].
fn heap_heavy(input: &Input) -> Result<Answer, JobError<'_>> {
    let mut lexed = LexedFiles::default();
    for file in input.files.iter() {
        let path = file.path();
        let source = match fs::read_to_string(path) {
            Ok(source) => source,
            // Not UTF-8: std's own error, without a code of the system's.
            Err(error)
                if error.kind() == ErrorKind::InvalidData && error.raw_os_error().is_none() =>
            {
                lexed.rejected_files += 1;
                continue;
            }
            Err(error) => return Err(JobError::Unreadable { path, error }),
        };
        match token_trees::count_tokens(&source) {
            Ok(Some(tokens)) => lexed.add_file(source.len() as u64, &tokens),
            Ok(None) => lexed.rejected_files += 1,
            Err(_) => return Err(JobError::FilePastBound { path, bound: IDENTIFIER }),
        }
    }
    Ok(Answer::Lexed(lexed))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::Path;

    use super::*;
    use crate::jobs::Way;
    use crate::source_files::SourceFiles;

    fn input(directory: &Path) -> Input {
        Input { files: SourceFiles::under(directory).unwrap(), scale: 0 }
    }

    fn message(way: Way, input: &Input) -> String {
        let error = way(input).unwrap_err();
        match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn rejected_files_are_counted_and_nothing_of_them() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("good.rs"), "fn f() {}").unwrap();
        fs::write(root.path().join("open.rs"), "fn a_longer_name() {").unwrap();
        fs::write(root.path().join("latin1.rs"), b"fn f() {} // \xe9").unwrap();
        let input = input(root.path());
        let answer = stack_only(&input).unwrap();
        assert_eq!(heap_heavy(&input).unwrap(), answer);
        let Answer::Lexed(lexed) = answer else { panic!("{answer}") };
        assert_eq!((lexed.files, lexed.rejected_files, lexed.bytes), (1, 2, 9));
        assert_eq!((lexed.tokens.identifiers, lexed.tokens.tokens()), (2, 4));
        assert_eq!(lexed.tokens.longest_identifier.as_str(), "fn");
    }

    #[test]
    fn a_vanished_file_is_the_same_error_either_way() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("gone.rs");
        fs::write(&path, "").unwrap();
        let input = input(root.path());
        fs::remove_file(&path).unwrap();
        let expected =
            format!("cannot read {}: No such file or directory (os error 2)", path.display());
        assert_eq!(message(stack_only, &input), expected);
        assert_eq!(message(heap_heavy, &input), expected);
    }

    #[test]
    fn a_file_that_became_a_folder_is_the_same_error_either_way() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("folder.rs");
        fs::write(&path, "").unwrap();
        let input = input(root.path());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let expected = format!("cannot read {}: Is a directory (os error 21)", path.display());
        assert_eq!(message(stack_only, &input), expected);
        assert_eq!(message(heap_heavy, &input), expected);
    }

    #[test]
    fn going_past_a_bound_names_the_file_and_the_bound() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep.rs");
        let source = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        fs::write(&path, source(NESTING_MAX)).unwrap();
        let input = input(root.path());
        assert_eq!(stack_only(&input).unwrap(), heap_heavy(&input).unwrap());

        fs::write(&path, source(NESTING_MAX + 1)).unwrap();
        assert_eq!(
            message(stack_only, &input),
            format!(
                "{}: more than there is room for: groups nested deeper than 4096",
                path.display()
            )
        );

        fs::write(&path, "x".repeat(IDENTIFIER_MAX_BYTES)).unwrap();
        assert_eq!(stack_only(&input).unwrap(), heap_heavy(&input).unwrap());

        fs::write(&path, "x".repeat(IDENTIFIER_MAX_BYTES + 1)).unwrap();
        let expected = format!(
            "{}: more than there is room for: an identifier of more bytes than 1024",
            path.display()
        );
        assert_eq!(message(stack_only, &input), expected);
        assert_eq!(message(heap_heavy, &input), expected);
    }

    #[test]
    fn the_stack_only_way_needs_less_than_its_stated_stack() {
        // The frames of a debug build are larger.
        let kibibytes = if cfg!(debug_assertions) { 128 } else { 64 };
        let input = input(Path::new(env!("CARGO_MANIFEST_DIR")));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(kibibytes * 1024);
            let run = || assert!(stack_only(&input).is_ok());
            thread.spawn_scoped(scope, run).unwrap().join().unwrap();
        });
    }

    #[test]
    fn the_heap_heavy_way_reads_brackets_of_any_depth() {
        let depth = 200_000;
        let source = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let counts = token_trees::count_tokens(&source).unwrap().unwrap();
        assert_eq!(counts.deepest_nesting, depth as u64);
    }
}
