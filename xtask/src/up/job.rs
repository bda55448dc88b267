//! The steps of the main job. Each checks what it claims.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::report::{Charge, Disk, Instance, Placement, Report, Restart, SecurityGroup};
use crate::command::Invocation;
use crate::guest::Guest;
use crate::host::Host;
use crate::memory::private_kib;
use crate::{interrupt, progress};

/// How long a guest may take for one thing on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Written to the data disk and read back.
const WRITTEN_MIB: u64 = 64;

/// Two instances in one VPC, and everything they prove.
pub fn run(host: &mut Host, probe: &Path) -> Result<Report> {
    progress::step("start ashlard", || host.start())?;
    let network = progress::step("make an image, a VPC and a security group", || {
        prepare(host, probe)
    })?;
    let server = progress::step("run the first instance", || run_server(host, &network))?;
    let client = progress::step("run the second instance, with a disk of 1 GiB", || {
        run_client(host, &network)
    })?;
    let ids = [server.id.as_str(), client.id.as_str()];
    let disk = progress::step("write the disk and read it back", || {
        write_disk(host, &client.id)
    })?;
    let security_group = progress::step(
        "reach the first instance through its security group",
        || reach(host, &network, &server, &client.id),
    )?;
    let placement = progress::step("ask why they are where they are", || placements(host, &ids))?;
    let instances = measure(host, &ids)?;
    let restart = progress::step("kill the daemon under them and start it again", || {
        restart(host, &instances, &server, &client.id)
    })?;
    let charges = progress::step("ask what they cost", || charges(host, &ids))?;
    Ok(Report {
        instances,
        disk,
        security_group,
        placement,
        charges,
        restart,
    })
}

struct Network {
    vswitch: String,
    group: String,
}

struct Started {
    id: String,
    address: String,
}

fn prepare(host: &Host, probe: &Path) -> Result<Network> {
    let probe = probe.to_str().context("the probe's path is not UTF-8")?;
    host.cli(&["images", "import", "--name", "probe", "--kernel", probe])?;
    let vpc = text(
        &host.cli(&["vpcs", "create", "10.77.0.0/16", "--name", "up"])?,
        "id",
    )?;
    let vswitch = text(
        &host.cli(&["vswitches", "create", "--vpc", &vpc, "10.77.1.0/24"])?,
        "id",
    )?;
    // Isolated: members reach each other only as the rules say.
    let group = host.cli(&[
        "security-groups",
        "create",
        "--vpc",
        &vpc,
        "--name",
        "echo",
        "--isolated",
    ])?;
    let group = text(&group, "id")?;
    host.cli(&[
        "security-groups",
        "authorize",
        &group,
        "--ingress",
        "tcp:7 from 10.77.1.0/24",
    ])?;
    Ok(Network { vswitch, group })
}

fn run_server(host: &Host, network: &Network) -> Result<Started> {
    start(host, network, "server", "dhcp; serve tcp=7,8", &[])
}

fn run_client(host: &Host, network: &Network) -> Result<Started> {
    start(host, network, "client", "dhcp", &["--disk", "1G"])
}

fn start(
    host: &Host,
    network: &Network,
    name: &str,
    script: &str,
    more: &[&str],
) -> Result<Started> {
    let cmdline = format!("probe=\"{script}\"");
    let mut args = vec![
        "run",
        "probe",
        "--name",
        name,
        "--vcpus",
        "1",
        "--memory",
        "64M",
        "--vswitch",
        &network.vswitch,
        "--security-group",
        &network.group,
        "--cmdline",
        &cmdline,
        "--wait-output",
    ];
    args.extend(more);
    let created = host.cli(&args)?;
    let instance = &created["instances"][0];
    let started = Started {
        id: text(instance, "id")?,
        address: text(&instance["network_interfaces"][0], "private_ip")?,
    };
    let output = Guest::new(host, &started.id).wait_for("probe: script-end", PATIENCE)?;
    ensure!(
        output.contains(&format!("addr={}", started.address)) || output.contains(&started.address),
        "{} did not get its address {} by DHCP; its console:\n{output}",
        started.id,
        started.address
    );
    Ok(started)
}

fn write_disk(host: &Host, client: &str) -> Result<Disk> {
    let guest = Guest::new(host, client);
    let range = format!("0 len={WRITTEN_MIB}M seed=77");
    let written = guest.ask(&format!("disk write {range}"), "disk-write", PATIENCE)?;
    guest.tell("disk flush 0", PATIENCE)?;
    let read = guest.ask(&format!("disk verify {range}"), "disk-verify", PATIENCE)?;
    let pid = vmm_pid(host, client)?;
    Ok(Disk {
        written_mib: written.number("bytes")? >> 20,
        verified: read.get("result")? == "same"
            && read.number("bytes")? == written.number("bytes")?,
        engine: engine(&pid)?,
    })
}

/// What serves the disks of that vmm: `io_uring` if it holds a ring that has taken requests.
fn engine(pid: &str) -> Result<String> {
    let holds = Invocation::as_root("sh")
        .args(["-c", "for fd in /proc/$0/fd/*; do case $(readlink $fd) in *io_uring*) cat /proc/$0/fdinfo/${fd##*/};; esac; done"])
        .arg(pid)
        .read()
        .context("cannot see what the vmm has open")?;
    let taken = holds
        .lines()
        .filter_map(|line| line.strip_prefix("SqHead:"))
        .filter_map(|n| n.trim().parse::<u64>().ok());
    let requests: u64 = taken.sum();
    ensure!(
        requests > 0,
        "the vmm {pid} has no io_uring that took a request"
    );
    Ok("io_uring".to_owned())
}

fn reach(host: &Host, network: &Network, server: &Started, client: &str) -> Result<SecurityGroup> {
    let guest = Guest::new(host, client);
    let connect = |port: u16| -> Result<String> {
        let statement = format!("connect {}:{port} timeout=2s", server.address);
        Ok(guest
            .ask(&statement, "connect", PATIENCE)?
            .get("result")?
            .to_owned())
    };
    let found = (connect(7)?, connect(8)?);
    host.cli(&[
        "security-groups",
        "authorize",
        &network.group,
        "--ingress",
        "tcp:8 from 10.77.1.0/24",
    ])?;
    let after = connect(8)?;
    let result = SecurityGroup {
        allowed_port: found.0,
        denied_port: found.1,
        after_rule_added: after,
    };
    ensure!(
        result.allowed_port == "reached",
        "the allowed port was not reached but {}",
        result.allowed_port
    );
    ensure!(
        result.denied_port == "timed-out",
        "the denied port was not dropped but {}",
        result.denied_port
    );
    ensure!(
        result.after_rule_added == "reached",
        "after the rule was added the port was not reached but {}",
        result.after_rule_added
    );
    Ok(result)
}

fn placements(host: &Host, ids: &[&str]) -> Result<Vec<Placement>> {
    let digest = digest_of("scheduler-basic")?;
    ids.iter()
        .map(|id| {
            let instance = host.cli(&["show", id])?;
            let decision = host.cli(&["decisions", "show", &text(&instance, "decision_id")?])?;
            let placement = Placement {
                instance: (*id).to_owned(),
                policy: text(&decision, "policy")?,
                module_sha256: text(&decision, "module_sha256")?,
                reason: text(&decision, "reason")?,
            };
            ensure!(
                placement.module_sha256 == digest,
                "{id} was not placed by the policy that was built: {decision}"
            );
            Ok(placement)
        })
        .collect()
}

fn measure(host: &Host, ids: &[&str]) -> Result<Vec<Instance>> {
    ids.iter()
        .map(|id| {
            let shown = host.cli(&["show", id])?;
            let state = text(&shown, "state")?;
            ensure!(state == "Running", "{id} is {state}: {shown}");
            let latency = shown["api_to_first_guest_output_ms"].as_f64();
            Ok(Instance {
                id: (*id).to_owned(),
                state,
                vcpus: shown["vcpus"].as_u64().context("no vcpus")?,
                memory_mib: shown["memory_mib"].as_u64().context("no memory_mib")?,
                api_to_first_guest_output_ms: latency.context("no time of the first output")?,
                vmm_private_kib: private_kib(&vmm_pid(host, id)?)?,
            })
        })
        .collect()
}

fn restart(
    host: &mut Host,
    before: &[Instance],
    server: &Started,
    client: &str,
) -> Result<Restart> {
    let pids: Vec<String> = before
        .iter()
        .map(|instance| vmm_pid(host, &instance.id))
        .collect::<Result<_>>()?;
    host.kill()?;
    host.start()?;
    let mut survived = 0;
    for (instance, pid) in before.iter().zip(&pids) {
        let shown = host.cli(&["show", &instance.id])?;
        if shown["state"] == "Running" && vmm_pid(host, &instance.id)? == *pid {
            survived += 1;
        }
    }
    ensure!(
        survived == 2,
        "only {survived} of 2 instances outlived the daemon"
    );
    // They do not only exist: the one talks to the other, and both obey the new daemon.
    let statement = format!("connect {}:7 timeout=2s", server.address);
    let answer = Guest::new(host, client).ask(&statement, "connect", PATIENCE)?;
    ensure!(
        answer.get("result")? == "reached",
        "after the restart the instances no longer reach each other"
    );
    Guest::new(host, &server.id).tell("say hello", PATIENCE)?;
    Ok(Restart {
        daemon_restarted: true,
        instances_survived: survived,
    })
}

/// Waits until each has been charged by the policy, then sums up.
fn charges(host: &Host, ids: &[&str]) -> Result<Vec<Charge>> {
    let digest = digest_of("billing-payg")?;
    let deadline = Instant::now() + PATIENCE;
    ids.iter()
        .map(|id| {
            loop {
                let usage = host.cli(&["usage", "--instance", id])?;
                if let Some(charge) = sum(&usage, id, &digest)? {
                    return Ok(charge);
                }
                interrupt::check()?;
                ensure!(
                    Instant::now() < deadline,
                    "{id} was not charged by the policy that was built: {usage}"
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        })
        .collect()
}

/// All charges for that instance by the policy with that digest, if there are any for a second or more.
fn sum(usage: &Value, id: &str, digest: &str) -> Result<Option<Charge>> {
    let all = usage["charges"]
        .as_array()
        .context("the usage has no charges")?;
    let mine: Vec<&Value> = all
        .iter()
        .filter(|charge| charge["instance_id"] == id && charge["module_sha256"] == digest)
        .collect();
    let Some(first) = mine.first() else {
        return Ok(None);
    };
    let seconds = mine
        .iter()
        .filter_map(|charge| charge["seconds"].as_u64())
        .sum();
    let amount = mine
        .iter()
        .map(|charge| decimal(charge))
        .sum::<Result<rust_decimal::Decimal>>()?;
    if seconds == 0 || amount.is_zero() {
        return Ok(None);
    }
    Ok(Some(Charge {
        instance: id.to_owned(),
        seconds,
        amount: amount.to_string(),
        currency: text(first, "currency")?,
        policy: text(first, "policy")?,
        module_sha256: digest.to_owned(),
    }))
}

fn decimal(charge: &Value) -> Result<rust_decimal::Decimal> {
    Ok(text(charge, "amount")?.parse()?)
}

/// The SHA-256 of a policy as it was built.
fn digest_of(policy: &str) -> Result<String> {
    let file = crate::paths::out()
        .join("plugins")
        .join(format!("{policy}.wasm"));
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The process of an instance's vmm.
pub fn vmm_pid(host: &Host, id: &str) -> Result<String> {
    let shown = host.cli(&["show", id])?;
    match shown["vmm_pid"].as_u64() {
        Some(pid) => Ok(pid.to_string()),
        None => bail!("{id} has no vmm: {shown}"),
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    let found = value[key].as_str().map(str::to_owned);
    found.with_context(|| format!("`{key}` is missing in {value}"))
}
