//! The ways a host is booted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image_format::ArtifactKind;

use super::{
    DISK, QUICK_END, SOON, enrolled, flashed, flashed_from, from_network, manifest, on, run_probe,
};
use crate::lab::appliance::machine::{BOOT, Machine, WELL};
use crate::lab::appliance::network;
use crate::lab::appliance::parts::{CARDS, Network, Parts, Stage};
use crate::lab::appliance::releases::Releases;

pub fn secure_boot(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("secure-boot")?;
    let boot = |name: &str, disk: &Path| {
        Machine::start(
            &stage,
            name,
            &Parts {
                secure_boot: true,
                ..on(disk)
            },
        )
    };
    let signed = flashed_from(
        &releases.signed,
        releases,
        &stage,
        "signed",
        "version = 1\n",
    )?;
    let mut machine = boot("signed", &signed)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    ensure!(
        machine.health()?["secure_boot"] == true,
        "Secure Boot is not in force"
    );
    machine.cut();
    let unsigned = flashed(releases, &stage, "unsigned", "version = 1\n")?;
    let mut machine = boot("unsigned", &unsigned)?;
    machine.wait_for("Access Denied", 1, BOOT)?;
    ensure!(
        !machine.console().contains("Ashlar"),
        "an image without a signature was booted"
    );
    machine.cut();
    stage.clean();
    Ok(())
}

pub fn iso(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("iso")?;
    let disk = stage.blank("disk.img", DISK)?;
    let parts = || -> Result<Parts> {
        Ok(Parts {
            iso: Some(releases.file(&releases.first, ArtifactKind::Iso)?),
            ..on(&disk)
        })
    };
    let mut machine = Machine::start(&stage, "first", &parts()?)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    let id = machine.health()?["host_id"].clone();
    run_probe(&machine, releases)?;
    machine.refused(
        &["host", "update", &manifest(&releases.better)?],
        &["did not boot from a slot"],
    )?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;
    // It is the same host afterwards.
    let mut machine = Machine::start(&stage, "second", &parts()?)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.moved()?;
    ensure!(
        machine.health()?["host_id"] == id,
        "the host forgot who it is"
    );
    machine.cut();
    stage.clean();
    Ok(())
}

pub fn direct(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("direct")?;
    let disk = stage.blank("disk.img", DISK)?;
    let mut machine = Machine::start(
        &stage,
        "direct",
        &Parts {
            kernel: Some(from_network(
                releases,
                "version = 1\nhostname = \"netboot\"\n",
            )?),
            ..on(&disk)
        },
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    ensure!(
        machine.health()?["hostname"] == "netboot",
        "the command line's configuration is not in force"
    );
    run_probe(&machine, releases)?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;
    stage.clean();
    Ok(())
}

pub fn networks(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("network")?;
    // Its own network: the time server's port is nobody else's there.
    let apart = std::thread::scope(|scope| {
        let run = || -> Result<()> {
            if !network::apart()? {
                notes.push("no time server was tried: that needs root".to_owned());
                return Ok(());
            }
            configured_by_url(releases, &stage)?;
            updated_by_url(releases, &stage)
        };
        scope.spawn(run).join()
    });
    apart.map_err(|_| anyhow::anyhow!("a scenario's thread panicked"))??;

    // The firmware itself gets the image, and needs nothing else.
    let disk = stage.blank("disk.img", DISK)?;
    let image = releases.file(&releases.first, ArtifactKind::Uki)?;
    let file = image.file_name().unwrap_or_default().to_string_lossy();
    let folder = image.parent().context("no folder")?;
    let mut machine = Machine::start(
        &stage,
        "pxe",
        &Parts {
            network: Network::Boot(folder.to_owned(), file.into_owned()),
            ..on(&disk)
        },
    )?;
    machine.wait_for(WELL, 1, BOOT * 2)?;
    machine.enroll()?;
    machine.cut();
    stage.clean();
    Ok(())
}

fn configured_by_url(releases: &Releases, stage: &Stage) -> Result<()> {
    let folder = stage.file("served");
    fs::create_dir_all(&folder)?;
    let [one, two] = CARDS;
    let configuration = format!(
        "version = 1
hostname = \"fetched\"
[time]
servers = [\"10.0.2.2\"]
[kernel]
hugepages_2m = 8
[[network.interface]]
name = \"left\"
match = {{ mac = \"{one}\" }}
[[network.interface]]
name = \"right\"
match = {{ mac = \"{two}\" }}
[[network.bond]]
name = \"both\"
members = [\"left\", \"right\"]
mode = \"active-backup\"
addresses = [\"10.0.2.15/24\"]
gateways = [\"10.0.2.2\"]
[[network.vlan]]
name = \"tagged\"
parent = \"both\"
id = 7
addresses = [\"10.7.0.1/24\"]
"
    );
    fs::write(folder.join("host.toml"), configuration)?;
    let server = network::Files::serve(&folder)?;
    let _time = network::TimeServer::start(Duration::from_secs(100_000))?;
    let disk = stage.blank("url.img", DISK)?;
    let (kernel, initramfs, command_line) = from_network(releases, "")?;
    let command_line = command_line
        .split(" ashlar.config=")
        .next()
        .unwrap_or_default()
        .to_owned();
    let url = format!("http://10.0.2.2:{}/host.toml", server.port);
    let mut machine = Machine::start(
        stage,
        "url",
        &Parts {
            kernel: Some((
                kernel,
                initramfs,
                format!("{command_line} ashlar.config-url={url}"),
            )),
            network: Network::Two,
            ..on(&disk)
        },
    )?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.wait_for("the clock was set by +", 1, SOON)?;
    machine.wait_for("both: 10.0.2.15/24", 1, SOON)?;
    machine.wait_for("tagged: 10.7.0.1/24", 1, SOON)?;
    machine.enroll()?;
    let system = machine.health()?;
    ensure!(
        system["hostname"] == "fetched" && system["faults"].as_array().is_none_or(Vec::is_empty),
        "{system}"
    );
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)
}

fn updated_by_url(releases: &Releases, stage: &Stage) -> Result<()> {
    let disk = flashed(releases, stage, "updated", QUICK_END)?;
    let machine = enrolled(stage, "updated", &on(&disk))?;
    // One name for both: whoever asks for the update reads the manifest, and the host gets the image.
    network::add_address("10.0.2.2")?;
    let folder = releases.better.manifest_file.parent();
    let server = network::Files::serve(folder.context("no folder")?)?;
    let file = releases.better.manifest_file.file_name();
    let url = format!(
        "http://10.0.2.2:{}/{}",
        server.port,
        file.unwrap_or_default().to_string_lossy()
    );
    machine.cli(&["host", "update", &url])?;
    let system = machine.health()?;
    ensure!(
        system["booted_slot"] == "B" && system["version"] == "0.2.0",
        "{system}"
    );
    machine.cut();
    Ok(())
}
