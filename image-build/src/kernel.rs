//! An unpacked kernel package: the kernel, and its modules with what they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{Archive, BuildError};

/// What the kernel's own tools need beside the modules to find them by name and by device.
const INDEXES: [&str; 5] = [
    "modules.dep",
    "modules.alias",
    "modules.softdep",
    "modules.builtin",
    "modules.order",
];

/// An unpacked kernel package on which depmod has been run.
pub struct Kernel {
    /// Its version as `uname -r` shows it.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    modules: PathBuf,
    /// Module file → the files it needs, the most basic last; paths are relative to `modules`.
    dependencies: BTreeMap<String, Vec<String>>,
    builtin: Vec<String>,
    /// Module → what it wants before it, names or aliases.
    before: BTreeMap<String, Vec<String>>,
    /// Alias without a pattern in it → modules.
    aliases: BTreeMap<String, Vec<String>>,
}

impl Kernel {
    /// The one kernel unpacked in `root`.
    ///
    /// # Errors
    /// There is none, or its indexes cannot be read.
    pub fn open(root: &Path) -> Result<Self, BuildError> {
        let all = root.join("lib/modules");
        let version = std::fs::read_dir(&all)
            .map_err(BuildError::io("read", &all))?
            .find_map(|entry| entry.ok()?.file_name().into_string().ok())
            .ok_or_else(|| {
                BuildError::new(format!("{} holds no kernel's modules", all.display()))
            })?;
        let modules = all.join(&version);
        let text = |name: &str| {
            let file = modules.join(name);
            std::fs::read_to_string(&file).map_err(BuildError::io("read", &file))
        };
        Ok(Self {
            image: root.join("boot").join(format!("vmlinuz-{version}")),
            dependencies: parse_dependencies(&text("modules.dep")?),
            before: parse_hints(&text("modules.softdep").unwrap_or_default()),
            aliases: parse_aliases(&text("modules.alias").unwrap_or_default()),
            builtin: text("modules.builtin")?
                .lines()
                .map(str::to_owned)
                .collect(),
            modules,
            version,
        })
    }

    /// The files of modules, of everything they need, and of what those hint that they want (modprobe.d(5), "softdep"), in an order in
    /// which they can be loaded. Modules built into the kernel are left out.
    ///
    /// # Errors
    /// There is no such module.
    pub fn closure<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<String>, BuildError> {
        let by_name: BTreeMap<String, &String> = self
            .dependencies
            .keys()
            .map(|file| (module_name(file), file))
            .collect();
        let builtin: BTreeSet<String> = self.builtin.iter().map(|file| module_name(file)).collect();
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            let name = module_name(name.as_ref());
            if builtin.contains(&name) {
                continue;
            }
            let file = by_name.get(&name).ok_or_else(|| {
                BuildError::new(format!("kernel {} has no module {name}", self.version))
            })?;
            self.take(file, &by_name, &mut seen, &mut order);
        }
        Ok(order)
    }

    fn take(
        &self,
        file: &String,
        by_name: &BTreeMap<String, &String>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) {
        for file in self.dependencies[file].iter().rev().chain([file]) {
            if !seen.insert(file.clone()) {
                continue;
            }
            for wanted in self.before.get(&module_name(file)).into_iter().flatten() {
                let named = by_name.get(&module_name(wanted)).copied();
                let by_alias = self.aliases.get(wanted).into_iter().flatten();
                let others = by_alias.filter_map(|name| by_name.get(name).copied());
                for other in named.into_iter().chain(others) {
                    self.take(other, by_name, seen, order);
                }
            }
            order.push(file.clone());
        }
    }

    /// The names of all modules below these folders, such as `kernel/drivers/net/ethernet/intel`.
    #[must_use]
    pub fn below<S: AsRef<str>>(&self, folders: &[S]) -> Vec<String> {
        let within = |file: &str| {
            folders.iter().any(|folder| {
                file.strip_prefix(folder.as_ref())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
        };
        self.dependencies
            .keys()
            .filter(|file| within(file))
            .map(|file| module_name(file))
            .collect()
    }

    /// Puts modules and everything they need into an archive, as they are in the package (the kernel unpacks them itself), and
    /// returns their paths there in the order in which they can be loaded.
    ///
    /// # Errors
    /// There is no such module, or one cannot be read.
    pub fn add_modules<S: AsRef<str>>(
        &self,
        names: &[S],
        archive: &mut Archive,
    ) -> Result<Vec<String>, BuildError> {
        self.closure(names)?
            .iter()
            .map(|file| {
                let path = self.path(file);
                archive.copy(&path, 0o644, &self.modules.join(file))?;
                Ok(path)
            })
            .collect()
    }

    /// The files of modules and everything they need, on this machine.
    ///
    /// # Errors
    /// There is no such module.
    pub fn files<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<PathBuf>, BuildError> {
        let files = self.closure(names)?;
        Ok(files.iter().map(|file| self.modules.join(file)).collect())
    }

    /// Puts modules, everything they need, and the indexes of what was put there into an archive.
    ///
    /// # Errors
    /// There is no such module, or a file cannot be read.
    pub fn add_tree<S: AsRef<str>>(
        &self,
        names: &[S],
        archive: &mut Archive,
    ) -> Result<(), BuildError> {
        let files: BTreeSet<String> = self.closure(names)?.into_iter().collect();
        self.add_modules(names, archive)?;
        let names: BTreeSet<String> = files.iter().map(|file| module_name(file)).collect();
        for index in INDEXES {
            let source = self.modules.join(index);
            let Ok(text) = std::fs::read_to_string(&source) else {
                continue;
            };
            let kept: String = text
                .lines()
                .filter(|line| match index {
                    "modules.dep" => line
                        .split_once(':')
                        .is_some_and(|(file, _)| files.contains(file)),
                    "modules.order" => {
                        files.contains(*line) || files.contains(&format!("{line}.xz"))
                    }
                    "modules.alias" => line
                        .rsplit(' ')
                        .next()
                        .is_some_and(|module| names.contains(&module_name(module))),
                    "modules.softdep" => line
                        .split(' ')
                        .nth(1)
                        .is_some_and(|module| names.contains(&module_name(module))),
                    _ => true,
                })
                .map(|line| format!("{line}\n"))
                .collect();
            archive.file(&self.path(index), 0o644, kept.into_bytes());
        }
        Ok(())
    }

    fn path(&self, file: &str) -> String {
        format!("/lib/modules/{}/{file}", self.version)
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

/// `softdep NAME pre: WANTED … post: …` per line.
fn parse_hints(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut hints: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("softdep"), Some(name)) = (words.next(), words.next()) {
            let before = words
                .skip_while(|word| *word != "pre:")
                .skip(1)
                .take_while(|word| *word != "post:")
                .map(str::to_owned);
            hints.entry(module_name(name)).or_default().extend(before);
        }
    }
    hints
}

/// `alias ALIAS NAME` per line; those with a pattern are about devices.
fn parse_aliases(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["alias", alias, name] = words.as_slice()
            && !alias.contains(['*', '?', '['])
        {
            let modules = aliases.entry((*alias).to_owned()).or_default();
            modules.push(module_name(name));
        }
    }
    aliases
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` → `kvm_amd`: the kernel itself takes `-` and `_` for the same.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(folder: &Path) -> Kernel {
        let modules = folder.join("lib/modules/1");
        let files = ["kernel/a.ko", "kernel/net/b-b.ko.xz", "kernel/net/c.ko"];
        for file in files {
            let path = modules.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        for (name, text) in [
            (
                "modules.dep",
                "kernel/a.ko: kernel/net/b-b.ko.xz kernel/net/c.ko\nkernel/net/b-b.ko.xz: kernel/net/c.ko\nkernel/net/c.ko:\n",
            ),
            ("modules.builtin", "kernel/d.ko\n"),
            (
                "modules.alias",
                "alias pci:v1 a\nalias pci:v2 b_b\nalias fs-c c\n",
            ),
        ] {
            std::fs::write(modules.join(name), text).unwrap();
        }
        Kernel::open(folder).unwrap()
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = kernel(folder.path());
        let mut archive = Archive::default();
        let order = kernel
            .add_modules(&["b_b", "d", "a"], &mut archive)
            .unwrap();
        assert_eq!(
            order,
            [
                "/lib/modules/1/kernel/net/c.ko",
                "/lib/modules/1/kernel/net/b-b.ko.xz",
                "/lib/modules/1/kernel/a.ko"
            ]
        );
        assert!(archive.contains("/lib/modules/1/kernel/a.ko"));
        let error = kernel.add_modules(&["e"], &mut archive).unwrap_err();
        assert_eq!(error.to_string(), "kernel 1 has no module e");
    }

    #[test]
    fn what_a_module_hints_at_comes_along_before_it() {
        let folder = tempfile::tempdir().unwrap();
        drop(kernel(folder.path()));
        let modules = folder.path().join("lib/modules/1");
        std::fs::write(
            modules.join("modules.softdep"),
            "softdep c pre: sums no-such post: a\n",
        )
        .unwrap();
        std::fs::write(
            modules.join("modules.alias"),
            "alias sums a\nalias pci:v* a\n",
        )
        .unwrap();
        let kernel = Kernel::open(folder.path()).unwrap();
        // `a` needs both others, which are being taken already.
        assert_eq!(
            kernel.closure(&["c"]).unwrap(),
            ["kernel/net/b-b.ko.xz", "kernel/a.ko", "kernel/net/c.ko"]
        );
    }

    #[test]
    fn indexes_speak_only_of_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = kernel(folder.path());
        assert_eq!(kernel.below(&["kernel/net"]), ["b_b", "c"]);
        assert_eq!(kernel.below(&["kernel/ne"]), Vec::<String>::new());
        let mut archive = Archive::default();
        kernel.add_tree(&["b-b"], &mut archive).unwrap();
        let text = |name: &str| {
            let path = format!("lib/modules/1/{name}");
            let file = archive.files().find(|(file, _)| *file == path);
            String::from_utf8(file.unwrap().1.to_vec()).unwrap()
        };
        assert_eq!(text("modules.alias"), "alias pci:v2 b_b\nalias fs-c c\n");
        assert_eq!(
            text("modules.dep"),
            "kernel/net/b-b.ko.xz: kernel/net/c.ko\nkernel/net/c.ko:\n"
        );
    }
}
