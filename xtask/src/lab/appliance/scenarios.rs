//! What is tried, each on machines of its own.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image_build::Built;
use image_format::ArtifactKind;

use super::machine::{BOOT, CARDS, Disk, Machine, Network, Parts, Stage, WELL};
use super::releases::Releases;
use super::{network, power_cut};

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
        run: bad_updates,
    },
    Scenario {
        name: "life",
        proves: "flashed, booted, enrolled; a unikernel and Linux run; updated, updated live, rolled back, powered off",
        run: life,
    },
    Scenario {
        name: "power-cut",
        proves: "a power cut at any write of an update leaves a host that boots one slot whole",
        run: power_cuts,
    },
    Scenario {
        name: "watchdog",
        proves: "a machine whose first process stands still is reset, and ends on the slot from before",
        run: watchdog,
    },
    Scenario {
        name: "network",
        proves: "configured by a URL over two bonded cards and a VLAN, the clock set by a server; updated from a URL; booted by the firmware from the network",
        run: networks,
    },
    Scenario {
        name: "screen",
        proves: "what is typed at the machine counts, and so does its power button",
        run: screen,
    },
    Scenario {
        name: "locked",
        proves: "data is encrypted by a key that the operator keeps, and gives over the API or on a volume",
        run: locked,
    },
    Scenario {
        name: "secure-boot",
        proves: "with enrolled keys a signed image boots, and one without a signature does not",
        run: secure_boot,
    },
    Scenario {
        name: "encrypted",
        proves: "data is encrypted by a key that only this machine's TPM gives out",
        run: encrypted,
    },
    Scenario {
        name: "full",
        proves: "a host whose disk is full says so, boots, runs what it has, and works again once there is room",
        run: full,
    },
    Scenario {
        name: "iso",
        proves: "virtual media boot a host that keeps its state on a blank disk",
        run: iso,
    },
    Scenario {
        name: "direct",
        proves: "kernel and initramfs from the network boot a host configured by its command line",
        run: direct,
    },
    Scenario {
        name: "broken",
        proves: "a wrong configuration, a missing or ambiguous disk, damaged state, no network: reachable and explained",
        run: broken,
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
    let id = created["instances"][0]["id"]
        .as_str()
        .context("no instance was made")?
        .to_owned();
    machine.cli_text(&[
        "console",
        &id,
        "--wait-for",
        "script-end",
        "--timeout",
        "60",
    ])?;
    Ok(id)
}

fn life(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("life")?;
    let disk = flashed(
        releases,
        &stage,
        "disk",
        "version = 1\nhostname = \"flashed\"\n[shutdown]\ngrace_s = 5\n",
    )?;
    let mut machine = Machine::start(&stage, "life", &on(&disk))?;
    machine.wait_for(WELL, 1, BOOT)?;
    notes.push(format!(
        "power-on to a healthy API: {:.1} CPU s",
        machine.cpu_seconds()?
    ));
    machine.enroll()?;
    let system = machine.health()?;
    ensure!(
        system["hostname"] == "flashed" && system["booted_slot"] == "A",
        "{system}"
    );
    let used = system["memory_used_kib"].as_u64().unwrap_or_default() >> 10;
    notes.push(format!(
        "memory in use on an idle host: {used} MiB (goal 128)"
    ));

    let instance = run_probe(&machine, releases)?;
    linux_guest(&machine, releases)?;
    burstable(&machine)?;

    // Whoever wants to stop instances by hand is told which.
    machine.refused(
        &[
            "host",
            "update",
            &manifest(&releases.better)?,
            "--instances",
            "drained",
        ],
        &["waits until", &instance],
    )?;
    ensure!(machine.health()?["booted_slot"] == "A", "it did not wait");

    // A daemon alone: the guest goes on.
    let before = machine.cli(&["show", &instance])?["vmm_pid"].clone();
    machine.cli(&["host", "update", &manifest(&releases.better)?, "--live"])?;
    let system = machine.health()?;
    ensure!(
        system["live_daemon"] == "0.2.0" && system["booted_slot"] == "A",
        "{system}"
    );
    ensure!(
        machine.cli(&["show", &instance])?["vmm_pid"] == before,
        "the guest was touched by a live update"
    );

    // The whole host: the guest is started again.
    let start = machine.uptime();
    machine.cli(&["host", "update", &manifest(&releases.better)?])?;
    let took = machine.uptime() - start;
    notes.push(format!(
        "update, with the reboot, to good: {:.1} s",
        took.as_secs_f64()
    ));
    let system = machine.health()?;
    ensure!(
        system["booted_slot"] == "B"
            && system["version"] == "0.2.0"
            && system["security_floor"] == 3,
        "{system}"
    );
    ensure!(
        machine.cli(&["show", &instance])?["state"] == "Running",
        "the guest was not started again"
    );

    machine.cli(&["host", "rollback"])?;
    machine.wait_for("slot A", 2, BOOT)?;
    machine.wait_until_well("A")?;
    machine.cli(&["host", "shutdown"])?;
    machine.wait_for_end(SOON)?;
    ensure!(
        machine.console().contains("going down to power off"),
        "it did not go down in order"
    );
    stage.clean();
    Ok(())
}

/// CPU credits are earned and spent by what the host's control groups (v2 there) count.
fn burstable(machine: &Machine) -> Result<()> {
    let host = machine.cli(&["host"])?;
    ensure!(host["cpu_control"] == "v2", "{host}");
    let created = machine.cli(&[
        "run",
        "probe",
        "--type",
        "ecs.t6-c1m1.large",
        "--vcpus",
        "1",
        "--memory",
        "32M",
        "--cmdline",
        "probe=\"spin 8s\"",
        "--wait-output",
        "--timeout",
        "120",
    ])?;
    let id = created["instances"][0]["id"]
        .as_str()
        .context("no instance was made")?;
    machine.cli_text(&["console", id, "--wait-for", "script-end", "--timeout", "60"])?;
    machine.cli(&["stop", "--force", "--wait", id])?;
    // It was given 30, and earned a fifth of a second in each: less than it used.
    let credits = machine.cli(&["show", id])?["cpu_credits"].clone();
    let balance = credits["balance"].as_f64().unwrap_or_default();
    ensure!(
        balance > 29.0 && balance < 30.0,
        "what it used was not counted: {credits}"
    );
    machine.cli(&["rm", "--wait", id])?;
    Ok(())
}

fn linux_guest(machine: &Machine, releases: &Releases) -> Result<()> {
    let (kernel, initramfs) = &releases.guest;
    machine.cli(&[
        "images",
        "import",
        "--name",
        "linux",
        "--kernel",
        text(kernel)?,
        "--initrd",
        text(initramfs)?,
        "--cmdline",
        "console=ttyS0 quiet panic=-1",
    ])?;
    let created = machine.cli(&[
        "run",
        "linux",
        "--memory",
        "256M",
        "--disk",
        "1G",
        "--wait",
        "--timeout",
        "120",
    ])?;
    let id = created["instances"][0]["id"]
        .as_str()
        .context("no instance was made")?
        .to_owned();
    let said = machine.cli_text(&[
        "console",
        &id,
        "--wait-for",
        "GUEST done",
        "--timeout",
        "180",
    ])?;
    for check in ["disk-verified", "address", "gateway"] {
        ensure!(
            said.contains(&format!("GUEST ok {check}")),
            "the Linux guest did not report {check}: {said}"
        );
    }
    Ok(())
}

fn bad_updates(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
    let stage = Stage::new("bad-updates")?;
    let configuration = "version = 1\n[update]\nhealth_deadline_s = 20\n[shutdown]\ngrace_s = 0\n";
    let disk = flashed(releases, &stage, "disk", configuration)?;
    let mut machine = enrolled(&stage, "bad", &on(&disk))?;

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

fn secure_boot(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn encrypted(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn full(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
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

fn watchdog(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
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

fn locked(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn screen(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn networks(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
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

fn iso(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn direct(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn broken(releases: &Releases, _: &mut Vec<String>) -> Result<()> {
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

fn power_cuts(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
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

/// Overwrites a piece of both copies of a host's record: the state partition is the first one of such a disk, from its first MiB on.
fn damage_state(disk: &Path) -> Result<()> {
    let mut file = fs::File::options().write(true).open(disk)?;
    for at in [1 << 20, (1 << 20) + image_format::layout::STATE_BYTES / 2] {
        file.seek(SeekFrom::Start(at + 100))?;
        file.write_all(b"damaged")?;
    }
    Ok(())
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
