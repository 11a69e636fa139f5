//! pprof's format: a gzipped protocol buffer with frames, backtraces, and several values for each.

mod proto;

use std::io::{self, Write};
use std::sync::Arc;

use alloc_trace_analysis::{CallTreeWeights, Figures, LoadedModule, Measure};
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rustc_hash::FxHashMap;

use crate::warnings;

use self::proto::{Function, Line, Location, Mapping, Profile, Sample, ValueType};

/// The values of each backtrace: their names are those of Go's heap profiles where those have one, so
/// that whoever knows these finds their way.
const VALUES: [Value; 8] = [
    ("alloc_objects", "count", Figures::requests),
    ("alloc_space", "bytes", |figures| figures.allocated_bytes),
    ("inuse_objects", "count", |figures| figures.live_blocks_at_end),
    ("inuse_space", "bytes", |figures| figures.live_bytes_at_end),
    ("peak_objects", "count", |figures| figures.at_peak_blocks),
    ("peak_space", "bytes", |figures| figures.at_peak_bytes),
    ("temporary_objects", "count", |figures| figures.temporary_allocations),
    // In nanoseconds a million blocks that live for three hours are more than the format has bits for.
    ("lifetime", "microseconds", |figures| {
        u64::try_from(figures.lifetime_ns / 1_000).unwrap_or(u64::MAX)
    }),
];

/// A name, a unit, and which figure it is.
type Value = (&'static str, &'static str, fn(&Figures) -> u64);

/// The value that shows a measure.
const fn name_of(measure: Measure) -> &'static str {
    match measure {
        Measure::Requests => "alloc_objects",
        Measure::LiveBlocks => "inuse_objects",
        Measure::Live => "inuse_space",
        Measure::AtPeak | Measure::Peak => "peak_space",
        Measure::Temporary => "temporary_objects",
        Measure::Lifetime => "lifetime",
        _ => "alloc_space",
    }
}

/// When and how long was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) started_at_unix_ns: u64,
    pub(crate) duration_ns: u64,
}

/// Writes a profile; `first` is what is shown unless the user asks for something else.
pub(crate) fn write(
    out: &mut dyn Write,
    weights: &CallTreeWeights,
    times: Times,
    executable: Option<&str>,
    first: Measure,
) -> io::Result<()> {
    let profile = profile(weights, times, executable, first);
    let mut gzip = GzEncoder::new(out, Compression::fast());
    gzip.write_all(&profile.encode_to_vec())?;
    gzip.finish()?.flush()
}

fn profile(
    weights: &CallTreeWeights,
    times: Times,
    executable: Option<&str>,
    first: Measure,
) -> Profile {
    let mut texts = Texts::default();
    let mut profile = Profile {
        sample_type: VALUES
            .iter()
            .map(|(name, unit, _)| ValueType {
                r#type: texts.number(name),
                unit: texts.number(unit),
            })
            .collect(),
        time_nanos: times.started_at_unix_ns as i64,
        duration_nanos: times.duration_ns as i64,
        period_type: Some(ValueType { r#type: texts.number("space"), unit: texts.number("bytes") }),
        // Nothing was sampled: each byte counts.
        period: 1,
        comment: warnings::incomplete(&weights.state)
            .iter()
            .map(|warning| texts.number(warning))
            .collect(),
        default_sample_type: texts.number(name_of(first)),
        ..Profile::default()
    };
    let mut mappings = Mappings::new(&weights.modules, &mut texts, executable);
    let mut functions: FxHashMap<(i64, i64), u64> = FxHashMap::default();
    let backtraces = &weights.backtraces;
    for ((id, frame), &address) in (1..).zip(&backtraces.frames).zip(&backtraces.addresses) {
        let name = texts.number(&frame.function);
        let filename = texts.number(frame.file.as_deref().unwrap_or_default());
        let next = functions.len() as u64 + 1;
        let function_id = *functions.entry((name, filename)).or_insert(next);
        if function_id == next {
            profile.function.push(Function {
                id: function_id,
                name,
                system_name: name,
                filename,
                start_line: 0,
            });
        }
        let mapping_id = mappings.number(&mut texts, frame.module.as_ref());
        let line = vec![Line { function_id, line: i64::from(frame.line.unwrap_or_default()) }];
        profile.location.push(Location { id, mapping_id, address, line, is_folded: false });
    }
    profile.mapping = mappings.mappings;
    for (node, figures) in (0..).zip(&weights.own) {
        let value: Vec<i64> = VALUES
            .iter()
            .map(|(_, _, of)| i64::try_from(of(figures)).unwrap_or(i64::MAX))
            .collect();
        if value.iter().all(|&value| value == 0) {
            continue;
        }
        let at = |number: u32| backtraces.nodes.get(number as usize);
        let way = std::iter::successors(at(node), |node| at(node.parent?));
        let location_id = way.filter_map(|node| Some(u64::from(node.frame?) + 1)).collect();
        profile.sample.push(Sample { location_id, value });
    }
    profile.string_table = texts.texts;
    profile
}

/// The table of texts; the first is the empty one.
#[derive(Debug)]
struct Texts {
    texts: Vec<String>,
    numbers: FxHashMap<Box<str>, i64>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { texts: vec![String::new()], numbers: FxHashMap::from_iter([("".into(), 0)]) }
    }
}

impl Texts {
    fn number(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.into(), number);
        number
    }
}

/// The modules. The first is the program: viewers take its name for the profile's.
#[derive(Debug)]
struct Mappings<'a> {
    modules: &'a [LoadedModule],
    mappings: Vec<Mapping>,
    numbers: FxHashMap<Arc<str>, u64>,
}

impl<'a> Mappings<'a> {
    fn new(modules: &'a [LoadedModule], texts: &mut Texts, executable: Option<&str>) -> Self {
        let (mappings, numbers) = (Vec::new(), FxHashMap::default());
        let mut mappings = Self { modules, mappings, numbers };
        if let Some(executable) = executable {
            mappings.number(texts, Some(&executable.into()));
        }
        mappings
    }

    /// A module's number; 0 where none is known.
    fn number(&mut self, texts: &mut Texts, module: Option<&Arc<str>>) -> u64 {
        let Some(module) = module else { return 0 };
        let next = self.mappings.len() as u64 + 1;
        let number = *self.numbers.entry(Arc::clone(module)).or_insert(next);
        if number == next {
            // Of several at one path the one that was loaded last.
            let loaded = self.modules.iter().rfind(|loaded| *loaded.path == **module);
            let build_id = loaded.map(LoadedModule::build_id_text).unwrap_or_default();
            self.mappings.push(Mapping {
                id: number,
                memory_start: loaded.map_or(0, |loaded| loaded.start),
                memory_limit: loaded.map_or(0, |loaded| loaded.end),
                build_id: texts.number(&build_id),
                filename: texts.number(module),
                // There is nothing left to look up.
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
        }
        number
    }
}
