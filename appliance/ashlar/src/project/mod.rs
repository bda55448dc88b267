//! A policy as its author has it: a folder with a Rust crate and the SDK.

mod template;
mod toolchain;

pub use template::create;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::toolchain::{TARGET, Toolchain, run};
use crate::client::Error;

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

/// A component that was built.
#[derive(Debug, serde::Serialize)]
pub struct Component {
    /// Where it is.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256, lower-case hex: how hosts name it.
    pub module_sha256: String,
}

/// Builds the policy in `folder` as a component.
///
/// # Errors
/// There is no compiler for it, or it does not compile.
pub fn build(folder: &Path) -> Result<Component, Error> {
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
    let bytes = std::fs::read(&file).map_err(Error::local(doing()))?;
    Ok(Component {
        size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        module_sha256: hex::encode(Sha256::digest(&bytes)),
        file,
    })
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
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::Usage(format!(
            "{} holds no policy: there is no Cargo.toml; `ashlar plugins new NAME` makes one",
            folder.display()
        )));
    }
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
    let manifest = folder.join("Cargo.toml").canonicalize();
    let manifest = manifest.map_err(Error::local(format!("cannot read {}", folder.display())))?;
    let of_folder = metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest);
    of_folder
        .map(|package| package.name.clone())
        .ok_or_else(|| Error::Usage(format!("{} is a workspace, not a policy", folder.display())))
}
