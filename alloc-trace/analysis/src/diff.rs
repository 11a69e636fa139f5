//! Two recordings side by side: what belongs together in them, and how its figures differ.
//!
//! What belongs together is found by name, in steps from exact to vague: a step pairs what only one
//! group of either side goes by. So functions are found again after they moved to other lines or files,
//! files in another checkout or of another version of a crate, threads by their names whatever their
//! numbers. A function without a name goes by its address: that finds it in the same build only. A function's
//! call sites are found again by the order and the distance of their lines ([`lines`]).

mod lines;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::call_site::CallSite;
use crate::figures::Figures;
use crate::grouped::{By, Group, GroupKey, Grouped, Lifetimes};
use crate::measure::Measure;
use crate::recording_state::RecordingState;

/// What two recordings have in groups of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diff {
    /// What the groups are.
    pub by: By,
    /// The first recording.
    pub before: DiffSide,
    /// The second one.
    pub after: DiffSide,
    /// The groups: those of both, of the first only and of the second only, in the order of the
    /// second's groups and then of the first's.
    pub rows: Vec<DiffRow>,
}

/// One of the recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DiffSide {
    /// How far it can be believed.
    #[serde(flatten)]
    pub state: RecordingState,
    /// The figures of its whole program.
    pub total: Figures,
}

/// A group and what either recording has of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DiffRow {
    /// What its events have in common, as the second recording has it where it does.
    #[serde(flatten)]
    pub key: GroupKey,
    /// What the first recording has of it.
    pub before: Option<DiffFigures>,
    /// What the second one has.
    pub after: Option<DiffFigures>,
}

/// What a recording has of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiffFigures {
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// How long its blocks lived.
    pub lifetimes: Lifetimes,
}

impl DiffRow {
    /// How much more of a measure the second recording has.
    #[must_use]
    pub fn change(&self, measure: Measure) -> i128 {
        let value = |side: &Option<DiffFigures>| {
            side.as_ref()
                .map_or(0, |side| i128::try_from(measure.of(&side.figures)).unwrap_or(i128::MAX))
        };
        value(&self.after) - value(&self.before)
    }

    /// How much longer its blocks lived in the second recording on average, in nanoseconds; `None`
    /// where in one of them none was released.
    #[must_use]
    pub fn lifetime_change_ns(&self) -> Option<i128> {
        let mean = |side: &Option<DiffFigures>| {
            let lifetimes = side.as_ref()?.lifetimes;
            (lifetimes.released_blocks > 0).then_some(i128::from(lifetimes.mean_ns))
        };
        Some(mean(&self.after)? - mean(&self.before)?)
    }

    /// Whether both recordings have it, with the same figures but for times.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let figures = |side: &Option<DiffFigures>| {
            side.map(|side| Figures { peak_at_ns: 0, lifetime_ns: 0, ..side.figures })
        };
        figures(&self.before) == figures(&self.after)
    }
}

impl Diff {
    /// Compares two recordings that were grouped by the same thing.
    #[must_use]
    pub fn of(before: Grouped, after: Grouped) -> Self {
        let pairs = pair(&before.groups, &after.groups);
        let mut taken = vec![false; before.groups.len()];
        let figures =
            |group: &Group| DiffFigures { figures: group.figures, lifetimes: group.lifetimes };
        let mut rows: Vec<DiffRow> = Vec::with_capacity(after.groups.len());
        for (group, pair) in after.groups.iter().zip(pairs) {
            let old = pair.and_then(|index| {
                *taken.get_mut(index)? = true;
                before.groups.get(index)
            });
            rows.push(DiffRow {
                key: group.key.clone(),
                before: old.map(figures),
                after: Some(figures(group)),
            });
        }
        for (group, _) in before.groups.iter().zip(taken).filter(|(_, taken)| !taken) {
            rows.push(DiffRow {
                key: group.key.clone(),
                before: Some(figures(group)),
                after: None,
            });
        }
        Self {
            by: after.by,
            before: DiffSide { state: before.state, total: before.total },
            after: DiffSide { state: after.state, total: after.total },
            rows,
        }
    }
}

/// How many steps there are from exact to vague.
const STEPS: usize = 3;

/// For each group of the second recording the index of the first one's that it is.
fn pair(before: &[Group], after: &[Group]) -> Vec<Option<usize>> {
    let mut pairs: Vec<Option<usize>> = vec![None; after.len()];
    let mut taken = vec![false; before.len()];
    for step in 0..STEPS {
        // What goes by each name and has no partner yet, in either recording.
        let mut names: FxHashMap<String, (Vec<usize>, Vec<usize>)> = FxHashMap::default();
        for (index, group) in before.iter().enumerate().filter(|&(index, _)| !taken[index]) {
            if let Some(name) = name(&group.key, step) {
                names.entry(name).or_default().0.push(index);
            }
        }
        for (index, group) in after.iter().enumerate().filter(|&(index, _)| pairs[index].is_none())
        {
            if let Some(name) = name(&group.key, step) {
                names.entry(name).or_default().1.push(index);
            }
        }
        for (mut old, mut new) in names.into_values() {
            // Of several threads with one name the first is the first one's, and call sites of one function
            // are told apart by their lines; elsewhere it is open which of several is meant.
            if (old.len() != 1 || new.len() != 1)
                && let (Some(old_lines), Some(new_lines)) =
                    (lines_of_one(before, &old), lines_of_one(after, &new))
            {
                let lines = |side: &[(u32, usize)]| side.iter().map(|it| it.0).collect::<Vec<_>>();
                let found = lines::pair(&lines(&old_lines), &lines(&new_lines));
                (old, new) = found
                    .iter()
                    .map(|&(one, other)| (old_lines[one].1, new_lines[other].1))
                    .unzip();
            } else if old.len() != 1 || new.len() != 1 {
                let thread = |group: Option<&Group>| match group.map(|group| &group.key) {
                    Some(GroupKey::Thread { thread, .. }) => Some(*thread),
                    _ => None,
                };
                old.retain(|&index| thread(before.get(index)).is_some());
                new.retain(|&index| thread(after.get(index)).is_some());
                old.sort_by_key(|&index| thread(before.get(index)));
                new.sort_by_key(|&index| thread(after.get(index)));
            }
            for (old, new) in old.into_iter().zip(new) {
                taken[old] = true;
                pairs[new] = Some(old);
            }
        }
    }
    pairs
}

/// The lines of call sites, in order, each with its group's index, if all that have one are of one function.
fn lines_of_one(groups: &[Group], indices: &[usize]) -> Option<Vec<(u32, usize)>> {
    let site = |&index: &usize| match &groups.get(index)?.key {
        GroupKey::Site(site) => Some((site, index)),
        _ => None,
    };
    let sites = indices.iter().map(site).collect::<Option<Vec<_>>>()?;
    let (first, _) = sites.first()?;
    let of_one = |(site, _): &(&CallSite, usize)| {
        (&site.function, &site.file) == (&first.function, &first.file)
    };
    sites.iter().all(of_one).then_some(())?;
    let mut lines: Vec<_> =
        sites.iter().filter_map(|(site, index)| Some((site.line?, *index))).collect();
    lines.sort_unstable();
    Some(lines)
}

/// What a group goes by, at one of the steps from exact to vague.
fn name(key: &GroupKey, step: usize) -> Option<String> {
    match (key, step) {
        (GroupKey::Thread { name: Some(name), .. }, 0) => Some(name.to_string()),
        (GroupKey::Thread { thread, name: None }, 0) => Some(format!("{thread}")),
        (GroupKey::Thread { .. }, _) => None,
        (GroupKey::Lifetime { .. } | GroupKey::Size { .. }, 0) => Some(format!("{key:?}")),
        (GroupKey::Lifetime { .. } | GroupKey::Size { .. }, _) => None,
        (GroupKey::Function { function }, 0) => Some(function.to_string()),
        (GroupKey::Function { function }, 1) => nameable(function).map(without_generics),
        // A function that moved to another module keeps its last two names.
        (GroupKey::Function { function }, _) => {
            nameable(function).map(|function| last_names(&without_generics(function)))
        }
        (GroupKey::Site(site), 0) => Some(format!("{} {:?}", site.function, site.file)),
        (GroupKey::Site(site), 1) => nameable(&site.function).map(str::to_owned),
        (GroupKey::Site(site), _) => nameable(&site.function).map(without_generics),
        (GroupKey::File { file }, 0) => Some(file.as_deref().unwrap_or_default().to_owned()),
        (GroupKey::File { file }, 1) => file.as_deref().map(in_crate),
        (GroupKey::File { file }, _) => file.as_deref().map(last_directory),
        (GroupKey::Crate { name }, 0) => Some(name.as_deref().unwrap_or_default().to_owned()),
        (GroupKey::Crate { .. }, _) => None,
        (GroupKey::Span { span, target, fields, .. }, 0) => {
            Some(format!("{span:?} {target:?} {fields:?}"))
        }
        (GroupKey::Span { span, fields, .. }, 1) => Some(format!("{span:?} {fields:?}")),
        (GroupKey::Span { .. }, _) => None,
    }
}

/// A function's name, unless it is made of its address.
fn nameable(function: &str) -> Option<&str> {
    (!function.starts_with('[')).then_some(function)
}

fn without_generics(function: &str) -> String {
    crate::symbols::shorten(function, usize::MAX)
}

fn last_names(function: &str) -> String {
    let mut names = function.rsplitn(3, "::");
    let (last, outer) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    format!("{outer}::{last}")
}

/// A file's path in its crate, whatever the crate's version and wherever crates lie.
fn in_crate(file: &str) -> String {
    let Some((_, path)) = file.split_once("/registry/src/") else {
        // Rust's own sources lie in a directory that is named by a commit.
        let path = file.strip_prefix("/rustc/").and_then(|path| path.split_once('/'));
        return path.map_or(file, |(_, path)| path).to_owned();
    };
    let mut parts = path.splitn(3, '/').skip(1);
    let (krate, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = krate
        .match_indices('-')
        .find(|&(at, _)| krate[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let name = version.map_or(krate, |(at, _)| &krate[..at]);
    format!("{name}/{path}")
}

/// A file's name with the two directories that it is in.
fn last_directory(file: &str) -> String {
    let mut parts: Vec<&str> = file.rsplitn(4, '/').take(3).collect();
    parts.reverse();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(keys: Vec<GroupKey>) -> Vec<Group> {
        let group = |key| Group {
            key,
            figures: Figures::default(),
            runtime_blocks_at_end: 0,
            runtime_bytes_at_end: 0,
            lifetimes: Lifetimes::default(),
        };
        keys.into_iter().map(group).collect()
    }

    fn functions(names: &[&str]) -> Vec<Group> {
        groups(names.iter().map(|&name| GroupKey::Function { function: name.into() }).collect())
    }

    #[test]
    fn functions_are_found_again_after_they_moved() {
        let before =
            functions(&["app::a", "app::Cache<u8>::put", "app::old::Pool::get", "[app+0x10]"]);
        let after = functions(&[
            "app::new::Pool::get",
            "app::Cache<u16>::put",
            "app::a",
            "app::b",
            "[app+0x20]",
        ]);
        assert_eq!(pair(&before, &after), [Some(2), Some(1), Some(0), None, None]);
    }

    #[test]
    fn what_could_be_several_is_none_of_them() {
        let before = functions(&["a::Pool::get", "b::Pool::get"]);
        let after = functions(&["c::Pool::get"]);
        assert_eq!(pair(&before, &after), [None]);
    }

    fn sites(sites: &[(&str, &str, u32)]) -> Vec<Group> {
        let key = |&(function, file, line): &(&str, &str, u32)| {
            GroupKey::Site(CallSite {
                function: function.into(),
                file: Some(file.into()),
                line: (line > 0).then_some(line),
            })
        };
        groups(sites.iter().map(key).collect())
    }

    #[test]
    fn call_sites_of_one_function_are_told_apart() {
        let before =
            sites(&[("app::f", "a.rs", 20), ("app::f", "a.rs", 10), ("app::g", "a.rs", 50)]);
        let moved =
            sites(&[("app::g", "a.rs", 57), ("app::f", "a.rs", 13), ("app::f", "a.rs", 24)]);
        assert_eq!(pair(&before, &moved), [Some(2), Some(1), Some(0)]);
        let one_more =
            sites(&[("app::f", "a.rs", 15), ("app::f", "a.rs", 10), ("app::f", "a.rs", 20)]);
        assert_eq!(pair(&before, &one_more), [None, Some(1), Some(0)]);
        let one_less = sites(&[("app::f", "a.rs", 119)]);
        let found = pair(&before, &one_less);
        assert!(matches!(found.as_slice(), [Some(0 | 1)]), "{found:?}");
    }

    #[test]
    fn call_sites_are_found_in_another_file_and_with_other_generics() {
        let before = sites(&[("a::f<u8>", "/home/a/a.rs", 10), ("a::f<u8>", "/home/a/a.rs", 20)]);
        let after = sites(&[("a::f<u16>", "/ci/a.rs", 21), ("a::f<u16>", "/ci/a.rs", 11)]);
        assert_eq!(pair(&before, &after), [Some(1), Some(0)]);
        // Of two such functions it is open which is which, and what has no lines has no order.
        let two = sites(&[("a::f<u16>", "/ci/a.rs", 21), ("a::f<u32>", "/ci/a.rs", 11)]);
        assert_eq!(pair(&before, &two), [None, None]);
        let without = sites(&[("a::f<u8>", "/home/a/a.rs", 0)]);
        assert_eq!(pair(&before, &without), [None]);
    }

    #[test]
    fn threads_of_one_name_are_paired_in_their_order() {
        let threads = |threads: &[(u32, &str)]| {
            let key = |&(thread, name): &(u32, &str)| GroupKey::Thread {
                thread,
                name: Some(name.into()),
            };
            groups(threads.iter().map(key).collect())
        };
        let before = threads(&[(3, "worker"), (2, "worker"), (1, "main")]);
        let after = threads(&[(5, "worker"), (7, "worker"), (1, "main"), (9, "worker")]);
        assert_eq!(pair(&before, &after), [Some(1), Some(0), Some(2), None]);
    }

    #[test]
    fn files_are_found_in_other_places_and_versions() {
        let files = |files: &[&str]| {
            groups(files.iter().map(|&file| GroupKey::File { file: Some(file.into()) }).collect())
        };
        let before = files(&[
            "/home/a/app/src/main.rs",
            "/root/.cargo/registry/src/index.crates.io-1/serde-json-1.0.1/src/de.rs",
            "/rustc/0123/library/alloc/src/vec.rs",
        ]);
        let after = files(&[
            "/rustc/4567/library/alloc/src/vec.rs",
            "/ci/.cargo/registry/src/index.crates.io-2/serde-json-1.0.2/src/de.rs",
            "/ci/build/app/src/main.rs",
        ]);
        assert_eq!(pair(&before, &after), [Some(2), Some(1), Some(0)]);
    }
}
