//! The executables and shared objects in memory: where their code and their unwind tables are.
//!
//! Those of the start are listed when a recording begins. Later ones are met when a backtrace leads
//! into them, and are asked for with `_dl_find_object`, which takes no lock: a thread that loads a
//! library holds the loader's lock while it runs the library's constructors, and a hook that waited
//! for it could wait for a thread that waits for the hook's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

use alloc_trace_format::NodeId;

/// What a hook must know of a module to unwind through it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Module {
    /// The first mapped address.
    pub(super) start: u64,
    /// The address behind the last mapped one.
    pub(super) end: u64,
    /// What is added to an address in the file to get one in memory.
    pub(super) bias: u64,
    /// The table of `.eh_frame_hdr`; 0 where there is none.
    pub(super) unwind_table: u64,
    /// The address behind the segment that holds the table.
    pub(super) unwind_table_end: u64,
    /// The loader's record of it, by its address; 0 where that is not known.
    pub(super) link_map: u64,
    /// A word of its build id; 0 where it has none.
    pub(super) build_id_word: u64,
    /// Whether it can be unloaded: all but the program and what was loaded with it.
    pub(super) late: bool,
}

/// What the reader must know of a module besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) build_id: &'a [u8],
    pub(super) path: &'a [u8],
}

const MAX_MODULES: usize = 1024;

/// The modules met so far. Entries are only added while a recording runs.
pub(super) struct Modules {
    entries: [Entry; MAX_MODULES],
    count: AtomicU32,
    adding: AtomicBool,
    /// How many modules were found to be unloaded: with it what threads remember of them ends.
    replacements: AtomicU32,
    /// `_dl_find_object`, where the C library has it (glibc 2.35).
    find_object: AtomicPtr<c_void>,
}

struct Entry {
    start: AtomicU64,
    end: AtomicU64,
    bias: AtomicU64,
    unwind_table: AtomicU64,
    unwind_table_end: AtomicU64,
    link_map: AtomicU64,
    build_id_word: AtomicU64,
    late: AtomicBool,
    /// The first call-tree node that is not of it, once it was found to be unloaded; 0 before.
    first_node_after: AtomicU32,
}

impl Modules {
    pub(super) const fn new() -> Self {
        Self {
            entries: [const {
                Entry {
                    start: AtomicU64::new(0),
                    end: AtomicU64::new(0),
                    bias: AtomicU64::new(0),
                    unwind_table: AtomicU64::new(0),
                    unwind_table_end: AtomicU64::new(0),
                    link_map: AtomicU64::new(0),
                    build_id_word: AtomicU64::new(0),
                    late: AtomicBool::new(false),
                    first_node_after: AtomicU32::new(0),
                }
            }; MAX_MODULES],
            count: AtomicU32::new(0),
            adding: AtomicBool::new(false),
            replacements: AtomicU32::new(0),
            find_object: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Lists the modules that are loaded now and gives each to `found`. Not for hooks: it takes the
    /// loader's lock. Before the program began (`at_load`) they are those that stay.
    pub(super) fn list(&self, at_load: bool, found: &mut dyn FnMut(&Module, Identity<'_>)) {
        self.count.store(0, Ordering::Relaxed);
        // SAFETY: the name is a C string; the default scope needs no handle.
        let find_object = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
        self.find_object.store(find_object, Ordering::Relaxed);
        let mut visitor = Visitor { modules: self, found, at_load, first: true };
        // SAFETY: the callback has the type that the call asks for, and `visitor` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut visitor).cast()) };
    }

    /// Gives every module met so far to `found`, without taking the loader's lock.
    pub(super) fn list_known(&self, found: &mut dyn FnMut(&Module, Identity<'_>)) {
        let count = self.count.load(Ordering::Acquire) as usize;
        let known = self.entries.iter().take(count).map(Entry::load);
        for module in known.filter(|module| module.start < module.end) {
            if let Some(object) = self.find_object(module.unwind_table.max(module.start)) {
                describe(&object, |_, identity| found(&module, identity));
            }
        }
    }

    /// The module that `address` lies in, if it has been met.
    pub(super) fn find(&self, address: u64) -> Option<Module> {
        // Acquire pairs with the release in `add`: counted entries are written.
        let count = self.count.load(Ordering::Acquire) as usize;
        self.entries
            .iter()
            .take(count)
            .map(Entry::load)
            .find(|module| module.start <= address && address < module.end)
    }

    /// Whether the module that `address` lies in is still the one that was met there. Takes no lock.
    ///
    /// A library that is loaded where another one was can have the same record of the loader and the
    /// same layout: their build ids tell them apart.
    pub(super) fn is_current(&self, module: &Module, address: u64) -> bool {
        if self.find_object.load(Ordering::Relaxed).is_null() {
            // Nobody to ask.
            return true;
        }
        self.find_object(address).is_some_and(|object| {
            object.link_map.expose_provenance() as u64 == module.link_map
                && object.eh_frame.expose_provenance() as u64 == module.unwind_table
                && build_id_word_of(&object) == module.build_id_word
        })
    }

    /// Gives every module to `gone` that was unloaded and not forgotten. Takes no lock.
    pub(super) fn list_gone(&self, gone: &mut dyn FnMut(&Module)) {
        let count = self.count.load(Ordering::Acquire) as usize;
        let known = self.entries.iter().take(count).map(Entry::load);
        for module in known.filter(|module| module.late && module.start < module.end) {
            if !self.is_current(&module, module.unwind_table.max(module.start)) {
                gone(&module);
            }
        }
    }

    /// A module was found to be unloaded, and `next` is a number that no call-tree node has yet:
    /// answers from which number on nodes are not of it. Whoever finds that out first settles the
    /// number; by what another thread counts who finds it out later, nodes of what was loaded there
    /// meanwhile would be taken for the module's.
    pub(super) fn settle_first_node_after(&self, module: &Module, next: NodeId) -> NodeId {
        let Some(entry) = self.entry_of(module) else { return next };
        let settled = entry.first_node_after.compare_exchange(
            0,
            next.0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        settled.map_or_else(NodeId, |_| next)
    }

    /// Forgets a module that was unloaded.
    pub(super) fn forget(&self, module: &Module) {
        if let Some(entry) = self.entry_of(module).filter(|entry| entry.is_there()) {
            // Before anybody can meet what is there now: see `replacements`.
            self.replacements.fetch_add(1, Ordering::Relaxed);
            // From here on no address lies in it. Release: pairs with the acquire in `replacements`,
            // as does that of the one that is added in its place.
            entry.end.store(0, Ordering::Release);
        }
    }

    /// How many modules were found to be unloaded so far. Whoever has looked for a module before and
    /// did not find the one that was there finds a greater number.
    pub(super) fn replacements(&self) -> u32 {
        fence(Ordering::Acquire);
        self.replacements.load(Ordering::Relaxed)
    }

    /// The latest entry of a module, forgotten or not.
    fn entry_of(&self, module: &Module) -> Option<&Entry> {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.entries.iter().take(count).rev().find(|entry| {
            let known = entry.load();
            known.start == module.start
                && known.link_map == module.link_map
                && known.unwind_table == module.unwind_table
                && known.build_id_word == module.build_id_word
        })
    }

    /// Asks the loader for the module that `address` lies in, without taking a lock, and gives it
    /// to `found` if it was not met before, by no other thread either.
    #[cold]
    pub(super) fn discover(
        &self,
        address: u64,
        found: &mut dyn FnMut(&Module, Identity<'_>),
    ) -> Option<Module> {
        let object = self.find_object(address)?;
        let mut discovered = None;
        describe(&object, |module, identity| {
            if self.add(module) {
                found(module, identity);
            }
            discovered = Some(*module);
        });
        discovered
    }

    fn find_object(&self, address: u64) -> Option<FoundObject> {
        let function = self.find_object.load(Ordering::Relaxed);
        if function.is_null() {
            return None;
        }
        // SAFETY: `dlsym` gave this address for `_dl_find_object`, whose type this is.
        let function: FindObject = unsafe { std::mem::transmute(function) };
        let mut object = FoundObject::NONE;
        let address = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: the function takes any address and writes one `dl_find_object`.
        (unsafe { function(address, &raw mut object) } == 0).then_some(object)
    }

    /// As if all modules had been loaded late, and the one at `address` been replaced since.
    #[cfg(test)]
    pub(super) fn pretend_late(&self, replaced: Option<u64>) {
        for entry in &self.entries {
            entry.late.store(true, Ordering::Relaxed);
            let module = entry.load();
            if replaced.is_some_and(|address| module.start <= address && address < module.end) {
                entry.link_map.store(1, Ordering::Relaxed);
            }
        }
    }

    /// Adds a module; `false` where it is there, where there is no room, or where another thread is
    /// adding one.
    fn add(&self, module: &Module) -> bool {
        if self.adding.swap(true, Ordering::Acquire) {
            return false;
        }
        let count = self.count.load(Ordering::Relaxed);
        let is_there = self.entry_of(module).is_some_and(Entry::is_there);
        let entry = self.entries.get(count as usize).filter(|_| !is_there);
        if let Some(entry) = entry {
            entry.store(module);
            // Release: pairs with the acquire in `find`.
            self.count.store(count + 1, Ordering::Release);
        }
        self.adding.store(false, Ordering::Release);
        entry.is_some()
    }
}

impl Entry {
    fn load(&self) -> Module {
        Module {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            bias: self.bias.load(Ordering::Relaxed),
            unwind_table: self.unwind_table.load(Ordering::Relaxed),
            unwind_table_end: self.unwind_table_end.load(Ordering::Relaxed),
            link_map: self.link_map.load(Ordering::Relaxed),
            build_id_word: self.build_id_word.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
        }
    }

    /// Whether it was not forgotten.
    fn is_there(&self) -> bool {
        self.end.load(Ordering::Relaxed) != 0
    }

    fn store(&self, module: &Module) {
        self.first_node_after.store(0, Ordering::Relaxed);
        self.start.store(module.start, Ordering::Relaxed);
        self.end.store(module.end, Ordering::Relaxed);
        self.bias.store(module.bias, Ordering::Relaxed);
        self.unwind_table.store(module.unwind_table, Ordering::Relaxed);
        self.unwind_table_end.store(module.unwind_table_end, Ordering::Relaxed);
        self.link_map.store(module.link_map, Ordering::Relaxed);
        self.build_id_word.store(module.build_id_word, Ordering::Relaxed);
        self.late.store(module.late, Ordering::Relaxed);
    }
}

/// glibc's `struct dl_find_object`.
#[repr(C)]
struct FoundObject {
    flags: u64,
    map_start: *const u8,
    map_end: *const u8,
    link_map: *const LinkMap,
    eh_frame: *const u8,
    reserved: [u64; 7],
}

impl FoundObject {
    const NONE: Self = Self {
        flags: 0,
        map_start: ptr::null(),
        map_end: ptr::null(),
        link_map: ptr::null(),
        eh_frame: ptr::null(),
        reserved: [0; 7],
    };
}

/// The first fields of the loader's `struct link_map`.
#[repr(C)]
struct LinkMap {
    bias: usize,
    name: *const c_char,
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut FoundObject) -> c_int;

/// What a module found by the loader is.
fn describe(object: &FoundObject, then: impl FnOnce(&Module, Identity<'_>)) {
    if object.link_map.is_null() {
        return;
    }
    // SAFETY: the loader's answer names a loaded object, which stays while its code is on this
    // thread's stack; glibc's `link_map` begins with these two fields.
    let link = unsafe { object.link_map.read() };
    let bias = link.bias as u64;
    let headers = program_headers(object.map_start, bias);
    let segments = Segments::of(headers, bias);
    let end = object.map_end.expose_provenance() as u64;
    let unwind_table = object.eh_frame.expose_provenance() as u64;
    let module = Module {
        start: object.map_start.expose_provenance() as u64,
        end,
        bias,
        unwind_table,
        unwind_table_end: segments.end_of_segment_with(headers, unwind_table).unwrap_or(end),
        link_map: object.link_map.expose_provenance() as u64,
        build_id_word: word_of(segments.build_id),
        late: true,
    };
    let path = if link.name.is_null() {
        &[]
    } else {
        // SAFETY: the loader's name is a C string that lives as long as the object.
        unsafe { CStr::from_ptr(link.name) }.to_bytes()
    };
    then(&module, Identity { build_id: segments.build_id, path });
}

struct Visitor<'a> {
    modules: &'a Modules,
    found: &'a mut dyn FnMut(&Module, Identity<'_>),
    at_load: bool,
    /// The loader lists the program itself first.
    first: bool,
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    visitor: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid description.
    let info = unsafe { &*info };
    // SAFETY: `list` passes its visitor, which nobody else touches during the call.
    let visitor = unsafe { &mut *visitor.cast::<Visitor<'_>>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader's table of program headers is as long as it says.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let segments = Segments::of(headers, info.dlpi_addr);
    let unwind_table = segments.unwind_table;
    let object = visitor.modules.find_object(unwind_table.max(segments.start));
    let first = std::mem::replace(&mut visitor.first, false);
    let loader = visitor.modules.find_object.load(Ordering::Relaxed).expose_provenance() as u64;
    let is_c_library = segments.start <= loader && loader < segments.end;
    let module = Module {
        link_map: object.map_or(0, |object| object.link_map.expose_provenance() as u64),
        build_id_word: word_of(segments.build_id),
        late: !(visitor.at_load || first || is_c_library),
        start: segments.start,
        end: segments.end,
        bias: info.dlpi_addr,
        unwind_table,
        unwind_table_end: segments
            .end_of_segment_with(headers, unwind_table)
            .unwrap_or(segments.end),
    };
    if module.start < module.end && visitor.modules.add(&module) {
        let path = if info.dlpi_name.is_null() {
            &[]
        } else {
            // SAFETY: the loader's name is a C string.
            unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes()
        };
        (visitor.found)(&module, Identity { build_id: segments.build_id, path });
    }
    0
}

/// The program headers of the ELF image that is mapped at `image`, or of the program if that has this bias;
/// empty where none is.
fn program_headers(image: *const u8, bias: u64) -> &'static [libc::Elf64_Phdr] {
    // SAFETY: the loader maps an object from its ELF header on, which is readable.
    let header = unsafe { &*image.cast::<libc::Elf64_Ehdr>() };
    if header.e_ident.first_chunk() != Some(b"\x7fELF") {
        return headers_of_program(bias);
    }
    if usize::from(header.e_phentsize) != size_of::<libc::Elf64_Phdr>() {
        return &[];
    }
    // SAFETY: the header states where the table begins, within the mapped image.
    let table = unsafe { image.add(header.e_phoff as usize) };
    // SAFETY: the table lies in the first mapped segment, as the loader itself requires.
    unsafe { slice::from_raw_parts(table.cast(), header.e_phnum.into()) }
}

/// The program headers of the program itself, if that is what has this bias. The kernel maps it, and may leave
/// pages between its segments free: then the loader's answer begins at a segment, not at the ELF header.
fn headers_of_program(bias: u64) -> &'static [libc::Elf64_Phdr] {
    // SAFETY: the functions read what the kernel told the process at its start.
    let [place, count] = [libc::AT_PHDR, libc::AT_PHNUM].map(|key| unsafe { libc::getauxval(key) });
    let table = ptr::with_exposed_provenance::<libc::Elf64_Phdr>(place as usize);
    if table.is_null() {
        return &[];
    }
    // SAFETY: the kernel says that so many of the program's headers are mapped there, for good.
    let headers = unsafe { slice::from_raw_parts(table, count as usize) };
    let own = headers.iter().find(|header| header.p_type == libc::PT_PHDR);
    let is_its_own = own.is_some_and(|own| bias.wrapping_add(own.p_vaddr) == place);
    if is_its_own { headers } else { &[] }
}

/// What the program headers say, in addresses of memory.
struct Segments {
    bias: u64,
    start: u64,
    end: u64,
    unwind_table: u64,
    build_id: &'static [u8],
}

impl Segments {
    fn of(headers: &[libc::Elf64_Phdr], bias: u64) -> Self {
        let mut segments = Self { bias, start: u64::MAX, end: 0, unwind_table: 0, build_id: &[] };
        for header in headers {
            let start = bias.wrapping_add(header.p_vaddr);
            match header.p_type {
                libc::PT_LOAD => {
                    segments.start = segments.start.min(start);
                    segments.end = segments.end.max(start.wrapping_add(header.p_memsz));
                }
                libc::PT_GNU_EH_FRAME => segments.unwind_table = start,
                libc::PT_NOTE if segments.build_id.is_empty() => {
                    let place = ptr::with_exposed_provenance(start as usize);
                    // SAFETY: the loader maps the notes that it lists, readable, for as long as the
                    // object is loaded; the bytes are copied before the hook returns.
                    let notes = unsafe { slice::from_raw_parts(place, header.p_memsz as usize) };
                    segments.build_id = build_id(notes).unwrap_or_default();
                }
                _ => {}
            }
        }
        segments
    }

    /// The address behind the loaded segment that holds `address`.
    fn end_of_segment_with(&self, headers: &[libc::Elf64_Phdr], address: u64) -> Option<u64> {
        headers.iter().filter(|header| header.p_type == libc::PT_LOAD).find_map(|header| {
            let start = self.bias.wrapping_add(header.p_vaddr);
            let end = start.wrapping_add(header.p_filesz);
            (start <= address && address < end).then_some(end)
        })
    }
}

/// A word of the build id of a loaded object.
fn build_id_word_of(object: &FoundObject) -> u64 {
    let bias = if object.link_map.is_null() {
        return 0;
    } else {
        // SAFETY: the loader's answer names a loaded object; see `describe`.
        unsafe { object.link_map.read() }.bias as u64
    };
    word_of(Segments::of(program_headers(object.map_start, bias), bias).build_id)
}

/// The first bytes of a build id, which is a hash.
fn word_of(build_id: &[u8]) -> u64 {
    build_id.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The GNU build id among the notes of a segment.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    while let Some((head, rest)) = notes.split_first_chunk::<12>() {
        let word = |index: usize| {
            let bytes = head.get(index * 4..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let name_bytes = word(0)? as usize;
        let description_bytes = word(1)? as usize;
        let name = rest.get(..name_bytes)?;
        let rest = rest.get(name_bytes.next_multiple_of(4)..)?;
        let description = rest.get(..description_bytes)?;
        if word(2)? == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(description);
        }
        notes = rest.get(description_bytes.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_modules_are_listed_with_their_tables_and_found_again() {
        static MODULES: Modules = Modules::new();
        let mut listed = 0;
        let mut with_build_id = 0;
        MODULES.list(true, &mut |module, identity| {
            listed += 1;
            with_build_id += usize::from(!identity.build_id.is_empty());
            assert!(module.unwind_table == 0 || module.unwind_table < module.unwind_table_end);
        });
        assert!(listed >= 2 && with_build_id >= 1, "{listed} modules, {with_build_id} build ids");
        let here = the_loaded_modules_are_listed_with_their_tables_and_found_again as fn();
        let here = (here as *const ()).expose_provenance() as u64;
        let own = MODULES.find(here).expect("the test's own code is in a module");
        assert_ne!(own.unwind_table, 0);
        assert!(MODULES.find(1).is_none());
    }

    #[test]
    fn a_module_that_was_not_listed_is_discovered_without_a_lock() {
        static MODULES: Modules = Modules::new();
        MODULES.list(true, &mut |_, _| ());
        let here = build_id as fn(&'static [u8]) -> Option<&'static [u8]>;
        let here = (here as *const ()).expose_provenance() as u64;
        let listed = MODULES.find(here).expect("listed");
        MODULES.count.store(0, Ordering::Relaxed);
        let mut named = 0;
        let found = MODULES.discover(here, &mut |_, _| named += 1).expect("discovered");
        assert_eq!((found.bias, found.unwind_table), (listed.bias, listed.unwind_table));
        assert_eq!(found.unwind_table_end, listed.unwind_table_end);
        assert_eq!(named, 1);
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (kind, description) in [(1u32, &b"abcde"[..]), (3, b"0123456789")] {
            notes.extend(4u32.to_ne_bytes());
            notes.extend((description.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            notes.extend(b"GNU\0");
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes), Some(&b"0123456789"[..]));
        assert_eq!(build_id(&notes[..20]), None);
    }
}
