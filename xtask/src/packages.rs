//! Debian packages as a source of files: downloaded and unpacked, never installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use image_build::Kernel;

use crate::command::Invocation;
use crate::{paths, progress, setup};

/// Says that unpacking got to its end.
const FINISHED: &str = "finished";

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// The machine's own release.
    Stable,
    /// The backports of the machine's release.
    Backports,
}

/// An unpacked package.
pub struct Unpacked {
    /// The folder its files are in.
    pub root: PathBuf,
    /// The package's name and version, as its file is called: `name_version_amd64`.
    pub name: String,
}

/// The newest package of that name, unpacked. One that was unpacked earlier is taken as it is.
pub fn unpacked(package: &str) -> Result<Unpacked> {
    let dir = paths::out_dir(&format!("packages/{package}"))?;
    let finished = dir.join(FINISHED);
    let root = dir.join("unpacked");
    if let Ok(name) = std::fs::read_to_string(&finished) {
        return Ok(Unpacked { root, name });
    }
    progress::quiet_step(&format!("get the package {package}"), || {
        if root.exists() {
            std::fs::remove_dir_all(&root)
                .with_context(|| format!("cannot remove {}", root.display()))?;
        }
        let file = setup::download(package, &dir)?;
        Invocation::new("dpkg-deb")
            .arg("-x")
            .args([&file, &root])
            .read()?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        // apt writes the colon of an epoch as %3a.
        let name = name.replace("%3a", ":");
        std::fs::write(&finished, &name).context("cannot note that a package is unpacked")?;
        Ok(Unpacked { root, name })
    })
}

/// The kernel that a package such as `linux-image-cloud-amd64` depends on, with its modules indexed; and that package's name and version.
pub fn kernel(newest: &str, suite: Suite) -> Result<(Kernel, String)> {
    let found = paths::out_dir("packages")?.join(format!("{newest}-{suite:?}"));
    let package = match std::fs::read_to_string(&found) {
        Ok(package) => package,
        Err(_) => {
            let package = current(newest, suite)?;
            std::fs::write(&found, &package).context("cannot note a package's name")?;
            package
        }
    };
    let Unpacked { root, name } = unpacked(&package)?;
    index_modules(&root)?;
    Ok((Kernel::open(&root)?, name))
}

fn index_modules(root: &Path) -> Result<()> {
    let modules = root.join("lib/modules");
    let version = std::fs::read_dir(&modules)
        .with_context(|| format!("cannot read {}", modules.display()))?
        .find_map(|entry| entry.ok()?.file_name().into_string().ok())
        .with_context(|| format!("{} holds no modules", modules.display()))?;
    if modules.join(&version).join("modules.dep").exists() {
        return Ok(());
    }
    let depmod = paths::find_program("depmod").context("depmod is missing: install kmod")?;
    Invocation::new(depmod)
        .arg("-b")
        .arg(root)
        .arg(&version)
        .read()
        .map(drop)
}

/// The package holds no kernel itself; its dependency's name has the version in it.
fn current(newest: &str, suite: Suite) -> Result<String> {
    let wanted = match suite {
        Suite::Stable => newest.to_owned(),
        Suite::Backports => format!("{newest}={}", setup::backported(newest)?),
    };
    let text = Invocation::new("apt-cache")
        .args(["depends", &wanted])
        .read()?;
    let name = text.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: ")?;
        name.starts_with("linux-image-").then(|| name.to_owned())
    });
    match name {
        Some(name) => Ok(name),
        None => {
            bail!("apt knows no {wanted}: Debian's kernels are needed, and so a Debian machine")
        }
    }
}

/// Name and version of the installed package that a file of this machine belongs to, if it belongs to one.
pub fn owner(file: &Path) -> Option<(String, String)> {
    // dpkg knows a file by the path it was installed under; where /lib leads to /usr/lib that may be either.
    let real = file.canonicalize().ok()?;
    let short = real
        .strip_prefix("/usr")
        .ok()
        .map(|rest| Path::new("/").join(rest));
    let name = [Some(file.to_owned()), Some(real.clone()), short]
        .into_iter()
        .flatten()
        .find_map(|path| {
            let said = Invocation::new("dpkg-query")
                .arg("--search")
                .arg(path)
                .read()
                .ok()?;
            Some(said.split([':', ',']).next()?.to_owned())
        })?;
    let asked = ["--show", "--showformat=${Version}\n", &name];
    let version = Invocation::new("dpkg-query").args(asked).read().ok()?;
    Some((name, version.lines().next()?.to_owned()))
}

/// Where this machine has its shared libraries.
pub fn library_folders() -> Vec<PathBuf> {
    [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    ]
    .map(PathBuf::from)
    .to_vec()
}
