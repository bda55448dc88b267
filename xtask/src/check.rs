//! Checks that need no running machine.

use anyhow::Result;

/// Runs them all.
pub fn run() -> Result<()> {
    Ok(())
}
