//! `#![forbid(unsafe_code)]` in every crate but the few that talk to the kernel or view guest memory. Those with a single
//! unsafe call deny it and allow it in that one place.

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, Target, TargetKind};

/// Kernel interfaces without a safe wrapper, guest memory, and the bare KVM program that benches compare with.
const MAY_BE_UNSAFE: &[&str] = &[
    "hypervisor",
    "block-uring",
    "jail",
    "virtio",
    "vmm",
    "bench",
];
/// Opening a tap; loading code that this program compiled itself; telling the kernel of a partition; a loop device and adjtime(3).
const ONE_PLACE: &[&str] = &["network", "plugin-host", "boot-disk", "host"];
const FORBID: &str = "#![forbid(unsafe_code)]";
const DENY: &str = "#![deny(unsafe_code)]";

/// One line for each crate root without the attribute that must have it.
pub fn violations(metadata: &Metadata) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        if MAY_BE_UNSAFE.contains(&package.name.as_str()) {
            continue;
        }
        let attribute = if ONE_PLACE.contains(&package.name.as_str()) {
            DENY
        } else {
            FORBID
        };
        for root in package
            .targets
            .iter()
            .filter(|target| is_root(target))
            .map(|target| &target.src_path)
        {
            let text =
                std::fs::read_to_string(root).with_context(|| format!("cannot read {root}"))?;
            if !has_attribute(&text, attribute) {
                let name = root.strip_prefix(&metadata.workspace_root).unwrap_or(root);
                found.push(format!("{name} lacks {attribute}"));
            }
        }
    }
    Ok(found)
}

fn is_root(target: &Target) -> bool {
    target
        .kind
        .iter()
        .any(|kind| matches!(kind, TargetKind::Lib | TargetKind::Bin))
}

fn has_attribute(text: &str, attribute: &str) -> bool {
    text.lines().any(|line| line.trim() == attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_attribute_counts() {
        assert!(has_attribute(
            "//! Doc.\n\n#![forbid(unsafe_code)]\n",
            FORBID
        ));
        assert!(!has_attribute("// #![forbid(unsafe_code)]\n", FORBID));
        assert!(!has_attribute("#![deny(unsafe_code)]\n", FORBID));
    }
}
