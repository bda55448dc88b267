//! The main job: everything from a bare machine to two running instances.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::command::Invocation;
use crate::pool::Pool;
use crate::setup::{self, Purpose};
use crate::{paths, progress, targets};

/// Sparse, so this only bounds what instances may write.
const POOL_SIZE: u64 = 32 << 30;

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
pub fn run(_options: Options) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    let _targets = targets::build(targets::Options::default())?;
    progress::step("build ashlard and ashlar", build)?;
    let state = paths::out_dir("up")?;
    let pool = Pool::make(&state, POOL_SIZE)?;
    bail!(
        "the daemon cannot be started on {} yet",
        pool.path().display()
    )
}

/// Builds the daemon and its command line as the calling user.
pub fn build() -> Result<()> {
    Invocation::new(paths::cargo())
        .args([
            "build",
            "--release",
            "--package",
            "ashlard",
            "--package",
            "ashlar",
        ])
        .dir(paths::root())
        .within(Duration::from_secs(40 * 60))
        .run()
}
