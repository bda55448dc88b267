//! Which blocks a run over a disk visits, and in which order.

use crate::mix;

/// Order of visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One block after the other, from the start again after the last.
    Sequential,
    /// Any block at any time, by a seed.
    Random(u64),
}

/// An endless sequence of blocks within a range of sectors.
#[derive(Debug, Clone)]
pub struct Plan {
    order: Order,
    start: u64,
    blocks: u64,
    block_sectors: u64,
    visited: u64,
}

impl Plan {
    /// Blocks of `block_sectors` within `sectors` sectors from `start`; `None` if not even one fits.
    pub fn new(order: Order, start: u64, sectors: u64, block_sectors: u64) -> Option<Self> {
        let blocks = sectors.checked_div(block_sectors)?;
        (blocks > 0).then_some(Self {
            order,
            start,
            blocks,
            block_sectors,
            visited: 0,
        })
    }

    /// Blocks in the range.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// First sector of the next block.
    pub fn next_sector(&mut self) -> u64 {
        let visit = self.visited;
        self.visited = visit.wrapping_add(1);
        let block = match self.order {
            Order::Sequential => visit % self.blocks,
            Order::Random(seed) => mix(mix(seed) ^ visit) % self.blocks,
        };
        self.start + block * self.block_sectors
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn sequential_wraps() {
        let mut plan = Plan::new(Order::Sequential, 16, 25, 8).unwrap();
        let visits: Vec<_> = (0..5).map(|_| plan.next_sector()).collect();
        assert_eq!(visits, [16, 24, 32, 16, 24]);
    }

    #[test]
    fn random_stays_inside_and_gets_everywhere() {
        let mut plan = Plan::new(Order::Random(1), 100, 64, 8).unwrap();
        let visits: BTreeSet<_> = (0..1000).map(|_| plan.next_sector()).collect();
        assert_eq!(
            visits.into_iter().collect::<Vec<_>>(),
            (0..8).map(|block| 100 + 8 * block).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_block_must_fit() {
        assert!(Plan::new(Order::Sequential, 0, 7, 8).is_none());
        assert!(Plan::new(Order::Sequential, 0, 7, 0).is_none());
    }
}
