//! The direction of dependency: a crate depends on layers below its own, and on its own only where the table says so.

use cargo_metadata::Metadata;

/// What each layer is, lowest first, with its crates. The last one may use everything and nothing may use it.
const LAYERS: &[(&str, &[&str])] = &[
    ("L0 vocabulary", &["types", "api-types"]),
    (
        "L1 pure core",
        &[
            "instance",
            "security-group",
            "placement",
            "ledger",
            "billing",
            "virtio",
            "block",
            "pci",
            "acpi",
            "cpu",
            "image-format",
            "host-config",
        ],
    ),
    (
        "L2 adapters",
        &[
            "hypervisor",
            "block-uring",
            "network",
            "nft",
            "jail",
            "cgroup",
            "store",
            "pool",
            "plugin-host",
            "policy-c",
            "host",
            "uplink",
            "boot-disk",
            "tpm",
        ],
    ),
    ("L3 assembly", &["vmm", "control", "api", "init"]),
    ("builder", &["image-build"]),
    ("L4 roots", &["ashlard", "ashlar", "initramfs", "xtask"]),
    ("tests and benches", &["integration", "bench"]),
];

/// The natural edges within a layer: none of them closes a circle.
const SAME_LAYER: &[(&str, &str)] = &[
    ("virtio", "pci"),
    ("billing", "ledger"),
    ("host-config", "cpu"),
    ("network", "nft"),
    ("api", "control"),
    ("api-types", "types"),
];

/// Crates that may use less than their layer allows: `ashlar` talks to a host over HTTP, reads its image and its configuration, builds
/// policies, and knows nothing of its inside; `initramfs` hands over to the daemon and is small; `xtask` builds what it runs and links none of it but what images and their
/// disks are made of, and what builds policies in C.
const NARROW: &[(&str, &[&str])] = &[
    (
        "ashlar",
        &[
            "types",
            "api-types",
            "image-format",
            "host-config",
            "policy-c",
        ],
    ),
    ("initramfs", &["host", "image-format"]),
    ("image-build", &["types", "image-format", "host-config"]),
    (
        "xtask",
        &[
            "image-build",
            "image-format",
            "boot-disk",
            "policy-c",
            "types",
        ],
    ),
];

/// A dependency between two crates of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub from: String,
    pub to: String,
}

/// All dependencies between crates of the workspace, whatever they are for.
pub fn edges(metadata: &Metadata) -> Vec<Edge> {
    metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            let to = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.path.is_some());
            to.map(|dependency| Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
            })
        })
        .collect()
}

/// One line for each edge that the table forbids and each crate it doesn't know.
pub fn violations(edges: &[Edge]) -> Vec<String> {
    edges.iter().filter_map(violation).collect()
}

fn violation(Edge { from, to }: &Edge) -> Option<String> {
    let ((from_rank, from_layer), (to_rank, to_layer)) = match (layer(from), layer(to)) {
        (Some(from), Some(to)) => (from, to),
        (None, _) => return Some(unknown(from)),
        (_, None) => return Some(unknown(to)),
    };
    if let Some((_, allowed)) = NARROW.iter().find(|(name, _)| name == from) {
        return (!allowed.contains(&to.as_str())).then(|| {
            format!("{from} may not depend on {to}: of the workspace it may use only {allowed:?}")
        });
    }
    let natural = SAME_LAYER.contains(&(from.as_str(), to.as_str()));
    if to_rank < from_rank || (to_rank == from_rank && natural) {
        return None;
    }
    Some(format!(
        "{from} ({from_layer}) may not depend on {to} ({to_layer})"
    ))
}

fn layer(name: &str) -> Option<(usize, &'static str)> {
    LAYERS
        .iter()
        .enumerate()
        .find(|(_, (_, crates))| crates.contains(&name))
        .map(|(rank, (layer, _))| (rank, *layer))
}

fn unknown(name: &str) -> String {
    format!("{name} is in no layer: add it to the table of layers in xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str) -> Option<String> {
        violation(&Edge {
            from: from.into(),
            to: to.into(),
        })
    }

    #[test]
    fn a_forbidden_edge_is_named_with_both_layers() {
        assert_eq!(
            check("pci", "vmm").unwrap(),
            "pci (L1 pure core) may not depend on vmm (L3 assembly)"
        );
        assert_eq!(
            check("virtio", "block").unwrap(),
            "virtio (L1 pure core) may not depend on block (L1 pure core)"
        );
        assert!(
            check("vmm", "bench").is_some(),
            "nothing may use tests and benches"
        );
        assert!(
            check("ashlar", "control")
                .unwrap()
                .contains("ashlar may not depend on control")
        );
        assert!(check("xtask", "control").is_some());
        assert!(
            check("made-up", "types")
                .unwrap()
                .contains("made-up is in no layer")
        );
    }

    #[test]
    fn edges_down_and_natural_ones_are_allowed() {
        for (from, to) in [
            ("vmm", "pci"),
            ("virtio", "pci"),
            ("ashlar", "api-types"),
            ("integration", "ashlard"),
            ("bench", "vmm"),
        ] {
            assert_eq!(check(from, to), None);
        }
    }

    #[test]
    fn no_crate_is_in_two_layers_and_natural_edges_stay_within_one() {
        let mut all: Vec<_> = LAYERS.iter().flat_map(|(_, crates)| *crates).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        for (from, to) in SAME_LAYER {
            assert_eq!(
                layer(from).unwrap().0,
                layer(to).unwrap().0,
                "{from} → {to}"
            );
        }
    }

    #[test]
    fn the_workspace_has_no_forbidden_edge() {
        let edges = edges(&crate::check::workspace().unwrap());
        assert!(
            !edges.is_empty(),
            "the workspace's dependencies were not read"
        );
        assert_eq!(violations(&edges), Vec::<String>::new());
    }
}
