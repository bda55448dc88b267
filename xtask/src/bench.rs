//! Runs the measurements of bench/ and keeps what they say.

use anyhow::{Result, bail};

/// Builds and runs one measurement, or all.
pub fn run(_name: Option<&str>) -> Result<()> {
    bail!("bench/ has no measurements yet")
}
