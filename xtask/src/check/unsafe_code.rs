//! `#![forbid(unsafe_code)]` in every crate but the few that talk to the kernel or view guest memory.

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
const FORBID: &str = "#![forbid(unsafe_code)]";

/// One line for each crate root without the attribute that must have it.
pub fn violations(metadata: &Metadata) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        if MAY_BE_UNSAFE.contains(&package.name.as_str()) {
            continue;
        }
        for root in package
            .targets
            .iter()
            .filter(|target| is_root(target))
            .map(|target| &target.src_path)
        {
            let text =
                std::fs::read_to_string(root).with_context(|| format!("cannot read {root}"))?;
            if !has_attribute(&text) {
                let name = root.strip_prefix(&metadata.workspace_root).unwrap_or(root);
                found.push(format!("{name} lacks {FORBID}"));
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

fn has_attribute(text: &str) -> bool {
    text.lines().any(|line| line.trim() == FORBID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_attribute_counts() {
        assert!(has_attribute("//! Doc.\n\n#![forbid(unsafe_code)]\n"));
        assert!(!has_attribute("// #![forbid(unsafe_code)]\n"));
        assert!(!has_attribute("#![deny(unsafe_code)]\n"));
    }
}
