//! A policy in C: its sources, the SDK for C, and a manifest that says what it is.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use api_types::PluginKind;
use policy_c::Policy;
use serde::{Deserialize, Serialize};

use super::template::{SDK_FOLDER, kind_name};
use crate::client::Error;

/// What makes a folder one.
pub const MANIFEST: &str = "policy.toml";
/// Where the sources of the policy are, and those of its tests.
pub const SOURCES: &str = "src";
pub const TESTS: &str = "tests";
/// What clang's programs end with where C leaves undefined what they do.
const UNDEFINED: [i32; 2] = [4, 5];

/// The manifest.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the policy is called.
    pub name: String,
    /// What it decides about.
    pub kind: PluginKind,
    /// What it is written in.
    pub language: Written,
}

/// What a policy with such a manifest is written in.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    /// C17.
    C,
}

/// Builds the policy in `folder` as a component.
///
/// # Errors
/// There is no compiler for it, or it does not compile.
pub fn build(folder: &Path) -> Result<PathBuf, Error> {
    let parts = Parts::of(folder, "component")?;
    let component = parts.policy().build()?;
    let file = parts.target.join(format!("{}.wasm", parts.manifest.name));
    let doing = format!("cannot write {}", file.display());
    fs::write(&file, component).map_err(Error::local(doing))?;
    Ok(file)
}

/// Compiles the tests of the policy in `folder`, with the checks of its kind, and runs them.
///
/// # Errors
/// One of them fails, or it does not compile.
pub fn test(folder: &Path) -> Result<(), Error> {
    let parts = Parts::of(folder, "tests")?;
    let program = parts.policy().build_tests(&folder.join(TESTS))?;
    let status = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(Error::local(format!("cannot run {}", program.display())))?;
    match status.signal() {
        None if status.success() => Ok(()),
        None => Err(Error::Failed(
            "the tests of the policy fail; they say why above".into(),
        )),
        Some(signal) if UNDEFINED.contains(&signal) => Err(Error::Failed(format!(
            "the tests of the policy were ended: it does what C leaves undefined; `gdb {}` shows where",
            program.display()
        ))),
        Some(signal) => Err(Error::Failed(format!(
            "the tests of the policy were ended by signal {signal}; `gdb {}` shows where",
            program.display()
        ))),
    }
}

/// What there is of a policy, and where.
struct Parts {
    manifest: Manifest,
    sources: PathBuf,
    sdk: PathBuf,
    wit: PathBuf,
    target: PathBuf,
    work: PathBuf,
}

impl Parts {
    /// Those of the policy in `folder`; `what` is to be made of them.
    fn of(folder: &Path, what: &str) -> Result<Self, Error> {
        let manifest = read(&folder.join(MANIFEST))?;
        let missing = policy_c::missing();
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
            let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
            return Err(Error::Failed(format!(
                "no compiler here makes components of C: not on PATH: {}; on Debian `apt install {}` brings what is missing",
                names.join(", "),
                packages.join(" ")
            )));
        }
        let target = folder.join("target");
        Ok(Self {
            manifest,
            sources: folder.join(SOURCES),
            sdk: folder.join(SDK_FOLDER).join("sdk-c"),
            wit: folder.join(SDK_FOLDER).join("wit"),
            work: target.join(what),
            target,
        })
    }

    fn policy(&self) -> Policy<'_> {
        Policy {
            kind: kind_name(self.manifest.kind),
            sources: &self.sources,
            sdk: &self.sdk,
            wit: &self.wit,
            work: &self.work,
        }
    }
}

fn read(file: &Path) -> Result<Manifest, Error> {
    let doing = format!("cannot read {}", file.display());
    let text = fs::read_to_string(file).map_err(Error::local(doing))?;
    let odd = |what: &dyn std::fmt::Display| {
        Error::Usage(format!("{} is no manifest: {what}", file.display()))
    };
    let manifest: Manifest = toml::from_str(&text).map_err(|error| odd(&error))?;
    super::check_name(&manifest.name).map_err(|must| odd(&format!("the name must be {must}")))?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_must_say_what_the_policy_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(MANIFEST);
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            read(&file)
        };
        let good = read("name = \"mine\"\nkind = \"billing\"\nlanguage = \"c\"\n").unwrap();
        assert_eq!(
            (good.name.as_str(), good.kind),
            ("mine", PluginKind::Billing)
        );
        for (odd, said) in [
            ("kind = \"billing\"\nlanguage = \"c\"\n", "name"),
            (
                "name = \"../up\"\nkind = \"billing\"\nlanguage = \"c\"\n",
                "hyphens",
            ),
            (
                "name = \"mine\"\nkind = \"pricing\"\nlanguage = \"c\"\n",
                "pricing",
            ),
            (
                "name = \"mine\"\nkind = \"billing\"\nlanguage = \"go\"\n",
                "go",
            ),
        ] {
            let error = read(odd).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
