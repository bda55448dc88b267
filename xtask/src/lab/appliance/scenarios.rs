//! What is tried, each on machines of its own.

mod boots;
mod data;
mod faults;
mod life;
mod updates;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use image_build::Built;
use image_format::ArtifactKind;

use super::machine::{BOOT, Machine, WELL};
use super::parts::{Disk, Parts, Stage};
use super::releases::Releases;

/// Bytes of a scenario's disk: sparse.
const DISK: u64 = 3 << 30;
const SOON: Duration = Duration::from_secs(90);

/// A configuration of hosts that wait for no guest when they go down.
const QUICK_END: &str = "version = 1\n[shutdown]\ngrace_s = 0\n";

pub struct Scenario {
    pub name: &'static str,
    pub proves: &'static str,
    pub run: fn(&Releases, &mut Vec<String>) -> Result<()>,
}

/// The long ones first, so that the short ones fill the gaps.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bad-updates",
        proves: "an update that is damaged, not signed, too old, panics, hangs or is not well ends on the slot from before",
        run: updates::bad_updates,
    },
    Scenario {
        name: "life",
        proves: "flashed, booted, enrolled; a unikernel and Linux run; updated, updated live, rolled back, powered off",
        run: life::life,
    },
    Scenario {
        name: "power-cut",
        proves: "a power cut at any write of an update leaves a host that boots one slot whole",
        run: updates::power_cuts,
    },
    Scenario {
        name: "watchdog",
        proves: "a machine whose first process stands still is reset, and ends on the slot from before",
        run: updates::watchdog,
    },
    Scenario {
        name: "network",
        proves: "configured by a URL over two bonded cards and a VLAN, the clock set by a server; updated from a URL; booted by the firmware from the network",
        run: boots::networks,
    },
    Scenario {
        name: "screen",
        proves: "what is typed at the machine counts, and so does its power button",
        run: faults::screen,
    },
    Scenario {
        name: "locked",
        proves: "data is encrypted by a key that the operator keeps, and gives over the API or on a volume",
        run: data::locked,
    },
    Scenario {
        name: "secure-boot",
        proves: "with enrolled keys a signed image boots, and one without a signature does not",
        run: boots::secure_boot,
    },
    Scenario {
        name: "encrypted",
        proves: "data is encrypted by a key that only this machine's TPM gives out",
        run: data::encrypted,
    },
    Scenario {
        name: "full",
        proves: "a host whose disk is full says so, boots, runs what it has, and works again once there is room",
        run: data::full,
    },
    Scenario {
        name: "iso",
        proves: "virtual media boot a host that keeps its state on a blank disk",
        run: boots::iso,
    },
    Scenario {
        name: "direct",
        proves: "kernel and initramfs from the network boot a host configured by its command line",
        run: boots::direct,
    },
    Scenario {
        name: "broken",
        proves: "a wrong configuration, a missing or ambiguous disk, damaged state, no network: reachable and explained",
        run: faults::broken,
    },
];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// Flashes the first release into a file, with a configuration.
fn flashed(releases: &Releases, stage: &Stage, name: &str, configuration: &str) -> Result<PathBuf> {
    flashed_from(&releases.first, releases, stage, name, configuration)
}

fn flashed_from(
    release: &Built,
    releases: &Releases,
    stage: &Stage,
    name: &str,
    configuration: &str,
) -> Result<PathBuf> {
    let target = stage.file(&format!("{name}.img"));
    let config = stage.file(&format!("{name}.toml"));
    fs::write(&config, configuration).context("cannot write a configuration")?;
    let image = releases.file(release, ArtifactKind::Disk)?;
    let key = release
        .manifest_file
        .with_file_name(format!("{}.pub", release.manifest.base_name()));
    crate::command::Invocation::new(crate::paths::program("ashlar"))
        .args([
            "-q",
            "flash",
            "--image",
            text(&image)?,
            "--to",
            text(&target)?,
            "--pubkey",
            text(&key)?,
        ])
        .args([
            "--config",
            text(&config)?,
            "--size",
            &format!("{}M", DISK >> 20),
        ])
        .read()?;
    Ok(target)
}

fn on(disk: &Path) -> Parts {
    Parts {
        disks: vec![Disk::new(disk)],
        ..Parts::default()
    }
}

/// A machine that is well, and that we may manage.
fn enrolled(stage: &Stage, name: &str, parts: &Parts) -> Result<Machine> {
    let mut machine = Machine::start(stage, name, parts)?;
    machine.wait_for(WELL, 1, BOOT)?;
    machine.enroll()?;
    Ok(machine)
}

fn manifest(built: &Built) -> Result<String> {
    Ok(text(&built.manifest_file)?.to_owned())
}

/// The id of the one instance that was made.
fn made(created: &serde_json::Value) -> Result<String> {
    let id = created["instances"][0]["id"].as_str();
    Ok(id.context("no instance was made")?.to_owned())
}

/// Waits until the probe in that instance has obeyed its script.
fn script_ended(machine: &Machine, id: &str) -> Result<()> {
    let wait = ["console", id, "--wait-for", "script-end", "--timeout", "60"];
    machine.cli_text(&wait).map(drop)
}

/// A unikernel that runs.
fn run_probe(machine: &Machine, releases: &Releases) -> Result<String> {
    let probe = text(&releases.probe)?;
    machine.cli(&[
        "images",
        "import",
        "--name",
        "probe",
        "--kernel",
        probe,
        "--cmdline",
        "probe=\"dhcp; serve tcp=7\"",
    ])?;
    let created = machine.cli(&[
        "run",
        "probe",
        "--memory",
        "32M",
        "--wait",
        "--timeout",
        "120",
    ])?;
    let id = made(&created)?;
    script_ended(machine, &id)?;
    Ok(id)
}

/// Kernel, initramfs and command line as a network boot gives them.
fn from_network(releases: &Releases, configuration: &str) -> Result<(PathBuf, PathBuf, String)> {
    let encoded = base64(configuration.as_bytes());
    Ok((
        releases.file(&releases.first, ArtifactKind::Kernel)?,
        releases.file(&releases.first, ArtifactKind::Initrd)?,
        format!(
            "console=ttyS0 quiet panic=5 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 ashlar.config=base64:{encoded}"
        ),
    ))
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| -> String {
        let bits = group
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        (0..4)
            .map(|digit| {
                if digit <= group.len() {
                    char::from(DIGITS[bits >> (18 - 6 * digit) & 63])
                } else {
                    '='
                }
            })
            .collect()
    };
    bytes.chunks(3).map(group).collect()
}
