//! The main job: everything from a bare machine to two running instances.

mod job;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::host::Host;
use crate::setup::{self, Purpose};
use crate::{build, interrupt, paths, privilege, progress, targets};
use report::Report;

/// Sparse, so this only bounds what instances may write.
const POOL_SIZE: u64 = 32 << 30;
/// Charges come often, so that the job needs not wait for them.
const METERING: [&str; 2] = ["--metering-interval-ms", "1000"];

/// How `up` runs.
#[derive(Args)]
pub struct Options {
    /// Cleans up and ends after the job instead of leaving the daemon running.
    #[arg(long)]
    pub once: bool,
    /// How the result is shown.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// For people or for programs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables.
    Table,
    /// One JSON object, last on standard output.
    Json,
}

/// Sets up, builds, starts the daemon on a private state folder and does the main job.
pub fn run(options: Options) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    let built = targets::build(targets::Options::default())?;
    progress::step("build ashlard and ashlar", build::programs)?;
    privilege::ensure()?;

    let plugins = plugins_folder(&built.plugins)?;
    let serve = [&["--plugins", plugins.as_str()][..], &METERING].concat();
    let mut host = progress::step("prepare a private host", || {
        Host::new(&folder(), POOL_SIZE, &serve)
    })?;
    let report = job::run(&mut host, &built.probe).inspect_err(|_| {
        if !interrupt::requested() {
            keep_evidence(&host);
        }
    })?;
    report.print(options.output)?;
    if options.once {
        return progress::step("clean up", || host.tear_down());
    }
    how_to_go_on(&host, &report);
    host.leave();
    Ok(())
}

/// Where the host of this user is. Short: the names of unix sockets below it may have 107 bytes.
fn folder() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    std::env::temp_dir().join(format!("ashlar-up-{user}"))
}

fn plugins_folder(plugins: &[PathBuf]) -> Result<String> {
    let folder = plugins.first().and_then(|plugin| plugin.parent());
    let folder = folder.context("no policy was built")?;
    Ok(folder
        .to_str()
        .context("the checkout's path is not UTF-8")?
        .to_owned())
}

/// Copies the daemon's log to where it survives the clean-up, and says where.
fn keep_evidence(host: &Host) {
    let kept = paths::out_dir("up").map(|dir| dir.join("ashlard.log"));
    if let Ok(kept) = kept
        && std::fs::copy(host.log(), &kept).is_ok()
    {
        progress::note(format!(
            "the daemon's log is kept in {}; its end:",
            kept.display()
        ));
        for line in host.last_words().lines() {
            progress::note(line);
        }
    }
}

fn how_to_go_on(host: &Host, report: &Report) {
    let ashlar = paths::program("ashlar");
    let ashlar = relative(&ashlar);
    let sudo = if privilege::is_root() { "" } else { "sudo -E " };
    eprintln!(
        "\nThe daemon runs on. Go on with:\n\n  export ASHLAR_HOST={}\n  {sudo}{ashlar} ps\n  {sudo}{ashlar} console {}\n  {sudo}{ashlar} run probe --memory 64M --wait\n  {sudo}{ashlar} usage\n\nIts log is {}. `cargo xtask up --once` replaces and removes it.",
        host.address(),
        report
            .instances
            .first()
            .map_or("ID", |instance| instance.id.as_str()),
        host.log().display(),
    );
}

fn relative(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}
