//! Experiments on emulated hosts.

mod appliance;
mod kernel;
mod linux_guest;
mod qemu;
mod report;
mod rootfs;

use anyhow::Result;
use clap::Subcommand;

/// The experiments.
#[derive(Subcommand)]
pub enum Lab {
    /// A stock Linux guest under the daemon, on an emulated AMD host.
    LinuxGuest {
        /// The same guest directly under QEMU, to tell its own faults from the daemon's.
        #[arg(long)]
        alone: bool,
    },
    /// The host image: flashed, booted, updated, broken and mended.
    Appliance {
        /// Only this scenario.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
}

/// Runs one.
pub fn run(lab: Lab) -> Result<()> {
    match lab {
        Lab::LinuxGuest { alone: false } => linux_guest::run(),
        Lab::LinuxGuest { alone: true } => linux_guest::run_alone(),
        Lab::Appliance { only } => appliance::run(only.as_deref()),
    }
}
