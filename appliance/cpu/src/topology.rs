//! The CPUs of a machine.

use crate::CpuSet;

/// A core: the CPUs that share its pipeline (SMT siblings), and the memory node it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The memory node (NUMA).
    pub node: u32,
    /// Its CPUs; at least one.
    pub cpus: CpuSet,
}

/// The cores of a machine, in the order of their first CPU. No CPU is in two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    cores: Vec<Core>,
}

impl Topology {
    /// These cores, in any order. A core without CPUs, or with one that another has already, is left out.
    #[must_use]
    pub fn new(cores: impl IntoIterator<Item = Core>) -> Self {
        let mut kept: Vec<Core> = Vec::new();
        for core in cores {
            if !core.cpus.is_empty() && !kept.iter().any(|other| other.cpus.meets(&core.cpus)) {
                kept.push(core);
            }
        }
        kept.sort_by_key(|core| core.cpus.iter().next());
        Self { cores: kept }
    }

    /// `cpus` CPUs on one node, each a core of its own.
    #[must_use]
    pub fn flat(cpus: u32) -> Self {
        Self::new((0..cpus).map(|cpu| Core {
            node: 0,
            cpus: CpuSet::from_iter([cpu]),
        }))
    }

    /// Its cores.
    #[must_use]
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// All its CPUs.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        self.cores
            .iter()
            .flat_map(|core| core.cpus.iter())
            .collect()
    }

    /// The memory nodes that those CPUs are on.
    #[must_use]
    pub fn nodes_of(&self, cpus: &CpuSet) -> CpuSet {
        let on = self.cores.iter().filter(|core| core.cpus.meets(cpus));
        on.map(|core| core.node).collect()
    }
}
