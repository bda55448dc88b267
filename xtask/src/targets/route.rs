//! Which compiler builds for another target: one that has it installed, one that rustup can complete, or Debian's, which
//! builds the library from source.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::command::Invocation;
use crate::{paths, progress, setup};

/// Debian's compiler with its library's source and its own copy of LLVM's tools.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Without a network rustup gives up by itself; this is for one that only drops packets.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);
/// What `cargo xtask` inherits from the cargo (and the rustup proxy) that runs it; it would lead another cargo astray.
const INHERITED: [&str; 8] = [
    "CARGO",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Which route the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The first that works.
    #[default]
    Auto,
    /// The compiler on PATH with the target installed, if need be by `rustup target add`.
    Rustup,
    /// Debian's packages, building the library from source.
    Debian,
}

/// A way to build for a target.
pub enum Route {
    /// The compiler on `PATH` has the target.
    Installed { sysroot: PathBuf },
    /// Debian's compiler; the target's library is built from source.
    Debian { sysroot: PathBuf, lld: PathBuf },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { sysroot } => {
                write!(f, "the installed target in {}", sysroot.display())
            }
            Self::Debian { .. } => f.write_str("Debian's compiler, with the library from source"),
        }
    }
}

impl Route {
    /// The first route that works for this target.
    pub fn find(target: &str, choice: Choice) -> Result<Self> {
        if choice != Choice::Debian {
            if let Some(route) = Self::installed(target) {
                return Ok(route);
            }
            match rustup_target_add(target) {
                Ok(()) => {
                    if let Some(route) = Self::installed(target) {
                        return Ok(route);
                    }
                }
                Err(error) if choice == Choice::Rustup => return Err(error),
                Err(error) => progress::note(format!(
                    "rustup cannot add {target} ({}): using Debian's compiler",
                    first_line(&error)
                )),
            }
        }
        if choice == Choice::Rustup {
            bail!(
                "rustup added {target}, but the compiler on PATH does not have it: is another one first on PATH?"
            );
        }
        Self::debian().with_context(|| format!("no compiler here can build for {target}; `rustup target add {target}` on a machine with a network would do"))
    }

    /// `cargo` by this route, with everything set that the target needs; the caller adds the command.
    pub fn cargo(&self, target: &str, std_parts: &str, std_features: &str) -> Invocation {
        let (sysroot, lld, mut cargo) = match self {
            Self::Installed { sysroot } => {
                let lld = host_tools(sysroot).join("gcc-ld");
                (sysroot, lld, clean("cargo"))
            }
            Self::Debian { sysroot, lld } => {
                let mut cargo = clean(DEBIAN_CARGO)
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .arg(format!("-Zbuild-std={std_parts}"));
                if !std_features.is_empty() {
                    cargo = cargo.arg(format!("-Zbuild-std-features={std_features}"));
                }
                (sysroot, lld.clone(), cargo)
            }
        };
        if target.starts_with("wasm32") {
            // wasm-component-ld turns what wasm-ld links into a component.
            let linker = host_tools(sysroot).join("wasm-component-ld");
            cargo = cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo.env("PATH", path_with_first(&lld))
    }

    fn installed(target: &str) -> Option<Self> {
        let libraries = clean("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .read()
            .ok()?;
        let has_core = std::fs::read_dir(libraries.trim())
            .ok()?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"));
        let sysroot = sysroot_of("rustc").ok()?;
        has_core.then_some(Self::Installed { sysroot })
    }

    fn debian() -> Result<Self> {
        if find_debian().is_err() {
            setup::install(&DEBIAN_PACKAGES)?;
        }
        find_debian()
    }
}

/// Debian's compiler, if all of it is there.
fn find_debian() -> Result<Route> {
    let sysroot = sysroot_of(DEBIAN_RUSTC)?;
    if !Path::new(DEBIAN_CARGO).is_file() {
        bail!("{DEBIAN_CARGO} is missing");
    }
    // The library's source is only in its place when it belongs to this very compiler.
    let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !source.is_file() {
        bail!("the library's source for {DEBIAN_RUSTC} is missing");
    }
    let version = Invocation::new(DEBIAN_RUSTC).arg("-vV").read()?;
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next())
        .context("the compiler does not say which LLVM it has")?;
    let lld = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin"));
    if !lld.join("wasm-ld").is_file() {
        setup::install(&[&format!("lld-{llvm}")])?;
    }
    Ok(Route::Debian { sysroot, lld })
}

/// Set once rustup failed: without a network the next target would only fail as slowly.
static RUSTUP_FAILED: AtomicBool = AtomicBool::new(false);

fn rustup_target_add(target: &str) -> Result<()> {
    if RUSTUP_FAILED.load(Ordering::Relaxed) {
        bail!("it failed before");
    }
    if paths::find_program("rustup").is_none() {
        bail!("there is no rustup");
    }
    progress::note(format!("rustup target add {target}"));
    Invocation::new("rustup")
        .args(["target", "add", target])
        .within(RUSTUP_LIMIT)
        .read()
        .map(drop)
        .inspect_err(|_| RUSTUP_FAILED.store(true, Ordering::Relaxed))
}

/// A program with nothing of the cargo that runs `xtask` in its environment.
fn clean(program: &str) -> Invocation {
    INHERITED
        .iter()
        .fold(Invocation::new(program), |run, name| run.env_remove(name))
}

fn sysroot_of(rustc: &str) -> Result<PathBuf> {
    let sysroot = clean(rustc).args(["--print", "sysroot"]).read()?;
    Ok(PathBuf::from(sysroot.trim()))
}

fn host_tools(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin")
}

fn path_with_first(dir: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut first = dir.as_os_str().to_owned();
    first.push(":");
    first.push(path);
    first
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().last().unwrap_or_default().trim().to_owned()
}
