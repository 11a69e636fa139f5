//! Return addresses into functions, files and lines.
//!
//! A recording holds raw return addresses and the modules that were loaded. Names come from the
//! modules' files on this machine: from their debug information, else from their symbol tables.
//! A file whose build id is not the recorded one is not asked: wrong names are worse than none.

mod cache;
mod debug_file;
mod found;
mod function_table;
mod module;
mod name;
mod symbol_file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloc_trace_format::{Module, ReadError, Record, Recording};
use rustc_hash::FxHashMap;
use serde::Serialize;

use self::cache::{Cache, CachedFrame};
pub(crate) use self::found::hexadecimal;
use self::module::ModuleSymbols;
pub use self::name::shorten;
use crate::call_site::{self, CallSite};
use crate::frame::Frame;
use crate::surroundings::responsible;

/// Why some frames have no name, or no line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SymbolProblem {
    /// The module's file is not there, or cannot be read.
    Unreadable {
        /// The module.
        module: PathBuf,
        /// Why.
        reason: String,
    },
    /// The module's file is not the one that was recorded.
    Changed {
        /// The module.
        module: PathBuf,
    },
    /// The module has no debug information: functions may have names, but no file and line.
    NoDebugInfo {
        /// The module.
        module: PathBuf,
    },
    /// The module's debug information is damaged, or goes on in a file that is not here.
    BrokenDebugInfo {
        /// The module.
        module: PathBuf,
        /// The file with the debug information.
        file: PathBuf,
        /// What is the matter with it.
        reason: String,
    },
    /// The module has neither: it was stripped, and nothing of it was found elsewhere.
    Stripped {
        /// The module.
        module: PathBuf,
        /// Its build id, in hexadecimal digits; empty where it has none.
        build_id: String,
    },
}

impl SymbolProblem {
    /// The module.
    #[must_use]
    pub fn module(&self) -> &Path {
        match self {
            Self::Unreadable { module, .. }
            | Self::Changed { module }
            | Self::NoDebugInfo { module }
            | Self::BrokenDebugInfo { module, .. }
            | Self::Stripped { module, .. } => module,
        }
    }
}

impl fmt::Display for SymbolProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { module, reason } => {
                write!(
                    f,
                    "{}: no names, because it cannot be read: {reason}; put the recorded file there, or \
                     report once where it is and keep the recording's .symbols file beside it",
                    module.display()
                )
            }
            Self::Changed { module } => write!(
                f,
                "{}: no names, because the file has changed since the recording; put the recorded one back, \
                 or record again",
                module.display()
            ),
            Self::NoDebugInfo { module } => write!(
                f,
                "{}: no files and lines; build it with `debug = \"line-tables-only\"` in its \
                 profile to get them",
                module.display()
            ),
            Self::BrokenDebugInfo { module, file, reason } => write!(
                f,
                "{}: some names, files and lines are missing, because of the debug information in {}: \
                 {reason}",
                module.display(),
                file.display()
            ),
            Self::Stripped { module, build_id } => {
                let name = module.file_name().unwrap_or_default().display();
                write!(
                    f,
                    "{}: no names, because it was stripped and its debug information is not here; put \
                     it beside the file as {name}.debug",
                    module.display()
                )?;
                match build_id.split_at_checked(2) {
                    Some((first, rest)) => write!(
                        f,
                        ", or as /usr/lib/debug/.build-id/{first}/{rest}.debug, where your system's \
                         package of debug symbols puts it; --debuginfod asks servers for it"
                    ),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Finds the frames of return addresses, each address once.
#[derive(Debug)]
pub struct Symbols {
    /// In the order of loading.
    modules: Vec<LoadedModule>,
    frames: FxHashMap<u64, Arc<[Frame]>>,
    /// The whole frames in the C runtime's modules, where `frames` has their functions alone.
    whole_frames: FxHashMap<u64, Arc<[Frame]>>,
    texts: FxHashMap<Box<str>, Arc<str>>,
    /// Return addresses in the allocator: that is what is known of them where they have no name.
    allocator: Vec<u64>,
    recorded_at_ns: u64,
    resolve: bool,
    debuginfod: bool,
    outline_runtime: bool,
    cache: Option<Cache>,
}

#[derive(Debug)]
struct LoadedModule {
    start: u64,
    end: u64,
    bias: u64,
    path: Arc<str>,
    build_id: Box<[u8]>,
    /// Opened when the first address in it is asked for.
    symbols: Option<ModuleSymbols>,
    asked: bool,
}

impl Symbols {
    /// The symbols of the modules of a recording, in the order in which they were loaded: where two
    /// overlap, the later one counts.
    ///
    /// `recorded_at_ns` is when recording began, in nanoseconds since the Unix epoch: a module
    /// without a build id whose file is younger counts as changed.
    #[must_use]
    pub fn new(modules: &[Module], recorded_at_ns: u64) -> Self {
        let modules = modules
            .iter()
            .map(|module| LoadedModule {
                start: module.start,
                end: module.end,
                bias: module.bias,
                path: Arc::from(&*module.path),
                build_id: module.build_id.clone(),
                symbols: None,
                asked: false,
            })
            .collect();
        Self {
            modules,
            frames: FxHashMap::default(),
            whole_frames: FxHashMap::default(),
            texts: FxHashMap::default(),
            allocator: Vec::new(),
            recorded_at_ns,
            resolve: true,
            debuginfod: false,
            outline_runtime: false,
            cache: None,
        }
    }

    /// The symbols of the modules that a recording names so far.
    ///
    /// # Errors
    ///
    /// Where the recording cannot be read.
    pub fn of(recording: &Recording) -> Result<Self, ReadError> {
        let mut modules = Vec::new();
        let mut records = recording.merged();
        while let Some(record) = records.next_record()? {
            if let Record::Module(module) = record {
                modules.push(*module);
            }
        }
        Ok(Self::new(&modules, recording.header().start_realtime_ns))
    }

    /// Whether debuginfod servers are asked for debug information that is not here.
    pub(crate) const fn with_debuginfod(mut self, ask: bool) -> Self {
        self.debuginfod = ask;
        self
    }

    /// Whether [`Symbols::frames`] has of the C and C++ runtime's modules functions alone, as their symbol
    /// tables have them: enough where those frames are folded away.
    pub(crate) const fn with_runtime_in_outline(mut self, outline: bool) -> Self {
        self.outline_runtime = outline;
        self
    }

    /// Return addresses that are known to be the allocator's. Before any frames are asked for.
    pub(crate) fn with_allocator(mut self, addresses: Vec<u64>) -> Self {
        self.allocator = addresses;
        self
    }

    /// Takes the names that are kept beside a recording, and keeps those that are found.
    pub(crate) fn with_cache(mut self, recording: &Recording) -> Self {
        self.cache = Some(Cache::of(recording));
        self
    }

    /// Keeps the names that were found, where they are to be kept and can be.
    pub(crate) fn save(&mut self) {
        if let Some(cache) = &mut self.cache {
            // Nobody waits for it: the names are here.
            drop(cache.save());
        }
    }

    /// Opens no files: every frame is its module and an offset.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.resolve = false;
        self
    }

    /// The frames at a return address, innermost first; never empty.
    pub fn frames(&mut self, return_address: u64) -> Arc<[Frame]> {
        if let Some(frames) = self.frames.get(&return_address) {
            return Arc::clone(frames);
        }
        let frames: Arc<[Frame]> = self.look_up(return_address, !self.outline_runtime).into();
        self.frames.insert(return_address, Arc::clone(&frames));
        frames
    }

    /// The frames at a return address, of whatever module, with all that is known of them.
    pub(crate) fn whole_frames(&mut self, return_address: u64) -> Arc<[Frame]> {
        let frames = self.frames(return_address);
        if !self.outline_runtime || !frames.iter().any(call_site::is_in_runtime_module) {
            return frames;
        }
        if let Some(frames) = self.whole_frames.get(&return_address) {
            return Arc::clone(frames);
        }
        let frames: Arc<[Frame]> = self.look_up(return_address, true).into();
        self.whole_frames.insert(return_address, Arc::clone(&frames));
        frames
    }

    /// The call site of a backtrace, given by its return addresses, the innermost first: the first
    /// frame of the program's own code.
    pub fn call_site(&mut self, return_addresses: &[u64]) -> Option<CallSite> {
        let frames: Vec<Arc<[Frame]>> =
            return_addresses.iter().map(|&address| self.frames(address)).collect();
        responsible(&frames).map(|(_, site)| site)
    }

    /// What stood in the way of names and lines, of the modules that were asked.
    #[must_use]
    pub fn problems(&self) -> Vec<SymbolProblem> {
        let mut problems: Vec<SymbolProblem> = Vec::new();
        for problem in self.modules.iter().filter_map(|module| module.symbols.as_ref()?.problem()) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }

    /// `whole`: of the C runtime's modules, too, not the function alone.
    fn look_up(&mut self, return_address: u64, whole: bool) -> Vec<Frame> {
        // The call is the instruction before: the return address can be another line, or even
        // another function where the call never returns.
        let address = return_address.saturating_sub(1);
        let contains = |module: &LoadedModule| (module.start..module.end).contains(&address);
        let Some(index) = self.modules.iter().rposition(contains) else {
            return vec![Frame {
                function: format!("[{return_address:#x}]").into(),
                file: None,
                line: None,
                module: None,
                named: false,
            }];
        };
        let (resolve, recorded_at_ns) = (self.resolve, self.recorded_at_ns);
        let debuginfod = self.debuginfod;
        let Some(module) = self.modules.get_mut(index) else { return Vec::new() };
        let of_runtime = call_site::is_runtime_module(&module.path);
        let whole = whole || !of_runtime;
        let cached = self.cache.as_ref().filter(|_| resolve);
        let cached = cached.and_then(|cache| cache.get(return_address, &module.path));
        // What was kept without lines may have them where servers are asked, and where it was an outline.
        let more = whole && (debuginfod || of_runtime);
        let suffices = |frames: &&[CachedFrame]| {
            !more || frames.first().is_some_and(|frame| frame.file.is_some())
        };
        if let Some(frames) = cached.filter(suffices) {
            let (path, frames) = (Arc::clone(&module.path), frames.to_vec());
            return self.known_before(&path, &frames);
        }
        let kept = cached.map(<[CachedFrame]>::to_vec);
        let in_file = address.wrapping_sub(module.bias);
        if resolve && !module.asked {
            module.asked = true;
            let (path, build_id) = (&module.path, &module.build_id);
            let symbols = ModuleSymbols::open(path, build_id, recorded_at_ns, debuginfod);
            module.symbols = Some(symbols);
        }
        let found = module.symbols.as_mut().map(|symbols| {
            if whole {
                symbols.frames(in_file)
            } else {
                symbols.function(in_file).into_iter().collect()
            }
        });
        let path = Arc::clone(&module.path);
        if let (None | Some([]), Some(kept)) = (found.as_deref(), kept) {
            return self.known_before(&path, &kept);
        }
        let base_name = path.rsplit('/').next().unwrap_or(&path);
        let offset = return_address.wrapping_sub(module.bias);
        let part = if self.allocator.contains(&return_address) { "allocator " } else { "" };
        let unnamed = format!("[{part}{base_name}+{offset:#x}]");
        let mut frames: Vec<Frame> = Vec::new();
        for raw in found.unwrap_or_default() {
            let named = raw.function.is_some();
            let function = raw.function.as_deref().unwrap_or(&unnamed);
            frames.push(Frame {
                function: self.text(function),
                file: raw.file.as_deref().map(|file| self.text(file)),
                line: raw.line,
                module: Some(Arc::clone(&path)),
                named,
            });
        }
        if frames.is_empty() {
            frames.push(Frame {
                function: unnamed.into(),
                file: None,
                line: None,
                module: Some(path),
                named: false,
            });
        }
        if let Some(cache) = &mut self.cache
            && frames.iter().all(|frame| frame.named)
        {
            let frames = frames.iter().map(|frame| CachedFrame {
                function: frame.function.to_string(),
                file: frame.file.as_deref().map(str::to_owned),
                line: frame.line,
                module: frame.module.as_deref().unwrap_or_default().to_owned(),
            });
            cache.add(return_address, frames.collect());
        }
        frames
    }

    fn known_before(&mut self, module: &Arc<str>, frames: &[CachedFrame]) -> Vec<Frame> {
        let frame = |frame: &CachedFrame| Frame {
            function: self.text(&frame.function),
            file: frame.file.as_deref().map(|file| self.text(file)),
            line: frame.line,
            module: Some(Arc::clone(module)),
            named: true,
        };
        frames.iter().map(frame).collect()
    }

    /// Each text once, however many frames it is in.
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(text);
        self.texts.insert(text.into(), Arc::clone(&shared));
        shared
    }
}
