//! Hosts that cannot start: one clear error, a failed exit, and nothing else touched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use xtask::command::{Invocation, Output};
use xtask::paths;

use crate::site::{PATIENCE, Site, namespace_prefix, text, vmms};

#[test]
fn a_second_daemon_on_a_state_folder_is_refused_and_the_first_goes_on() -> Result<()> {
    let mut site = Site::new(&[])?;
    let guest = site.run("info", &[])?;
    // What the first is in the middle of is not disturbed either.
    let unfinished = site.host.volumes().join("unfinished").join("upload");
    fs::write(&unfinished, "half an image")?;

    let second = site.host.ashlard("serve").within(PATIENCE).capture()?;
    one_error(&second, &[text_of(&site)?.as_str(), "in use by"])?;

    ensure!(site.host.runs(), "the first daemon ended");
    ensure!(
        unfinished.exists(),
        "the second daemon removed what the first was writing"
    );
    ensure!(
        site.show(&guest)?["state"] == "Running",
        "{}",
        site.show(&guest)?
    );
    site.tell(&guest, "say hello")?;
    site.host.cli(&["rm", "--force", "--wait", &guest.id])?;
    fs::remove_file(unfinished)?;
    // Nor is a host torn down while its daemon runs.
    let teardown = site.host.ashlard("teardown").within(PATIENCE).capture()?;
    one_error(&teardown, &["in use by"])?;
    site.clean()
}

#[test]
fn without_kvm_there_is_one_clear_error_and_the_host_can_start_later() -> Result<()> {
    let mut site = Site::idle(&[])?;
    let serve = |kvm: &str| {
        let serve = site.host.ashlard("serve").args(["--kvm", kvm]);
        serve.within(PATIENCE).capture()
    };
    one_error(
        &serve("/nonexistent")?,
        &["/nonexistent: no such device", "kvm module"],
    )?;
    one_error(&serve("/dev/null")?, &["/dev/null", "not KVM"])?;
    let file = site.file("kvm", b"")?;
    one_error(&serve(&file)?, &[&file, "not KVM"])?;
    untouched(&site)?;
    site.host.start()?;
    ensure!(site.host.runs(), "it does not run");
    Ok(())
}

#[test]
fn a_kvm_that_may_not_be_opened_is_told_with_its_owner_and_mode() -> Result<()> {
    let site = Site::idle(&[])?;
    // Somebody without rights needs a program, a device and a state folder within reach.
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    let (program, kvm) = (folder.path().join("ashlard"), folder.path().join("kvm"));
    fs::copy(paths::program("ashlard"), &program)?;
    Invocation::new("mknod")
        .arg(&kvm)
        .args(["c", "10", "232", "--mode=0600"])
        .read()?;
    let output = Invocation::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .arg("serve")
        .arg("--state")
        .arg(folder.path().join("state"))
        .arg("--pool")
        .arg(folder.path().join("pool"))
        .arg("--kvm")
        .arg(&kvm)
        .within(PATIENCE)
        .capture()?;
    let kvm = kvm.to_string_lossy();
    one_error(
        &output,
        &[
            &kvm,
            "permission denied",
            "user 0, group 0, mode 0600",
            "run as root",
        ],
    )?;
    untouched(&site)
}

#[test]
fn a_state_that_is_damaged_or_a_pool_without_reflinks_is_named() -> Result<()> {
    let site = Site::idle(&[])?;
    let state = site.host.state();
    fs::create_dir(&state)?;
    fs::write(state.join("state.redb"), "this is no store")?;
    let serve = || site.host.ashlard("serve").within(PATIENCE);
    one_error(&serve().capture()?, &["state.redb"])?;
    ensure!(
        fs::read(state.join("state.redb"))? == b"this is no store",
        "it was overwritten"
    );
    fs::remove_file(state.join("state.redb"))?;

    let output = serve().args(["--prices", "/nonexistent"]).capture()?;
    one_error(&output, &["/nonexistent", "prices"])?;
    let output = serve().args(["--plugins", "/nonexistent"]).capture()?;
    one_error(&output, &["/nonexistent", "policies"])?;
    let output = serve().args(["--listen", "0.0.0.0:7070"]).capture()?;
    ensure!(
        output.status.code() == Some(2) && output.err.contains("loopback"),
        "{output:?}"
    );
    untouched(&site)
}

/// Exactly one line, beginning with the program's name, with all these words.
fn one_error(output: &Output, words: &[&str]) -> Result<()> {
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(output.out.is_empty(), "it said it was ready: {output:?}");
    let errors: Vec<&str> = output
        .err
        .lines()
        .filter(|line| line.starts_with("ashlard: "))
        .collect();
    ensure!(errors.len() == 1, "not one error: {output:?}");
    for word in words {
        ensure!(
            errors[0].contains(word),
            "{word:?} is missing in: {}",
            errors[0]
        );
    }
    Ok(())
}

/// Nothing of a machine was made.
fn untouched(site: &Site) -> Result<()> {
    let state = site.host.state();
    if !state.exists() {
        return Ok(());
    }
    ensure!(vmms(&state)?.is_empty(), "there is a vmm");
    ensure!(!state.join("api.sock").exists(), "there is a socket");
    let prefix = namespace_prefix(&state)?;
    let names = fs::read_dir("/run/netns").into_iter().flatten();
    for name in names {
        let name = name?.file_name();
        ensure!(
            !name.to_string_lossy().starts_with(&prefix),
            "there is a namespace {name:?}"
        );
    }
    Ok(())
}

fn text_of(site: &Site) -> Result<String> {
    let state = site.host.state();
    let path = state.to_str().context("not UTF-8")?.to_owned();
    ensure!(
        text(&site.host.cli(&["host"])?, "id")?.starts_with("h-"),
        "no host"
    );
    Ok(path)
}
