//! Data: encrypted, locked, and more than there is room for.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{DISK, QUICK_END, SOON, from_network, on, run_probe, text};
use crate::lab::appliance::machine::{BOOT, Machine, WELL};
use crate::lab::appliance::parts::{Disk, Parts, Stage};
use crate::lab::appliance::releases::Releases;

pub fn encrypted(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("encrypted")?;
    let disk = stage.blank("disk.img", DISK)?;
    let configuration = "version = 1\n[storage]\nencryption = \"tpm\"\n";
    let boot = |name: &str, tpm: &str| -> Result<Machine> {
        Machine::start(
            &stage,
            name,
            &Parts {
                kernel: Some(from_network(releases, configuration)?),
                tpm: Some(stage.file(tpm)),
                ..on(&disk)
            },
        )
    };
    let mut machine = boot("first", "tpm")?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    ensure!(
        machine.health()?["measurements"]["7"].is_string(),
        "nothing was measured"
    );
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;
    // The data partition is behind the state partition, which is behind the first MiB.
    let mut magic = [0; 6];
    let file = fs::File::open(&disk)?;
    std::os::unix::fs::FileExt::read_exact_at(
        &file,
        &mut magic,
        (1 << 20) + image_format::layout::STATE_BYTES,
    )?;
    ensure!(
        &magic == b"LUKS\xba\xbe",
        "the data partition is not encrypted: {magic:?}"
    );
    let mut machine = boot("second", "tpm")?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.cut();
    // In another machine nobody reads it.
    let mut machine = boot("stolen", "another-tpm")?;
    machine.wait_for("FAULT        data:", 1, BOOT)?;
    machine.wait_for("the daemon is not well", 1, BOOT)?;
    machine.cut();
    stage.clean();
    Ok(())
}

pub fn locked(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("locked")?;
    let disk = stage.blank("disk.img", DISK)?;
    let boot = |name: &str, disks: &[&Path]| -> Result<Machine> {
        Machine::start(
            &stage,
            name,
            &Parts {
                disks: disks.iter().map(|disk| Disk::new(disk)).collect(),
                kernel: Some(from_network(
                    releases,
                    "version = 1\n[storage]\ndata = \"serial:disk\"\nencryption = \"key\"\n",
                )?),
                ..Parts::default()
            },
        )
    };
    let (key, wrong, short) = (stage.file("key"), stage.file("wrong"), stage.file("short"));
    fs::write(&key, [7; 64])?;
    fs::write(&wrong, [8; 64])?;
    fs::write(&short, [7; 31])?;

    let mut machine = boot("first", &[&disk])?;
    machine.wait_for("nobody gave its key", 1, BOOT)?;
    machine.wait_for("the daemon is not well", 1, BOOT)?;
    machine.enroll()?;
    machine.has_fault("data", "is locked")?;
    machine.refused(&unlock(&short)?, &["31 bytes"])?;
    machine.cli(&unlock(&key)?)?;
    machine.wait_for(WELL, 1, BOOT)?;
    let instance = run_probe(&machine, releases)?;
    machine.refused(&unlock(&key)?, &["open already"])?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;

    // Another key opens nothing; the right one brings everything back.
    let mut machine = boot("second", &[&disk])?;
    machine.wait_for("the daemon is not well", 1, BOOT)?;
    machine.moved()?;
    machine.refused(
        &unlock(&wrong)?,
        &["not the right one", "ashlar host unlock"],
    )?;
    machine.cli(&unlock(&key)?)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.cut();

    // With a volume that has the key nobody needs to do anything.
    let volume = stage.blank("volume.img", 4 << 20)?;
    key_volume(&volume, &[7; 64])?;
    let mut machine = boot("third", &[&disk, &volume])?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.moved()?;
    let instances = machine.cli(&["ps", "--all"])?;
    ensure!(
        instances.to_string().contains(&instance),
        "the instance is gone: {instances}"
    );
    machine.cut();
    stage.clean();
    Ok(())
}

/// What opens a host's data with a key.
fn unlock(key: &Path) -> Result<[&str; 4]> {
    Ok(["host", "unlock", "--key-file", text(key)?])
}

/// A FAT volume with the key of a host's data.
fn key_volume(volume: &Path, key: &[u8]) -> Result<()> {
    let mut label = [b' '; 11];
    let name = image_format::layout::KEY_VOLUME_LABEL.as_bytes();
    label[..name.len()].copy_from_slice(name);
    let mut file = fs::File::options().read(true).write(true).open(volume)?;
    fatfs::format_volume(
        &mut file,
        fatfs::FormatVolumeOptions::new().volume_label(label),
    )?;
    let volume = fatfs::FileSystem::new(&mut file, fatfs::FsOptions::new())?;
    volume
        .root_dir()
        .create_file(image_format::layout::KEY_VOLUME_FILE)?
        .write_all(key)?;
    volume.unmount()?;
    Ok(())
}

pub fn full(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("full")?;
    let disk = stage.blank("disk.img", 600 << 20)?;
    let mut machine = Machine::start(
        &stage,
        "full",
        &Parts {
            kernel: Some(from_network(releases, QUICK_END)?),
            ..on(&disk)
        },
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    let instance = run_probe(&machine, releases)?;

    // Ever smaller files, until nothing more fits.
    let probe = text(&releases.probe)?;
    let mut taken = Vec::new();
    let mut said = String::new();
    for mib in [256_u64, 128, 64, 32, 16, 8, 4, 2, 1, 1] {
        let file = stage.blank("filling", mib << 20)?;
        let name = format!("filling-{}", taken.len());
        let import = [
            "-o",
            "json",
            "images",
            "import",
            "--name",
            &name,
            "--kernel",
            probe,
            "--disk",
            text(&file)?,
        ];
        let output = machine.attempt(&import)?;
        if output.status.success() {
            let image: serde_json::Value = serde_json::from_str(&output.out)?;
            taken.push(image["id"].as_str().context("no image")?.to_owned());
        } else {
            said = output.err;
        }
    }
    ensure!(
        said.contains("No space left on device") || said.contains("full"),
        "a full disk is not told: {said:?}"
    );
    notes.push(format!(
        "a full disk: {} images fitted, then: {}",
        taken.len(),
        said.lines().next().unwrap_or_default()
    ));

    let before = machine.console().matches(WELL).count();
    machine.cli(&["host", "reboot"])?;
    machine.wait_for(WELL, before + 1, BOOT)?;
    machine.wait_for_instance(&instance)?;
    for id in &taken {
        machine.cli(&["images", "rm", id])?;
    }
    machine.cli(&[
        "images",
        "import",
        "--name",
        "again",
        "--kernel",
        probe,
        "--cmdline",
        "probe=\"serve tcp=7\"",
    ])?;
    machine.cli(&[
        "run",
        "again",
        "--memory",
        "32M",
        "--wait",
        "--timeout",
        "120",
    ])?;
    machine.cut();
    stage.clean();
    Ok(())
}
