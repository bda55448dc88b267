//! `ashlar image inspect`.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use clap::Args;
use image_format::{Artifact, ArtifactKind, Manifest};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::{
    client::Error,
    flash::{
        look::{self, Disk, Kernel, Sbom},
        release::{Release, check_file, keys, manifest_beside},
    },
    output::{Output, facts},
};

/// Show what a host image is.
#[derive(Debug, Args)]
#[command(
    after_help = "Files that the manifest names are compared with it. Looking never fails because a signature does not hold: it says so.\n\n\
    Examples:\n  ashlar image inspect ashlar-0.1.0-metal.img.zst --pubkey release.pub\n  \
    ashlar image inspect ashlar-0.1.0-metal.efi\n  ashlar image inspect ashlar-0.1.0-metal.manifest.json -o json"
)]
pub struct Inspect {
    /// A manifest, a disk image (`….img.zst`, `….img`) or a unified kernel image (`….efi`)
    file: PathBuf,
    /// minisign public key to check the signature with, or a file with such keys
    #[arg(long, value_name = "KEY|FILE")]
    pubkey: Option<String>,
}

#[derive(Serialize)]
struct Inspected {
    manifest: Option<Manifest>,
    signature: String,
    /// Files that are there, beside the manifest.
    files: Vec<Checked>,
    disk: Option<Disk>,
    image: Option<Kernel>,
    sbom: Option<Sbom>,
}

#[derive(Serialize)]
struct Checked {
    file: String,
    /// What differs from the manifest; none if nothing does.
    problem: Option<String>,
}

impl Inspect {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<(), Error> {
        let is = |ending: &str| self.file.to_string_lossy().ends_with(ending);
        // Also where there is no manifest, a file that is not there is no empty answer.
        File::open(&self.file)
            .map_err(Error::local(format!("cannot read {}", self.file.display())))?;
        let path = manifest_beside(&self.file).filter(|path| path.exists());
        let (manifest, signature) = match &path {
            Some(path) => self.manifest(path)?,
            None => (None, "there is no manifest beside it".into()),
        };
        let disk = (is(".img.zst") || is(".img"))
            .then(|| look::disk(&self.file))
            .transpose()?;
        let beside = |kind| {
            let artifact: &Artifact = manifest.as_ref()?.artifact(kind)?;
            Some(self.file.with_file_name(&artifact.file)).filter(|path| path.exists())
        };
        let uki = if is(".manifest.json") || is(".iso") {
            beside(ArtifactKind::Uki)
        } else {
            (disk.is_none()).then(|| self.file.clone())
        };
        let image = match uki {
            Some(path) => {
                let mut file = File::open(&path)
                    .map_err(Error::local(format!("cannot read {}", path.display())))?;
                Some(look::kernel(&mut file, &path.display().to_string())?)
            }
            None => None,
        };
        let inspected = Inspected {
            sbom: beside(ArtifactKind::Sbom).and_then(|path| look::sbom(&path)),
            files: manifest
                .iter()
                .flat_map(|manifest| &manifest.artifacts)
                .filter_map(|artifact| self.check(artifact))
                .collect(),
            manifest,
            signature,
            disk,
            image,
        };
        output.answer(&inspected, shown)
    }

    /// The manifest, and what is to be thought of its signature.
    fn manifest(&self, path: &Path) -> Result<(Option<Manifest>, String), Error> {
        match keys(self.pubkey.as_deref()).and_then(|keys| Release::verified(path, &keys)) {
            Ok(release) => Ok((Some(release.manifest), "good".into())),
            Err(error) => {
                let manifest = Release::unverified(path)?;
                Ok((Some(manifest), format!("NOT VERIFIED: {error}")))
            }
        }
    }

    /// Compares a file with what the manifest says of it: all there are of a manifest, else the one that was named.
    fn check(&self, artifact: &Artifact) -> Option<Checked> {
        let path = self.file.with_file_name(&artifact.file);
        let all = self.file.to_string_lossy().ends_with(".manifest.json");
        ((all || path == self.file) && path.exists()).then(|| Checked {
            file: artifact.file.clone(),
            problem: check_file(&path, artifact, &|_| {})
                .err()
                .map(|error| error.to_string()),
        })
    }
}

fn shown(inspected: &Inspected) -> String {
    let mut rows = Vec::new();
    let in_slot = inspected
        .disk
        .iter()
        .flat_map(|disk| &disk.slots)
        .find_map(|slot| slot.image.as_ref());
    let image = inspected.image.as_ref().or(in_slot);
    if let Some(manifest) = &inspected.manifest {
        rows.extend([
            ("version", manifest.version.clone()),
            ("variant", manifest.variant.to_string()),
            ("kernel", manifest.kernel.clone()),
            (
                "security version",
                format!(
                    "{} (then none below {})",
                    manifest.security_version, manifest.minimum_security_version
                ),
            ),
        ]);
    } else if let Some(image) = image {
        rows.extend([
            ("version", image.version.clone()),
            ("variant", image.variant.clone()),
            ("kernel", image.kernel.clone().unwrap_or_default()),
            ("security version", image.security_version.to_string()),
        ]);
    }
    rows.push(("signature", inspected.signature.clone()));
    if let Some(image) = image {
        let signed = if image.secure_boot_signature {
            "signed"
        } else {
            "not signed"
        };
        rows.push(("Secure Boot", signed.into()));
        rows.push((
            "command line",
            image.command_line.clone().unwrap_or_default(),
        ));
    }
    if let Some(sbom) = &inspected.sbom {
        let counts: Vec<String> = sbom
            .components
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        rows.push(("components", counts.join(", ")));
    }
    let mut text = facts(&rows);
    let artifacts = inspected.manifest.iter().flat_map(|m| &m.artifacts);
    for artifact in artifacts {
        let checked = inspected.files.iter().find(|it| it.file == artifact.file);
        let state = match checked.map(|checked| &checked.problem) {
            Some(Some(problem)) => format!("  {problem}"),
            Some(None) => "  as the manifest says".into(),
            None => String::new(),
        };
        text.push_str(&format!(
            "\n{:<40} {:>12}  {}{state}",
            artifact.file, artifact.size, artifact.sha256
        ));
    }
    if let Some(disk) = &inspected.disk {
        text.push_str(&on_disk(disk));
    }
    for section in image.iter().flat_map(|image| &image.sections) {
        text.push_str(&format!(
            "\n  section {:<12} {:>12}",
            section.name, section.bytes
        ));
    }
    text
}

fn on_disk(disk: &Disk) -> String {
    let mut text = String::new();
    for partition in &disk.partitions {
        text.push_str(&format!(
            "\n  partition {} {:<16} {:>12} at {}",
            partition.number,
            partition.name,
            HumanBytes(partition.bytes).to_string(),
            HumanBytes(partition.start),
        ));
    }
    for slot in &disk.slots {
        let state = slot.tries_left.map_or_else(
            || slot.state.to_owned(),
            |left| format!("{}, {left} tries left", slot.state),
        );
        let version = slot
            .image
            .as_ref()
            .map_or("no image", |image| image.version.as_str());
        let preferred = if disk.preferred == Some(slot.slot) {
            ", preferred"
        } else {
            ""
        };
        text.push_str(&format!(
            "\n  slot {:?}: {version} ({state}{preferred})",
            slot.slot
        ));
    }
    text
}
