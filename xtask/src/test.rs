//! Everything continuous integration runs.

use anyhow::Result;

use crate::check;

/// Runs it all.
pub fn run() -> Result<()> {
    check::run()
}
