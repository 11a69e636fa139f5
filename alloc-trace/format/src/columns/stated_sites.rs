//! Call sites that are stated, as they are read.

use std::iter::Zip;
use std::slice::Iter;

use super::reading::Columns;
use super::unpack::Expected;
use super::{ALIGN, NODE_0, NODE_1, NODE_HIGH, STACK};
use crate::compact::Site;
use crate::record::NodeId;
use crate::varint;

/// The columns with a byte for each stated site, read together: they have one end.
pub(super) struct StatedSites<'a> {
    rest: Zip<Zip<Iter<'a, u8>, Iter<'a, u8>>, Iter<'a, u8>>,
    stated: usize,
}

impl<'a> StatedSites<'a> {
    /// The sites that are to come. Until they are [passed](Self::pass) nobody else reads these columns.
    #[inline(always)]
    pub(super) fn of(columns: &Columns<'a>) -> Self {
        let [low, middle, align] =
            [NODE_0, NODE_1, ALIGN].map(|column| columns.rest(column).iter());
        let rest = low.zip(middle).zip(align);
        Self { stated: rest.len(), rest }
    }

    /// The next site, where the previous event's is known. Without `STACKS` its stack pointer is 0, and the
    /// column of those is not read.
    #[inline(always)]
    pub(super) fn next<const STACKS: bool>(
        &mut self,
        previous: &Site,
        columns: &mut Columns<'_>,
    ) -> Result<Site, Expected> {
        let ((low, middle), align) = self.rest.next().ok_or("a longer column of bytes")?;
        let mut high = columns.byte(NODE_HIGH)?;
        if high == 0xff {
            high = columns.varint(NODE_HIGH)?.wrapping_add(high);
        }
        let way = u64::from(*low) | u64::from(*middle) << 8 | high << 16;
        let node = varint::apply_difference(u64::from(previous.node.0), way);
        let node = u32::try_from(node).map_err(|_| "a node's number below 2^32")?;
        let mut stack_pointer = 0;
        if STACKS {
            let way = columns.varint(STACK)?;
            stack_pointer = varint::apply_difference(previous.stack_pointer, way);
        }
        if *align > 63 {
            return Err("an alignment below 64 bits");
        }
        Ok(Site { node: NodeId(node), align_log2: u32::from(*align), stack_pointer })
    }

    /// Goes on behind the sites that were read.
    #[inline(always)]
    pub(super) fn pass(self, columns: &mut Columns<'a>) {
        let read = self.stated - self.rest.len();
        for column in [NODE_0, NODE_1, ALIGN] {
            columns.pass(column, read);
        }
    }
}
