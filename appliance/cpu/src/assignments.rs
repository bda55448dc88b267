//! Which CPUs are one instance's own.

use crate::{Core, CpuSet, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// CPUs that are given out whole cores at a time, and to whom. `K` names an instance.
#[derive(Clone, Debug)]
pub struct Assignments<K> {
    /// Cores all of whose CPUs may be given out.
    cores: Vec<Core>,
    taken: BTreeMap<K, CpuSet>,
    shared: CpuSet,
}

/// There are not enough CPUs left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} CPUs of its own are wanted, and of {total} that are given out whole cores at a time {free} are free"
)]
pub struct NoRoom {
    /// How many were asked for.
    pub wanted: u32,
    /// How many are free.
    pub free: u32,
    /// How many there are.
    pub total: u32,
}

impl<K: Ord + Copy> Assignments<K> {
    /// Nobody has any of the CPUs in `dedicated` yet. A core of which only a part is named is not given out: its CPUs stay
    /// with all others.
    #[must_use]
    pub fn new(topology: &Topology, dedicated: &CpuSet) -> Self {
        let whole = |core: &&Core| dedicated.includes(&core.cpus);
        let cores: Vec<Core> = topology.cores().iter().filter(whole).cloned().collect();
        let given = cores.iter().flat_map(|core| core.cpus.iter()).collect();
        Self {
            shared: topology.cpus().without(&given),
            cores,
            taken: BTreeMap::new(),
        }
    }

    /// The CPUs that are given out, taken ones included.
    #[must_use]
    pub fn given(&self) -> CpuSet {
        self.cores
            .iter()
            .flat_map(|core| core.cpus.iter())
            .collect()
    }

    /// How many CPUs are given out, taken ones included.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.cores.iter().map(|core| core.cpus.len()).sum()
    }

    /// CPUs of cores that nobody has.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free_cores().map(|core| core.cpus.len()).sum()
    }

    /// The CPUs that everybody else shares.
    #[must_use]
    pub fn shared(&self) -> &CpuSet {
        &self.shared
    }

    /// The CPUs of `who`.
    #[must_use]
    pub fn of(&self, who: K) -> Option<&CpuSet> {
        self.taken.get(&who)
    }

    fn free_cores(&self) -> impl Iterator<Item = &Core> {
        let taken = |core: &Core| self.taken.values().any(|cpus| cpus.meets(&core.cpus));
        self.cores.iter().filter(move |core| !taken(core))
    }

    /// Notes what `who` was given before. False if that is not given out here, or somebody has a part of it.
    pub fn restore(&mut self, who: K, cpus: &CpuSet) -> bool {
        let mut cores = CpuSet::default();
        for core in self.free_cores().filter(|core| core.cpus.meets(cpus)) {
            cores.extend(&core.cpus);
        }
        let whole = !cpus.is_empty() && cores == *cpus && !self.taken.contains_key(&who);
        if whole {
            self.taken.insert(who, cores);
        }
        whole
    }

    /// Gives `who` whole cores with at least `wanted` CPUs (at least 1): of one node where they fit, the fullest such
    /// node, so that large instances find room later; else of as few nodes as will do. Asked again, it answers the same.
    ///
    /// # Errors
    /// [`NoRoom`] when there are not so many free; nothing changes then.
    pub fn assign(&mut self, who: K, wanted: u32) -> Result<CpuSet, NoRoom> {
        if let Some(cpus) = self.taken.get(&who) {
            return Ok(cpus.clone());
        }
        let wanted = wanted.max(1);
        let (free, total) = (self.free(), self.total());
        if free < wanted {
            return Err(NoRoom {
                wanted,
                free,
                total,
            });
        }
        let mut cpus = CpuSet::default();
        for node in self.nodes_for(wanted) {
            for core in self.free_cores().filter(|core| core.node == node) {
                if cpus.len() >= wanted {
                    break;
                }
                cpus.extend(&core.cpus);
            }
        }
        self.taken.insert(who, cpus.clone());
        Ok(cpus)
    }

    /// The nodes to take from, in this order: the one that fits best, or the emptiest ones.
    fn nodes_for(&self, wanted: u32) -> Vec<u32> {
        let nodes: BTreeSet<u32> = self.cores.iter().map(|core| core.node).collect();
        let free = |node: u32| -> u32 {
            let on = self.free_cores().filter(|core| core.node == node);
            on.map(|core| core.cpus.len()).sum()
        };
        let mut nodes: Vec<(u32, u32)> = nodes.into_iter().map(|node| (free(node), node)).collect();
        let fitting = nodes.iter().filter(|(free, _)| *free >= wanted);
        if let Some((_, node)) = fitting.min() {
            return vec![*node];
        }
        // The fewest nodes are the emptiest ones.
        nodes.sort_by_key(|(free, node)| (std::cmp::Reverse(*free), *node));
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// Takes back what `who` has, if anything.
    pub fn release(&mut self, who: K) {
        self.taken.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nodes of `cores` cores with `threads` CPUs each; siblings are as far apart as on real machines.
    fn machine(nodes: u32, cores: u32, threads: u32) -> Topology {
        let all = nodes * cores;
        Topology::new((0..all).map(|core| Core {
            node: core / cores,
            cpus: (0..threads).map(|thread| core + thread * all).collect(),
        }))
    }

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn siblings_stay_together_and_the_rest_is_shared() {
        // Four cores on one node: 0+4, 1+5, 2+6, 3+7. Of core 3 only a part is named.
        let mut given = Assignments::new(&machine(1, 4, 2), &set("1,2,3,5,6"));
        assert_eq!((given.total(), given.free()), (4, 4));
        assert_eq!(given.shared(), &set("0,3,4,7"));
        assert_eq!(given.assign("a", 1), Ok(set("1,5")));
        assert_eq!(given.assign("a", 1), Ok(set("1,5")), "it has them already");
        assert_eq!(given.assign("b", 2), Ok(set("2,6")));
        let error = given.assign("c", 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 CPUs of its own are wanted, and of 4 that are given out whole cores at a time 0 are free"
        );
        given.release("a");
        assert_eq!(given.assign("c", 2), Ok(set("1,5")));
    }

    #[test]
    fn one_node_is_enough_where_it_can_be() {
        let topology = machine(2, 4, 1);
        let mut given = Assignments::new(&topology, &topology.cpus());
        assert_eq!(given.assign(1, 1), Ok(set("0")));
        // Not begun in node 0, where it does not fit.
        assert_eq!(given.assign(2, 4), Ok(set("4-7")));
        assert_eq!(given.assign(3, 2), Ok(set("1-2")));
        given.release(2);
        // The fullest node that will do.
        assert_eq!(given.assign(4, 1), Ok(set("3")));
        given.release(4);
        // Nowhere whole: as few nodes as possible.
        assert_eq!(given.assign(5, 5), Ok(set("3-7")));
        assert_eq!(topology.nodes_of(&set("3-7")), set("0-1"));
    }

    #[test]
    fn what_was_given_before_counts() {
        let topology = machine(1, 4, 1);
        let mut given = Assignments::new(&topology, &set("1-3"));
        assert!(given.restore(1, &set("2")));
        assert!(!given.restore(2, &set("2-3")), "2 is taken");
        assert!(!given.restore(2, &set("0")), "0 is everybody's");
        assert!(!given.restore(1, &set("3")), "it has some already");
        assert_eq!(given.assign(3, 2), Ok(set("1,3")));
    }

    proptest! {
        #[test]
        fn no_cpu_is_given_twice_and_no_core_is_divided(
            nodes in 1_u32..4, cores in 1_u32..6, threads in 1_u32..3,
            named in prop::collection::btree_set(0_u32..36, 0..36),
            asks in prop::collection::vec((0_u32..8, 0_u32..9), 0..40),
        ) {
            let topology = machine(nodes, cores, threads);
            let named: CpuSet = named.into_iter().collect();
            let mut given = Assignments::new(&topology, &named);
            let mut have: BTreeMap<u32, CpuSet> = BTreeMap::new();
            for (who, wanted) in asks {
                if wanted == 0 {
                    given.release(who);
                    have.remove(&who);
                } else {
                    match (given.assign(who, wanted), have.get(&who)) {
                        (Ok(cpus), Some(had)) => prop_assert_eq!(&cpus, had),
                        (Ok(cpus), None) => {
                            prop_assert!(cpus.len() >= wanted && cpus.len() < wanted + threads);
                            have.insert(who, cpus);
                        }
                        (Err(error), had) => prop_assert!(error.free < wanted && had.is_none()),
                    }
                }
                let all: Vec<u32> = have.values().flat_map(CpuSet::iter).collect();
                let distinct: BTreeSet<u32> = all.iter().copied().collect();
                prop_assert_eq!(all.len(), distinct.len());
                for core in topology.cores() {
                    let owners = have.values().filter(|cpus| cpus.meets(&core.cpus)).count();
                    prop_assert!(owners <= 1);
                    let divided = have.values().any(|cpus| cpus.meets(&core.cpus) && !cpus.includes(&core.cpus));
                    prop_assert!(!divided);
                }
                for cpu in all {
                    prop_assert!(named.contains(cpu) && !given.shared().contains(cpu));
                }
            }
        }
    }
}
