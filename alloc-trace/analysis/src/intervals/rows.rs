//! Which row of every axis a block belongs to.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::axis::{Axis, Row};
use super::fold::fold_tree;
use super::folding::{Folding, largest};
use super::weights::{Weights, inclusive};
use super::{SpanKey, ThreadKey};
use crate::call_site::{CallSite, crate_name};
use crate::call_tree::Place;
use crate::flame_tree::FlameNode;
use crate::owners::OwnerParts;
use crate::replay::Prepared;
use crate::sites::SiteIndex;
use crate::spans::Spans;

/// The rows of blocks with one backtrace.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlaceRows {
    pub(super) site: u32,
    pub(super) function: u32,
    pub(super) file: u32,
    pub(super) krate: u32,
    pub(super) node: u32,
}

/// The rows of every axis but sizes and lifetimes, which are few.
#[derive(Debug)]
pub(super) struct Rows {
    of_place: Vec<PlaceRows>,
    /// Of a backtrace that was lost.
    lost: PlaceRows,
    functions: Vec<Arc<str>>,
    files: Vec<Option<Arc<str>>>,
    crates: Vec<Option<Arc<str>>>,
    /// The call tree by functions, and how many of its nodes each stands for.
    tree: Vec<(FlameNode, u32)>,
    foldings: Foldings,
}

#[derive(Debug, Default)]
struct Foldings {
    sites: Folding,
    functions: Folding,
    files: Folding,
    crates: Folding,
    threads: Folding,
    spans: Folding,
}

/// The texts of an axis, and the number of each call site's.
fn keys<K: Clone + Eq + Hash>(of_site: impl Iterator<Item = K>) -> (Vec<K>, Vec<u32>) {
    let mut numbers: FxHashMap<K, u32> = FxHashMap::default();
    let mut keys = Vec::new();
    let of_site = of_site.map(|key| {
        *numbers.entry(key.clone()).or_insert_with(|| {
            keys.push(key);
            keys.len() as u32 - 1
        })
    });
    let of_site = of_site.collect();
    (keys, of_site)
}

impl Rows {
    /// Every part has its own.
    pub(super) fn new(prepared: &Prepared<'_>) -> Self {
        let sites = || (0..prepared.sites.len() as SiteIndex).map(|site| prepared.sites.get(site));
        let function = |site: Option<&CallSite>| {
            site.map_or_else(|| Arc::from(""), |site| Arc::clone(&site.function))
        };
        let (functions, function_of) = keys(sites().map(function));
        let (files, file_of) = keys(sites().map(|site| site?.file.clone()));
        let (crates, crate_of) = keys(sites().map(|site| site.and_then(crate_name).map(Arc::from)));
        let rows = |place| {
            let site = prepared.sites.at(Some(place));
            let of_site = |rows: &[u32]| rows.get(site as usize).copied().unwrap_or_default();
            PlaceRows {
                site,
                function: of_site(&function_of),
                file: of_site(&file_of),
                krate: of_site(&crate_of),
                node: prepared.flame_node(place),
            }
        };
        let tree: &[FlameNode] = prepared.flame_tree.as_ref().map_or(&[], |tree| tree.nodes());
        Self {
            of_place: prepared.definitions.call_tree.places().map(rows).collect(),
            lost: rows(Place::LOST),
            functions,
            files,
            crates,
            tree: tree.iter().map(|node| (node.clone(), 1)).collect(),
            foldings: Foldings::default(),
        }
    }

    /// Threads and spans have their own, and nothing else has any.
    pub(super) fn without_sites() -> Self {
        Self {
            of_place: Vec::new(),
            lost: PlaceRows { site: 0, function: 0, file: 0, krate: 0, node: 0 },
            functions: Vec::new(),
            files: Vec::new(),
            crates: Vec::new(),
            tree: Vec::new(),
            foldings: Foldings::default(),
        }
    }

    /// Whether an axis may have more rows than that.
    pub(super) fn may_exceed(&self, most: usize, prepared: &Prepared<'_>) -> bool {
        let threads = prepared.definitions.threads.len();
        prepared.sites.len() > most
            || self.tree.len() > most
            || threads > most
            || (prepared.has_span_fields() && most < usize::MAX)
    }

    /// Leaves at most so many rows of their own in each axis: of the largest, given what owners weigh.
    pub(super) fn fold(&mut self, most: usize, owners: &[OwnerParts], weights: &[Weights]) {
        let mut axes: [Vec<Weights>; 7] = Default::default();
        for (&owner, weights) in owners.iter().zip(weights) {
            let PlaceRows { site, function, file, krate, node } = self.of_place(owner);
            let parts = [site, function, file, krate, owner.thread, owner.span, node];
            for (axis, part) in axes.iter_mut().zip(parts) {
                let part = part as usize;
                if part >= axis.len() {
                    axis.resize(part + 1, Weights::default());
                }
                axis[part].add(weights);
            }
        }
        let [sites, functions, files, crates, threads, spans, mut nodes] = axes;
        self.foldings = Foldings {
            sites: Folding::new(&sites, most),
            functions: Folding::new(&functions, most),
            files: Folding::new(&files, most),
            crates: Folding::new(&crates, most),
            threads: Folding::new(&threads, most),
            spans: Folding::new(&spans, most),
        };
        nodes.resize(self.tree.len(), Weights::default());
        let node_of = self.fold_tree(most, &nodes);
        for rows in self.of_place.iter_mut().chain([&mut self.lost]) {
            rows.site = self.foldings.sites.row(rows.site);
            rows.function = self.foldings.functions.row(rows.function);
            rows.file = self.foldings.files.row(rows.file);
            rows.krate = self.foldings.crates.row(rows.krate);
            if let Some(node_of) = &node_of {
                rows.node = node_of.get(rows.node as usize).copied().unwrap_or_default();
            }
        }
    }

    /// The new number of each node, where there are too many.
    fn fold_tree(&mut self, most: usize, own: &[Weights]) -> Option<Vec<u32>> {
        let nodes: Vec<&FlameNode> = self.tree.iter().map(|(node, _)| node).collect();
        let inclusive = inclusive(own.to_vec(), |node| nodes[node].parent);
        if inclusive.iter().filter(|weights| weights.any()).count() <= most {
            return None;
        }
        let kept = largest(&inclusive, most);
        let (tree, node_of) = fold_tree(&nodes, &kept, |node| own[node].any());
        let mut parts = vec![0; tree.len()];
        for (node, &new) in node_of.iter().enumerate() {
            if kept[node] || own[node].any() {
                parts[new as usize] += 1;
            }
        }
        self.tree = tree.into_iter().zip(parts).collect();
        Some(node_of)
    }

    /// The rows that a block's backtrace leads to.
    #[inline]
    pub(super) fn of_place(&self, owner: OwnerParts) -> PlaceRows {
        self.of_place.get(owner.key as usize).copied().unwrap_or(self.lost)
    }

    /// The row of a thread, by its index.
    #[inline]
    pub(super) fn of_thread(&self, thread: u32) -> u32 {
        self.foldings.threads.row(thread)
    }

    /// The row of a kind of span, by its number plus one.
    #[inline]
    pub(super) fn of_span(&self, span: u32) -> u32 {
        self.foldings.spans.row(span)
    }

    pub(super) fn sites(&self, axis: Axis, prepared: &Prepared<'_>) -> Vec<Row<CallSite>> {
        let site = |part| prepared.sites.get(part as SiteIndex).cloned();
        let function = "[other call sites]".into();
        let others = || CallSite { function, file: None, line: None };
        rows(axis, &self.foldings.sites, site, others)
    }

    pub(super) fn functions(&self, axis: Axis) -> Vec<Row<Arc<str>>> {
        let function = |part: usize| self.functions.get(part).cloned();
        rows(axis, &self.foldings.functions, function, || "[other functions]".into())
    }

    pub(super) fn files(&self, axis: Axis) -> Vec<Row<Option<Arc<str>>>> {
        let file = |part: usize| self.files.get(part).cloned();
        rows(axis, &self.foldings.files, file, || Some("[other files]".into()))
    }

    pub(super) fn crates(&self, axis: Axis) -> Vec<Row<Option<Arc<str>>>> {
        let krate = |part: usize| self.crates.get(part).cloned();
        rows(axis, &self.foldings.crates, krate, || Some("[other crates]".into()))
    }

    pub(super) fn threads(&self, axis: Axis, prepared: &Prepared<'_>) -> Vec<Row<ThreadKey>> {
        let thread = |part: usize| {
            let thread = prepared.definitions.threads.get(part)?;
            Some(ThreadKey { thread: thread.id.0, name: thread.name.as_deref().map(Arc::from) })
        };
        let others = || ThreadKey { thread: 0, name: Some("[other threads]".into()) };
        rows(axis, &self.foldings.threads, thread, others)
    }

    pub(super) fn spans(&self, axis: Axis, spans: &Spans) -> Vec<Row<Option<SpanKey>>> {
        let span = |part: usize| match part.checked_sub(1) {
            None => Some(None),
            Some(kind) => spans.kinds().get(kind).map(|kind| {
                Some(SpanKey {
                    name: Arc::clone(&kind.name),
                    target: Arc::clone(&kind.target),
                    fields: kind.fields.clone(),
                })
            }),
        };
        let others =
            || Some(SpanKey { name: "[other spans]".into(), target: "".into(), fields: None });
        rows(axis, &self.foldings.spans, span, others)
    }

    pub(super) fn nodes(self, axis: Axis) -> Vec<Row<FlameNode>> {
        let cells = axis.all(self.tree.len());
        let rows = self.tree.into_iter().zip(cells);
        rows.map(|((key, parts), cells)| Row { key, parts, cells }).collect()
    }
}

fn rows<K>(
    axis: Axis,
    folding: &Folding,
    part: impl Fn(usize) -> Option<K>,
    others: impl FnOnce() -> K,
) -> Vec<Row<K>>
where
    K: Clone,
{
    let others = others();
    axis.rows(|row| match folding.part(row) {
        Ok(number) => Some((part(number)?, 1)),
        Err(parts) => Some((others.clone(), parts)),
    })
}
