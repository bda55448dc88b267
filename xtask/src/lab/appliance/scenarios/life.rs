//! The whole life of a host, and guests on it.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{SOON, flashed, made, manifest, on, run_probe, script_ended, text};
use crate::lab::appliance::machine::{BOOT, Machine, WELL};
use crate::lab::appliance::parts::Stage;
use crate::lab::appliance::releases::Releases;

pub fn life(releases: &Releases, notes: &mut Vec<String>) -> Result<()> {
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
    burstable(&machine, releases)?;
    linux_guest(&machine, releases)?;

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
    let id = made(&created)?;
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

/// CPU credits are earned and spent by what the host's control groups (v2 there) count. Nobody else may be busy: what an instance does not
/// get it does not pay for.
fn burstable(machine: &Machine, releases: &Releases) -> Result<()> {
    let probe = text(&releases.probe)?;
    machine.cli(&["images", "import", "--name", "busy", "--kernel", probe])?;
    let host = machine.cli(&["host"])?;
    ensure!(host["cpu_control"] == "v2", "{host}");
    let created = machine.cli(&[
        "run",
        "busy",
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
    let id = made(&created)?;
    script_ended(machine, &id)?;
    machine.cli(&["stop", "--force", "--wait", &id])?;
    // It was given 30, and earned a fifth of a second in each: less than it used.
    let counted = |credits: &Value| {
        let balance = credits["balance"].as_f64();
        balance.is_some_and(|balance| balance > 29.0 && balance < 30.0)
    };
    machine.wait_until("what it used is counted", SOON, |machine| {
        let credits = machine.cli(&["show", &id])?["cpu_credits"].take();
        Ok(if counted(&credits) {
            Ok(())
        } else {
            Err(credits.to_string())
        })
    })?;
    machine.cli(&["rm", "--wait", &id])?;
    Ok(())
}
