//! Updates that must not survive, and power cuts while one is made.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image_build::Built;
use image_format::ArtifactKind;

use super::{QUICK_END, SOON, enrolled, flashed, manifest, on, text};
use crate::lab::appliance::machine::{BOOT, Machine, WELL};
use crate::lab::appliance::parts::{Parts, Stage};
use crate::lab::appliance::power_cut;
use crate::lab::appliance::releases::Releases;

pub fn bad_updates(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("bad-updates")?;
    let configuration = "version = 1\n[update]\nhealth_deadline_s = 20\n[shutdown]\ngrace_s = 0\n";
    let disk = flashed(releases, &stage, "disk", configuration)?;
    let machine = enrolled(&stage, "bad", &on(&disk))?;

    // One bit of the image, then one byte of the manifest: nothing was switched.
    let folder = stage.file("flipped");
    copy_release(&releases.better, &folder)?;
    let image = folder.join(
        &releases
            .better
            .manifest
            .artifact(ArtifactKind::Uki)
            .context("no image")?
            .file,
    );
    flip(&image, 1 << 20)?;
    let copy = folder.join(
        releases
            .better
            .manifest_file
            .file_name()
            .context("no name")?,
    );
    machine.refused(&["host", "update", text(&copy)?], &["SHA-256"])?;
    let text_of = fs::read_to_string(&copy)?;
    fs::write(
        &copy,
        text_of.replace("\"security_version\": 3", "\"security_version\": 9"),
    )?;
    machine.refused(&["host", "update", text(&copy)?], &["not by a trusted key"])?;
    ensure!(
        machine.health()?["booted_slot"] == "A",
        "a damaged update was booted"
    );

    machine.cli(&["host", "update", &manifest(&releases.better)?])?;
    ensure!(
        machine.health()?["booted_slot"] == "B",
        "the better release does not run"
    );
    machine.refused(
        &["host", "update", &manifest(&releases.first)?],
        &["takes none below 3"],
    )?;

    for (release, why) in [
        (&releases.panics, "0.3.0"),
        (&releases.hangs, "the daemon cannot be asked"),
        (&releases.unwell, "scheduler"),
    ] {
        machine.refused(
            &["host", "update", &manifest(release)?, "--tries", "1"],
            &["failed, and the host runs 0.2.0", why],
        )?;
        machine.wait_until_well("B")?;
        let system = machine.health()?;
        ensure!(
            system["version"] == "0.2.0" && system["booted_slot"] == "B",
            "{system}"
        );
        ensure!(system["update"]["state"] == "Failed", "{system}");
    }
    machine.cut();
    stage.clean();
    Ok(())
}

pub fn watchdog(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("watchdog")?;
    let disk = flashed(releases, &stage, "disk", QUICK_END)?;
    let mut machine = enrolled(&stage, "watchdog", &on(&disk))?;
    // One try is enough: each waits for the watchdog.
    let manifest = manifest(&releases.stands_still)?;
    machine.cli(&["host", "update", &manifest, "--no-reboot", "--tries", "1"])?;
    let start = machine.uptime();
    machine.cli(&["host", "apply"])?;
    machine.wait_for("this slot is on trial", 1, BOOT)?;
    machine.wait_for(
        "the update failed, and this is the slot from before",
        1,
        BOOT,
    )?;
    notes.push(format!(
        "an update whose first process stands still, to the slot from before: {:.0} s",
        (machine.uptime() - start).as_secs_f64()
    ));
    machine.wait_until_well("A")?;
    machine.cut();
    stage.clean();
    Ok(())
}

pub fn power_cuts(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("power-cut")?;
    let disk = flashed(releases, &stage, "disk", QUICK_END)?;
    // The first boot makes partitions; what follows is the update alone.
    let mut machine = enrolled(&stage, "before", &on(&disk))?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;
    let base = stage.file("base.img");
    crate::command::Invocation::new("cp")
        .args(["--sparse=always", text(&disk)?, text(&base)?])
        .read()?;

    let log = stage.blank("writes.img", 0)?;
    let mut machine = Machine::start(
        &stage,
        "update",
        &Parts {
            log_writes: Some(log.clone()),
            ..on(&disk)
        },
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.moved()?;
    machine.cli(&["host", "update", &manifest(&releases.better)?])?;
    machine.cut();

    let good = [&releases.first, &releases.better]
        .iter()
        .filter_map(|release| {
            release
                .manifest
                .artifact(ArtifactKind::Uki)
                .map(|artifact| artifact.sha256)
        })
        .collect::<Vec<_>>();
    let states = power_cut::check(&base, &log, &good, &stage.file("cut"))?;
    notes.push(format!(
        "{} writes, {} states after a power cut judged: each boots a slot whole",
        states.writes, states.judged
    ));
    // Some of them for real.
    for (index, state) in states.kept.iter().enumerate() {
        let mut machine = Machine::start(&stage, &format!("after-{index}"), &on(state))?;
        machine.wait_for(WELL, 1, BOOT)?;
        machine.moved()?;
        let system = machine.health()?;
        ensure!(
            system["version"] == "0.1.0" || system["version"] == "0.2.0",
            "{system}"
        );
        machine.cut();
    }
    notes.push(format!("{} of them booted", states.kept.len()));
    stage.clean();
    Ok(())
}

/// Copies a release's files into a folder of their own.
fn copy_release(built: &Built, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let from = built.manifest_file.parent().context("no folder")?;
    for entry in fs::read_dir(from)?
        .flatten()
        .filter(|entry| entry.path().is_file())
    {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn flip(path: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    *bytes.get_mut(at).context("the file is too short")? ^= 1;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
