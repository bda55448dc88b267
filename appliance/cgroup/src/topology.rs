//! The machine's CPUs, as the kernel shows them (sysfs, Documentation/admin-guide/cputopology.rst).

use crate::Error;
use cpu::{Core, CpuSet, Topology};
use std::{fs, path::Path};

/// The cores of the machine whose sysfs is mounted at `sys` (`/sys`): SMT siblings and memory nodes. What the kernel does not say
/// is taken as usual: a core for each CPU, one node.
///
/// # Errors
/// The CPUs that are online cannot be read.
pub fn topology(sys: &Path) -> Result<Topology, Error> {
    let folder = sys.join("devices/system");
    let path = folder.join("cpu/online");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let online: CpuSet = text.parse().map_err(|_| Error::unreadable(&path, &text))?;
    let list = |path: &Path| -> Option<CpuSet> { fs::read_to_string(path).ok()?.parse().ok() };
    let nodes: Vec<(u32, CpuSet)> = list(&folder.join("node/online"))
        .unwrap_or_default()
        .iter()
        .filter_map(|node| {
            Some((
                node,
                list(&folder.join(format!("node/node{node}/cpulist")))?,
            ))
        })
        .collect();
    let cores = online.iter().map(|cpu| {
        let siblings = folder.join(format!("cpu/cpu{cpu}/topology/thread_siblings_list"));
        let siblings = list(&siblings).unwrap_or_default();
        let mut cpus: CpuSet = siblings
            .iter()
            .filter(|cpu| online.contains(*cpu))
            .collect();
        cpus.extend(&CpuSet::from_iter([cpu]));
        let node = nodes.iter().find(|(_, cpus)| cpus.contains(cpu));
        Core {
            node: node.map_or(0, |(node, _)| *node),
            cpus,
        }
    });
    Ok(Topology::new(cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_and_nodes_are_read_and_missing_ones_are_usual() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(
            topology(folder.path())
                .unwrap_err()
                .to_string()
                .contains("cpu/online")
        );
        put("cpu/online", "0-3,5\n");
        let flat = topology(folder.path()).unwrap();
        assert_eq!(flat.cores().len(), 5);
        for (cpu, siblings) in [(0, "0,2"), (2, "0,2"), (1, "1,3"), (3, "1,3"), (5, "4-5")] {
            put(
                &format!("cpu/cpu{cpu}/topology/thread_siblings_list"),
                siblings,
            );
        }
        put("node/online", "0-1\n");
        put("node/node0/cpulist", "0,2\n");
        put("node/node1/cpulist", "1,3-5\n");
        let topology = topology(folder.path()).unwrap();
        let cores: Vec<(u32, String)> = topology
            .cores()
            .iter()
            .map(|core| (core.node, core.cpus.to_string()))
            .collect();
        // CPU 4 is offline.
        assert_eq!(
            cores,
            [(0, "0,2".into()), (1, "1,3".into()), (1, "5".into())]
        );
    }

    #[test]
    fn this_machine_has_cpus() {
        let topology = topology(Path::new("/sys")).unwrap();
        assert!(!topology.cpus().is_empty());
    }
}
