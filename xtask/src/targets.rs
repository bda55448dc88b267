//! Code for other targets: the probe (x86_64-unknown-none) and the policies (wasm32-unknown-unknown).
//!
//! Each is a workspace of its own with its own target folder. Cargo decides what to rebuild; a digest over the sources
//! and the way they were built lets an unchanged second run skip even that.

mod route;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

pub use route::Choice;
use route::Route;

use crate::hash::Inputs;
use crate::{paths, progress};

/// How the targets are built.
#[derive(Args, Default)]
pub struct Options {
    /// Which compiler: the first that works unless told.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub by: Choice,
    /// Runs cargo even when nothing seems to have changed.
    #[arg(long)]
    pub force: bool,
}

/// What was built.
pub struct Built {
    /// The probe unikernel, a PVH ELF.
    pub probe: PathBuf,
    /// The policy components.
    pub plugins: Vec<PathBuf>,
}

/// One workspace for another target.
pub struct Guest {
    /// Its folder in the checkout.
    pub folder: &'static str,
    pub target: &'static str,
    /// The parts of the library that Debian's way builds from source.
    std_parts: &'static str,
    std_features: &'static str,
}

const FIRMWARE: Guest = Guest {
    folder: "firmware",
    target: "x86_64-unknown-none",
    std_parts: "core,alloc,compiler_builtins",
    std_features: "compiler-builtins-mem",
};

const PLUGINS: Guest = Guest {
    folder: "plugins",
    target: "wasm32-unknown-unknown",
    std_parts: "std,panic_abort",
    std_features: "",
};

/// The workspaces for other targets.
pub const GUESTS: [&Guest; 2] = [&FIRMWARE, &PLUGINS];

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds the probe and the policies into `target/ashlar`.
pub fn build(options: Options) -> Result<Built> {
    let out = paths::out_dir("plugins")?;
    let probe = paths::out().join("probe");
    FIRMWARE.build(&options, |products| {
        let program = products.join("probe");
        if !program.is_file() {
            bail!("the firmware workspace built no program called probe");
        }
        copy(&program, &probe)
    })?;
    PLUGINS.build(&options, |products| {
        for old in wasm_files(&out)? {
            std::fs::remove_file(&old)
                .with_context(|| format!("cannot remove {}", old.display()))?;
        }
        let made = wasm_files(products)?;
        if made.is_empty() {
            bail!("the plugins workspace built no component");
        }
        made.iter()
            .try_for_each(|file| copy(file, &out.join(file.file_name().unwrap_or_default())))
    })?;
    Ok(Built {
        probe,
        plugins: wasm_files(&out)?,
    })
}

impl Guest {
    /// The workspace's folder.
    pub fn dir(&self) -> PathBuf {
        paths::root().join(self.folder)
    }

    /// Its cargo target folder.
    pub fn target_dir(&self) -> PathBuf {
        paths::root().join("target").join(self.folder)
    }

    fn build(&self, options: &Options, collect: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let stamp = paths::out().join(format!("{}.stamp", self.folder));
        let digest = self.digest(options)?;
        if !options.force && std::fs::read_to_string(&stamp).is_ok_and(|built| built == digest) {
            return Ok(());
        }
        progress::step(
            &format!("build {}/ for {}", self.folder, self.target),
            || {
                let route = Route::find(self.target, options.by)?;
                progress::note(format!("by {route}"));
                // The stamp goes first: a build that fails half-way must not look finished.
                let _ = std::fs::remove_file(&stamp);
                route
                    .cargo(self.target, self.std_parts, self.std_features)
                    .args([
                        "build",
                        "--release",
                        "--target",
                        self.target,
                        "--target-dir",
                    ])
                    .arg(self.target_dir())
                    .dir(self.dir())
                    .within(LIMIT)
                    .run()?;
                collect(&self.target_dir().join(self.target).join("release"))?;
                std::fs::write(&stamp, digest)
                    .with_context(|| format!("cannot write {}", stamp.display()))
            },
        )
    }

    fn digest(&self, options: &Options) -> Result<String> {
        let dir = self.dir();
        if !dir.join("Cargo.toml").is_file() {
            bail!(
                "{} is no workspace: is the checkout complete?",
                dir.display()
            );
        }
        let mut inputs = Inputs::default();
        inputs
            .text(self.target)
            .text(self.std_parts)
            .text(self.std_features);
        inputs.text(&format!("{:?}", options.by)).tree(&dir)?;
        for product in [paths::out().join("probe"), paths::out().join("plugins")] {
            inputs.text(if product.exists() { "there" } else { "gone" });
        }
        Ok(inputs.digest())
    }
}

fn wasm_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "wasm"))
        .collect();
    files.sort();
    Ok(files)
}

/// Replaces the file in one step: a running test may be reading the old one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new)
        .and_then(|_| std::fs::rename(&new, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
