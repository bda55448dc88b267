//! What instances reach of each other, and what not.

use anyhow::{Result, ensure};

use crate::site::{PATIENCE, Site, Started, poll, text};

/// What is to come may take long on a slow machine; what is not to come is not waited for that long.
fn timeout(expected: &str) -> &'static str {
    if expected == "timed-out" {
        "700ms"
    } else {
        "5s"
    }
}

impl Site {
    /// Tries to reach the target: `ping`, or `udp` or `connect` with a port.
    fn reach(&self, from: &Started, how: &str, to: &str, expected: &str) -> Result<()> {
        let name = how.split(' ').next().unwrap_or(how);
        // A guest that has not heard of the other yet loses its first answer: the last of two counts.
        let count = if name == "ping" { "count=2" } else { "" };
        let event = self.ask(
            from,
            &format!("{name} {to} timeout={} {count}", timeout(expected)),
            name,
        )?;
        let result = event.get("result")?;
        ensure!(
            result == expected,
            "{how} {to}: {result} instead of {expected}"
        );
        Ok(())
    }

    fn rule(&self, verb: &str, group: &str, rule: &str) -> Result<()> {
        let way = if rule.contains(" to ") {
            "--egress"
        } else {
            "--ingress"
        };
        self.host
            .cli(&["security-groups", verb, group, way, rule])
            .map(drop)
    }
}

#[test]
fn rules_decide_who_reaches_whom() -> Result<()> {
    let site = Site::new(&[])?;
    let members = text(
        &site
            .host
            .cli(&["security-groups", "create", "--vpc", &site.vpc])?,
        "id",
    )?;
    let server = site.run("dhcp; serve tcp=7,8 udp=7", &[])?;
    let client = site.run("dhcp; serve tcp=7", &["--security-group", &members])?;
    let member = site.run("dhcp; serve tcp=7", &["--security-group", &members])?;
    let (address, tcp) = (server.address.as_str(), format!("{}:7", server.address));
    let authorize = |rule: &str| site.rule("authorize", &site.group, rule);
    let revoke = |rule: &str| site.rule("revoke", &site.group, rule);

    // Nothing comes in from elsewhere by default; members of a group that is not isolated reach each other.
    site.reach(&client, "ping", address, "timed-out")?;
    site.reach(&client, "udp", &tcp, "timed-out")?;
    site.reach(&client, "connect", &tcp, "timed-out")?;
    site.reach(&client, "ping", &member.address, "reached")?;
    site.reach(
        &client,
        "connect",
        &format!("{}:7", member.address),
        "reached",
    )?;
    site.reach(&server, "ping", &member.address, "timed-out")?;

    // Each protocol on its own.
    authorize("icmp from 10.61.1.0/24")?;
    site.reach(&client, "ping", address, "reached")?;
    site.reach(&client, "connect", &tcp, "timed-out")?;
    authorize("udp:7 from anywhere")?;
    site.reach(&client, "udp", &tcp, "reached")?;
    site.reach(&client, "connect", &tcp, "timed-out")?;
    revoke("udp:7 from anywhere")?;
    site.reach(&client, "udp", &tcp, "timed-out")?;

    // From a group: its members and nobody else.
    authorize(&format!("tcp:7 from {members} priority 10"))?;
    site.reach(&client, "connect", &tcp, "reached")?;
    site.reach(&client, "connect", &format!("{address}:8"), "timed-out")?;
    // A duplicate changes nothing.
    authorize(&format!("tcp:7 from {members} priority 10"))?;
    // A lower number wins; among equals, drop does.
    let from_client = format!("tcp:7 from {}/32 drop", client.address);
    authorize(&format!("{from_client} priority 20"))?;
    site.reach(&client, "connect", &tcp, "reached")?;
    authorize(&format!("{from_client} priority 10"))?;
    site.reach(&client, "connect", &tcp, "timed-out")?;
    site.reach(&member, "connect", &tcp, "reached")?;
    authorize(&format!("tcp:7 from {}/32 priority 5", client.address))?;
    site.reach(&client, "connect", &tcp, "reached")?;

    // What goes out is free until a rule says otherwise.
    site.rule(
        "authorize",
        &members,
        &format!("tcp:7 to {address}/32 drop"),
    )?;
    site.reach(&client, "connect", &tcp, "timed-out")?;
    site.rule("revoke", &members, &format!("tcp:7 to {address}/32 drop"))?;
    site.reach(&client, "connect", &tcp, "reached")?;
    // A port nobody listens on is refused by the guest, not by the host.
    authorize("tcp:9 from anywhere")?;
    site.reach(&client, "connect", &format!("{address}:9"), "refused")?;

    for Started { id, .. } in [server, client, member] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.clean()
}

#[test]
fn a_revoked_rule_keeps_what_is_established_and_refuses_what_is_new() -> Result<()> {
    let site = Site::new(&[])?;
    let server = site.run("dhcp; serve tcp=7", &[])?;
    let client = site.run("dhcp", &[])?;
    let rule = "tcp:7 from 10.61.1.0/24";
    site.rule("authorize", &site.group, rule)?;
    // Measured first: the long one must outlast the revocation on machines fast and slow.
    let connect = |bytes: u64| format!("connect {}:7 timeout=25s echo={bytes}", server.address);
    let start = std::time::Instant::now();
    let short = site.ask(&client, &connect(1 << 20), "connect")?;
    ensure!(short.number("echoed")? == 1 << 20, "{short:?}");
    // As much as takes some three seconds.
    let elapsed = start.elapsed().as_micros().max(1);
    let bytes = u64::try_from((3_000_000 << 20) / elapsed)?.min(64 << 20);
    let long = connect(bytes);
    let tries = format!("@go say connecting\\n@long {long}\\n");
    let send = [
        "console",
        &client.id,
        "--send",
        &tries,
        "--wait-for",
        "tag=go ",
    ];
    site.host.ashlar().args(send).within(PATIENCE).read()?;
    poll("the connection is there", || {
        Ok(established(&site)?.then_some(()))
    })?;

    site.rule("revoke", &site.group, rule)?;
    let transcript = site.guest(&client).transcript()?;
    ensure!(
        !transcript.contains("tag=long"),
        "it was over too soon to prove anything"
    );
    let output = site
        .guest(&client)
        .wait_for("tag=long [^\\n]*\\n", PATIENCE)?;
    ensure!(
        output.contains(&format!("echoed={}", bytes)),
        "it broke off: {output}"
    );
    site.reach(
        &client,
        "connect",
        &format!("{}:7", server.address),
        "timed-out",
    )
}

#[test]
fn vpcs_with_the_same_addresses_do_not_see_each_other() -> Result<()> {
    let site = Site::new(&[])?;
    let vpc = text(&site.host.cli(&["vpcs", "create", "10.61.0.0/16"])?, "id")?;
    let vswitch = text(
        &site
            .host
            .cli(&["vswitches", "create", "--vpc", &vpc, "10.61.1.0/24"])?,
        "id",
    )?;
    let group = text(
        &site
            .host
            .cli(&["security-groups", "create", "--vpc", &vpc])?,
        "id",
    )?;
    for group in [&group, &site.group] {
        site.rule("authorize", group, "all from anywhere")?;
    }
    let there = [
        "--vswitch",
        &vswitch,
        "--security-group",
        &group,
        "--private-ip",
    ];
    let place = |address: &'static str| [&there[..], &[address]].concat();
    let server = site.run("dhcp; serve tcp=7", &["--private-ip", "10.61.1.20"])?;
    let client = site.run("dhcp", &["--private-ip", "10.61.1.10"])?;
    let twin = site.run("dhcp", &place("10.61.1.10"))?;
    ensure!(twin.address == client.address, "{}", twin.address);
    site.reach(&client, "connect", "10.61.1.20:7", "reached")?;
    site.reach(&twin, "connect", "10.61.1.20:7", "timed-out")?;
    site.reach(&twin, "ping", "10.61.1.20", "timed-out")?;
    // There it is somebody else.
    let other = site.run("dhcp; serve udp=9", &place("10.61.1.20"))?;
    site.reach(&twin, "udp", "10.61.1.20:9", "reached")?;
    site.reach(&twin, "connect", "10.61.1.20:7", "refused")?;
    site.reach(&client, "connect", "10.61.1.20:7", "reached")?;

    // An address is given once in a VPC, and only from its vswitch.
    let run = |address: &'static str, code: &str| {
        let shape = [
            "run",
            "probe",
            "--vcpus",
            "1",
            "--memory",
            "32M",
            "--vswitch",
            &site.vswitch,
        ];
        site.refused(
            &[&shape[..], &["--private-ip", address]].concat(),
            code,
            &[address],
        )
    };
    run("10.61.1.20", "InvalidPrivateIpAddress.Duplicated")?;
    run("10.61.2.20", "InvalidPrivateIpAddress.Malformed")?;

    for Started { id, .. } in [server, client, twin, other] {
        site.host.cli(&["rm", "--force", "--wait", &id])?;
    }
    site.host.cli(&["security-groups", "rm", &group])?;
    site.host.cli(&["vswitches", "rm", &vswitch])?;
    site.host.cli(&["vpcs", "rm", &vpc])?;
    site.clean()?;
    poll("the VPC's namespace is gone", || {
        let body = vpc.trim_start_matches("vpc-");
        let names = std::fs::read_dir("/run/netns")?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok((!names.any(|name| name.ends_with(body))).then_some(()))
    })
}

/// Whether a TCP connection to port 7 is being followed in this host's network.
fn established(site: &Site) -> Result<bool> {
    let vpc = site.vpc.trim_start_matches("vpc-");
    let prefix = crate::site::namespace_prefix(&site.host.state())?;
    let table = xtask::command::Invocation::as_root("nsenter")
        .arg(format!("--net=/run/netns/{prefix}{vpc}"))
        .args(["cat", "/proc/net/nf_conntrack"])
        .capture()?;
    // Kernels may lack this file: then the guest's word, that it has sent its statement before, must do.
    Ok(!table.status.success()
        || table
            .out
            .lines()
            .any(|line| line.contains("ESTABLISHED") && line.contains("dport=7 ")))
}
