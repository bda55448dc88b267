//! Checks that need no running machine: formatting, lints, the direction of dependencies, and what no file may contain.

mod layers;
mod text;
mod unsafe_code;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::command::Invocation;
use crate::{paths, progress, targets};

const CLIPPY_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs them all; the quick ones first.
pub fn run() -> Result<()> {
    progress::step("formatting", formatting)?;
    progress::step("layers", || {
        let metadata = workspace()?;
        report(
            "forbidden dependencies",
            &layers::violations(&layers::edges(&metadata)),
        )?;
        report(
            "crates with or without unsafe code against the rules",
            &unsafe_code::violations(&metadata)?,
        )
    })?;
    progress::step("texts", || {
        report("what no file may contain", &text::violations()?)
    })?;
    progress::step("clippy", clippy)
}

fn formatting() -> Result<()> {
    let mut workspaces = vec![paths::root()];
    workspaces.extend(targets::GUESTS.iter().map(|guest| guest.dir()));
    for dir in workspaces {
        cargo(&dir)
            .args(["fmt", "--all", "--check"])
            .run()
            .with_context(|| {
                format!(
                    "{} is not formatted; `cargo fmt --all` there mends it",
                    dir.display()
                )
            })?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    cargo(&paths::root())
        .args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--release",
            "--",
            "-D",
            "warnings",
        ])
        .within(CLIPPY_LIMIT)
        .run()
}

fn cargo(dir: &Path) -> Invocation {
    Invocation::new(paths::cargo()).dir(dir)
}

fn workspace() -> Result<Metadata> {
    MetadataCommand::new()
        .cargo_path(paths::cargo())
        .current_dir(paths::root())
        .no_deps()
        .exec()
        .context("cargo cannot describe the workspace")
}

fn report(what: &str, violations: &[String]) -> Result<()> {
    if !violations.is_empty() {
        bail!("{what}:\n  {}", violations.join("\n  "));
    }
    Ok(())
}
