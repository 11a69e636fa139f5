//! Where what a capture meets goes: new nodes of the call tree, modules that are loaded and gone.

use alloc_trace_format::{NodeDefinition, NodeId, Stamp};

use super::backtrace;
use super::call_tree::{CallTree, Path};
use super::chunk_writer::ChunkWriter;
use super::log::Log;
use super::modules::{Identity, Module, Modules};
use super::sys::Errno;

/// Where a capture's nodes and modules go: the call tree, and the slot's own stream.
pub(super) struct Sink<'a> {
    pub(super) tree: &'a CallTree,
    /// When the event begins. What is met with it is stamped so, and not as the thread's event before:
    /// since then other threads may have met what was loaded and is gone by now.
    pub(super) stamp: Stamp,
    pub(super) writer: &'a mut ChunkWriter,
    pub(super) log: &'a Log,
    pub(super) result: Result<(), Errno>,
}

impl backtrace::Sink for Sink<'_> {
    #[inline]
    fn root_path(&self, root: NodeId) -> Path {
        Path::of_root(root, self.writer.generation())
    }

    #[inline]
    fn find(&self, path: Path, parent: Path) -> Option<NodeId> {
        self.tree.find(path, parent)
    }

    #[inline]
    fn find_parent(&self, path: Path) -> Option<NodeId> {
        self.tree.find_parent(path)
    }

    #[cold]
    fn define(&mut self, path: Path, parent: NodeId, address: u64) -> NodeId {
        let id = self.tree.reserve();
        if id.is_root() {
            return id;
        }
        let node = NodeDefinition { id, parent, address };
        let written = self.writer.write(self.log, |encoder, out| encoder.node(out, &node));
        if written.is_ok() {
            // Only now may other threads name it.
            self.tree.insert(path, id);
        }
        self.result = self.result.and(written);
        id
    }

    #[cold]
    fn module(&mut self, module: &Module, identity: Identity<'_>) {
        let stamp = self.stamp;
        let written = self.writer.write(self.log, |encoder, out| {
            let Module { bias, start, end, .. } = *module;
            encoder.module(out, stamp, bias, start, end, identity.build_id, identity.path)
        });
        self.result = self.result.and(written);
    }

    #[cold]
    fn unloaded(&mut self, module: &Module, modules: &Modules) {
        // Whoever names what is there now has found the module gone, too: its numbers come later.
        let first_node = modules.settle_first_node_after(module, self.tree.next_number());
        // Behind a record of this moment, which it shares.
        let written = self.writer.write_resident(self.log, self.stamp).and_then(|()| {
            self.writer.write(self.log, |encoder, out| {
                encoder.module_unload(out, module.start, module.end, first_node)
            })
        });
        self.result = self.result.and(written);
    }
}
