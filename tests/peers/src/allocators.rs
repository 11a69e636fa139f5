//! The comparison of allocators: built, run in turn, told.

pub mod build;
pub mod chart;
pub mod report;
pub mod results;
pub mod run;

use crate::allocator::{Allocator, OURS};
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

impl Plan {
    /// The allocators that a workload is run under.
    #[must_use]
    pub fn allocators_of(&self, workload: &Workload) -> Vec<Allocator> {
        if workload.without_allocator {
            return Allocator::named(OURS).into_iter().collect();
        }
        self.allocators.clone()
    }
}
