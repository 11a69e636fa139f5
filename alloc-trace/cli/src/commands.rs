//! The subcommands.

pub(crate) mod advise;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod flame;
pub(crate) mod grouped;
pub(crate) mod html;
pub(crate) mod leaks;
pub(crate) mod man;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod timeline;
pub(crate) mod tree;
