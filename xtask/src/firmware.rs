//! Firmware that the drivers of an image load into their devices. Most of it is not free software, so that whoever builds an
//! image brings it: unpacked `firmware-…` packages, or a copy of linux-firmware.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::Invocation;
use crate::paths;

/// How the kernel finds a file beside its plain name (Linux, Documentation/driver-api/firmware/fw_search_path.rst).
const PACKED: [&str; 3] = ["", ".zst", ".xz"];

/// What of the firmware that drivers may ask for was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Name below /lib/firmware → file of this machine.
    pub found: BTreeMap<String, PathBuf>,
    /// What is in no folder, by the part of its name before the first `/`.
    pub missing: BTreeMap<String, usize>,
}

impl Firmware {
    /// Looks for what modules ask for in folders laid out as /lib/firmware, the first one first.
    pub fn gather(modules: &[PathBuf], folders: &[PathBuf]) -> Result<Self> {
        for folder in folders {
            ensure!(
                folder.is_dir(),
                "{} is no folder: name one laid out as /lib/firmware",
                folder.display()
            );
        }
        Ok(Self::find(&wanted(modules)?, folders))
    }

    fn find(wanted: &BTreeSet<String>, folders: &[PathBuf]) -> Self {
        let mut firmware = Self::default();
        for name in wanted {
            let found = folders.iter().find_map(|folder| {
                PACKED.iter().find_map(|packed| {
                    let name = format!("{name}{packed}");
                    let file = folder.join(&name);
                    file.is_file().then_some((name, file))
                })
            });
            if let Some((name, file)) = found {
                firmware.found.insert(name, file);
            } else {
                let family = name.split('/').next().unwrap_or(name);
                *firmware.missing.entry(family.to_owned()).or_default() += 1;
            }
        }
        firmware
    }

    /// For people: what devices may miss; none if nothing.
    pub fn note(&self) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let families: Vec<String> = self
            .missing
            .iter()
            .map(|(family, count)| format!("{family} ({count})"))
            .collect();
        Some(format!(
            "without firmware of {}: devices that do not work without it need `--firmware FOLDER`",
            families.join(", ")
        ))
    }
}

/// The names that modules say they may ask for (modinfo(8)). Those with a pattern in them cannot be known.
fn wanted(modules: &[PathBuf]) -> Result<BTreeSet<String>> {
    if modules.is_empty() {
        return Ok(BTreeSet::new());
    }
    let modinfo = paths::find_program("modinfo").context("modinfo is missing: install kmod")?;
    let told = Invocation::new(modinfo)
        .args(["-F", "firmware"])
        .args(modules)
        .read()?;
    Ok(told
        .lines()
        .filter(|name| is_plain(Path::new(name)) && !name.contains(['*', '?', '%']))
        .map(str::to_owned)
        .collect())
}

fn is_plain(name: &Path) -> bool {
    let mut parts = name.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_taken_as_it_is_packed_and_what_is_not_is_named() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(one.path().join("bnx2x")).unwrap();
        std::fs::write(one.path().join("bnx2x/a.fw.xz"), "").unwrap();
        std::fs::write(two.path().join("plain.bin"), "").unwrap();
        let wanted = ["bnx2x/a.fw", "bnx2x/b.fw", "plain.bin", "qed/c.bin"].map(str::to_owned);
        let folders = [one.path().to_owned(), two.path().to_owned()];
        let firmware = Firmware::find(&wanted.into(), &folders);
        let names: Vec<&str> = firmware.found.keys().map(String::as_str).collect();
        assert_eq!(names, ["bnx2x/a.fw.xz", "plain.bin"]);
        let note = firmware.note().unwrap();
        assert!(note.contains("bnx2x (1), qed (1)"), "{note}");
        assert_eq!(Firmware::default().note(), None);
        let error = Firmware::gather(&[], &[PathBuf::from("/nonexistent")]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"));
    }

    #[test]
    fn names_stay_within_the_folder() {
        assert!(is_plain(Path::new("qed/a.bin")));
        for odd in ["", "../etc/passwd", "/etc/passwd", "a/../b"] {
            assert!(!is_plain(Path::new(odd)), "{odd}");
        }
    }
}
