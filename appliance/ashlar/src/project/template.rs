//! A new project: sources that build and test at once, with the SDK of their language beside them.

use std::{fs, path::Path};

use api_types::PluginKind;

use super::c::{self, Manifest, Written};
use crate::client::Error;

/// The SDKs, their interface, and the manifest and lock of the workspace they come from; paths from that workspace on.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
/// Where a project has the SDK.
pub const SDK_FOLDER: &str = "ashlar-policy";

const SCHEDULER: &str = include_str!("../../templates/scheduler.rs.txt");
const BILLING: &str = include_str!("../../templates/billing.rs.txt");
const ADMISSION: &str = include_str!("../../templates/admission.rs.txt");
const SCHEDULER_C: [&str; 2] = [
    include_str!("../../templates/scheduler.c.txt"),
    include_str!("../../templates/scheduler-tests.c.txt"),
];
const BILLING_C: [&str; 2] = [
    include_str!("../../templates/billing.c.txt"),
    include_str!("../../templates/billing-tests.c.txt"),
];
const ADMISSION_C: [&str; 2] = [
    include_str!("../../templates/admission.c.txt"),
    include_str!("../../templates/admission-tests.c.txt"),
];
const README: &str = include_str!("../../templates/README.md.txt");
const CONFIG: &str = include_str!("../../../../plugins/.cargo/config.toml");

/// A language that policies are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// C.
    C,
}

impl Language {
    /// Where a new project has the policy.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::C => "src/policy.c",
        }
    }

    /// What its folders are, for those who find them.
    fn parts(self) -> &'static str {
        match self {
            Self::Rust => {
                "`src/lib.rs` is the policy; `ashlar-policy/` is the SDK with the interface it is written against, which nobody needs to change."
            }
            Self::C => {
                "`src/` is the policy and `tests/` are its tests, of any number of files; `ashlar-policy/` is the SDK for C with the interface it is
written against, which nobody needs to change. clang and wasm-ld must be on PATH (Debian: `apt install clang lld`). There is no C library
but `<string.h>`'s `memcpy`, `memmove`, `memset`, `memcmp` and `strlen`; `ashlar-policy/sdk-c/common` has texts, decimal numbers and memory."
            }
        }
    }
}

/// Makes the project `name` in `folder`, which must not be there yet.
///
/// # Errors
/// It is there, or cannot be written.
pub fn create(
    folder: &Path,
    name: &str,
    kind: PluginKind,
    language: Language,
) -> Result<(), Error> {
    if folder.exists() {
        return Err(Error::Usage(format!(
            "{} is there already: name another folder with --path, or remove it",
            folder.display()
        )));
    }
    for (path, content) in files(name, kind, language)? {
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
fn files(name: &str, kind: PluginKind, language: Language) -> Result<Vec<(String, String)>, Error> {
    let example = match kind {
        PluginKind::Scheduler => "--set keep-free=10",
        PluginKind::Billing => "--set vcpu-hour=0.02",
        PluginKind::Admission => "--set max-vcpus=16",
    };
    let readme = README
        .replace("{name}", name)
        .replace("{example}", example)
        .replace("{kind}", kind_name(kind))
        .replace("{parts}", language.parts());
    let mut files = vec![
        ("README.md".to_owned(), readme),
        (".gitignore".to_owned(), "/target\n".to_owned()),
    ];
    match language {
        Language::Rust => files.extend(rust_files(name, kind)?),
        Language::C => files.extend(c_files(name, kind)?),
    }
    let sdk = SDK
        .iter()
        .filter(|(path, _)| is_needed(path, kind, language));
    files
        .extend(sdk.map(|(path, content)| (format!("{SDK_FOLDER}/{path}"), (*content).to_owned())));
    Ok(files)
}

fn rust_files(name: &str, kind: PluginKind) -> Result<Vec<(String, String)>, Error> {
    let source = match kind {
        PluginKind::Scheduler => SCHEDULER,
        PluginKind::Billing => BILLING,
        PluginKind::Admission => ADMISSION,
    };
    Ok(vec![
        ("Cargo.toml".to_owned(), manifest(name)?),
        ("Cargo.lock".to_owned(), sdk_file("Cargo.lock")?.to_owned()),
        (".cargo/config.toml".to_owned(), CONFIG.to_owned()),
        (Language::Rust.source().to_owned(), source.to_owned()),
    ])
}

fn c_files(name: &str, kind: PluginKind) -> Result<Vec<(String, String)>, Error> {
    let [source, tests] = match kind {
        PluginKind::Scheduler => SCHEDULER_C,
        PluginKind::Billing => BILLING_C,
        PluginKind::Admission => ADMISSION_C,
    };
    let manifest = Manifest {
        name: name.to_owned(),
        kind,
        language: Written::C,
    };
    let manifest = toml::to_string(&manifest)
        .map_err(|error| Error::Failed(format!("cannot write a manifest: {error}")))?;
    Ok(vec![
        (c::MANIFEST.to_owned(), manifest),
        (Language::C.source().to_owned(), source.to_owned()),
        (format!("{}/policy.c", c::TESTS), tests.to_owned()),
    ])
}

/// Whether a project has that file of the SDKs: their interface, and what its language and its kind need.
fn is_needed(path: &str, kind: PluginKind, language: Language) -> bool {
    let other_kind = |part: &str| {
        ["scheduler", "billing", "admission"].iter().any(|name| {
            *name != kind_name(kind) && part.split(['/', '.']).any(|word| word == *name)
        })
    };
    match (path.split_once('/'), language) {
        (Some(("wit", _)), _) | (Some(("sdk", _)), Language::Rust) => true,
        (Some(("sdk-c", rest)), Language::C) => !other_kind(rest),
        _ => false,
    }
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

/// What the kind is called, which is also the name of its world.
pub fn kind_name(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Scheduler => "scheduler",
        PluginKind::Billing => "billing",
        PluginKind::Admission => "admission",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [PluginKind; 3] = [
        PluginKind::Scheduler,
        PluginKind::Billing,
        PluginKind::Admission,
    ];

    #[test]
    fn a_project_has_everything_it_names() {
        for kind in KINDS {
            let files = files("mine", kind, Language::Rust).unwrap();
            let content = |path: &str| {
                let found = files.iter().find(|(name, _)| name == path);
                found.unwrap_or_else(|| panic!("no {path}")).1.as_str()
            };
            assert!(content("Cargo.toml").contains("name = \"mine\""));
            assert!(content("Cargo.toml").contains("path = \"ashlar-policy/sdk\""));
            assert!(content("README.md").contains("ashlar plugins install mine"));
            assert!(content("ashlar-policy/sdk/src/lib.rs").contains("pub mod check;"));
            content("ashlar-policy/wit/worlds.wit");
            assert!(!files.iter().any(|(name, _)| name.contains("sdk-c")));
        }
    }

    #[test]
    fn a_project_in_c_has_what_its_kind_needs_and_nothing_of_the_others() {
        for kind in KINDS {
            let files = files("mine", kind, Language::C).unwrap();
            let has = |path: &str| files.iter().any(|(name, _)| name == path);
            let of_kind = kind_name(kind);
            for path in [
                "policy.toml".to_owned(),
                "src/policy.c".to_owned(),
                "tests/policy.c".to_owned(),
                "ashlar-policy/wit/worlds.wit".to_owned(),
                "ashlar-policy/sdk-c/library/string.h".to_owned(),
                "ashlar-policy/sdk-c/common/text.h".to_owned(),
                format!("ashlar-policy/sdk-c/{of_kind}/policy.h"),
                format!("ashlar-policy/sdk-c/check/{of_kind}.c"),
            ] {
                assert!(has(&path), "no {path}");
            }
            for other in KINDS.map(kind_name).iter().filter(|name| **name != of_kind) {
                assert!(!has(&format!("ashlar-policy/sdk-c/{other}/policy.h")));
                assert!(!has(&format!("ashlar-policy/sdk-c/check/{other}.c")));
            }
            assert!(!files.iter().any(|(name, _)| name.ends_with(".rs")));
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        for language in [Language::Rust, Language::C] {
            let folder = tempfile::tempdir().unwrap();
            let error = create(folder.path(), "mine", PluginKind::Billing, language).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{error}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
