//! The comparison of allocators: built, run in turn, told.

pub mod build;
pub mod chart;
pub mod report;
pub mod results;
pub mod run;

use crate::allocator::Allocator;
use crate::workloads::Workload;

/// Why a comparison could not be made.
pub type Error = Box<dyn std::error::Error>;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Under which allocators.
    pub allocators: Vec<Allocator>,
    /// Each workload with a number of threads.
    pub cells: Vec<(&'static Workload, usize)>,
}
