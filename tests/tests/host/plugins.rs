//! Policies that misbehave: the built-in one decides in their place, soon, and everybody is told.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xtask::command::Invocation;
use xtask::paths;

use crate::site::{Site, poll, text};
use crate::text::{billing, scheduler};

const LOOP: &str = "(loop $l (br $l)) unreachable";
const EAT: &str =
    "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
/// A call may take 50 ms; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(3);

/// A compiler on a slow machine.
const COMPILING: Duration = Duration::from_secs(300);

/// A host with this one policy of somebody's.
fn site(name: &str, bytes: &[u8]) -> Result<(tempfile::TempDir, Site)> {
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    fs::write(folder.path().join(format!("{name}.wasm")), bytes)?;
    let path = folder.path().to_str().context("not UTF-8")?;
    let site = Site::new(&["--plugins", path, "--metering-interval-ms", "300"])?;
    Ok((folder, site))
}

/// Runs an instance; returns its decision and how `ashlar plugins` shows the policy.
fn placed(site: &Site, name: &str) -> Result<(serde_json::Value, serde_json::Value)> {
    let start = Instant::now();
    let instance = site.launch("poweroff", &["--wait-output"])?;
    ensure!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    let decision = text(&site.show(&instance)?, "decision_id")?;
    let decision = site.host.cli(&["decisions", "show", &decision])?;
    ensure!(decision["host_id"].is_string(), "{decision}");
    ensure!(
        decision.get("module_sha256").is_none(),
        "not the built-in policy's: {decision}"
    );
    Ok((decision, shown(site, name)?))
}

fn shown(site: &Site, name: &str) -> Result<serde_json::Value> {
    let all = site.host.cli(&["plugins"])?;
    let list = all
        .as_array()
        .or(all["items"].as_array())
        .context("no list")?;
    let found = list.iter().find(|plugin| plugin["name"] == name);
    found
        .cloned()
        .with_context(|| format!("no {name} in {all}"))
}

#[test]
fn schedulers_that_fail_while_they_decide_are_replaced_call_by_call() -> Result<()> {
    for (name, body, words) in [
        ("scheduler-loop", LOOP, &["50 ms", "instructions"][..]),
        ("scheduler-eat", EAT, &["32 MiB"]),
        ("scheduler-trap", "unreachable", &["unreachable"]),
    ] {
        let (_folder, site) = site(name, &scheduler("", body))?;
        let says_why = |text: &str| words.iter().any(|word| text.contains(word));
        let (decision, plugin) = placed(&site, name)?;
        let reason = text(&decision, "fallback_reason")?;
        ensure!(says_why(&reason) && reason.contains(name), "{reason}");
        ensure!(says_why(&text(&plugin, "last_error")?), "{plugin}");
        ensure!(plugin["calls"] == 1 && plugin["fallbacks"] == 1, "{plugin}");
        // After some failures in a row it is not asked any more, and that is told.
        for _ in 0..5 {
            placed(&site, name)?;
        }
        let (decision, plugin) = placed(&site, name)?;
        ensure!(plugin["healthy"] == false, "{plugin}");
        ensure!(says_why(&text(&plugin, "last_error")?), "{plugin}");
        ensure!(
            text(&decision, "fallback_reason")?.contains(name),
            "{decision}"
        );
    }
    Ok(())
}

#[test]
fn what_is_no_component_is_set_aside_when_the_daemon_starts() -> Result<()> {
    let core = wat::parse_str("(module (func (export \"filter-and-score\")))")?;
    // A component, but of the other world.
    let other = billing("", "unreachable");
    for (name, bytes) in [
        ("scheduler-text", b"#!/bin/sh\n".to_vec()),
        ("scheduler-empty", Vec::new()),
        ("scheduler-core", core),
        ("scheduler-other", other),
    ] {
        let (_folder, site) = site(name, &bytes)?;
        let (decision, plugin) = placed(&site, name)?;
        ensure!(plugin["healthy"] == false, "{plugin}");
        ensure!(text(&plugin, "last_error")?.contains(name), "{plugin}");
        // It was never in force: the built-in policy decides in its own name.
        ensure!(
            decision["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "{decision}"
        );
    }
    Ok(())
}

#[test]
fn a_billing_policy_that_loops_leaves_the_prices_to_the_built_in_list() -> Result<()> {
    let (_folder, site) = site("billing-loop", &billing("", LOOP))?;
    let instance = site.run("info", &[])?;
    let charge = poll("it is charged all the same", || {
        let usage = site.host.cli(&["usage", "--instance", &instance.id])?;
        Ok(usage["charges"].get(0).cloned())
    })?;
    ensure!(charge.get("module_sha256").is_none(), "{charge}");
    ensure!(
        text(&charge, "fallback_reason")?.contains("billing-loop"),
        "{charge}"
    );
    let plugin = shown(&site, "billing-loop")?;
    ensure!(plugin["fallbacks"].as_u64() > Some(0), "{plugin}");
    ensure!(plugin["last_error"].is_string(), "{plugin}");
    site.host.cli(&["rm", "--force", "--wait", &instance.id])?;
    site.clean()
}

/// Runs an instance to its end; the decision about it.
fn decided(site: &Site) -> Result<serde_json::Value> {
    let instance = site.launch("poweroff", &["--wait-output"])?;
    let decision = text(&site.show(&instance)?, "decision_id")?;
    site.host.cli(&["decisions", "show", &decision])
}

#[test]
fn an_installed_policy_decides_from_its_activation_on_also_after_the_daemon_was_killed()
-> Result<()> {
    let module = paths::out().join("plugins/scheduler-basic.wasm");
    let module = module.to_str().context("not UTF-8")?;
    let mut site = Site::new(&[])?;
    let facts = site.host.cli(&["plugins", "inspect", module])?;
    ensure!(facts["kind"] == "scheduler", "{facts}");
    site.refused(
        &[
            "plugins",
            "install",
            "pack",
            module,
            "--set",
            "strategy=upwards",
        ],
        "InvalidParameter",
        &["pack", "upwards"],
    )?;
    let install = [
        "plugins",
        "install",
        "pack",
        module,
        "--set",
        "strategy=bin-pack",
    ];
    let installed = site.host.cli(&install)?;
    ensure!(installed["name"] == "pack@1", "{installed}");
    ensure!(decided(&site)?["policy"] != "pack@1");
    site.host.cli(&["plugins", "activate", "pack"])?;
    ensure!(decided(&site)?["policy"] == "pack@1");
    site.host.kill()?;
    site.host.start()?;
    let decision = decided(&site)?;
    ensure!(decision["policy"] == "pack@1", "{decision}");
    ensure!(
        decision["module_sha256"] == facts["module_sha256"],
        "{decision}"
    );
    let rerun = site
        .host
        .cli(&["decisions", "rerun", &text(&decision, "id")?])?;
    ensure!(rerun["same"] == true, "{rerun}");
    let replay = site.host.cli(&["plugins", "replay", "pack"])?;
    ensure!(
        replay["compared"] == 3 && replay["failures"] == 0,
        "{replay}"
    );
    let back = site.host.cli(&["plugins", "rollback", "scheduler"])?;
    ensure!(back["module_sha256"].is_null(), "{back}");
    ensure!(decided(&site)?["policy"] != "pack@1");
    site.host.cli(&["plugins", "rm", "pack"])?;
    let all = site.host.cli(&["plugins"])?;
    ensure!(!all.to_string().contains("pack@1"), "{all}");
    Ok(())
}

#[test]
fn hosts_that_ask_for_signatures_install_nothing_without() -> Result<()> {
    let module = paths::out().join("plugins/scheduler-basic.wasm");
    let bytes = fs::read(&module)?;
    let module = module.to_str().context("not UTF-8")?;
    let (ours, theirs) = (
        minisign::KeyPair::generate_unencrypted_keypair()?,
        minisign::KeyPair::generate_unencrypted_keypair()?,
    );
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    let keys = folder.path().join("keys");
    fs::write(&keys, ours.pk.to_base64())?;
    let site = Site::new(&["--policy-keys", keys.to_str().context("not UTF-8")?])?;
    let signature = |name: &str, pair: &minisign::KeyPair| -> Result<String> {
        let bytes = std::io::Cursor::new(&bytes);
        let signed = minisign::sign(None, &pair.sk, bytes, Some("by us"), None)?;
        site.file(name, signed.into_string().as_bytes())
    };
    let by_them = signature("theirs.minisig", &theirs)?;
    let by_us = signature("ours.minisig", &ours)?;
    let install = ["plugins", "install", "basic", module];
    site.refused(&install, "InvalidParameter", &["no signature", "minisign"])?;
    let signed_by_them = [&install[..], &["--signature", &by_them]].concat();
    site.refused(&signed_by_them, "InvalidParameter", &["trusted key"])?;
    let signed_by_us = [&install[..], &["--signature", &by_us]].concat();
    let installed = site.host.cli(&signed_by_us)?;
    ensure!(installed["author"] == "by us", "{installed}");
    Ok(())
}

#[test]
fn a_scheduler_in_c_is_made_built_tested_and_decides() -> Result<()> {
    let site = Site::new(&[])?;
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    let ashlar = |args: &[&str]| {
        let ashlar = Invocation::new(paths::program("ashlar")).args(args);
        ashlar.dir(folder.path()).within(COMPILING).read()
    };
    ashlar(&[
        "plugins",
        "new",
        "even",
        "--kind",
        "scheduler",
        "--lang",
        "c",
    ])?;
    ashlar(&["plugins", "test", "even"])?;
    ashlar(&["plugins", "build", "even"])?;
    let component = folder.path().join("even/target/even.wasm");
    let component = component.to_str().context("not UTF-8")?;
    site.host.cli(&["plugins", "install", "even", component])?;
    site.host.cli(&["plugins", "activate", "even"])?;
    let instance = site.launch("poweroff", &["--wait-output"])?;
    let decision = text(&site.show(&instance)?, "decision_id")?;
    let shown = site.host.cli(&["decisions", "show", &decision])?;
    ensure!(
        text(&shown, "policy")?.starts_with("even") && shown["fallback_reason"].is_null(),
        "{shown}"
    );
    site.host.cli(&["decisions", "rerun", &decision])?;
    Ok(())
}
