//! Metering and charging by the policies that ship with the host.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rust_decimal::Decimal;
use serde_json::Value;
use sha2::{Digest, Sha256};
use types::Timestamp;
use xtask::paths;

use crate::site::{Site, poll, text};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_ran_is_charged_once_by_the_policy_also_across_restarts() -> Result<()> {
    let plugins = paths::out().join("plugins");
    let module = fs::read(plugins.join("billing-payg.wasm"))?;
    let digest: String = Sha256::digest(module)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let plugins = plugins.to_str().context("not UTF-8")?;
    let mut site = Site::new(&["--metering-interval-ms", "300", "--plugins", plugins])?;
    let instance = site.run("info", &["--disk", "1G"])?;
    let disk = site.disk(&instance, 0)?;

    seconds_charged(&site, &instance.id, 2)?;
    site.host.kill()?;
    site.host.start()?;
    seconds_charged(&site, &instance.id, 4)?;
    site.host.stop();
    site.host.start()?;
    site.host.cli(&[
        "stop",
        "--force",
        "--stopped-mode",
        "stop-charging",
        "--wait",
        &instance.id,
    ])?;
    let shown = site.show(&instance)?;
    let ran = at(&shown, "stopped_at")?.saturating_since(at(&shown, "started_at")?);

    // The last stretch is charged when the next tick comes; a tick of the disk after that says that it has come.
    let end = at(&shown, "stopped_at")?;
    poll("use after the stop was charged", || {
        Ok(charges(&site, &disk, &digest)?
            .last()
            .is_some_and(|last| last.to > end)
            .then_some(()))
    })?;
    let running = charges(&site, &instance.id, &digest)?;
    let total: Duration = running.iter().map(|charge| charge.length).sum();
    ensure!(
        total.abs_diff(ran) <= SECOND,
        "it ran {ran:?} and was charged {total:?}: {running:?}"
    );
    check_stretches(&running)?;
    ensure!(
        running.iter().all(|charge| charge.to <= end),
        "charged after its end: {running:?}"
    );

    // Again after a pause that costs nothing.
    site.host.cli(&["start", "--wait", &instance.id])?;
    let count = running.len();
    let again = poll("the second run is charged", || {
        let now = charges(&site, &instance.id, &digest)?;
        Ok((now.len() > count).then_some(now))
    })?;
    ensure!(again[count].from >= end, "the pause was charged: {again:?}");
    check_stretches(&charges(&site, &disk, &digest)?)?;

    // Stopped with what it has it costs on, by the same policy.
    site.host
        .cli(&["stop", "--force", "--wait", &instance.id])?;
    poll("what it keeps is charged", || {
        let usage = site.host.cli(&["usage", "--instance", &instance.id])?;
        let all = usage["charges"].as_array().context("no charges")?;
        let kept = all
            .iter()
            .any(|charge| charge["meter"] == "instance-stopped");
        Ok(kept.then_some(()))
    })?;
    charges(&site, &instance.id, &digest)?;

    // Released: neither it nor its disk costs anything more.
    site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
    let neighbour = site.run("info", &[])?;
    seconds_charged(&site, &neighbour.id, 1)?;
    let last = (
        charges(&site, &instance.id, &digest)?.len(),
        charges(&site, &disk, &digest)?.len(),
    );
    seconds_charged(&site, &neighbour.id, 2)?;
    let now = (
        charges(&site, &instance.id, &digest)?.len(),
        charges(&site, &disk, &digest)?.len(),
    );
    ensure!(last == now, "what is gone is charged: {last:?} {now:?}");
    site.host.cli(&["rm", "--force", "--wait", &neighbour.id])?;
    site.clean()
}

#[derive(Debug)]
struct Charge {
    from: Timestamp,
    to: Timestamp,
    length: Duration,
}

/// Charges of a resource, oldest first; all by the policy with that digest and for money.
fn charges(site: &Site, resource: &str, digest: &str) -> Result<Vec<Charge>> {
    let usage = site.host.cli(&["usage"])?;
    let all = usage["charges"].as_array().context("no charges")?;
    let mut mine = Vec::new();
    for charge in all
        .iter()
        .filter(|charge| charge["resource_id"] == resource)
    {
        ensure!(
            charge["module_sha256"] == digest,
            "not by the policy: {charge}"
        );
        let (from, to) = (at(charge, "from")?, at(charge, "to")?);
        let amount: Decimal = text(charge, "amount")?.parse()?;
        // A small disk costs less in a second than the list counts.
        let free = charge["seconds"] == 0 || charge["meter"] == "disk-allocated";
        ensure!(free || amount > Decimal::ZERO, "for nothing: {charge}");
        mine.push(Charge {
            from,
            to,
            length: Duration::from_secs(charge["seconds"].as_u64().context("no seconds")?),
        });
    }
    mine.sort_by_key(|charge| charge.from);
    Ok(mine)
}

/// Each stretch begins where the one before it ended, and lasts as long as it says.
fn check_stretches(charges: &[Charge]) -> Result<()> {
    ensure!(!charges.is_empty(), "no charges");
    for charge in charges {
        let length = charge.to.saturating_since(charge.from);
        ensure!(
            length.abs_diff(charge.length) < SECOND,
            "{charge:?} lasts {length:?}"
        );
    }
    for pair in charges.windows(2) {
        ensure!(pair[0].to == pair[1].from, "a gap or an overlap: {pair:?}");
    }
    Ok(())
}

fn seconds_charged(site: &Site, resource: &str, seconds: u64) -> Result<()> {
    poll("it was charged", || {
        let usage = site.host.cli(&["usage", "--instance", resource])?;
        let of = |charge: &&Value| charge["resource_id"] == resource;
        let all = usage["charges"].as_array().context("no charges")?;
        let sum: u64 = all
            .iter()
            .filter(of)
            .filter_map(|charge| charge["seconds"].as_u64())
            .sum();
        Ok((sum >= seconds).then_some(()))
    })
}

fn at(value: &Value, key: &str) -> Result<Timestamp> {
    Ok(text(value, key)?.parse()?)
}
