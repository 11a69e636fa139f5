//! The subcommands.

pub(crate) mod advise;
pub(crate) mod events;
pub(crate) mod record;
pub(crate) mod report;
