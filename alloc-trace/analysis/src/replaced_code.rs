//! Code that was unloaded, and whose addresses other code had afterwards.
//!
//! An address alone does not say which of the two it leads into. The recorder gives the nodes of what
//! is loaded later greater numbers than it had given before, and notes where that begins. Here the
//! earlier code, with all its nodes, is moved out of the way: to addresses of its own, which no process
//! has. What it is called depends only on where it lies in its file, which stays the same.

use alloc_trace_format::{Module, ModuleUnload};

use crate::call_tree::Definitions;

/// So far apart are the places that replaced code is moved to: no process has addresses that high.
const FAR: u64 = 1 << 57;
/// How many times code can be replaced at one place and still be told apart.
const PLACES: u64 = u64::MAX / FAR;

/// Gives replaced modules addresses of their own. `modules` are in the order of loading.
pub(crate) fn move_away(modules: &mut [Module], unloads: &[ModuleUnload], nodes: &mut Definitions) {
    let mut moved = 0;
    // Where the numbers of what came next at a place begin.
    let mut begun: Vec<(u64, u64, u32)> = Vec::new();
    for index in 0..modules.len() {
        let Some((module, later)) = modules.get_mut(index..).and_then(<[_]>::split_first_mut)
        else {
            return;
        };
        let (start, end) = (module.start, module.end);
        let is_there = |other: &&Module| other.start < end && start < other.end;
        if !later.iter().any(|other| is_there(&other)) || moved == PLACES {
            continue;
        }
        let begin = begun.iter().filter(|known| (known.0, known.1) == (start, end));
        let begin = begin.map(|known| known.2).max().unwrap_or(0);
        // Several threads can find that out: the first counts. One that loads what comes next finds
        // both at one moment.
        let of_this = unloads.iter().filter(|unload| {
            (unload.start, unload.end) == (start, end)
                && unload.stamp >= module.stamp
                && unload.first_node.0 > begin
        });
        let Some(first_node) = of_this.map(|unload| unload.first_node.0).min() else { continue };
        moved += 1;
        let by = moved * FAR;
        begun.push((start, end, first_node));
        // A return address is behind its call.
        nodes.move_addresses(start.saturating_add(1)..end.saturating_add(1), first_node, by);
        module.start = start.wrapping_add(by);
        module.end = end.wrapping_add(by);
        module.bias = module.bias.wrapping_add(by);
    }
}

#[cfg(test)]
mod tests {
    use alloc_trace_format::{NodeDefinition, NodeId};

    use super::*;
    use crate::call_tree::CallTree;

    fn module(stamp: u64, start: u64, end: u64) -> Module {
        let path = format!("at {stamp}").into();
        Module { stamp, bias: start, start, end, build_id: Box::default(), path }
    }

    fn unload(stamp: u64, start: u64, end: u64, first_node: u32) -> ModuleUnload {
        ModuleUnload { stamp, start, end, first_node: NodeId(first_node) }
    }

    /// Where each node's address lies: in the module that was loaded at that time, and how far in.
    fn places(
        modules: &mut [Module],
        unloads: &[ModuleUnload],
        nodes: &[(u32, u64)],
    ) -> Vec<String> {
        let mut definitions = Definitions::default();
        for &(id, address) in nodes {
            let node = NodeDefinition { id: NodeId(id), parent: NodeId::ROOT, address };
            definitions.add(&node);
        }
        move_away(modules, unloads, &mut definitions);
        let tree = CallTree::new(&definitions);
        let place = |id| {
            let place = tree.place(NodeId(id)).expect("defined");
            let (address, _) = tree.frame(place).expect("a frame");
            let contains = |module: &&Module| (module.start..module.end).contains(&address);
            let module = modules.iter().rev().find(contains);
            module.map_or_else(
                || format!("{address}"),
                |module| format!("{}+{}", module.path, address - module.bias),
            )
        };
        nodes.iter().map(|&(id, _)| place(id)).collect()
    }

    #[test]
    fn nodes_are_in_the_code_that_was_there_when_they_were_defined() {
        let mut modules =
            [module(1, 50, 60), module(2, 100, 200), module(5, 150, 250), module(9, 100, 200)];
        let unloads = [unload(5, 100, 200, 12), unload(5, 100, 200, 14), unload(9, 150, 250, 20)];
        let nodes =
            [(10, 55), (11, 160), (13, 160), (14, 55), (21, 160), (22, 300), (15, 230), (23, 110)];
        let expected =
            ["at 1+5", "at 2+60", "at 5+10", "at 1+5", "at 9+60", "300", "at 5+80", "at 9+10"];
        assert_eq!(places(&mut modules, &unloads, &nodes), expected);
    }

    #[test]
    fn what_was_unloaded_and_not_replaced_stays_where_it_was() {
        let mut modules = [module(1, 100, 200)];
        assert_eq!(
            places(&mut modules, &[unload(4, 100, 200, 12)], &[(5, 120), (15, 120)]),
            ["at 1+20", "at 1+20"]
        );
        assert_eq!(modules[0].start, 100);
    }

    #[test]
    fn one_place_can_be_had_many_times() {
        let mut modules: Vec<Module> = (0..300).map(|stamp| module(stamp, 100, 200)).collect();
        let unloads: Vec<ModuleUnload> =
            (0..299).map(|stamp| unload(stamp + 1, 100, 200, 10 * stamp as u32 + 10)).collect();
        let nodes: Vec<(u32, u64)> = (0..300).map(|number| (10 * number + 5, 150)).collect();
        let found = places(&mut modules, &unloads, &nodes);
        let expected: Vec<String> = (0..300).map(|stamp| format!("at {stamp}+50")).collect();
        let told_apart = found.iter().zip(&expected).filter(|(one, other)| one == other).count();
        // As far as there are places: 127, and the last.
        assert_eq!(told_apart as u64, PLACES + 1);
    }
}
