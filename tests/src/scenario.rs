//! The test programs. Each module holds the scenarios of one theme, and says what must be found in a
//! recording of them.
//!
//! A scenario is recorded as the environment says, or from its known part on where the second
//! argument names a file.

mod coroutines;
mod heap;
mod hostile;
mod known;
mod libraries;
mod life;
mod live_events;
mod options;
mod pressure;
mod ring;
mod signals;
mod spans;
mod threads;

use std::env;

use alloc_trace::{Recording, RecordingBuilder};

/// What a scenario was given on its command line.
#[derive(Debug)]
pub struct Given {
    arguments: Vec<String>,
}

impl Given {
    /// The argument behind the scenario's name that begins with `key=`.
    fn text(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.text(key).map(|text| text.parse().expect("a number"))
    }

    /// The recording's builder, where one is asked for with `record=FILE`.
    fn builder(&self) -> Option<RecordingBuilder> {
        self.text("record").map(|path| Recording::builder().output(path))
    }

    /// Begins a recording where one is asked for.
    fn start(&self) -> Option<Recording> {
        self.builder().map(|builder| builder.start().expect("a recording"))
    }
}

type Scenario = fn(&Given);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("nothing", life::nothing),
    ("known", known::run),
    ("spans", known::spans),
    ("counted", known::counted),
    ("eight_threads", threads::eight_threads),
    ("many_threads", threads::many_threads),
    ("live_threads", threads::live_threads),
    ("late_destructors", threads::late_destructors),
    ("exit_in_c", threads::exit_in_c),
    ("alarms", threads::alarms),
    ("interrupted_reallocations", threads::interrupted_reallocations),
    ("cancelled", threads::cancelled),
    ("forks_in_handlers", threads::forks_in_handlers),
    ("coroutine", coroutines::resumed_by_another_thread),
    ("acknowledged", life::acknowledged),
    ("progress", life::progress),
    ("end", life::end),
    ("fork", life::fork),
    ("fork_again", life::fork_again),
    ("spawn", life::spawn),
    ("exec", life::exec),
    ("launch", life::launch),
    ("two_recordings", life::two_recordings),
    ("late_library", libraries::late_library),
    ("replaced_libraries", libraries::replaced_libraries),
    ("libraries_on_threads", libraries::libraries_on_threads),
    ("plugin", libraries::plugin),
    ("closed_descriptors", libraries::closed_descriptors),
    ("refused", life::refused),
    ("started_again", life::started_again),
    ("full_disk", life::full_disk),
    ("few_descriptors", hostile::few_descriptors),
    ("until_it_ends", hostile::until_it_ends),
    ("truncated", hostile::truncated),
    ("bus_error", hostile::bus_error),
    ("unmappable", hostile::unmappable),
    ("sandboxed", hostile::sandboxed),
    ("without_barriers", hostile::without_barriers),
    ("out_of_memory", pressure::out_of_memory),
    ("resident", pressure::resident),
    ("stack", pressure::stack),
    ("heap_snapshots", heap::snapshots),
    ("snapshots_by_signal", heap::snapshots_by_signal),
    ("alternate_stack", signals::alternate_stack),
    ("large_handler", signals::large_handler),
    ("forked_and_signalled", signals::forked_and_signalled),
    ("ring", ring::churn),
    ("ring_idle", ring::idle),
    ("ring_acknowledged", ring::acknowledged),
    ("ring_late", ring::late),
    ("ring_snapshots", ring::snapshots),
    ("ring_spans", ring::spans),
    ("span_turns", spans::turns),
    ("span_fields", spans::fields),
    ("in_turn", options::in_turn),
    ("workers", options::workers),
    ("growing", options::growing),
    ("hostile_subscriber", live_events::hostile_subscriber),
    ("parking_lot", live_events::parking_lot_everywhere),
    ("appender", live_events::appender),
    ("filter", live_events::filter),
];

/// Runs the scenario that the command line names.
///
/// # Panics
///
/// Where there is none, and where the scenario fails.
pub fn main() {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().expect("a scenario's name");
    let (_, run) = SCENARIOS.iter().find(|(known, _)| *known == name).expect("a scenario");
    run(&Given { arguments: arguments.collect() });
}
