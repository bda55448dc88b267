//! A policy as its author has it: a folder with a Rust crate, or with C and a manifest; in it, the SDK of its language.

mod c;
mod rust;
mod template;
mod toolchain;

pub use template::{Language, create};

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::client::Error;

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
/// There is no policy, or no compiler for it, or it does not compile.
pub fn build(folder: &Path) -> Result<Component, Error> {
    let file = match language(folder)? {
        Language::Rust => rust::build(folder)?,
        Language::C => c::build(folder)?,
    };
    let doing = format!("cannot read {}", file.display());
    let bytes = std::fs::read(&file).map_err(Error::local(doing))?;
    Ok(Component {
        size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        module_sha256: hex::encode(Sha256::digest(&bytes)),
        file,
    })
}

/// Runs the tests of the policy in `folder`, on this machine and not in a sandbox.
///
/// # Errors
/// There is no policy; one of its tests fails, or it does not compile.
pub fn test(folder: &Path) -> Result<(), Error> {
    match language(folder)? {
        Language::Rust => rust::test(folder),
        Language::C => c::test(folder),
    }
}

/// Checks the name of a policy, which is also that of a crate and of files.
///
/// # Errors
/// What it must be.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let good = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good {
        Ok(())
    } else {
        Err("1 to 64 lower-case letters, digits and hyphens, the first a letter")
    }
}

/// What the policy in `folder` is written in, by its manifest.
fn language(folder: &Path) -> Result<Language, Error> {
    let has = |manifest| folder.join(manifest).is_file();
    if has(c::MANIFEST) {
        Ok(Language::C)
    } else if has(rust::MANIFEST) {
        Ok(Language::Rust)
    } else {
        Err(Error::Usage(format!(
            "{} holds no policy: there is neither {} nor {}; `ashlar plugins new NAME` makes one",
            folder.display(),
            rust::MANIFEST,
            c::MANIFEST
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_manifest_holds_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("neither Cargo.toml nor policy.toml"),
            "{error}"
        );
        let file = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        file(rust::MANIFEST);
        assert_eq!(language(folder.path()).unwrap(), Language::Rust);
        file(c::MANIFEST);
        assert_eq!(language(folder.path()).unwrap(), Language::C);
    }
}
