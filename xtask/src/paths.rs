//! Where things are: the checkout, the build's folders, and what `xtask` itself keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout this program was built from.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// The cargo target folder of the main workspace.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A program of the main workspace as the release profile builds it.
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Everything `xtask` makes: the probe, the plugins, the lab, bench results. Always inside the checkout's `target`,
/// so that tests find it without being told.
pub fn out() -> PathBuf {
    root().join("target").join("ashlar")
}

/// `out()/name`, created when it isn't there yet.
pub fn out_dir(name: &str) -> Result<PathBuf> {
    let dir = out().join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The file a program's name leads to on `PATH` or in the system folders that `PATH` of an ordinary user leaves out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The cargo that runs this, or the one on `PATH`.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
