//! A recording that keeps its last part: what is known of what was before, whatever ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use alloc_trace_format::{EndReason, Event, EventKind, NodeId, Record, Recording, Stamp, ThreadId};
use tempfile::TempDir;

use crate::hostile::Mounted;
use crate::program::{
    Finished, OVER_CORE, OVER_SYSTEM, Watchdog, alloc_trace, kill, recorded, run, scenario,
};

/// Little is kept, and what is written is long: so that a test need not record for long.
const LIMIT: u64 = 9 << 20;
pub(crate) const RING: &str = ",ring,limit=9M,window=1M,compress=off";

/// What a ring's recording says.
pub(crate) struct Kept {
    pub(crate) horizon: Option<Stamp>,
    /// The events behind the horizon, and how many frees among them were of no block that is known.
    pub(crate) later: Vec<Event>,
    pub(crate) strangers: u64,
    /// What is live in the end.
    pub(crate) live: BTreeMap<u64, Event>,
    threads: BTreeSet<ThreadId>,
    names: BTreeSet<String>,
    nodes: BTreeMap<NodeId, (NodeId, u64)>,
    end: Option<EndReason>,
}

impl Kept {
    /// Reads a recording, in which no address may be live twice, and nothing damaged.
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let recording = Recording::open(path).expect("a recording");
        assert!(recording.skipped().iter().all(|part| part.truncated), "{:?}", recording.skipped());
        let mut kept = Self {
            horizon: recording.horizon(),
            later: Vec::new(),
            strangers: 0,
            live: BTreeMap::new(),
            threads: BTreeSet::new(),
            names: BTreeSet::new(),
            nodes: BTreeMap::new(),
            end: None,
        };
        let mut definitions = recording.definitions();
        while let Some(record) = definitions.next_record().expect("readable") {
            match record {
                Record::Node(node) => {
                    kept.nodes.insert(node.id, (node.parent, node.address));
                }
                Record::ThreadStart(start) => {
                    kept.threads.insert(start.thread);
                    kept.names.insert(start.name.into());
                }
                Record::End { reason, .. } => kept.end = Some(reason),
                _ => {}
            }
        }
        let mut merged = recording.merged();
        let mut last = 0;
        while let Some(record) = merged.next_record().expect("readable") {
            if let Record::Event(event) = record {
                assert!(event.stamp >= last || event.kind == EventKind::Realloc, "{event:?}");
                last = last.max(event.begin_stamp);
                kept.take(event);
            }
        }
        assert_eq!(merged.skipped(), []);
        assert_eq!(definitions.skipped(), []);
        kept
    }

    #[track_caller]
    fn take(&mut self, event: Event) {
        if self.horizon.is_none_or(|horizon| event.stamp > horizon) {
            self.later.push(event);
        }
        if event.failed {
            return;
        }
        let (left, size) = match event.kind {
            EventKind::Free => (event.address, event.size),
            EventKind::Realloc => (event.old_address, event.old_size),
            _ => (0, 0),
        };
        if left != 0 {
            match self.live.remove(&left) {
                Some(block) => assert_eq!(block.size, size, "{block:?} {event:?}"),
                None => self.strangers += 1,
            }
        }
        if event.kind != EventKind::Free {
            let other = self.live.insert(event.address, event);
            assert_eq!(other, None, "live twice: {event:?}");
        }
    }

    /// Every block that is live and every later event has a whole backtrace and a known thread.
    #[track_caller]
    pub(crate) fn assert_defined(&self) {
        for event in self.later.iter().chain(self.live.values()) {
            assert!(self.threads.contains(&event.thread), "{event:?}");
            let mut next = event.node;
            let mut frames = 0;
            while !next.is_root() {
                let found = self.nodes.get(&next);
                let &(parent, _) = found.unwrap_or_else(|| panic!("{next:?} of {event:?}"));
                next = parent;
                frames += 1;
                assert!(frames <= 128);
            }
            assert!(frames > 0, "{event:?}");
        }
    }

    /// Number, bytes, and the sum of the squares of the sizes of the live blocks aligned to 32.
    fn figures(&self) -> [u64; 3] {
        let blocks = self.live.values().filter(|event| event.align() == 32);
        blocks.fold([0; 3], |[count, bytes, squares], event| {
            [count + 1, bytes + event.size, squares + event.size * event.size]
        })
    }

    /// How many live blocks each call site has, by its first frames.
    fn by_depth(&self) -> BTreeMap<usize, (u64, u64)> {
        let mut sites = BTreeMap::new();
        for event in self.live.values().filter(|event| event.align() == 32) {
            let (mut depth, mut next) = (0, event.node);
            while let Some(&(parent, _)) = self.nodes.get(&next) {
                (depth, next) = (depth + 1, parent);
            }
            let (count, bytes) = sites.entry(depth).or_insert((0, 0));
            *count += 1;
            *bytes += event.size;
        }
        sites
    }
}

#[track_caller]
fn assert_kept(finished: &Finished, path: &Path) -> Kept {
    let kept = Kept::read(path);
    assert!(kept.horizon.is_some(), "a test of nothing");
    kept.assert_defined();
    assert_eq!(kept.strangers, 0);
    assert_eq!(finished.numbers(), kept.figures());
    let length = path.metadata().expect("there").len();
    assert!(length <= LIMIT, "{length}");
    kept
}

#[test]
fn what_is_live_is_known_with_its_call_sites_when_its_requests_were_written_over() {
    let directory = TempDir::new().expect("a directory");
    let (ring, whole) = (directory.path().join("ring"), directory.path().join("whole"));
    let arguments = ["ring", "steps=500000", "live=5000", "keep=1000"];
    for program in [OVER_CORE, OVER_SYSTEM] {
        let finished = run(&mut recorded(program, &arguments, &ring, RING)).quiet();
        let kept = assert_kept(&finished, &ring);
        let of_whole = run(&mut recorded(program, &arguments, &whole, "")).quiet();
        assert_eq!(of_whole.numbers(), finished.numbers(), "the program does the same each time");
        let all = Kept::read(&whole);
        assert_eq!(kept.by_depth(), all.by_depth());
        let counts = (kept.later.len(), all.later.len());
        assert!(counts.0 < counts.1 && counts.0 > 100_000, "{counts:?}");
        let shape = |event: &Event| (event.kind, event.size, event.align_log2, event.thread);
        let last = all.later.len() - kept.later.len();
        // The threads' and the recorder's own requests are the same, to the last event.
        let expected = all.later[last..].iter().map(shape);
        assert!(kept.later.iter().map(shape).eq(expected), "the last events are the last events");
    }
}

/// What a gzipped file has.
#[track_caller]
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let gzip = gzip.as_mut().expect("gzip");
    let mut input = gzip.stdin.take().expect("a pipe");
    let bytes = bytes.to_owned();
    let writer = thread::spawn(move || input.write_all(&bytes).expect("read"));
    let mut unpacked = Vec::new();
    gzip.stdout.take().expect("a pipe").read_to_end(&mut unpacked).expect("readable");
    writer.join().expect("no panic");
    assert!(gzip.wait().expect("its end").success());
    unpacked
}

#[test]
fn every_command_says_what_is_unknown_and_no_limit_on_it_is_kept() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut recorded(OVER_CORE, &["ring", "steps=250000"], &path, RING)).quiet();
    let horizon = "the recording kept what happened after";
    let ask = |arguments: &[&str]| run(alloc_trace().args(arguments).arg(&path));
    for command in ["report", "leaks", "advise", "tree", "events", "timeline"] {
        let finished = ask(&[command, "--no-symbols"]).success();
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains(horizon), "{command}: {said}");
    }
    // What is drawn, and what is written for another program, tells it to whoever has no more than that.
    let read = |arguments: &[&str]| {
        let file = directory.path().join("written");
        let file = file.to_str().expect("text");
        ask(&[arguments, &["--no-symbols", "-o", file]].concat()).success();
        let bytes = std::fs::read(file).expect("written");
        if bytes.starts_with(&[0x1f, 0x8b]) { unpacked(&bytes) } else { bytes }
    };
    let unknown = "unknown, but for what was live then";
    let files = ["pprof", "dhat", "firefox", "speedscope", "perfetto", "collapsed"];
    let exports = files.map(|format| vec!["export", "--format", format, "--max-blocks=9999999"]);
    for arguments in [vec!["flame"], vec!["timeline"]].into_iter().chain(exports) {
        let bytes = read(&arguments);
        let text = String::from_utf8_lossy(&bytes);
        let marked = if arguments.contains(&"pprof") { horizon } else { unknown };
        assert!(text.contains(marked), "{arguments:?}");
    }
    let rows = read(&["export", "--format", "csv"]);
    let rows = String::from_utf8(rows).expect("text");
    let of_kind =
        |kind: &str| rows.lines().filter(|row| row.split(',').nth(3) == Some(kind)).count();
    assert!(of_kind("unknown") >= 100 && of_kind("alloc") > 1_000, "{}", of_kind("unknown"));
    for command in ["report", "leaks", "advise"] {
        let said = ask(&[command, "--no-symbols", "--json"]).success().stdout;
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert!(said["horizon_ns"].as_u64().is_some_and(|horizon| horizon > 0), "{command}");
        assert_eq!(said["complete"], false);
    }
    let leaks: serde_json::Value =
        serde_json::from_str(&ask(&["report", "--json", "--no-symbols"]).stdout).expect("JSON");
    let leaked = leaks["live_bytes_at_end"].as_u64().expect("a number");
    let [enough, less] = [leaked, leaked - 1].map(|bytes| bytes.to_string());
    // What is live in the end is known, the most that ever was is not.
    let check = |leaked: &str| ask(&["check", "--no-symbols", "--max-leaked", leaked]);
    check(&enough).success();
    assert_eq!(check(&less).status.code(), Some(1));
    let finished = ask(&["check", "--max-peak", "1GiB"]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.contains(horizon), "{}", finished.stdout);
    ask(&["check", "--max-peak", "1GiB", "--allow-incomplete"]).success();
}

#[test]
fn threads_free_each_others_blocks_and_no_file_is_longer_than_its_limit() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    for (threads, options) in [("threads=4", RING), ("threads=24", RING)] {
        let steps = if threads == "threads=4" { "steps=150000" } else { "steps=25000" };
        let arguments = ["ring", threads, steps, "live=4000"];
        let mut command = recorded(OVER_CORE, &arguments, &path, options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let watchdog = Watchdog::of(&child);
        let waiter = thread::spawn(move || child.wait_with_output().expect("its end"));
        let mut most = 0;
        while !waiter.is_finished() {
            if let Ok(metadata) = path.metadata() {
                most = most.max(metadata.blocks() * 512).max(metadata.len());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let output = waiter.join().expect("no panic");
        assert!(!watchdog.barked(), "{threads}: it did not end in time");
        assert!(output.status.success() && output.stderr.is_empty(), "{threads}: {output:?}");
        assert!(most > LIMIT / 2 && most <= LIMIT, "{most}");
        let stdout = String::from_utf8(output.stdout).expect("text");
        let (pid, stderr) = (0, String::new());
        assert_kept(&Finished { status: output.status, pid, stdout, stderr }, &path);
    }
}

#[test]
fn a_ring_takes_every_thread_although_their_part_of_the_window_is_beyond_its_limit() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["ring", "threads=600", "steps=1000", "live=4000"];
    let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).quiet();
    let kept = Kept::read(&path);
    assert!(kept.horizon.is_some(), "a test of nothing");
    kept.assert_defined();
    assert_eq!((finished.numbers(), kept.strangers), (kept.figures().to_vec(), 0));
    let length = path.metadata().expect("there").len();
    assert!(length > LIMIT && length <= LIMIT + (3 << 20), "{length}");
}

#[test]
fn a_killed_process_leaves_a_ring_that_is_whole() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let mut written_over = 0;
    for round in 0..12 {
        let _ = std::fs::remove_file(&path);
        let arguments = ["ring", "threads=3", "live=3000"];
        let mut command = recorded(OVER_CORE, &arguments, &path, RING);
        let mut child = command.stdout(Stdio::null()).spawn().expect("starts");
        // From the first checkpoint on, and twice while everything is kept.
        for _ in 0..3_000 {
            let mut commits = [0; 128];
            let begun = std::fs::File::open(&path)
                .and_then(|file| file.read_exact_at(&mut commits, 128))
                .is_ok_and(|()| commits != [0; 128]);
            let exists = path.metadata().is_ok_and(|metadata| metadata.len() > 2 << 20);
            if begun || round < 2 && exists {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(round * 83));
        kill(child.id());
        child.wait().expect("its end");
        let kept = Kept::read(&path);
        kept.assert_defined();
        assert_eq!(kept.strangers, 0, "round {round}");
        let [count, ..] = kept.figures();
        // One block of each thread may just be between its free and its successor.
        assert!((2_997..=3_003).contains(&count), "round {round}: {count}");
        written_over += u64::from(kept.horizon.is_some());
    }
    assert!(written_over > 4, "{written_over}");
}

#[test]
fn a_thread_that_sleeps_keeps_its_blocks_and_they_their_backtraces() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["ring_idle", "steps=500000"];
    let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).quiet();
    let kept = Kept::read(&path);
    assert!(kept.horizon.is_some(), "a test of nothing");
    kept.assert_defined();
    assert_eq!(kept.strangers, 0);
    let left = kept.live.values().filter(|event| event.align() == 32).count() as u64;
    assert_eq!(finished.numbers(), [left]);
    assert!(kept.names.contains("idle"));
}

#[test]
fn threads_that_ask_for_snapshots_while_their_chunks_are_full_do_not_wait_for_each_others_rooms() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["ring_snapshots", "threads=6", "snapshots=3000"];
    let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).quiet();
    assert_eq!(finished.numbers(), [18_000]);
    assert_eq!(Kept::read(&path).end, Some(EndReason::Exited));
}

#[test]
fn a_thread_is_in_the_spans_that_it_entered_before_the_horizon() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    run(&mut recorded(OVER_CORE, &["ring_spans"], &path, RING)).quiet();
    let kept = Kept::read(&path);
    assert!(kept.horizon.is_some(), "a test of nothing");
    let expected = [("66666", vec!["outer", "inner"]), ("77777", vec!["outer"]), ("88888", vec![])];
    for (size, spans) in expected {
        let mut command = alloc_trace();
        command.args(["events", "--json", "--no-symbols", "--size", size]).arg(&path);
        let said = run(&mut command).success().stdout;
        let events: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(events.len(), 2, "{said}");
        for event in events {
            let path = event["span_path"].as_array().cloned().unwrap_or_default();
            assert_eq!(path, spans, "{size}");
        }
    }
}

#[test]
fn a_forked_child_has_a_ring_of_its_own() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["ring", "steps=230000", "live=2000", "fork=1"];
    let finished = run(&mut recorded(OVER_SYSTEM, &arguments, &path, RING)).quiet();
    let files = directory.path().read_dir().expect("there").map(|entry| entry.expect("one").path());
    let mut horizons = 0;
    for file in files {
        let kept = Kept::read(&file);
        kept.assert_defined();
        horizons += u64::from(kept.horizon.is_some());
        let said: Vec<Vec<u64>> = finished
            .stdout
            .lines()
            .map(|line| line.split(' ').map(|word| word.parse().expect("a number")).collect())
            .collect();
        if file == path {
            assert_eq!(kept.strangers, 0);
            assert!(said.contains(&kept.figures().to_vec()), "{said:?} {:?}", kept.figures());
        } else {
            assert!(kept.strangers > 0, "its first blocks are its parent's");
        }
    }
    assert_eq!(horizons, 2);
}

#[test]
fn more_live_blocks_than_a_checkpoint_takes_end_the_recording_and_not_the_program() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let arguments = ["ring", "steps=300000", "live=100000", "keep=1000"];
    let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).success();
    let [complaint] = finished.complaints().try_into().expect("one complaint");
    assert!(complaint.contains("the recording ends here"), "{complaint}");
    assert_eq!(Kept::read(&path).strangers, 0);
    // With room it does not.
    let finished =
        run(&mut recorded(OVER_CORE, &arguments, &path, ",ring,limit=32M,compress=off")).quiet();
    let kept = Kept::read(&path);
    kept.assert_defined();
    assert_eq!((finished.numbers(), kept.strangers), (kept.figures().to_vec(), 0));
}

#[test]
fn a_ring_that_is_too_small_is_refused_and_one_of_the_builder_is_kept() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("recording");
    let mut command = recorded(OVER_SYSTEM, &["nothing"], &path, ",ring,limit=2M");
    let finished = run(&mut command).success();
    assert_eq!(finished.stdout.trim(), "not recorded");
    assert_eq!(finished.complaints().len(), 1, "{}", finished.stderr);
    assert!(!path.exists());
    let record = format!("record={}", path.display());
    let arguments = ["ring", "steps=400000", &record];
    let finished = run(&mut scenario(OVER_SYSTEM, &arguments)).quiet();
    let kept = Kept::read(&path);
    kept.assert_defined();
    let blocks = kept.live.values().filter(|event| event.align() == 32);
    assert_eq!(blocks.count() as u64, finished.numbers()[0]);
}

/// The program makes the same requests whether recorded or not, so until its end no block is unknown.
#[track_caller]
fn assert_ended(finished: &Finished, path: &Path, why: &str) -> Kept {
    let said = finished.complaints();
    assert!(said.len() == 1 && said[0].ends_with(why), "{said:?}");
    let kept = Kept::read(path);
    kept.assert_defined();
    assert_eq!((kept.strangers, kept.end), (0, Some(EndReason::WriteFailed)));
    // The block of the last step may just have been freed.
    let [count, ..] = kept.figures();
    assert!((1_999..=2_000).contains(&count), "{count}");
    kept
}

/// Lengths of a file at which the ring of a limit of 9 MiB is in its first round: before anything is
/// carried on, in the first checkpoint or beside it, and behind it.
const SHORT: [u64; 3] = [3 << 20, 6_600 << 10, 7_500 << 10];

#[test]
fn a_file_size_limit_ends_a_ring_with_its_reason_and_the_program_runs_on() {
    let directory = TempDir::new().expect("a directory");
    let mut horizons = BTreeSet::new();
    for bytes in SHORT {
        let path = directory.path().join("recording");
        let limit = format!("file_bytes={bytes}");
        let arguments = ["ring", "steps=250000", "live=2000", &limit];
        let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).success();
        assert_eq!(finished.numbers()[0], 2_000);
        let kept = assert_ended(&finished, &path, "file too large for the limit set");
        assert!(path.metadata().expect("there").len() <= bytes);
        horizons.insert(kept.horizon.is_some());
    }
    assert_eq!(horizons.len(), 2, "with nothing written over, and with something");
}

#[test]
fn a_full_file_system_ends_a_ring_with_its_reason_and_the_program_runs_on() {
    let mut horizons = BTreeSet::new();
    for bytes in SHORT {
        let Some(mounted) = Mounted::new(bytes) else { return };
        let path = mounted.path().join("recording");
        let arguments = ["ring", "steps=250000", "live=2000"];
        let finished = run(&mut recorded(OVER_CORE, &arguments, &path, RING)).success();
        assert_eq!(finished.numbers()[0], 2_000);
        let kept = assert_ended(&finished, &path, "no space left");
        horizons.insert(kept.horizon.is_some());
    }
    assert_eq!(horizons.len(), 2, "with nothing written over, and with something");
}
