//! What is wrong with a host, and what people do at its screen.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::Result;

use super::{DISK, SOON, enrolled, flashed, from_network, on, text};
use crate::lab::appliance::machine::{BOOT, Machine, WELL};
use crate::lab::appliance::parts::{Disk, Network, Parts, Stage};
use crate::lab::appliance::releases::Releases;

pub fn broken(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("broken")?;
    let boot =
        |name: &str, configuration: &str, disks: &[&Path], no_network: bool| -> Result<Machine> {
            Machine::start(
                &stage,
                name,
                &Parts {
                    disks: disks.iter().map(|disk| Disk::new(disk)).collect(),
                    kernel: Some(from_network(releases, configuration)?),
                    network: if no_network {
                        Network::None
                    } else {
                        Network::One
                    },
                    ..Parts::default()
                },
            )
        };
    const GOOD: &str = "version = 1\n";
    let (one, two) = (stage.blank("one.img", DISK)?, stage.blank("two.img", DISK)?);

    // A wrong configuration: the defaults are in force, and the line is named.
    let mut machine = boot(
        "unknown-key",
        "version = 1\nhostnam = \"x\"\n",
        &[&one],
        false,
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.wait_for("unknown field `hostnam`", 1, SOON)?;
    machine.enroll()?;
    machine.has_fault("configuration", "2:1: unknown field")?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;

    let mut machine = boot("wrong-type", "version = 1\nhostname = 7\n", &[&one], false)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.moved()?;
    machine.has_fault("configuration", "expected a string")?;
    machine.cut();

    // No network: nobody reaches it, and the screen says why.
    let mut machine = boot("no-network", GOOD, &[&two], true)?;
    machine.wait_for(
        "FAULT        network: there is no Ethernet interface",
        1,
        BOOT,
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.cut();

    // A disk and a copy of it: which one is meant is not guessed.
    let copy = stage.file("copy.img");
    crate::command::Invocation::new("cp")
        .args(["--sparse=always", text(&one)?, text(&copy)?])
        .read()?;
    let mut machine = boot("two-disks", GOOD, &[&one, &copy], false)?;
    machine.wait_for("FAULT        data: several partitions claim", 1, BOOT)?;
    machine.wait_for("the daemon is not well", 1, BOOT)?;
    machine.moved()?;
    machine.has_fault("data", "/dev/vdb2")?;
    machine.cut();

    // No disk at all.
    let mut machine = boot("no-disk", GOOD, &[], false)?;
    machine.wait_for("FAULT        data: there is no disk for the data", 1, BOOT)?;
    machine.wait_for("the daemon is not well", 1, BOOT)?;
    machine.enroll()?;
    machine.has_fault("state", "no state partition")?;
    machine.refused(&["ps"], &["cannot run instances now", "ashlar host system"])?;
    machine.cut();

    // The record of the host is damaged in both copies.
    damage_state(&one)?;
    let mut machine = boot("damaged-state", GOOD, &[&one], false)?;
    machine.wait_for("FAULT        state: the state partition", 1, BOOT)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    machine.has_fault("state", "damaged in both copies")?;
    machine.cut();
    stage.clean();
    Ok(())
}

/// Overwrites a piece of both copies of a host's record: the state partition is the first one of such a disk, from its first MiB on.
fn damage_state(disk: &Path) -> Result<()> {
    let mut file = fs::File::options().write(true).open(disk)?;
    for at in [1 << 20, (1 << 20) + image_format::layout::STATE_BYTES / 2] {
        file.seek(SeekFrom::Start(at + 100))?;
        file.write_all(b"damaged")?;
    }
    Ok(())
}

pub fn screen(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("screen")?;
    let disk = flashed(
        releases,
        &stage,
        "disk",
        "version = 1\nhostname = \"flashed\"\n[shutdown]\ngrace_s = 0\n",
    )?;
    let mut machine = enrolled(&stage, "screen", &on(&disk))?;
    // Nothing happens by one key alone, and nothing without a yes.
    for key in ["p", "c", "s", "b", "o"] {
        machine.type_keys(key)?;
        machine.type_keys("n")?;
    }
    machine.wait_for("not done", 5, SOON)?;
    machine.type_keys("r")?;
    machine.wait_for("it is started again", 1, SOON)?;
    machine.wait_until_well("A")?;
    machine.type_keys("p")?;
    machine.type_keys("y")?;
    machine.wait_for("slot B holds no image", 1, SOON)?;
    machine.type_keys("t")?;
    machine.type_keys("y")?;
    machine.wait_for("enrol once   token ", 2, SOON)?;
    // What was pushed is forgotten on demand.
    let pushed = stage.file("pushed.toml");
    fs::write(
        &pushed,
        "version = 1\nhostname = \"pushed\"\n[shutdown]\ngrace_s = 0\n",
    )?;
    machine.cli(&["host", "configuration", "push", text(&pushed)?])?;
    machine.cli(&["host", "reboot"])?;
    machine.wait_for("  pushed   ah-", 1, BOOT)?;
    machine.type_keys("c")?;
    machine.type_keys("y")?;
    let before = machine.console().matches("  flashed   ah-").count();
    machine.wait_for("  flashed   ah-", before + 1, BOOT)?;
    machine.press_power()?;
    machine.wait_for("asked at the machine to power off", 1, SOON)?;
    machine.wait_for_end(SOON)?;
    stage.clean();
    Ok(())
}
