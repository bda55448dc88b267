//! A new project: a crate that builds and tests at once, with the SDK beside it.

use std::{fs, path::Path};

use api_types::PluginKind;

use crate::client::Error;

/// The SDK, its interface, and the manifest and lock of the workspace they come from; paths from that workspace on.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
/// Where a project has the SDK.
const SDK_FOLDER: &str = "ashlar-policy";

const SCHEDULER: &str = include_str!("../../templates/scheduler.rs.txt");
const BILLING: &str = include_str!("../../templates/billing.rs.txt");
const ADMISSION: &str = include_str!("../../templates/admission.rs.txt");
const README: &str = include_str!("../../templates/README.md.txt");
const CONFIG: &str = include_str!("../../../../plugins/.cargo/config.toml");

/// Makes the project `name` in `folder`, which must not be there yet.
///
/// # Errors
/// It is there, or cannot be written.
pub fn create(folder: &Path, name: &str, kind: PluginKind) -> Result<(), Error> {
    if folder.exists() {
        return Err(Error::Usage(format!(
            "{} is there already: name another folder with --path, or remove it",
            folder.display()
        )));
    }
    for (path, content) in files(name, kind)? {
        let file = folder.join(path);
        let doing = || format!("cannot write {}", file.display());
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(Error::local(doing()))?;
        }
        fs::write(&file, content).map_err(Error::local(doing()))?;
    }
    Ok(())
}

/// The files of a project.
fn files(name: &str, kind: PluginKind) -> Result<Vec<(String, String)>, Error> {
    let (source, example) = match kind {
        PluginKind::Scheduler => (SCHEDULER, "--set keep-free=10"),
        PluginKind::Billing => (BILLING, "--set vcpu-hour=0.02"),
        PluginKind::Admission => (ADMISSION, "--set max-vcpus=16"),
    };
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest(name)?),
        ("Cargo.lock".to_owned(), sdk_file("Cargo.lock")?.to_owned()),
        (".cargo/config.toml".to_owned(), CONFIG.to_owned()),
        (".gitignore".to_owned(), "/target\n".to_owned()),
        ("src/lib.rs".to_owned(), source.to_owned()),
        (
            "README.md".to_owned(),
            README
                .replace("{name}", name)
                .replace("{example}", example)
                .replace("{kind}", kind_name(kind)),
        ),
    ];
    let sdk = SDK.iter().filter(|(path, _)| path.contains('/'));
    files
        .extend(sdk.map(|(path, content)| (format!("{SDK_FOLDER}/{path}"), (*content).to_owned())));
    Ok(files)
}

/// The manifest: the policy's package, and the workspace that the SDK's manifest refers to.
fn manifest(name: &str) -> Result<String, Error> {
    let broken = || Error::Failed("this program was built with a broken SDK".into());
    let workspace = sdk_file("Cargo.toml")?;
    // What follows its list of members: versions, dependencies, lints and the profile.
    let (_, rest) = workspace.split_once("members = [").ok_or_else(broken)?;
    let (_, rest) = rest.split_once(']').ok_or_else(broken)?;
    let rest = rest.replace("path = \"sdk\"", &format!("path = \"{SDK_FOLDER}/sdk\""));
    Ok(format!(
        "[package]
name = \"{name}\"
version = \"0.1.0\"
edition = \"2024\"
publish = false

[lib]
crate-type = [\"cdylib\", \"rlib\"]

[dependencies]
ashlar-policy.workspace = true

[workspace]
resolver = \"3\"
members = [\"{SDK_FOLDER}/sdk\"]{rest}"
    ))
}

fn sdk_file(path: &str) -> Result<&'static str, Error> {
    let found = SDK.iter().find(|(name, _)| *name == path);
    found
        .map(|(_, content)| *content)
        .ok_or_else(|| Error::Failed(format!("this program was built without the SDK's {path}")))
}

fn kind_name(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Scheduler => "scheduler",
        PluginKind::Billing => "billing",
        PluginKind::Admission => "admission",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_everything_it_names() {
        for kind in [
            PluginKind::Scheduler,
            PluginKind::Billing,
            PluginKind::Admission,
        ] {
            let files = files("mine", kind).unwrap();
            let content = |path: &str| {
                let found = files.iter().find(|(name, _)| name == path);
                found.unwrap_or_else(|| panic!("no {path}")).1.as_str()
            };
            assert!(content("Cargo.toml").contains("name = \"mine\""));
            assert!(content("Cargo.toml").contains("path = \"ashlar-policy/sdk\""));
            assert!(content("README.md").contains("ashlar plugins install mine"));
            assert!(content("ashlar-policy/sdk/src/lib.rs").contains("pub mod check;"));
            content("ashlar-policy/wit/worlds.wit");
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let error = create(folder.path(), "mine", PluginKind::Billing).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
