//! Which `tracing` span each thread is in, followed through a recording.
//!
//! A thread is in the span that it entered last and has not left. Leaving a span that was entered
//! twice leaves the later entry; leaving one that is not innermost takes it out from between. A
//! span's number can be used again after it closed: entries made before keep their meaning. Fields that are
//! set later a span has from then on, also where it has been entered: what happened before had none of them.

use std::sync::Arc;

use alloc_trace_format::{Span, SpanId};
use rustc_hash::FxHashMap;

/// A span's kind, as the reports tell spans apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpanKind {
    pub(crate) name: Arc<str>,
    pub(crate) target: Arc<str>,
    pub(crate) level: u8,
    /// Where spans are told apart by their fields too.
    pub(crate) fields: Option<Arc<str>>,
}

/// A kind's number in [`Spans::kinds`].
pub(crate) type KindIndex = u32;

/// The span that an event happened in.
#[derive(Debug, Clone)]
pub(crate) struct Entered {
    id: SpanId,
    /// Which span it is, of all that there ever were: from 1 on, and never used again.
    pub(crate) instance: u64,
    pub(crate) kind: KindIndex,
    /// The span and those that it was made in, as a number in the tree of paths.
    pub(crate) path: u32,
    /// The fields that it was made with, and behind them those that were set since.
    pub(crate) fields: Arc<str>,
}

/// A span that has not closed.
#[derive(Debug)]
struct Open {
    span: Entered,
    /// How often it is entered at present.
    entries: usize,
}

/// A path in the tree of paths. Each one's number is greater than that of the path around it.
#[derive(Debug, Clone, Copy)]
struct Path {
    /// The number of the path around it, plus one; 0 for none.
    around: u32,
    kind: KindIndex,
    /// How many spans are around it.
    depth: u32,
    /// Itself, or of its outer paths the one that is the last of [`OUTERMOST`].
    outermost: u32,
}

/// Fields of a span are no longer than this: fields that a program sets again and again would add up.
const MAX_FIELDS_BYTES: usize = 1024;

/// Of a path with more spans than both together only so many of the outermost are named, and so many of
/// the innermost: or what a program writes that enters spans without end would grow with the square.
const OUTERMOST: u32 = 32;
const INNERMOST: u32 = 32;

/// The spans that exist, and those that each thread has entered.
#[derive(Debug)]
pub(crate) struct Spans {
    by_fields: bool,
    kinds: Vec<SpanKind>,
    made: Vec<u64>,
    kind_numbers: FxHashMap<SpanKind, KindIndex>,
    paths: Vec<Path>,
    path_numbers: FxHashMap<(u32, KindIndex), u32>,
    open: FxHashMap<SpanId, Open>,
    /// How many spans there were.
    instances: u64,
    /// What each thread has entered, by the thread's index.
    entered: Vec<Vec<Entered>>,
}

impl Spans {
    /// With `by_fields`, spans of one name and different fields are of different kinds.
    pub(crate) fn new(by_fields: bool, threads: usize) -> Self {
        Self {
            by_fields,
            kinds: Vec::new(),
            made: Vec::new(),
            kind_numbers: FxHashMap::default(),
            paths: Vec::new(),
            path_numbers: FxHashMap::default(),
            open: FxHashMap::default(),
            instances: 0,
            entered: vec![Vec::new(); threads],
        }
    }

    /// A span was made.
    pub(crate) fn make(&mut self, span: &Span) {
        if span.again && self.open.contains_key(&span.id) {
            return;
        }
        let parent =
            span.parent.and_then(|parent| self.open.get(&parent)).map(|open| open.span.path);
        let fields: Arc<str> = Arc::from(&*span.fields);
        self.instances += 1;
        let entered = self.register(
            (span.id, self.instances),
            SpanKind {
                name: Arc::from(&*span.name),
                target: Arc::from(&*span.target),
                level: span.level,
                fields: self.by_fields.then(|| Arc::clone(&fields)),
            },
            parent,
            fields,
        );
        if let Some(made) = self.made.get_mut(entered.kind as usize) {
            *made += 1;
        }
        self.open.insert(span.id, Open { span: entered, entries: 0 });
    }

    /// A thread sets fields of a span, which stand behind those that it has, as far as there is room.
    pub(crate) fn add_fields(&mut self, thread: usize, id: SpanId, added: &str) {
        let Some(Open { span: before, entries }) = self.open.get(&id) else { return };
        let (before, mut entries) = (before.clone(), *entries);
        let fields: Arc<str> = match &*before.fields {
            "" => Arc::from(added),
            _ => Arc::from(format!("{} {added}", before.fields)),
        };
        if fields.len() > MAX_FIELDS_BYTES {
            return;
        }
        let Some(kind) = self.kinds.get(before.kind as usize).cloned() else { return };
        let kind = SpanKind { fields: kind.fields.map(|_| Arc::clone(&fields)), ..kind };
        let after = self.register((id, before.instance), kind, self.around(before.path), fields);
        for (kind, made) in [(before.kind, -1), (after.kind, 1)] {
            if let Some(number) = self.made.get_mut(kind as usize) {
                *number = number.saturating_add_signed(made);
            }
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.span = after.clone();
        }
        // The thread itself is in it nearly always, and then no other one.
        let own = self.entered.get_mut(thread).map(|stack| replace(stack, &before, &after));
        entries = entries.saturating_sub(own.unwrap_or_default());
        for stack in &mut self.entered {
            if entries == 0 {
                return;
            }
            entries = entries.saturating_sub(replace(stack, &before, &after));
        }
    }

    /// A span closed.
    pub(crate) fn close(&mut self, id: SpanId) {
        self.open.remove(&id);
    }

    /// A thread entered a span.
    pub(crate) fn enter(&mut self, thread: usize, id: SpanId) {
        let entered = match self.open.get_mut(&id) {
            Some(open) => {
                open.entries += 1;
                open.span.clone()
            }
            None => {
                // Its record was lost, or recording began after it was made.
                let none: Arc<str> = Arc::from("");
                let kind = SpanKind {
                    name: Arc::from("[unknown span]"),
                    target: Arc::clone(&none),
                    level: 0,
                    fields: self.by_fields.then(|| Arc::clone(&none)),
                };
                self.instances += 1;
                let entered = self.register((id, self.instances), kind, None, none);
                self.open.insert(id, Open { span: entered.clone(), entries: 1 });
                entered
            }
        };
        if let Some(stack) = self.entered.get_mut(thread) {
            stack.push(entered);
        }
    }

    /// A thread left a span; answers what the span was. Of [`SpanId::EVERY`] it left all: the innermost is
    /// answered.
    pub(crate) fn exit(&mut self, thread: usize, id: SpanId) -> Option<Entered> {
        let stack = self.entered.get_mut(thread)?;
        let first = if id == SpanId::EVERY {
            0
        } else {
            stack.iter().rposition(|entered| entered.id == id)?
        };
        let end = if id == SpanId::EVERY { stack.len() } else { first + 1 };
        let mut last = None;
        for left in stack.drain(first..end) {
            if let Some(open) = self.open.get_mut(&left.id) {
                open.entries = open.entries.saturating_sub(1);
            }
            last = Some(left);
        }
        last
    }

    /// The span that has a number at present.
    pub(crate) fn open(&self, id: SpanId) -> Option<&Entered> {
        self.open.get(&id).map(|open| &open.span)
    }

    /// The span that a thread is in.
    #[inline]
    pub(crate) fn current(&self, thread: usize) -> Option<&Entered> {
        self.entered.get(thread)?.last()
    }

    /// The kinds of span met so far.
    pub(crate) fn kinds(&self) -> &[SpanKind] {
        &self.kinds
    }

    /// The kind of the innermost span of a path.
    pub(crate) fn kind_of(&self, path: u32) -> Option<&SpanKind> {
        self.kinds.get(self.paths.get(path as usize)?.kind as usize)
    }

    /// How many spans of a kind were made.
    pub(crate) fn made(&self, kind: KindIndex) -> u64 {
        self.made.get(kind as usize).copied().unwrap_or_default()
    }

    /// The path around a path: its number.
    pub(crate) fn around(&self, path: u32) -> Option<u32> {
        self.paths.get(path as usize)?.around.checked_sub(1)
    }

    /// The names of the spans of a path, outermost first. Of more than 64 the middle ones are one text that
    /// says how many they are, as `[100 more]`.
    pub(crate) fn names(&self, path: u32) -> Vec<Arc<str>> {
        let length = self.paths.get(path as usize).map_or(0, |path| path.depth + 1);
        let left_out = length.saturating_sub(OUTERMOST + INNERMOST);
        let mut names = Vec::new();
        if left_out == 0 {
            names.extend(self.outwards(path));
        } else {
            names.extend(self.outwards(path).take(INNERMOST as usize));
            names.push(Arc::from(format!("[{left_out} more]")));
            names.extend(
                self.paths
                    .get(path as usize)
                    .into_iter()
                    .flat_map(|path| self.outwards(path.outermost)),
            );
        }
        names.reverse();
        names
    }

    /// The names of the spans of a path, innermost first.
    fn outwards(&self, path: u32) -> impl Iterator<Item = Arc<str>> {
        let paths = std::iter::successors(Some(path), |&path| self.around(path));
        paths.filter_map(|path| Some(Arc::clone(&self.kind_of(path)?.name)))
    }

    fn register(
        &mut self,
        (id, instance): (SpanId, u64),
        kind: SpanKind,
        parent: Option<u32>,
        fields: Arc<str>,
    ) -> Entered {
        let kind = match self.kind_numbers.get(&kind) {
            Some(&number) => number,
            None => {
                let number = self.kinds.len() as KindIndex;
                self.kinds.push(kind.clone());
                self.made.push(0);
                self.kind_numbers.insert(kind, number);
                number
            }
        };
        let key = (parent.map_or(0, |parent| parent + 1), kind);
        let next = self.paths.len() as u32;
        let path = *self.path_numbers.entry(key).or_insert(next);
        if path == next {
            let outer = parent.and_then(|parent| self.paths.get(parent as usize));
            let depth = outer.map_or(0, |outer| outer.depth + 1);
            let outermost =
                outer.filter(|_| depth >= OUTERMOST).map_or(path, |outer| outer.outermost);
            self.paths.push(Path { around: key.0, kind, depth, outermost });
        }
        Entered { id, instance, kind, path, fields }
    }
}

/// Replaces the entries of a span by what it is from now on; answers how many.
fn replace(stack: &mut [Entered], before: &Entered, after: &Entered) -> usize {
    // Another span of the same number has fields of its own.
    let same = |entered: &&mut Entered| Arc::ptr_eq(&entered.fields, &before.fields);
    stack.iter_mut().filter(same).map(|entered| *entered = after.clone()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u64, parent: Option<u64>, name: &str, fields: &str) -> Span {
        Span {
            id: SpanId(id),
            stamp: 0,
            parent: parent.map(SpanId),
            again: false,
            level: 3,
            name: name.into(),
            target: "app".into(),
            fields: fields.into(),
        }
    }

    fn name(spans: &Spans, thread: usize) -> Option<&str> {
        spans.current(thread).map(|entered| &*spans.kinds()[entered.kind as usize].name)
    }

    #[test]
    fn leaving_takes_out_the_last_entry_of_that_span() {
        let mut spans = Spans::new(false, 1);
        for (id, text) in [(1, "a"), (2, "b")] {
            spans.make(&span(id, None, text, ""));
        }
        for id in [1, 2, 1] {
            spans.enter(0, SpanId(id));
        }
        spans.exit(0, SpanId(1));
        assert_eq!(name(&spans, 0), Some("b"));
        spans.exit(0, SpanId(1));
        assert_eq!(name(&spans, 0), Some("b"), "left from between");
        spans.exit(0, SpanId(2));
        assert_eq!(name(&spans, 0), None);
    }

    #[test]
    fn a_number_used_again_has_its_new_name_and_old_entries_keep_theirs() {
        let mut spans = Spans::new(false, 2);
        spans.make(&span(1, None, "old", ""));
        spans.enter(0, SpanId(1));
        spans.close(SpanId(1));
        spans.make(&span(1, None, "new", ""));
        spans.enter(1, SpanId(1));
        assert_eq!((name(&spans, 0), name(&spans, 1)), (Some("old"), Some("new")));
    }

    #[test]
    fn fields_tell_spans_apart_only_on_request() {
        for (by_fields, kinds) in [(false, 1), (true, 2)] {
            let mut spans = Spans::new(by_fields, 1);
            spans.make(&span(1, None, "request", "id=1"));
            spans.make(&span(2, None, "request", "id=2"));
            assert_eq!(spans.kinds().len(), kinds);
        }
    }

    #[test]
    fn a_span_has_fields_from_when_they_are_set_wherever_it_was_entered() {
        let mut spans = Spans::new(true, 3);
        spans.make(&span(1, None, "request", "id=1"));
        spans.make(&span(2, None, "step", ""));
        for thread in [0, 2] {
            spans.enter(thread, SpanId(1));
            spans.enter(thread, SpanId(2));
        }
        spans.exit(2, SpanId(2));
        let now = |spans: &Spans, thread| {
            spans.current(thread).map(|it| (it.fields.to_string(), spans.made(it.kind)))
        };
        let before = spans.current(2).map(|entered| entered.kind).expect("entered");
        spans.add_fields(1, SpanId(1), "user=anna");
        spans.exit(0, SpanId(2));
        for thread in [0, 2] {
            assert_eq!(now(&spans, thread), Some(("id=1 user=anna".into(), 1)));
        }
        assert_eq!(spans.made(before), 0, "it is the same span");
        spans.add_fields(0, SpanId(2), "late=2");
        spans.enter(0, SpanId(2));
        assert_eq!(now(&spans, 0), Some(("late=2".into(), 1)));
        // What is too long, and what is of no span.
        spans.add_fields(0, SpanId(2), &"x".repeat(MAX_FIELDS_BYTES));
        spans.add_fields(0, SpanId(9), "of=none");
        assert_eq!(now(&spans, 0), Some(("late=2".into(), 1)));
        // A number that is used again.
        spans.close(SpanId(2));
        spans.make(&span(2, None, "step", ""));
        spans.add_fields(0, SpanId(2), "late=3");
        assert_eq!(now(&spans, 0), Some(("late=2".into(), 1)));
    }

    #[test]
    fn a_thread_leaves_all_spans_at_once() {
        let mut spans = Spans::new(false, 2);
        for (id, text) in [(1, "a"), (2, "b")] {
            spans.make(&span(id, None, text, ""));
            spans.enter(0, SpanId(id));
            spans.enter(1, SpanId(id));
        }
        let last = spans.exit(0, SpanId::EVERY).expect("the innermost");
        assert_eq!(&*spans.kinds()[last.kind as usize].name, "b");
        assert_eq!((name(&spans, 0), name(&spans, 1)), (None, Some("b")));
        assert!(spans.exit(0, SpanId::EVERY).is_none());
    }

    #[test]
    fn a_path_leads_from_the_outermost_span_to_the_entered_one() {
        let mut spans = Spans::new(false, 1);
        spans.make(&span(1, None, "server", ""));
        spans.make(&span(2, Some(1), "request", "id=1"));
        spans.enter(0, SpanId(2));
        let current = spans.current(0).expect("entered");
        assert_eq!(spans.names(current.path), ["server", "request"].map(Arc::from));
        assert_eq!(&*current.fields, "id=1");
    }

    #[test]
    fn of_a_long_path_the_outermost_and_the_innermost_spans_are_named() {
        let mut spans = Spans::new(false, 1);
        for id in 1..=1_000 {
            spans.make(&span(id, (id > 1).then(|| id - 1), &format!("{id}"), ""));
            spans.enter(0, SpanId(id));
            let path = spans.current(0).expect("entered").path;
            let numbers = |from, to| (from..=to).map(|id: u64| id.to_string());
            let expected: Vec<String> = match id.checked_sub(64) {
                None | Some(0) => numbers(1, id).collect(),
                Some(more) => {
                    let middle = std::iter::once(format!("[{more} more]"));
                    numbers(1, 32).chain(middle).chain(numbers(id - 31, id)).collect()
                }
            };
            let names = spans.names(path);
            assert!(names.iter().map(|name| &**name).eq(expected.iter()), "{names:?}");
        }
    }

    #[test]
    fn a_span_that_nobody_made_is_unknown() {
        let mut spans = Spans::new(false, 1);
        spans.enter(0, SpanId(9));
        assert_eq!(name(&spans, 0), Some("[unknown span]"));
    }

    #[test]
    fn a_span_that_is_told_again_is_the_same_span() {
        let mut spans = Spans::new(false, 1);
        spans.make(&span(7, None, "request", "id=1"));
        spans.make(&Span { again: true, ..span(7, None, "request", "") });
        assert_eq!(spans.made, [1]);
        spans.enter(0, SpanId(7));
        assert_eq!(spans.current(0).map(|entered| &*entered.fields), Some("id=1"));
        // After it closed the number is another span's.
        spans.close(SpanId(7));
        spans.make(&Span { again: true, ..span(7, None, "request", "") });
        assert_eq!(spans.made, [2]);
    }
}
