//! How long `tracing` spans lived: from when each was made to when it closed.
//!
//! A life is kept while its span is open, while anybody holds it, and while a span is that was made in it.
//! So memory grows with open spans and with what is held, and not with the number of spans.

use alloc_trace_format::Stamp;
use rustc_hash::FxHashMap;

use crate::spans::{Entered, KindIndex};

/// So many spans are looked at from one outwards: a program may enter spans without end.
const MOST_AROUND: usize = 64;

/// Stands for no span: [`Entered::instance`] is never this.
pub(crate) const NO_SPAN: u64 = 0;

/// The lives of spans, by [`Entered::instance`].
#[derive(Debug, Default)]
pub(crate) struct SpanLives {
    lives: FxHashMap<u64, Life>,
    /// Spans that closed since [`SpanLives::sweep`].
    closed: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    opened: Stamp,
    closed: Option<Stamp>,
    kind: KindIndex,
    /// The span that it was made in.
    around: u64,
    /// How many hold it: whoever asked to, and spans that were made in it.
    holds: u64,
}

/// What is known of a moment after a span had closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlived {
    /// The span that had closed, by its kind: of that and those around it, the outermost which had.
    pub(crate) kind: KindIndex,
    /// How long it had lived, in ticks.
    pub(crate) life: Stamp,
    /// How long it had been closed, in ticks.
    pub(crate) past: Stamp,
    /// Whether what is around it went on to something else: the moment is in the span around it itself, or in
    /// one of another kind in there. Around all spans is the program.
    pub(crate) handed_on: bool,
}

impl SpanLives {
    /// A span was made, in another one or in none. One that is known goes on.
    pub(crate) fn begin(&mut self, span: &Entered, around: Option<&Entered>, stamp: Stamp) {
        if self.lives.contains_key(&span.instance) {
            return;
        }
        let around = around.map_or(NO_SPAN, |around| around.instance);
        let around = if self.hold(around) { around } else { NO_SPAN };
        let life = Life { opened: stamp, closed: None, kind: span.kind, around, holds: 0 };
        self.lives.insert(span.instance, life);
    }

    /// A span closed. Until [`SpanLives::sweep`] it can still be held.
    pub(crate) fn close(&mut self, span: u64, stamp: Stamp) {
        if let Some(life) = self.lives.get_mut(&span) {
            life.closed.get_or_insert(stamp);
            self.closed.push(span);
        }
    }

    /// Keeps a span's life; `false` where it is not known.
    pub(crate) fn hold(&mut self, span: u64) -> bool {
        self.lives.get_mut(&span).map(|life| life.holds += 1).is_some()
    }

    /// Takes back one [`SpanLives::hold`].
    pub(crate) fn release(&mut self, span: u64) {
        if let Some(life) = self.lives.get_mut(&span) {
            life.holds = life.holds.saturating_sub(1);
            self.drop_unheld(span);
        }
    }

    /// Forgets the lives of spans that closed and that nobody holds.
    pub(crate) fn sweep(&mut self) {
        while let Some(span) = self.closed.pop() {
            self.drop_unheld(span);
        }
    }

    fn drop_unheld(&mut self, mut span: u64) {
        while self.lives.get(&span).is_some_and(|life| life.closed.is_some() && life.holds == 0) {
            let Some(Life { around, .. }) = self.lives.remove(&span) else { return };
            if let Some(around) = self.lives.get_mut(&around) {
                around.holds = around.holds.saturating_sub(1);
            }
            span = around;
        }
    }

    /// Whether a span had closed at a moment.
    pub(crate) fn is_past(&self, span: u64, now: Stamp) -> bool {
        self.lives.get(&span).and_then(|life| life.closed).is_some_and(|closed| closed <= now)
    }

    /// What of a span was over at a moment, at which some thread was in the span `current`; `None` where it was
    /// open, or is not known.
    pub(crate) fn outlived(&self, span: u64, now: Stamp, current: u64) -> Option<Outlived> {
        let mut outermost: Option<(&Life, Stamp)> = None;
        let mut at = span;
        for _ in 0..MOST_AROUND {
            let Some(life) = self.lives.get(&at) else { break };
            let Some(closed) = life.closed.filter(|&closed| closed <= now) else { break };
            outermost = Some((life, closed));
            at = life.around;
        }
        let (life, closed) = outermost?;
        Some(Outlived {
            kind: life.kind,
            life: closed.saturating_sub(life.opened),
            past: now.saturating_sub(closed),
            handed_on: self
                .kind_below(current, life.around)
                .is_some_and(|below| below != Some(life.kind)),
        })
    }

    /// The kind of the span next to `around` on the way from there to `span`; `Some(None)` where the two are
    /// one, `None` where `span` was not made in `around`.
    fn kind_below(&self, span: u64, around: u64) -> Option<Option<KindIndex>> {
        let (mut at, mut below) = (span, None);
        for _ in 0..=MOST_AROUND {
            if at == around {
                return Some(below);
            }
            let life = self.lives.get(&at);
            // What is not known has none around it.
            (at, below) = life.map_or((NO_SPAN, None), |life| (life.around, Some(life.kind)));
        }
        None
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lives.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc_trace_format::{Span, SpanId};

    use super::*;
    use crate::spans::Spans;

    /// Spans and their lives, as a replay has them.
    #[derive(Debug)]
    struct Program {
        spans: Spans,
        lives: SpanLives,
    }

    impl Program {
        fn new() -> Self {
            Self { spans: Spans::new(false, 1), lives: SpanLives::default() }
        }

        fn make(&mut self, id: u64, around: Option<u64>, name: &str, stamp: Stamp) -> u64 {
            let span = Span {
                id: SpanId(id),
                stamp,
                parent: around.map(SpanId),
                again: false,
                level: 3,
                name: name.into(),
                target: "app".into(),
                fields: "".into(),
            };
            self.spans.make(&span);
            let made = self.spans.open(span.id).expect("made");
            let around = around.and_then(|around| self.spans.open(SpanId(around)));
            self.lives.begin(made, around, stamp);
            made.instance
        }

        fn close(&mut self, id: u64, stamp: Stamp) {
            let instance = self.spans.open(SpanId(id)).expect("open").instance;
            self.lives.close(instance, stamp);
            self.spans.close(SpanId(id));
        }

        fn kind(&self, instance: u64) -> KindIndex {
            self.lives.lives[&instance].kind
        }
    }

    #[test]
    fn the_outermost_span_that_closed_is_told_and_what_went_on_in_what_is_around_it() {
        let mut program = Program::new();
        let server = program.make(1, None, "server", 0);
        let request = program.make(2, Some(1), "request", 10);
        let parse = program.make(3, Some(2), "parse", 20);
        let respond = program.make(4, Some(2), "respond", 35);
        let next = program.make(5, Some(1), "request", 90);
        assert_eq!(program.lives.outlived(parse, 25, parse), None, "it is open");
        program.close(3, 30);
        for (current, handed_on) in [(request, true), (respond, true), (server, false), (0, false)]
        {
            let expected = Outlived { kind: program.kind(parse), life: 10, past: 20, handed_on };
            assert_eq!(program.lives.outlived(parse, 50, current), Some(expected), "{current}");
        }
        program.close(2, 60);
        let kind = program.kind(request);
        for (current, handed_on) in [(server, true), (next, false), (0, false)] {
            let expected = Outlived { kind, life: 50, past: 40, handed_on };
            assert_eq!(program.lives.outlived(parse, 100, current), Some(expected), "{current}");
        }
        let expected = Outlived { kind: program.kind(parse), life: 10, past: 20, handed_on: true };
        assert_eq!(program.lives.outlived(parse, 50, request), Some(expected), "then it was open");
    }

    #[test]
    fn outside_of_all_spans_is_the_program() {
        let mut program = Program::new();
        let [load, again] = [1, 2].map(|id| program.make(id, None, "load", 0));
        let serve = program.make(3, None, "serve", 0);
        program.close(1, 10);
        let handed_on = |current| program.lives.outlived(load, 30, current).map(|it| it.handed_on);
        assert_eq!([0, serve, again].map(handed_on), [Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn lives_are_kept_while_they_are_held_and_no_longer() {
        let mut program = Program::new();
        let outer = program.make(1, None, "outer", 0);
        let inner = program.make(2, Some(1), "inner", 1);
        program.close(2, 5);
        program.close(1, 6);
        assert!(program.lives.hold(inner), "as long as nobody swept");
        program.lives.sweep();
        assert_eq!(program.lives.len(), 2, "the inner one holds the outer one");
        assert!(program.lives.is_past(outer, 6) && !program.lives.is_past(outer, 5));
        program.lives.release(inner);
        assert_eq!(program.lives.len(), 0);
        assert!(!program.lives.hold(inner));
    }

    #[test]
    fn spans_without_end_are_followed_as_far_as_is_said() {
        let mut program = Program::new();
        for id in 1..=100_000 {
            program.make(id, (id > 1).then(|| id - 1), "deeper", id);
        }
        for id in (1..=100_000).rev() {
            program.close(id, 200_000);
        }
        let found = program.lives.outlived(100_000, 300_000, 0).expect("it closed");
        assert_eq!((found.life, found.handed_on), (200_000 - (100_000 - 63), false));
        program.lives.sweep();
        assert_eq!(program.lives.len(), 0);
    }
}
