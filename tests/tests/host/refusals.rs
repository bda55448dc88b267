//! Bad input: each gets one clear error, and nothing is left of it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use types::{DecisionId, DiskId, ImageId, InstanceId, SecurityGroupId, VpcId, VswitchId};

use crate::site::{Site, Started, http_tcp, poll, probe, text};

const OPTIONS: &[&str] = &["--vcpus", "4", "--memory-mib", "1024"];

#[test]
fn kernels_that_cannot_boot_are_refused_and_leave_no_image() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let good = fs::read(probe())?;
    let images = || -> Result<(Value, usize)> {
        let files = fs::read_dir(site.host.volumes().join("images"))?.count();
        Ok((site.host.cli(&["images", "ls"])?, files))
    };
    let before = images()?;
    let check = |name: &str, content: &[u8], words: &[&str]| -> Result<()> {
        let file = site.file(name, content)?;
        let import = ["images", "import", "--name", name, "--kernel", &file];
        site.refused(&import, "InvalidImage.Malformed", words)
            .with_context(|| name.to_owned())?;
        poll("the image is gone", || {
            Ok((images()? == before).then_some(()))
        })
        .with_context(|| format!("{name}: {:?}", images()))
    };
    check(
        "truncated",
        &good[..good.len() / 2],
        &["cut off", "should end at byte"],
    )?;
    check(
        "shell",
        b"#!/bin/sh\necho hello\n",
        &["neither an ELF nor a Linux bzImage"],
    )?;
    check("empty", b"", &["cut off"])?;
    check("no-pvh", &without_notes(&good), &["without a PVH entry"])?;
    let missing = site.host.try_cli(&[
        "images",
        "import",
        "--name",
        "x",
        "--kernel",
        "/nonexistent",
    ])?;
    ensure!(
        !missing.status.success() && missing.err.contains("/nonexistent"),
        "{missing:?}"
    );
    site.clean()
}

#[test]
fn impossible_machines_are_refused_and_leave_nothing() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let large = site.file("large", &with_memory(&fs::read(probe())?, 200 << 20))?;
    site.host
        .cli(&["images", "import", "--name", "large", "--kernel", &large])?;

    let run = |image: &str, vcpus: &str, memory: &str, code: &str, words: &[&str]| {
        let args = ["run", image, "--vcpus", vcpus, "--memory", memory];
        site.refused(&args, code, words)
    };
    run(
        "large",
        "1",
        "128M",
        "InvalidParameter",
        &["128", "needs at least", "field: memory_mib"],
    )?;
    run(
        "probe",
        "0",
        "64M",
        "InvalidParameter",
        &["0 v", "field: vcpus"],
    )?;
    run(
        "probe",
        "5",
        "64M",
        "InvalidParameter",
        &["5 v", "field: vcpus"],
    )?;
    run(
        "probe",
        "4294967295",
        "64M",
        "InvalidParameter",
        &["field: vcpus"],
    )?;
    run(
        "probe",
        "1",
        "1M",
        "InvalidParameter",
        &["1", "field: memory_mib"],
    )?;
    run(
        "probe",
        "1",
        "2G",
        "InvalidParameter",
        &["field: memory_mib"],
    )?;
    let none: Value = site.host.cli(&["ps", "-a"])?;
    ensure!(none["items"] == json!([]) || none == json!([]), "{none}");
    // What fits is still run.
    let instance = site.run("say hello", &[])?;
    site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
    site.clean()
}

#[test]
fn unknown_ids_are_named() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let instance = InstanceId::generate(1).to_string();
    let disk = DiskId::generate(1).to_string();
    let image = ImageId::generate(1).to_string();
    let vpc = VpcId::generate(1).to_string();
    let vswitch = VswitchId::generate(1).to_string();
    let group = SecurityGroupId::generate(1).to_string();
    let decision = DecisionId::generate(1).to_string();
    let check = |args: &[&str], code: &str, id: &str| site.refused_with_advice(args, code, &[id]);

    for command in ["show", "start", "stop", "reboot", "rm", "console"] {
        check(
            &[command, &instance],
            "InvalidInstanceId.NotFound",
            &instance,
        )?;
    }
    check(
        &["modify", &instance, "--name", "x"],
        "InvalidInstanceId.NotFound",
        &instance,
    )?;
    for command in ["show", "rm"] {
        check(&["disks", command, &disk], "InvalidDiskId.NotFound", &disk)?;
        check(
            &["images", command, &image],
            "InvalidImageId.NotFound",
            &image,
        )?;
        check(&["vpcs", command, &vpc], "InvalidVpcId.NotFound", &vpc)?;
        check(
            &["vswitches", command, &vswitch],
            "InvalidVSwitchId.NotFound",
            &vswitch,
        )?;
        check(
            &["security-groups", command, &group],
            "InvalidSecurityGroupId.NotFound",
            &group,
        )?;
    }
    check(
        &["decisions", "show", &decision],
        "InvalidDecisionId.NotFound",
        &decision,
    )?;
    check(
        &["vswitches", "create", "--vpc", &vpc, "10.61.9.0/24"],
        "InvalidVpcId.NotFound",
        &vpc,
    )?;
    check(
        &[
            "security-groups",
            "authorize",
            &group,
            "--ingress",
            "all from anywhere",
        ],
        "InvalidSecurityGroupId.NotFound",
        &group,
    )?;

    let shape = ["--vcpus", "1", "--memory", "32M"];
    let run =
        |more: &[&str], code: &str, id: &str| check(&[&["run"], more, &shape].concat(), code, id);
    run(&[&image], "InvalidImageId.NotFound", &image)?;
    run(
        &["probe", "--vswitch", &vswitch],
        "InvalidVSwitchId.NotFound",
        &vswitch,
    )?;
    run(
        &["probe", "--security-group", &group],
        "InvalidSecurityGroupId.NotFound",
        &group,
    )?;
    run(&["probe", "--disk", &disk], "InvalidDiskId.NotFound", &disk)?;
    site.clean()
}

#[test]
fn a_token_is_answered_once_and_a_dry_run_changes_nothing() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let run = |memory: &'static str, more: &[&'static str]| {
        let args = ["run", "probe", "--vcpus", "1", "--memory", memory];
        [
            &args[..],
            &["--vswitch", &site.vswitch, "--client-token", "once"],
            more,
        ]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
    };
    let state = || -> Result<Value> {
        let kinds = [
            "ps -a",
            "disks ls",
            "decisions ls",
            "vpcs ls",
            "security-groups ls",
            "images ls",
        ];
        kinds
            .iter()
            .map(|kind| site.host.cli(&kind.split(' ').collect::<Vec<_>>()))
            .collect()
    };

    let before = state()?;
    let dry = site
        .host
        .try_cli(&run("32M", &["--disk", "1G", "--dry-run"]))?;
    ensure!(dry.status.success() && dry.out.is_empty(), "{dry:?}");
    let body = json!({"image_id": before[5]["items"][0]["id"], "vcpus": 1, "memory_mib": 32, "dry_run": true});
    let answer = site.http("POST", "/v1/instances", &body.to_string())?;
    ensure!(
        answer.status == 400 && answer.body["code"] == "DryRunOperation",
        "{answer:?}"
    );
    ensure!(state()? == before, "a dry run changed something");

    let first = site.host.cli(&run("32M", &["--wait"]))?;
    let id = text(&first["instances"][0], "id")?;
    let again = site.host.cli(&run("32M", &[]))?;
    ensure!(
        again["instances"].as_array().map(Vec::len) == Some(1),
        "{again}"
    );
    ensure!(again["instances"][0]["id"] == *id, "{again}");
    let other = run("64M", &[]);
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    site.refused(&other, "IdempotentParameterMismatch", &["client token"])?;
    let all = site.host.cli(&["ps", "-a"])?;
    ensure!(
        all.to_string().matches("\"image_id\"").count() == 1,
        "{all}"
    );
    Ok(())
}

#[test]
fn requests_that_are_none_and_callers_without_a_token_are_turned_away() -> Result<()> {
    let mut options = OPTIONS.to_vec();
    options.extend(["--listen", "127.0.0.1:0"]);
    let site = Site::new(&options)?;

    for body in [
        "{",
        "[]",
        "{\"image_id\": 7}",
        "{\"image\": \"x\"}",
        "nonsense",
        "\u{0}",
    ] {
        let answer = site.http("POST", "/v1/instances", body)?;
        ensure!(answer.status == 400, "{body}: {answer:?}");
        problem(&answer.head, &answer.body).with_context(|| body.to_owned())?;
    }
    let unknown = site.http("GET", "/v1/nothing", "")?;
    ensure!(unknown.status == 404, "{unknown:?}");
    problem(&unknown.head, &unknown.body)?;

    let log = fs::read_to_string(site.host.log())?;
    let address = log
        .split("listen=")
        .nth(1)
        .context("no address in the log")?;
    let address = address.split_whitespace().next().context("no address")?;
    let token = fs::read_to_string(site.host.state().join("api-token"))?;
    let right = format!("authorization: Bearer {}\r\n", token.trim());
    for header in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Basic eDp5\r\n",
    ] {
        let answer = http_tcp(address, header, "/v1/instances")?;
        ensure!(answer.status == 401, "{header}: {answer:?}");
        ensure!(
            answer.head.contains("www-authenticate: bearer"),
            "{answer:?}"
        );
        problem(&answer.head, &answer.body)?;
        ensure!(
            !answer.body.to_string().contains(token.trim()),
            "the token is told"
        );
    }
    let answer = http_tcp(address, &right, "/v1/instances")?;
    ensure!(answer.status == 200, "{answer:?}");

    let ashlar = || {
        site.host
            .ashlar()
            .env("ASHLAR_HOST", format!("http://{address}"))
    };
    let output = ashlar().arg("ps").capture()?;
    ensure!(
        output.err.contains("--token-file or ASHLAR_TOKEN") || output.err.contains("token"),
        "{output:?}"
    );
    ensure!(output.status.code() == Some(1), "{output:?}");
    let file = site.host.state().join("api-token");
    ashlar().arg("ps").arg("--token-file").arg(file).read()?;
    site.clean()
}

#[test]
fn a_disk_that_vanished_stops_the_start_and_nothing_else() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let victim = site.run("info", &["--disk", "1G", "--name", "victim"])?;
    let neighbour = site.run("info", &[])?;
    site.host.cli(&["stop", "--wait", &victim.id])?;
    let disk = site.disk(&victim, 0)?;
    fs::remove_file(site.disk_file(&disk))?;
    let start = site.host.try_cli(&["start", "--wait", &victim.id])?;
    ensure!(start.status.code() == Some(1), "{start:?}");
    ensure!(start.err.contains(&disk), "{start:?}");
    let reason = site.stopped(&victim, "StartFailed")?;
    ensure!(reason.contains(&disk), "{reason}");
    // Nobody made an empty disk in its place.
    ensure!(
        !site.disk_file(&disk).exists(),
        "an empty disk took its place"
    );
    site.tell(&neighbour, "say hello")?;
    for Started { id, .. } in [victim, neighbour] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.clean()
}

#[test]
fn what_still_runs_or_is_protected_is_not_removed() -> Result<()> {
    let site = Site::new(OPTIONS)?;
    let instance = site.run("info", &["--protect", "--disk", "1G"])?;
    let (id, disk) = (instance.id.as_str(), site.disk(&instance, 0)?);
    site.refused_with_advice(&["rm", id], "InvalidOperation.DeletionProtection", &[id])?;
    site.refused_with_advice(
        &["rm", "--force", id],
        "InvalidOperation.DeletionProtection",
        &[id],
    )?;
    site.host.cli(&["modify", id, "--protect", "false"])?;
    site.refused_with_advice(
        &["rm", id],
        "IncorrectInstanceStatus",
        &[id, "Running", "Stop it first"],
    )?;
    site.refused_with_advice(&["start", id], "IncorrectInstanceStatus", &[id])?;
    site.refused_with_advice(&["disks", "rm", &disk], "IncorrectDiskStatus", &[&disk])?;
    site.refused_with_advice(
        &["vpcs", "rm", &site.vpc],
        "DependencyViolation",
        &[&site.vpc],
    )?;
    site.refused_with_advice(
        &["security-groups", "rm", &site.group],
        "DependencyViolation",
        &[&site.group],
    )?;
    site.tell(&instance, "say still here")?;
    site.host.cli(&["stop", "--force", "--wait", id])?;
    site.host.cli(&["rm", "--wait", id])?;
    site.refused(&["show", id], "InvalidInstanceId.NotFound", &[id])?;
    site.host.cli(&["security-groups", "rm", &site.group])?;
    site.clean()
}

/// Problem details (RFC 9457) that say something.
fn problem(head: &str, body: &Value) -> Result<()> {
    ensure!(
        head.contains("content-type: application/problem+json"),
        "{head}"
    );
    let said = |key: &str| body[key].as_str().is_some_and(|text| !text.is_empty());
    ensure!(
        said("code") && said("detail") && said("request_id"),
        "{body}"
    );
    Ok(())
}

/// The ELF with the memory of its last loaded segment raised to `bytes`.
fn with_memory(elf: &[u8], bytes: u64) -> Vec<u8> {
    edit_segments(elf, 1, |header| {
        header[40..48].copy_from_slice(&bytes.to_le_bytes())
    })
}

/// The ELF with its notes called something else.
fn without_notes(elf: &[u8]) -> Vec<u8> {
    edit_segments(elf, 4, |header| header[..4].copy_from_slice(&[0; 4]))
}

/// Changes the last program header of a type (ELF-64, little-endian).
fn edit_segments(elf: &[u8], kind: u8, edit: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut elf = elf.to_vec();
    let word = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let (start, size, count) = (word(32), word(54), word(56));
    let last = (0..count)
        .map(|n| start + n * size)
        .rfind(|at| elf[*at] == kind);
    if let Some(at) = last {
        edit(&mut elf[at..at + size]);
    }
    elf
}
