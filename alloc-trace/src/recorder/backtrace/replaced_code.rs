//! Frames in code that can be unloaded: other code may be in its place by now, and memory still hold what it held.

use std::ops::Range;

use super::super::call_tree::Path;
use super::super::modules::{Module, Modules};
use super::{Backtrace, Sink};

impl Backtrace {
    /// Finds the paths of `new` frames where the code of some may have been put in the place of other
    /// code: that has nodes of its own. Answers the innermost one.
    #[cold]
    #[inline(never)]
    pub(super) fn find_late_paths(
        &mut self,
        new: Range<usize>,
        modules: &Modules,
        sink: &impl Sink,
    ) -> Path {
        // Not before the walk: it finds out what was replaced.
        let replacements = modules.replacements();
        let mut path = match new.start.checked_sub(1) {
            Some(index) => self.frames.path(index),
            None => sink.root_path(self.root),
        };
        for index in new {
            let address = self.frames.address(index);
            // A return address can lie behind the last instruction of its function.
            let module = modules.find(address.wrapping_sub(1));
            path = if module.is_some_and(|module| module.late) {
                path.below_late(address, replacements)
            } else {
                path.below(address)
            };
            self.frames.set_path(index, path);
        }
        path
    }

    /// Forgets everything where the code of a remembered frame is not the same module's any more:
    /// memory may hold what it held, but the addresses are another function's. Answers whether there
    /// was anything to forget.
    ///
    /// The loader is asked once for each run of frames of one module that can be unloaded. Another
    /// thread may have met what is in its place already, which the loader then finds as it should be:
    /// so the number of modules that are gone counts too, and is read last.
    #[cold]
    #[inline(never)]
    pub(super) fn forget_replaced(&mut self, modules: &Modules) -> bool {
        let mut asked: Option<Module> = None;
        let mut replaced = false;
        self.late = false;
        for index in 0..self.length {
            // A return address can lie behind the last instruction of its function.
            let address = self.frames.address(index).wrapping_sub(1);
            if asked.is_some_and(|module| module.start <= address && address < module.end) {
                continue;
            }
            asked = modules.find(address);
            if let Some(module) = asked.filter(|module| module.late) {
                self.late = true;
                replaced |= !modules.is_current(&module, address);
            }
        }
        let replacements = modules.replacements();
        replaced |= replacements != self.replacements;
        self.replacements = replacements;
        if replaced {
            self.length = 0;
            self.late = false;
        }
        replaced
    }
}
