//! Debian's cloud kernel, unpacked but never installed: the kernel of the emulated host and of its guest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use crate::command::Invocation;
use crate::{paths, progress, setup};

/// The package that depends on the current one.
const NEWEST: &str = "linux-image-cloud-amd64";
/// Says that unpacking got to its end.
const FINISHED: &str = "finished";

/// An unpacked kernel package.
pub struct Kernel {
    /// Its version as `uname -r` shows it.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    modules: PathBuf,
    /// Module file → the files it needs, as depmod found them; paths are relative to `modules`.
    dependencies: BTreeMap<String, Vec<String>>,
    builtin: Vec<String>,
}

impl Kernel {
    /// The kernel unpacked earlier, or a freshly downloaded one.
    pub fn get() -> Result<Self> {
        let dir = paths::out_dir("lab/kernel")?;
        if !dir.join(FINISHED).exists() {
            progress::quiet_step("get Debian's cloud kernel", || unpack(&dir))?;
        }
        Self::open(&dir.join("unpacked"))
    }

    /// Puts modules and everything they need into an initramfs, unpacked, and returns their paths there in the order in
    /// which they can be loaded. Modules built into the kernel are left out.
    pub fn add_modules(&self, names: &[&str], archive: &mut Archive) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in names {
            if self
                .builtin
                .iter()
                .any(|file| module_name(file) == module_name(name))
            {
                continue;
            }
            let file = self
                .dependencies
                .keys()
                .find(|file| module_name(file) == module_name(name));
            let file =
                file.with_context(|| format!("kernel {} has no module {name}", self.version))?;
            // depmod lists what a module needs with the most basic last.
            let needed = self.dependencies[file].iter().rev().chain([file]);
            for file in needed {
                if !order.contains(file) {
                    order.push(file.clone());
                }
            }
        }
        order
            .iter()
            .map(|file| self.add_module(file, archive))
            .collect()
    }

    fn add_module(&self, file: &str, archive: &mut Archive) -> Result<String> {
        let source = self.modules.join(file);
        let plain = file.strip_suffix(".xz").unwrap_or(file);
        let path = format!("/lib/modules/{}/{plain}", self.version);
        if plain == file {
            archive.copy(&path, 0o644, &source)?;
        } else {
            let unpacked =
                tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
            Invocation::new("xz")
                .args(["--decompress", "--stdout"])
                .arg(&source)
                .spawn(unpacked.reopen()?.into(), std::process::Stdio::null())?
                .wait()?
                .exit_ok_or(|| format!("cannot unpack {}", source.display()))?;
            archive.copy(&path, 0o644, unpacked.path())?;
        }
        Ok(path)
    }

    fn open(root: &Path) -> Result<Self> {
        let all = root.join("lib/modules");
        let version = std::fs::read_dir(&all)
            .with_context(|| format!("cannot read {}", all.display()))?
            .find_map(|entry| entry.ok()?.file_name().into_string().ok())
            .with_context(|| format!("{} holds no kernel's modules", all.display()))?;
        let modules = all.join(&version);
        let text = |name: &str| {
            let file = modules.join(name);
            std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))
        };
        Ok(Self {
            image: root.join("boot").join(format!("vmlinuz-{version}")),
            dependencies: parse_dependencies(&text("modules.dep")?),
            builtin: text("modules.builtin")?
                .lines()
                .map(str::to_owned)
                .collect(),
            modules,
            version,
        })
    }
}

fn unpack(dir: &Path) -> Result<()> {
    let unpacked = dir.join("unpacked");
    if unpacked.exists() {
        std::fs::remove_dir_all(&unpacked)
            .with_context(|| format!("cannot remove {}", unpacked.display()))?;
    }
    let package = setup::download(&newest_package()?, dir)?;
    progress::note(format!("{}", package.display()));
    Invocation::new("dpkg-deb")
        .arg("-x")
        .args([&package, &unpacked])
        .read()?;
    let kernel = std::fs::read_dir(unpacked.join("lib/modules"))?
        .find_map(|entry| entry.ok()?.file_name().into_string().ok())
        .with_context(|| format!("{} holds no modules", package.display()))?;
    let depmod = paths::find_program("depmod").context("depmod is missing: install kmod")?;
    Invocation::new(depmod)
        .arg("-b")
        .arg(&unpacked)
        .arg(&kernel)
        .read()?;
    std::fs::write(dir.join(FINISHED), kernel).context("cannot note that the kernel is unpacked")
}

/// The package holds no kernel itself; its dependency's name has the version in it.
fn newest_package() -> Result<String> {
    let text = Invocation::new("apt-cache")
        .args(["depends", NEWEST])
        .read()?;
    let name = text.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: ")?;
        (name.starts_with("linux-image-") && name.ends_with("-cloud-amd64"))
            .then(|| name.to_owned())
    });
    match name {
        Some(name) => Ok(name),
        None => bail!(
            "apt knows no {NEWEST}: the lab needs Debian's cloud kernel, and so a Debian machine"
        ),
    }
}

/// `kernel/x/a.ko.xz: kernel/y/b.ko.xz …` per line.
fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| {
            (
                file.to_owned(),
                needed.split_whitespace().map(str::to_owned).collect(),
            )
        })
        .collect()
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` → `kvm_amd`: the kernel itself takes `-` and `_` for the same.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

/// A child's end as a result.
trait ExitOk {
    fn exit_ok_or(self, message: impl FnOnce() -> String) -> Result<()>;
}

impl ExitOk for std::process::ExitStatus {
    fn exit_ok_or(self, message: impl FnOnce() -> String) -> Result<()> {
        if !self.success() {
            bail!("{}: {self}", message());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["kernel/a.ko", "kernel/b-b.ko", "kernel/c.ko"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let kernel = Kernel {
            version: "1".into(),
            image: PathBuf::new(),
            modules: dir.path().to_owned(),
            dependencies: parse_dependencies(
                "kernel/a.ko: kernel/b-b.ko kernel/c.ko\nkernel/b-b.ko: kernel/c.ko\nkernel/c.ko:\n",
            ),
            builtin: vec!["kernel/d.ko".into()],
        };
        let mut archive = Archive::default();
        let order = kernel
            .add_modules(&["b_b", "d", "a"], &mut archive)
            .unwrap();
        assert_eq!(
            order,
            [
                "/lib/modules/1/kernel/c.ko",
                "/lib/modules/1/kernel/b-b.ko",
                "/lib/modules/1/kernel/a.ko"
            ]
        );
        assert!(archive.contains("/lib/modules/1/kernel/a.ko"));
        let error = kernel.add_modules(&["e"], &mut archive).unwrap_err();
        assert_eq!(error.to_string(), "kernel 1 has no module e");
    }
}
