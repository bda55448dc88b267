//! A policy in Rust: a crate with the SDK beside it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::toolchain::{self, TARGET, Toolchain, run};
use crate::client::Error;

/// What makes a folder one.
pub const MANIFEST: &str = "Cargo.toml";

/// What `cargo metadata` says, as far as it matters.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// Builds the policy in `folder` as a component.
///
/// # Errors
/// There is no compiler for it, or it does not compile.
pub fn build(folder: &Path) -> Result<PathBuf, Error> {
    let metadata = metadata(folder)?;
    let name = package(folder, &metadata)?;
    let toolchain = Toolchain::find()?;
    run(
        toolchain
            .cargo()
            .args(["build", "--release", "--target", TARGET, "--package", &name])
            .current_dir(folder),
        "build the policy",
    )?;
    let products = metadata.target_directory.join(TARGET).join("release");
    let built = products.join(format!("{}.wasm", name.replace('-', "_")));
    // Always in the same place, wherever cargo was told to build.
    let file = folder.join("target").join(format!("{name}.wasm"));
    let doing = || format!("cannot take {} to {}", built.display(), file.display());
    std::fs::create_dir_all(folder.join("target"))
        .and_then(|()| std::fs::copy(&built, &file))
        .map_err(Error::local(doing()))?;
    Ok(file)
}

/// Runs the tests of the policy in `folder`, on this machine and not in a sandbox.
///
/// # Errors
/// One of them fails, or it does not compile.
pub fn test(folder: &Path) -> Result<(), Error> {
    let name = package(folder, &metadata(folder)?)?;
    let mut cargo = toolchain::native();
    run(
        cargo.args(["test", "--package", &name]).current_dir(folder),
        "test the policy",
    )
}

fn metadata(folder: &Path) -> Result<Metadata, Error> {
    let manifest = folder.join(MANIFEST);
    let output = toolchain::native()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(folder)
        .output()
        .map_err(Error::local("cannot run cargo"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Failed(format!(
            "cargo cannot read {}: {}",
            manifest.display(),
            said.trim()
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|source| Error::NotUnderstood {
        what: "what cargo says of the policy".into(),
        source: source.into(),
    })
}

/// The package whose manifest is in the folder itself.
fn package(folder: &Path, metadata: &Metadata) -> Result<String, Error> {
    let manifest = folder.join(MANIFEST).canonicalize();
    let manifest = manifest.map_err(Error::local(format!("cannot read {}", folder.display())))?;
    let of_folder = metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest);
    of_folder
        .map(|package| package.name.clone())
        .ok_or_else(|| Error::Usage(format!("{} is a workspace, not a policy", folder.display())))
}
