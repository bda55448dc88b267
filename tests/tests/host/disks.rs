//! Disks as guests see them and as the pool keeps them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use xtask::command::Invocation;
use xtask::pool::Pool;

use crate::site::{Site, Started, poll, text};

const IMAGE_BYTES: u64 = 64 << 20;

#[test]
fn system_disks_are_clones_that_share_until_they_are_written() -> Result<()> {
    let site = Site::new(&[])?;
    // The probe's own pattern becomes the disk of an image.
    let author = site.run(
        "disk write 0 len=64M seed=11; disk flush 0",
        &["--disk", "1G"],
    )?;
    site.host.cli(&["stop", "--wait", &author.id])?;
    let written = File::open(site.disk_file(&site.disk(&author, 0)?))?;
    let part = site.file("system.raw", b"")?;
    std::io::copy(&mut written.take(IMAGE_BYTES), &mut File::create(&part)?)?;
    let probe = crate::site::probe();
    let probe = probe.to_str().context("not UTF-8")?;
    let image = site.host.cli(&[
        "images", "import", "--name", "system", "--kernel", probe, "--disk", &part,
    ])?;
    let image = text(&image, "id")?;
    site.host.cli(&["rm", "--force", "--wait", &author.id])?;
    let stored = site.host.volumes().join("images").join(&image).join("disk");
    let before = digest(&stored)?;
    let free = || -> Result<u64> {
        let line = Invocation::new("stat")
            .args(["-f", "-c", "%f %S"])
            .arg(site.host.volumes())
            .read()?;
        let (blocks, size) = line.trim().split_once(' ').context("no numbers")?;
        Ok(blocks.parse::<u64>()? * size.parse::<u64>()?)
    };

    let at_first = free()?;
    let run = |name: &str| -> Result<Started> {
        let args = [
            "run",
            "system",
            "--name",
            name,
            "--vcpus",
            "1",
            "--memory",
            "32M",
            "--vswitch",
            &site.vswitch,
            "--wait",
        ];
        let created = site.host.cli(&args)?;
        let instance = Started {
            id: text(&created["instances"][0], "id")?,
            address: String::new(),
        };
        site.guest(&instance)
            .wait_for("probe: script-end", crate::site::PATIENCE)?;
        Ok(instance)
    };
    let (one, two) = (run("one")?, run("two")?);
    let taken = at_first.saturating_sub(free()?);
    ensure!(
        taken < IMAGE_BYTES / 8,
        "two clones of 64 MiB took {taken} bytes"
    );
    let shown = site.show(&one)?;
    ensure!(shown["disks"][0]["role"] == "system", "{shown}");

    for instance in [&one, &two] {
        site.tell(instance, "disk verify 0 len=64M seed=11")?;
    }
    site.tell(&one, "disk write 0 start=8192 len=4M seed=12")?;
    site.tell(&one, "disk flush 0")?;
    site.tell(&one, "disk verify 0 start=8192 len=4M seed=12")?;
    site.tell(&two, "disk verify 0 len=64M seed=11")?;
    let three = run("three")?;
    site.tell(&three, "disk verify 0 len=64M seed=11")?;
    ensure!(digest(&stored)? == before, "a guest changed its image");
    let taken = at_first.saturating_sub(free()?);
    ensure!(
        (4 << 20..24 << 20).contains(&taken),
        "4 MiB were written, {taken} bytes taken"
    );

    // An image goes without the disks made from it.
    site.host
        .cli(&["rm", "--force", "--wait", &two.id, &three.id])?;
    site.host.cli(&["stop", "--wait", &one.id])?;
    site.host.cli(&["start", "--wait", &one.id])?;
    site.tell(&one, "disk verify 0 start=8192 len=4M seed=12")?;
    site.tell(&one, "disk verify 0 start=0 len=4M seed=11")?;
    site.host.cli(&["rm", "--force", "--wait", &one.id])?;
    site.host.cli(&["images", "rm", &image])?;
    poll("the image's files are gone", || {
        Ok((!stored.exists()).then_some(()))
    })?;
    site.clean()
}

#[test]
fn data_disks_go_or_stay_as_they_were_asked_to_and_serve_the_next_instance() -> Result<()> {
    let site = Site::new(&[])?;
    let images = site.host.cli(&["images", "ls"])?;
    let image = images["items"][0]["id"]
        .as_str()
        .or(images[0]["id"].as_str());
    let body = json!({
        "image_id": image.context("no image")?, "vcpus": 1, "memory_mib": 32, "vswitch_id": site.vswitch,
        "data_disks": [{"size_gib": 1, "delete_with_instance": false, "name": "kept"}, {"size_gib": 2}],
    });
    let created = site.http("POST", "/v1/instances", &body.to_string())?;
    ensure!(created.status < 300, "{created:?}");
    let first = Started {
        id: text(&created.body["instances"][0], "id")?,
        address: String::new(),
    };
    site.guest(&first)
        .wait_for("probe: script-end", crate::site::PATIENCE)?;
    // A guest can be through with its script before that it runs is on stable storage.
    poll("the instance is Running", || {
        Ok((site.show(&first)?["state"] == "Running").then_some(()))
    })?;
    let (kept, lost) = (site.disk(&first, 0)?, site.disk(&first, 1)?);
    site.tell(&first, "disk write 0 len=16M seed=21 depth=4")?;
    site.tell(&first, "disk write 1 len=1M seed=22")?;
    site.tell(&first, "disk flush 0")?;
    // What one instance has, no other gets.
    let run = [
        "run", "probe", "--vcpus", "1", "--memory", "32M", "--disk", &kept,
    ];
    site.refused_with_advice(&run, "IncorrectDiskStatus", &[&kept, &first.id])?;
    site.refused_with_advice(&["disks", "rm", &kept], "IncorrectDiskStatus", &[&kept])?;

    site.host.cli(&["rm", "--force", "--wait", &first.id])?;
    poll("the disk is Available", || {
        Ok((site.host.cli(&["disks", "show", &kept])?["state"] == "Available").then_some(()))
    })?;
    site.refused_with_advice(
        &["disks", "show", &lost],
        "InvalidDiskId.NotFound",
        &[&lost],
    )?;
    ensure!(
        site.disk_file(&kept).exists() && !site.disk_file(&lost).exists(),
        "the wrong file went"
    );

    let second = site.run("disks", &["--disk", &kept])?;
    site.tell(&second, "disk verify 0 len=16M seed=21")?;
    // Discarded sectors read as nothing, and the pool gets the room back.
    site.tell(&second, "disk discard 0 len=8M")?;
    site.tell(&second, "disk verify 0 len=8M seed=zero")?;
    site.tell(&second, "disk verify 0 start=16384 len=8M seed=21")?;
    site.host.cli(&["rm", "--force", "--wait", &second.id])?;
    let shown = site.host.cli(&["disks", "show", &kept])?;
    ensure!(shown["state"] == "Available", "{shown}");

    // A disk on its own.
    let spare = text(
        &site
            .host
            .cli(&["disks", "create", "1G", "--name", "spare"])?,
        "id",
    )?;
    site.host.cli(&["disks", "rm", &kept, &spare])?;
    poll("the files are gone", || {
        Ok((!site.disk_file(&kept).exists() && !site.disk_file(&spare).exists()).then_some(()))
    })?;
    site.clean()
}

#[test]
fn local_disks_are_on_a_file_system_of_their_own_and_go_with_their_instance() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    let local = Pool::make(folder.path(), 3 << 30)?;
    let volumes = local.path().join("volumes");
    let mut site = Site::new(&["--local-pool", volumes.to_str().context("not UTF-8")?])?;
    let given = |site: &Site| -> Result<u64> {
        let host = site.host.cli(&["host"])?;
        let given = host["local_disk_used_gib"].as_u64();
        given.with_context(|| format!("nothing about local disks: {host}"))
    };
    let first = site.run("disks", &["--local-disk", "1G", "--disk", "1G"])?;
    let (scratch, other) = (site.disk(&first, 0)?, site.disk(&first, 1)?);
    let file = volumes.join("disks").join(&scratch);
    let room = fs::metadata(&file)?.blocks() * 512;
    ensure!(room >= 1 << 30, "it has room of {room} bytes");
    ensure!(
        site.disk_file(&other).exists() && !site.disk_file(&scratch).exists(),
        "a disk is in the wrong pool"
    );
    ensure!(given(&site)? == 1, "{}", site.host.cli(&["host"])?);
    site.tell(&first, "disk write 0 len=8M seed=31")?;
    site.tell(&first, "disk flush 0")?;

    // It is kept over a stop and a restart, and its instance with it.
    let stop = [
        "stop",
        "--wait",
        "--stopped-mode",
        "stop-charging",
        &first.id,
    ];
    site.host.cli(&stop)?;
    let shown = site.show(&first)?;
    ensure!(shown["stopped_mode"] == "KeepCharging", "{shown}");
    site.host.stop();
    site.host.start()?;
    site.host.cli(&["start", "--wait", &first.id])?;
    site.tell(&first, "disk verify 0 len=8M seed=31")?;

    let more = [
        "run",
        "probe",
        "--vcpus",
        "1",
        "--memory",
        "32M",
        "--local-disk",
        "2G",
    ];
    site.refused_with_advice(&more, "OperationDenied.NoStock", &["local-disk"])?;
    site.refused_with_advice(
        &["disks", "rm", &scratch],
        "IncorrectDiskStatus",
        &[&scratch],
    )?;
    site.host.cli(&["rm", "--force", "--wait", &first.id])?;
    ensure!(!file.exists() && given(&site)? == 0, "something is left");
    site.clean()
}

fn digest(file: &std::path::Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    Ok(Sha256::digest(bytes).to_vec())
}
