//! The life of an instance, as its user and its guest lead it.

use anyhow::{Result, ensure};

use crate::site::{PATIENCE, Site, Started, gone, poll};

/// How often the guest has got through its script.
fn scripts(site: &Site, instance: &Started) -> Result<usize> {
    let transcript = site.guest(instance).transcript()?;
    Ok(transcript.matches("probe: script-end").count())
}

fn script_ended(site: &Site, instance: &Started, times: usize) -> Result<()> {
    poll("the script was obeyed again", || {
        Ok((scripts(site, instance)? == times).then_some(()))
    })
}

#[test]
fn from_run_to_release() -> Result<()> {
    let site = Site::new(&[])?;
    let instance = site.run("dhcp", &["--disk", "1G", "--name", "life"])?;
    let id = instance.id.as_str();
    let range = "0 start=2048 len=8M seed=3";
    site.tell(&instance, &format!("disk write {range}"))?;
    site.tell(&instance, "disk flush 0")?;
    let vmm = site.vmm_pid(&instance)?;

    site.host.cli(&["stop", "--wait", id])?;
    site.stopped(&instance, "Requested")?;
    gone(vmm)?;
    let transcript = site.guest(&instance).transcript()?;
    ensure!(transcript.contains("probe: power-button"), "{transcript}");
    let disk = site.disk(&instance, 0)?;
    ensure!(site.disk_file(&disk).exists(), "the disk went with a stop");
    site.clean()?;
    site.refused_with_advice(&["stop", id], "IncorrectInstanceStatus", &[id, "Stopped"])?;
    site.refused_with_advice(&["reboot", id], "IncorrectInstanceStatus", &[id, "Stopped"])?;

    site.host.cli(&["start", "--wait", id])?;
    script_ended(&site, &instance, 2)?;
    ensure!(site.disk(&instance, 0)? == disk, "another disk");
    site.tell(&instance, &format!("disk verify {range}"))?;
    let shown = site.show(&instance)?;
    ensure!(
        shown["network_interfaces"][0]["private_ip"] == *instance.address,
        "{shown}"
    );
    let transcript = site.guest(&instance).transcript()?;
    let lease = format!("probe: dhcp address={}/", instance.address);
    ensure!(transcript.matches(&lease).count() == 2, "{transcript}");

    site.host.cli(&["stop", "--force", "--wait", id])?;
    site.stopped(&instance, "Forced")?;
    site.host.cli(&["rm", "--wait", id])?;
    site.refused_with_advice(&["show", id], "InvalidInstanceId.NotFound", &[id])?;
    ensure!(!site.disk_file(&disk).exists(), "the disk's file is left");
    ensure!(
        !site.host.state().join("machines").join(id).exists(),
        "its folder is left"
    );
    site.clean()
}

#[test]
fn a_guest_that_ignores_the_power_button_is_stopped_after_the_grace_period() -> Result<()> {
    let site = Site::new(&["--stop-grace-s", "1"])?;
    let instance = site.run("on-power-button ignore", &[])?;
    let start = std::time::Instant::now();
    site.host.cli(&["stop", "--wait", &instance.id])?;
    ensure!(
        start.elapsed().as_millis() >= 900,
        "no grace: {:?}",
        start.elapsed()
    );
    site.stopped(&instance, "Forced")?;
    let transcript = site.guest(&instance).transcript()?;
    ensure!(
        transcript.contains("probe: power-button"),
        "the button was not pressed: {transcript}"
    );

    // A halted guest hears nothing, and can be stopped at once.
    site.host.cli(&["start", "--wait", &instance.id])?;
    script_ended(&site, &instance, 2)?;
    let send = [
        "console",
        &instance.id,
        "--send",
        "@h say halting\\nhalt\\n",
        "--wait-for",
        "tag=h",
    ];
    site.host.ashlar().args(send).within(PATIENCE).read()?;
    ensure!(
        site.show(&instance)?["state"] == "Running",
        "a halt is no end"
    );
    site.host
        .cli(&["stop", "--force", "--wait", &instance.id])?;
    site.clean()
}

#[test]
fn reboots_and_resets_run_the_guest_again() -> Result<()> {
    let site = Site::new(&[])?;
    let instance = site.run("dhcp", &["--vcpus", "2"])?;
    site.tell(&instance, "cpus 2")?;

    let vmm = site.vmm_pid(&instance)?;
    let typed = |text: &str, shown: &str| {
        let send = ["console", &instance.id, "--send", text, "--wait-for", shown];
        site.host.ashlar().args(send).within(PATIENCE).read()
    };
    typed("reset\\n", "probe: script-end")?;
    ensure!(
        site.show(&instance)?["state"] == "Running",
        "{}",
        site.show(&instance)?
    );
    ensure!(
        site.vmm_pid(&instance)? == vmm,
        "a reset does not end the vmm"
    );
    // It is a whole machine again.
    site.tell(&instance, "cpus 2")?;
    typed("panic\\n", "guest: panic (.|\\n)*probe: script-end")?;
    ensure!(
        site.vmm_pid(&instance)? == vmm,
        "a reset does not end the vmm"
    );

    site.host.cli(&["reboot", &instance.id])?;
    script_ended(&site, &instance, 4)?;
    poll("it runs again", || {
        Ok((site.show(&instance)?["state"] == "Running").then_some(()))
    })?;
    site.tell(&instance, "cpus 2")?;
    site.host.cli(&["reboot", "--force", &instance.id])?;
    script_ended(&site, &instance, 5)?;
    site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
    site.clean()
}

#[test]
fn a_guest_ends_itself_and_the_reason_is_told() -> Result<()> {
    let site = Site::new(&[])?;
    let check = |script: &str, code: &str, said: &str| -> Result<()> {
        let instance = site.launch(script, &[])?;
        let reason = site.stopped(&instance, code)?;
        ensure!(reason.contains(said), "{reason}");
        ensure!(
            site.show(&instance)?.get("vmm_pid").is_none(),
            "a vmm is shown"
        );
        site.clean()?;
        site.host.cli(&["rm", "--wait", &instance.id]).map(drop)
    };
    check("say hello; poweroff", "GuestPowerOff", "by the guest")?;
    check("triple-fault", "GuestCrash", "triple fault")?;
    check("cpus; triple-fault", "GuestCrash", "triple fault")?;
    check("poweroff", "GuestPowerOff", "by the guest")
}

#[test]
fn many_come_and_go_together() -> Result<()> {
    let site = Site::new(&["--vcpus", "64"])?;
    let args = [
        "run", "probe", "--count", "8", "--vcpus", "1", "--memory", "16M", "--disk", "1G",
    ];
    let more = [
        "--vswitch",
        &site.vswitch,
        "--cmdline",
        "probe=dhcp",
        "--wait",
    ];
    let created = site.host.cli(&[&args[..], &more].concat())?;
    let instances = created["instances"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    ensure!(instances.len() == 8, "{created}");
    let ids: Vec<&str> = instances
        .iter()
        .filter_map(|instance| instance["id"].as_str())
        .collect();
    let addresses: std::collections::BTreeSet<String> = instances
        .iter()
        .map(|i| i["network_interfaces"][0]["private_ip"].to_string())
        .collect();
    ensure!(addresses.len() == 8, "{addresses:?}");
    site.host
        .cli(&[&["rm", "--force", "--wait"][..], &ids].concat())?;
    let left = site.host.cli(&["disks", "ls"])?;
    ensure!(!left.to_string().contains("\"d-"), "{left}");
    site.clean()
}
