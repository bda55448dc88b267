//! Debian's cloud kernel, unpacked but never installed: the kernel of the emulated host and of its guest.

use anyhow::Result;
use image_build::Kernel;

use crate::packages;

/// The package that depends on the current one.
const NEWEST: &str = "linux-image-cloud-amd64";

/// The kernel unpacked earlier, or a freshly downloaded one.
pub fn get() -> Result<Kernel> {
    Ok(packages::kernel(NEWEST, packages::Suite::Stable)?.0)
}
