//! Code for other targets: the probe (x86_64-unknown-none) and the policies (wasm32-unknown-unknown).
//!
//! Each is a workspace of its own with its own target folder. Cargo decides what to rebuild; a digest over the sources
//! and the way they were built lets an unchanged second run skip even that. The policy in C is there to show that policies need
//! not be in Rust: it is built with them for the tests, not for a host that is to run.

mod c;
mod route;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

pub use route::Choice;
use route::Route;

use crate::command::Invocation;
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
    /// The policy components of a host that is given no others, in one folder.
    pub plugins: Vec<PathBuf>,
}

/// One workspace for another target.
pub struct Guest {
    /// Its folder in the checkout.
    pub folder: &'static str,
    /// The target it is built for.
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

/// The policies that a daemon is given, which takes at most one of a kind from a folder; the others are in a folder below.
const DEFAULT_POLICIES: [&str; 2] = ["scheduler-basic.wasm", "billing-payg.wasm"];
const OTHER_POLICIES: &str = "plugins/other";

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Builds what a host needs and what only tests need besides.
pub fn build_all(options: Options) -> Result<()> {
    let force = options.force;
    build(options)?;
    c::build(force)
}

/// Tests on this machine what of the guest code and the policies runs anywhere, each within `limit`.
pub fn test_all(limit: Duration) -> Result<()> {
    for guest in GUESTS {
        Invocation::new(paths::cargo())
            .args(["test", "--workspace", "--target-dir"])
            .arg(guest.target_dir())
            .dir(guest.dir())
            .within(limit)
            .run()?;
    }
    c::test(limit)
}

/// Builds the probe and the policies in Rust into `target/ashlar`.
pub fn build(options: Options) -> Result<Built> {
    let out = paths::out_dir("plugins")?;
    let other = paths::out_dir(OTHER_POLICIES)?;
    let probe = FIRMWARE.build(&options, |products| {
        let (from, to) = (products.join("probe"), paths::out().join("probe"));
        if !from.is_file() {
            bail!("the firmware workspace built no program called probe");
        }
        copy(&from, &to)?;
        Ok(vec![to])
    })?;
    let plugins = PLUGINS.build(&options, |products| {
        for old in [wasm_files(&out)?, wasm_files(&other)?].concat() {
            std::fs::remove_file(&old)
                .with_context(|| format!("cannot remove {}", old.display()))?;
        }
        for file in wasm_files(products)? {
            let name = policy_name(&file);
            let folder = if is_default(&name) { &out } else { &other };
            copy(&file, &folder.join(name))?;
        }
        let made = [wasm_files(&out)?, wasm_files(&other)?].concat();
        if made.is_empty() {
            bail!("the plugins workspace built no component");
        }
        Ok(made)
    })?;
    let plugins = plugins.into_iter().filter(|file| {
        let name = file.file_name().unwrap_or_default();
        is_default(&name.to_string_lossy())
    });
    Ok(Built {
        probe: probe[0].clone(),
        plugins: plugins.collect(),
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

    /// Builds and collects the products unless those of the same sources are there already.
    fn build(
        &self,
        options: &Options,
        collect: impl FnOnce(&Path) -> Result<Vec<PathBuf>>,
    ) -> Result<Vec<PathBuf>> {
        let stamp = Stamp(paths::out().join(format!("{}.stamp", self.folder)));
        let digest = self.digest()?;
        if options.by == Choice::Auto
            && !options.force
            && let Some(products) = stamp.products(&digest)
        {
            return Ok(products);
        }
        progress::step(
            &format!("build {}/ for {}", self.folder, self.target),
            || {
                let route = Route::find(self.target, options.by)?;
                progress::note(format!("by {route}"));
                stamp.remove();
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
                let products = collect(&self.target_dir().join(self.target).join("release"))?;
                stamp.write(&digest, &products)?;
                Ok(products)
            },
        )
    }

    fn digest(&self) -> Result<String> {
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
            .text(self.std_features)
            .tree(&dir)?;
        Ok(inputs.digest())
    }
}

/// What was built from which sources: the digest, then one product per line.
struct Stamp(PathBuf);

impl Stamp {
    /// The products, if they are of these sources and all there.
    fn products(&self, digest: &str) -> Option<Vec<PathBuf>> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let mut lines = text.lines();
        let same = lines.next() == Some(digest);
        let products: Vec<PathBuf> = lines.map(PathBuf::from).collect();
        (same && !products.is_empty() && products.iter().all(|file| file.is_file()))
            .then_some(products)
    }

    /// Goes before a build begins: one that fails half-way must not look finished.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.0);
    }

    fn write(&self, digest: &str, products: &[PathBuf]) -> Result<()> {
        let lines = products.iter().map(|file| format!("{}\n", file.display()));
        let text: String = std::iter::once(format!("{digest}\n"))
            .chain(lines)
            .collect();
        std::fs::write(&self.0, text).with_context(|| format!("cannot write {}", self.0.display()))
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

/// Cargo writes `-` of a package's name as `_`; a policy goes by its package's name.
fn policy_name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace('_', "-")
}

fn is_default(name: &str) -> bool {
    DEFAULT_POLICIES.contains(&name)
}

/// Replaces the file in one step: a running test may be reading the old one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new)
        .and_then(|_| std::fs::rename(&new, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_for_the_same_sources_and_only_while_the_products_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let product = dir.path().join("p.wasm");
        std::fs::write(&product, "").unwrap();
        let stamp = Stamp(dir.path().join("stamp"));
        assert_eq!(stamp.products("d"), None);
        stamp.write("d", std::slice::from_ref(&product)).unwrap();
        assert_eq!(stamp.products("d"), Some(vec![product.clone()]));
        assert_eq!(stamp.products("e"), None);
        std::fs::remove_file(product).unwrap();
        assert_eq!(stamp.products("d"), None);
    }
}
