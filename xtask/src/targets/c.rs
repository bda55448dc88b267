//! The policy in C, and its tests, which run on this machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use policy_c::Policy;

use super::{OTHER_POLICIES, PLUGINS, Stamp};
use crate::command::Invocation;
use crate::hash::Inputs;
use crate::{paths, progress, setup};

const POLICY: &str = "billing-flat-c";
const KIND: &str = "billing";
/// The SDK for C.
const SDK: &str = "sdk-c";

/// Builds it beside the other policies, unless it is there and made of the same sources.
pub fn build(force: bool) -> Result<()> {
    let parts = Parts::new("component");
    let product = paths::out_dir(OTHER_POLICIES)?.join(format!("{POLICY}.wasm"));
    let mut inputs = Inputs::default();
    inputs
        .tree(&parts.sources)?
        .tree(&parts.sdk)?
        .tree(&parts.wit)?
        .tree(&paths::root().join("appliance/policy-c"))?;
    let digest = inputs.digest();
    let stamp = Stamp(paths::out().join(format!("{POLICY}.stamp")));
    if !force && stamp.products(&digest).is_some() {
        return Ok(());
    }
    progress::step(&format!("build plugins/{POLICY} with clang"), || {
        install_missing()?;
        stamp.remove();
        let component = parts.policy().build()?;
        // In one step: a running test may be reading the old one.
        let new = product.with_extension("new");
        std::fs::write(&new, component)
            .and_then(|()| std::fs::rename(&new, &product))
            .with_context(|| format!("cannot write {}", product.display()))?;
        stamp.write(&digest, std::slice::from_ref(&product))
    })
}

/// Runs its tests.
pub fn test(limit: Duration) -> Result<()> {
    let parts = Parts::new("tests");
    install_missing()?;
    let program = parts.policy().build_tests(&parts.sources.join("tests"))?;
    Invocation::new(program).within(limit).run()
}

/// The folders it is made of.
struct Parts {
    sources: PathBuf,
    sdk: PathBuf,
    wit: PathBuf,
    work: PathBuf,
}

impl Parts {
    fn new(what: &str) -> Self {
        let plugins = PLUGINS.dir();
        Self {
            sources: plugins.join(POLICY),
            sdk: plugins.join(SDK),
            wit: plugins.join("wit"),
            work: paths::target().join(POLICY).join(what),
        }
    }

    fn policy(&self) -> Policy<'_> {
        Policy {
            kind: KIND,
            sources: &self.sources,
            sdk: &self.sdk,
            wit: &self.wit,
            work: &self.work,
        }
    }
}

fn install_missing() -> Result<()> {
    let packages: Vec<&str> = policy_c::missing()
        .iter()
        .map(|program| program.package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    setup::install(&packages)
}
