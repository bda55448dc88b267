//! Building the product, at most once per run.
//!
//! Cargo compiles a dependency again for every set of features it is asked for, and the tests ask for more than the programs.
//! Where both are wanted, building the tests makes the programs too (each has tests that run it), and the large
//! dependencies are compiled once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::command::Invocation;
use crate::paths;

const LIMIT: Duration = Duration::from_secs(40 * 60);

static PROGRAMS_ARE_BUILT: AtomicBool = AtomicBool::new(false);

/// The daemon and its command line, as the calling user.
pub fn programs() -> Result<()> {
    if PROGRAMS_ARE_BUILT.load(Ordering::Relaxed) {
        return Ok(());
    }
    cargo(&[
        "build",
        "--package",
        "ashlard",
        "--package",
        "ashlar",
        "--package",
        "initramfs",
    ])?;
    PROGRAMS_ARE_BUILT.store(true, Ordering::Relaxed);
    Ok(())
}

/// All tests, and with them the programs.
pub fn tests() -> Result<()> {
    cargo(&["test", "--workspace", "--no-run"])?;
    PROGRAMS_ARE_BUILT.store(true, Ordering::Relaxed);
    Ok(())
}

/// The measurements.
pub fn measurements() -> Result<()> {
    cargo(&["build", "--package", "bench"])
}

fn cargo(args: &[&str]) -> Result<()> {
    Invocation::new(paths::cargo())
        .args(args)
        .arg("--release")
        .dir(paths::root())
        .within(LIMIT)
        .run()
}
