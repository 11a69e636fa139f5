//! Code that was unloaded, and whose addresses other code had afterwards.
//!
//! An address alone does not say which of the two it leads into. The recorder gives the nodes of what
//! is loaded later greater numbers than it had given before, and notes where that begins. Here the
//! earlier code, with all its nodes, is moved out of the way: to addresses of its own, which no process
//! has. What it is called depends only on where it lies in its file, which stays the same.

use std::ops::Range;

use alloc_trace_format::{Module, ModuleUnload};
use rustc_hash::FxHashMap;

use crate::call_tree::Definitions;

/// So far apart are the places that replaced code is moved to: no loader puts code that high.
const FAR: u64 = 1 << 52;
/// How many times other code can come to one place and still be told apart: more often than a recorder
/// knows modules.
const PLACES: u64 = u64::MAX / FAR;
/// How many stretches of addresses can be had by one after the other: each is looked at for each node.
const STRETCHES: usize = 127;

/// How many modules and unloads are looked at in all: a recorder knows a thousand modules, of which each is
/// compared with all others.
const LOOKS: usize = 1 << 28;

/// A stretch of addresses that modules had one after the other.
struct Stretch {
    addresses: Range<u64>,
    replaced: Vec<Replaced>,
}

/// One that was replaced there, in the order in which they were.
struct Replaced {
    /// Its place among all that were replaced.
    order: usize,
    /// Nodes from this number on are of what came next.
    first_node_after: u32,
    by: u64,
}

/// Gives replaced modules addresses of their own. `modules` are in the order of loading.
pub(crate) fn move_away(modules: &mut [Module], unloads: &[ModuleUnload], nodes: &mut Definitions) {
    let mut stretches: Vec<Stretch> = Vec::new();
    // Code that comes back is moved to where it was moved before.
    let mut places: FxHashMap<(u64, u64, Box<[u8]>), u64> = FxHashMap::default();
    let mut moved = 0;
    let mut looks = 0;
    for index in 0..modules.len() {
        let Some((module, later)) = modules.get_mut(index..).and_then(<[_]>::split_first_mut)
        else {
            break;
        };
        looks += later.len() + unloads.len();
        if looks > LOOKS {
            break;
        }
        let (start, end) = (module.start, module.end);
        let is_there = |other: &&Module| other.start < end && start < other.end;
        if !later.iter().any(|other| is_there(&other)) {
            continue;
        }
        // A return address is behind its call.
        let addresses = start.saturating_add(1)..end.saturating_add(1);
        let known = stretches.iter().position(|stretch| stretch.addresses == addresses);
        if known.is_none() && stretches.len() == STRETCHES {
            continue;
        }
        let before = known.and_then(|known| stretches.get(known)?.replaced.last());
        let begin = before.map_or(0, |before| before.first_node_after);
        // Several threads can find that out: the first counts. One that loads what comes next finds
        // both at one moment.
        let of_this = unloads.iter().filter(|unload| {
            (unload.start, unload.end) == (start, end)
                && unload.stamp >= module.stamp
                && unload.first_node.0 > begin
        });
        let Some(first_node) = of_this.map(|unload| unload.first_node.0).min() else { continue };
        let code = (start, end, module.build_id.clone());
        let by = match places.get(&code).filter(|_| !module.build_id.is_empty()) {
            Some(&by) => by,
            None if moved == PLACES => continue,
            None => {
                moved += 1;
                places.insert(code, moved * FAR);
                moved * FAR
            }
        };
        let replaced = Replaced { order: index, first_node_after: first_node, by };
        match known.and_then(|known| stretches.get_mut(known)) {
            Some(stretch) => stretch.replaced.push(replaced),
            None => stretches.push(Stretch { addresses, replaced: vec![replaced] }),
        }
        module.start = start.wrapping_add(by);
        module.end = end.wrapping_add(by);
        module.bias = module.bias.wrapping_add(by);
    }
    if !stretches.is_empty() {
        nodes.move_addresses(|number, address| {
            let around = stretches.iter().filter(|stretch| stretch.addresses.contains(&address));
            let there = around.filter_map(|stretch| {
                let gone = stretch.replaced.partition_point(|it| it.first_node_after <= number);
                stretch.replaced.get(gone)
            });
            there.min_by_key(|replaced| replaced.order).map(|replaced| replaced.by)
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc_trace_format::{NodeDefinition, NodeId};

    use super::*;
    use crate::call_tree::{CallTree, TreeForm};

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
        let tree = CallTree::new(&definitions, TreeForm::Merged);
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

    /// So many modules at one place, one after the other, each with a node; how many nodes are found to
    /// be of theirs.
    fn told_apart(count: u32, build_id: impl Fn(u32) -> Box<[u8]>) -> usize {
        let mut modules: Vec<Module> = (0..count)
            .map(|stamp| {
                let build_id = build_id(stamp);
                let path = format!("at {:?}", if build_id.is_empty() { stamp } else { stamp % 2 });
                Module { build_id, path: path.into(), ..module(stamp.into(), 100, 200) }
            })
            .collect();
        let paths: Vec<String> =
            modules.iter().map(|module| format!("{}+50", module.path)).collect();
        let unloads: Vec<ModuleUnload> = (0..count - 1)
            .map(|stamp| unload(u64::from(stamp) + 1, 100, 200, 10 * stamp + 10))
            .collect();
        let nodes: Vec<(u32, u64)> = (0..count).map(|number| (10 * number + 5, 150)).collect();
        let found = places(&mut modules, &unloads, &nodes);
        found.iter().zip(&paths).filter(|(one, other)| one == other).count()
    }

    #[test]
    fn one_place_can_be_had_many_times() {
        assert_eq!(told_apart(1_500, |_| Box::default()), 1_500);
        // As far as there are places, and the last.
        assert_eq!(told_apart(5_000, |_| Box::default()) as u64, PLACES + 1);
    }

    #[test]
    fn two_modules_can_take_turns_at_one_place_any_number_of_times() {
        assert_eq!(told_apart(5_000, |stamp| Box::new([stamp as u8 % 2])), 5_000);
    }
}
