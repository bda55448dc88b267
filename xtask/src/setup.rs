//! What the machine must have, per purpose: found by looking for the thing itself, installed by apt where there is apt.

mod apt;
mod backports;
mod devices;
mod needs;

use anyhow::{Result, bail};
use clap::ValueEnum;

pub use apt::{download, install};
pub use backports::version_of as backported;
use needs::Need;

use crate::{privilege, progress};

/// UEFI for emulated machines, as Debian's package has it.
pub const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// What the machine is being prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Compiling the workspace.
    Build,
    /// Running the daemon and its instances.
    Run,
    /// The test suite.
    Test,
    /// The emulated host that runs a stock Linux guest.
    Lab,
    /// Building the host image.
    Image,
}

impl Purpose {
    /// Everything that `cargo xtask test` does.
    pub const ALL: [Self; 5] = [Self::Build, Self::Run, Self::Test, Self::Lab, Self::Image];
}

/// Makes the machine ready for these purposes, or says everything that is missing at once.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    progress::quiet_step("set-up", || {
        if purposes.iter().any(|p| *p != Purpose::Build) {
            privilege::ensure()?;
        }
        let missing = needs::missing(purposes);
        if !missing.is_empty() {
            provide(&missing)?;
        }
        if purposes.contains(&Purpose::Run) || purposes.contains(&Purpose::Test) {
            devices::check()?;
        }
        if purposes.contains(&Purpose::Lab) {
            backports::ensure_qemu()?;
            if !std::path::Path::new(FIRMWARE).exists() {
                apt::install(&["ovmf"])?;
            }
        }
        Ok(())
    })
}

fn provide(missing: &[&Need]) -> Result<()> {
    if !apt::is_available() {
        let list: String = missing
            .iter()
            .map(|need| {
                format!(
                    "\n  {:<14} {} (Debian package {})",
                    need.program, need.why, need.package
                )
            })
            .collect();
        bail!(
            "this machine lacks the following, and packages are installed by themselves only on Debian and Ubuntu; install them, then try again:{list}"
        );
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    apt::install(&packages)?;
    let still: Vec<&str> = missing
        .iter()
        .filter(|need| !need.is_there())
        .map(|need| need.program)
        .collect();
    if !still.is_empty() {
        bail!(
            "{} installed, but {} still cannot be found: if someone deleted it by hand, `apt-get install --reinstall` brings it back",
            packages.join(" "),
            still.join(" ")
        );
    }
    Ok(())
}
