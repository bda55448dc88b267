//! A vmm or the daemon is killed: what is lost is told, what is not goes on.

use std::fs;

use anyhow::{Result, ensure};

use crate::site::{PATIENCE, Site, Started, gone, poll, signal, vmms};

/// Types lines and returns when what `regex` matches has come back; doesn't wait for the statements' ends.
fn type_in(site: &Site, instance: &Started, lines: &str, regex: &str) -> Result<()> {
    let send = [
        "console",
        &instance.id,
        "--send",
        lines,
        "--wait-for",
        regex,
    ];
    site.host
        .ashlar()
        .args(send)
        .within(PATIENCE)
        .read()
        .map(drop)
}

#[test]
fn an_instance_whose_vmm_is_killed_is_stopped_and_starts_again_with_its_data() -> Result<()> {
    let site = Site::new(&[])?;
    let instance = site.run("dhcp", &["--disk", "1G"])?;
    let neighbour = site.run("info", &[])?;
    site.tell(&instance, "disk write 0 len=4M seed=9")?;
    site.tell(&instance, "disk flush 0")?;
    let disk = site.disk(&instance, 0)?;
    let pid = site.vmm_pid(&instance)?;

    signal("KILL", pid)?;
    let reason = site.stopped(&instance, "VmmKilled")?;
    ensure!(reason.contains("signal 9"), "{reason}");
    let others = vmms(&site.host.state())?;
    ensure!(others == [site.vmm_pid(&neighbour)?], "{others:?}");
    ensure!(site.disk_file(&disk).exists(), "its disk is gone");
    let shown = site.show(&instance)?;
    ensure!(
        shown["network_interfaces"][0]["private_ip"] == *instance.address,
        "{shown}"
    );

    site.host.cli(&["start", "--wait", &instance.id])?;
    let lease = format!("dhcp address={}/", instance.address);
    poll("it has its address again", || {
        let transcript = site.guest(&instance).transcript()?;
        Ok((transcript.matches(&lease).count() == 2
            && transcript.matches("script-end").count() == 2)
            .then_some(()))
    })?;
    site.tell(&instance, "disk verify 0 len=4M seed=9")?;

    for Started { id, .. } in [instance, neighbour] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.clean()
}

#[test]
fn guests_go_on_when_the_daemon_is_killed_and_the_next_one_adopts_them() -> Result<()> {
    let mut site = Site::new(&[])?;
    let server = site.run("dhcp; serve tcp=7", &[])?;
    let writer = site.run("dhcp", &["--disk", "1G"])?;
    let pids = [site.vmm_pid(&server)?, site.vmm_pid(&writer)?];
    type_in(
        &site,
        &writer,
        "@w repeat 400 disk write 0 len=1M seed=4\\n@a say all written\\n",
        "probe: disk-write",
    )?;

    site.host.kill()?;
    // The ring holds what the guest prints as it is printed.
    let console = site
        .host
        .state()
        .join("machines")
        .join(&writer.id)
        .join("console");
    poll("the guest has written on without a daemon", || {
        let ring = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
        Ok(ring.contains("all written").then_some(()))
    })?;
    ensure!(
        vmms(&site.host.state())?.len() == 2,
        "a guest ended with the daemon"
    );

    site.host.start()?;
    for (instance, pid) in [&server, &writer].into_iter().zip(pids) {
        let shown = site.show(instance)?;
        ensure!(
            shown["state"] == "Running" && shown["vmm_pid"] == pid,
            "{shown}"
        );
    }
    site.tell(&writer, "disk verify 0 len=1M seed=4")?;
    // Traffic is ruled by the new daemon.
    let connect = |result: &str| -> Result<()> {
        let statement = format!("connect {}:7 timeout=500ms", server.address);
        let event = site.ask(&writer, &statement, "connect")?;
        ensure!(
            event.get("result")? == result,
            "{event:?} instead of {result}"
        );
        Ok(())
    };
    connect("timed-out")?;
    site.host.cli(&[
        "security-groups",
        "authorize",
        &site.group,
        "--ingress",
        "tcp:7 from 10.61.1.0/24",
    ])?;
    connect("reached")?;
    // And so are lives.
    site.host.cli(&["stop", "--wait", &writer.id])?;
    site.stopped(&writer, "Requested")?;
    site.host.cli(&["start", "--wait", &writer.id])?;
    site.host.cli(&["stop", "--force", "--wait", &server.id])?;
    for Started { id, .. } in [server, writer] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.clean()
}

#[test]
fn what_ended_while_no_daemon_ran_is_told_by_the_next() -> Result<()> {
    let mut site = Site::new(&[])?;
    let off = site.run("info", &["--disk", "1G"])?;
    let crash = site.run("info", &[])?;
    let killed = site.run("info", &[])?;
    let stays = site.run("info", &[])?;
    let pids = [
        site.vmm_pid(&off)?,
        site.vmm_pid(&crash)?,
        site.vmm_pid(&killed)?,
    ];
    type_in(&site, &off, "@s say soon\\nsleep 1s\\npoweroff\\n", "tag=s")?;
    type_in(
        &site,
        &crash,
        "@s say soon\\nsleep 1s\\ntriple-fault\\n",
        "tag=s",
    )?;
    site.host.kill()?;
    ensure!(
        vmms(&site.host.state())?.len() == 4,
        "one ended too soon for this test"
    );
    signal("KILL", pids[2])?;
    for pid in pids {
        gone(pid)?;
    }

    site.host.start()?;
    site.stopped(&off, "GuestPowerOff")?;
    site.stopped(&crash, "GuestCrash")?;
    // A killed process leaves no word.
    site.stopped(&killed, "Vanished")?;
    site.tell(&stays, "say still here")?;
    site.host
        .cli(&["start", "--wait", &off.id, &crash.id, &killed.id])?;
    for Started { id, .. } in [off, crash, killed, stays] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.clean()
}

#[test]
fn a_daemon_killed_at_any_moment_of_starts_and_releases_leaves_nothing_odd() -> Result<()> {
    let mut site = Site::new(&["--vcpus", "64"])?;
    for round in 0..6 {
        let mut started = Vec::new();
        for _ in 0..3 {
            // Answered when accepted: the starts are under way.
            started.push(site.launch("dhcp", &["--disk", "1G"])?);
        }
        if round % 2 == 1 {
            for instance in &started {
                site.host.cli(&["rm", "--force", &instance.id])?;
            }
        }
        site.host.kill()?;
        site.host.start()?;
        for instance in &started {
            let shown = site.host.try_cli(&["show", &instance.id])?;
            if round % 2 == 1 && !shown.status.success() {
                continue;
            }
            if round % 2 == 0 {
                poll("it runs or was told to have failed", || {
                    let shown = site.show(instance)?;
                    Ok((shown["state"] == "Running" || shown["state"] == "Stopped").then_some(()))
                })?;
                site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
            }
        }
        poll("all are released", || {
            let all = site.host.cli(&["ps", "-a"])?.to_string();
            Ok((!all.contains("\"i-")).then_some(()))
        })?;
        site.clean()?;
    }
    Ok(())
}
