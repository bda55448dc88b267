//! Building the product, at most once per run.
//!
//! Cargo compiles a dependency again for every set of features it is asked for, and the tests ask for more than the programs.
//! Where both are wanted, building the tests makes the programs and the measurements too (each has tests that run it), and the
//! large dependencies are compiled once. So where the tests were built, they are built again when a program is wanted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::Invocation;
use crate::paths;

const LIMIT: Duration = Duration::from_secs(40 * 60);

/// There is a file of this name among the products once the tests were built.
const TESTS_WERE_BUILT: &str = "tests-were-built";

static PROGRAMS_ARE_BUILT: AtomicBool = AtomicBool::new(false);

/// The daemon and its command line, as the calling user.
pub fn programs() -> Result<()> {
    if PROGRAMS_ARE_BUILT.load(Ordering::Relaxed) {
        return Ok(());
    }
    if tests_were_built() {
        return tests();
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
    let mark = paths::out_dir("")?.join(TESTS_WERE_BUILT);
    std::fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
    cargo(&["test", "--workspace", "--no-run"])?;
    PROGRAMS_ARE_BUILT.store(true, Ordering::Relaxed);
    Ok(())
}

fn tests_were_built() -> bool {
    paths::out().join(TESTS_WERE_BUILT).exists()
}

/// The measurements.
pub fn measurements() -> Result<()> {
    if tests_were_built() {
        return tests();
    }
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
