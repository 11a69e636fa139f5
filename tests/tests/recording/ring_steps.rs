//! A process that is killed at any step of making room in a ring: its file is whole at each, and has every
//! event behind its horizon that was acknowledged, and what is live.
//!
//! As for a chunk that is moved to the log ([`crate::drain`]), the program is run step by step and the file
//! looked at as it is then.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alloc_trace_format::EventKind;
use tempfile::TempDir;
use tests::steps::{replaced, size};

use crate::program::{OVER_SYSTEM, recorded};
use crate::ring::{Kept, RING};
use crate::stepped::Stepped;

/// How many times room is made.
const COMMITS: usize = 3;
/// How many different files before a commit, and behind it, are looked at.
const BEFORE: usize = 7;
const BEHIND: usize = 4;
/// Instructions to be followed behind a commit.
const INSTRUCTIONS: usize = 20_000;
const PAGE: usize = 4096;

/// A file as it was when so many steps were acknowledged.
#[derive(Clone)]
struct Image {
    bytes: Vec<u8>,
    acknowledged: u64,
}

struct Watched {
    recording: File,
    acknowledged: File,
    copy: PathBuf,
    copies: usize,
    horizons: BTreeSet<Option<u64>>,
}

impl Watched {
    fn acknowledged(&self) -> u64 {
        let mut number = [0; 8];
        self.acknowledged.read_exact_at(&mut number, 0).expect("a number");
        u64::from_le_bytes(number)
    }

    fn image(&self) -> Image {
        let length = self.recording.metadata().expect("a file").len();
        let mut bytes = vec![0; length as usize];
        self.recording.read_exact_at(&mut bytes, 0).expect("readable");
        Image { bytes, acknowledged: self.acknowledged() }
    }

    #[track_caller]
    fn look_at(&mut self, bytes: &[u8], acknowledged: u64) {
        fs::write(&self.copy, bytes).expect("a copy");
        let kept = Kept::read(&self.copy);
        kept.assert_defined();
        assert_eq!(kept.strangers, 0);
        let found: BTreeSet<u64> = kept
            .live
            .values()
            .filter(|event| event.align() == 32)
            .map(|event| event.size)
            .collect();
        // What the next step does may have been written, or a part of it.
        let mut series: Vec<(EventKind, u64)> = Vec::new();
        let mut live = BTreeSet::new();
        let mut whole = None;
        for number in 0..=acknowledged {
            let freed = replaced(number).map(|old| (EventKind::Free, size(old)));
            for (kind, size) in freed.into_iter().chain([(EventKind::Alloc, size(number))]) {
                if number == acknowledged && live == found {
                    whole = whole.or(Some(series.len()));
                }
                series.push((kind, size));
                if kind == EventKind::Free {
                    live.remove(&size)
                } else {
                    live.insert(size)
                };
            }
        }
        if live == found {
            whole = whole.or(Some(series.len()));
        }
        let whole = whole.unwrap_or_else(|| panic!("{found:?} at {acknowledged}"));
        let later: Vec<_> = kept.later.iter().filter(|event| event.align() == 32).collect();
        let first = whole - later.len();
        assert!(kept.horizon.is_some() || first == 0, "{first} of {whole} are missing");
        for (event, &expected) in later.iter().zip(&series[first..whole]) {
            assert_eq!((event.kind, event.size), expected, "{acknowledged}");
        }
        self.horizons.insert(kept.horizon);
        self.copies += 1;
    }

    /// Looks at a file, and at what is there while the kernel writes it page by page.
    #[track_caller]
    fn look_at_write(&mut self, before: &Image, behind: &Image) {
        let [old, new] = [&before.bytes, &behind.bytes];
        let differs =
            |&at: &usize| old.get(at..(at + PAGE).min(old.len())) != new.get(at..at + PAGE);
        let pages: Vec<usize> = (0..new.len()).step_by(PAGE).filter(differs).collect();
        let begin = pages.first().copied().unwrap_or(0);
        // The window is written by the program, and not at once.
        if begin > 1 << 20 && new.len() >= old.len() && before.acknowledged == behind.acknowledged {
            for &page in pages.iter().skip(1) {
                let rest = old.get(page..).unwrap_or_default();
                self.look_at(&[&new[..page], rest].concat(), behind.acknowledged);
            }
        }
        self.look_at(new, behind.acknowledged);
    }
}

/// Answers how many files were looked at and how many horizons they had; `None` where no program can be
/// run by steps.
fn follow(directory: &Path) -> Option<(usize, usize)> {
    let [recording, acknowledged, copy] =
        ["recording", "acknowledged", "copy"].map(|name| directory.join(name));
    fs::write(&acknowledged, [0; 8]).expect("a file");
    let argument = format!("file={}", acknowledged.display());
    let mut command = recorded(OVER_SYSTEM, &["ring_acknowledged", &argument], &recording, RING);
    let mut program = Stepped::start(&mut command)?;
    while recording.metadata().map_or(0, |file| file.len()) < 6 << 20 {
        assert!(program.to_system_call());
    }
    let acknowledged = File::open(&acknowledged).expect("readable");
    let recording = File::open(&recording).expect("readable");
    let (copies, horizons) = (0, BTreeSet::new());
    let mut watched = Watched { recording, acknowledged, copy, copies, horizons };
    let mut images = VecDeque::from([watched.image()]);
    let mut scratch = Vec::new();
    let (mut commits, mut behind, mut next, mut segment) = (0, 0, 0, 0);
    while commits < COMMITS || behind > 0 {
        assert!(program.to_system_call());
        if behind == 0 && watched.acknowledged() < next {
            images = VecDeque::new();
            continue;
        }
        let length = watched.recording.metadata().expect("a file").len() as usize;
        scratch.resize(length, 0);
        watched.recording.read_exact_at(&mut scratch, 0).expect("readable");
        if images.back().is_some_and(|last| last.bytes == scratch) {
            continue;
        }
        let image = Image { bytes: scratch.clone(), acknowledged: watched.acknowledged() };
        let Some(last) = images.back().cloned() else {
            images.push_back(image);
            continue;
        };
        let committed = image.bytes[128..256] != last.bytes[128..256];
        if committed {
            for index in 1..images.len() {
                watched.look_at_write(&images[index - 1].clone(), &images[index].clone());
            }
            (commits, behind) = (commits + 1, BEHIND + 1);
            // The first one comes when six segments are full, the others one segment later each.
            segment = if commits == 1 { image.acknowledged / 6 } else { segment };
            next = image.acknowledged + segment * 9 / 10;
        }
        if behind > 0 {
            watched.look_at_write(&last, &image);
            behind -= 1;
        }
        images.push_back(image);
        if images.len() > BEFORE {
            images.pop_front();
        }
        if committed {
            let mut last = watched.image();
            for step in 0..INSTRUCTIONS {
                assert!(program.to_instruction());
                if step % 4_000 == 0 {
                    let image = watched.image();
                    if image.bytes != last.bytes {
                        watched.look_at(&image.bytes, image.acknowledged);
                        last = image;
                    }
                }
            }
            images = VecDeque::from([watched.image()]);
            program.has_time_again();
        }
    }
    Some((watched.copies, watched.horizons.len()))
}

#[test]
fn a_kill_at_any_step_of_making_room_leaves_a_ring_that_is_whole() {
    let directory = TempDir::new().expect("a directory");
    let Some((copies, horizons)) = follow(directory.path()) else {
        assert!(std::env::var_os("CI").is_none(), "no program can be run step by step");
        eprintln!("SKIPPED: no program can be run step by step");
        return;
    };
    // With everything, and behind each commit.
    assert!(horizons > COMMITS && copies > COMMITS * 10, "{copies} files, {horizons} horizons");
}
