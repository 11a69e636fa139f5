//! The formats of other programs. Each file takes what an analysis found and a writer, and knows
//! nothing of the command line.

pub(crate) mod collapsed;
pub(crate) mod dhat;
pub(crate) mod firefox;
mod live_points;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod perfetto;
pub(crate) mod pprof;
pub(crate) mod rows;
pub(crate) mod speedscope;
