//! Experiments on an emulated host.

use anyhow::{Result, bail};
use clap::Subcommand;

/// The experiments.
#[derive(Subcommand)]
pub enum Lab {
    /// A stock Linux guest on an emulated AMD host.
    LinuxGuest,
}

/// Runs one.
pub fn run(lab: Lab) -> Result<()> {
    match lab {
        Lab::LinuxGuest => bail!("not there yet"),
    }
}
