//! Kernel modules: by name, and by the alias with which a device asks for its driver (modules.alias, modules.dep,
//! modules.softdep as depmod(8) writes them).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustix::{io::Errno, system::finit_module};

use crate::Error;

/// The kernel unpacks the module itself (linux/module.h, MODULE_INIT_COMPRESSED_FILE).
const COMPRESSED: i32 = 4;
/// How deep devices are looked for: PCI bridges behind bridges, then buses behind those.
const MAX_DEPTH: usize = 24;

/// The modules of the running kernel.
pub struct Modules {
    folder: PathBuf,
    index: Index,
    loaded: BTreeSet<String>,
}

/// What is known of them, by name.
#[derive(Default)]
struct Index {
    /// Name → its file and those it needs, the most basic last.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Pattern → name, in order of the file.
    aliases: Vec<(String, String)>,
    /// Name → those that should be loaded before it.
    before: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Those of the kernel that runs, below `/lib/modules`.
    ///
    /// # Errors
    /// Their index cannot be read.
    pub fn open() -> Result<Self, Error> {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        Self::open_at(&Path::new("/lib/modules").join(release))
    }

    fn open_at(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let dep = read("modules.dep")
            .map_err(Error::of(format!("read {}/modules.dep", folder.display())))?;
        // The others only help to find them.
        let index = Index::parse(
            &dep,
            &read("modules.alias").unwrap_or_default(),
            &read("modules.softdep").unwrap_or_default(),
            &read("modules.builtin").unwrap_or_default(),
        );
        Ok(Self {
            folder: folder.to_owned(),
            index,
            loaded: BTreeSet::new(),
        })
    }

    /// Loads a module and what it needs; one that is loaded or built in is fine.
    ///
    /// # Errors
    /// There is no such module, or the kernel refused one.
    pub fn load(&mut self, name: &str) -> Result<(), Error> {
        let name = plain(name);
        if self.index.builtin.contains(&name) || self.loaded.contains(&name) {
            return Ok(());
        }
        let Some((file, needed)) = self.index.files.get(&name).cloned() else {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::new(
                format!("load the module {name}: the image has none of that name"),
                error,
            ));
        };
        for file in needed.iter().rev().chain([&file]) {
            self.load_before(&plain(module_name(file)));
            self.insert(file)?;
        }
        Ok(())
    }

    /// Loads what a module hints that it wants, by name or by what is in it. What is not there or fails is not missed.
    fn load_before(&mut self, name: &str) {
        if self.loaded.contains(name) {
            return;
        }
        // Once, even if two want each other.
        for wanted in self.index.before.remove(name).unwrap_or_default() {
            let mut others: Vec<String> = self.index.matching(&wanted).map(str::to_owned).collect();
            others.push(plain(&wanted));
            for other in others.iter().filter(|other| *other != name) {
                if self.index.files.contains_key(other) {
                    let _ = self.load(other);
                }
            }
        }
    }

    /// Loads the drivers of every device there is, again until no new device appears. Returns what failed, once each.
    pub fn load_for_devices(&mut self) -> Vec<Error> {
        let mut failed = Vec::new();
        let mut asked = BTreeSet::new();
        loop {
            let mut aliases = BTreeSet::new();
            collect_aliases(Path::new("/sys/devices"), 0, &mut aliases);
            let new: Vec<String> = aliases.difference(&asked).cloned().collect();
            if new.is_empty() {
                return failed;
            }
            for alias in new {
                failed.extend(self.load_for(&alias));
                asked.insert(alias);
            }
        }
    }

    /// Loads the drivers that want a device with this alias. Returns what failed.
    pub fn load_for(&mut self, alias: &str) -> Vec<Error> {
        let names: Vec<String> = self.index.matching(alias).map(str::to_owned).collect();
        names
            .iter()
            .filter_map(|name| self.load(name).err())
            .collect()
    }

    fn insert(&mut self, file: &str) -> Result<(), Error> {
        let name = plain(module_name(file));
        if self.loaded.contains(&name) {
            return Ok(());
        }
        let path = self.folder.join(file);
        let doing = format!("load the module {name}");
        let module = File::open(&path).map_err(Error::of(&doing))?;
        let flags = if file.ends_with(".ko") { 0 } else { COMPRESSED };
        match finit_module(&module, c"", flags) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::new(doing, error)),
        }
        self.loaded.insert(name);
        Ok(())
    }
}

impl Index {
    fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for (file, needed) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needed = needed.split_whitespace().map(str::to_owned).collect();
            index
                .files
                .insert(plain(module_name(file)), (file.to_owned(), needed));
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(name)) =
                (words.next(), words.next(), words.next())
            {
                index.aliases.push((pattern.to_owned(), plain(name)));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(name)) = (words.next(), words.next()) {
                let before = words
                    .skip_while(|word| *word != "pre:")
                    .skip(1)
                    .take_while(|word| *word != "post:")
                    .map(str::to_owned);
                index.before.entry(plain(name)).or_default().extend(before);
            }
        }
        index.builtin = builtin
            .lines()
            .map(|line| plain(module_name(line)))
            .collect();
        index
    }

    fn matching(&self, alias: &str) -> impl Iterator<Item = &str> {
        self.aliases
            .iter()
            .filter(move |(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, name)| name.as_str())
    }
}

/// The aliases of all devices below a folder of sysfs. Links are not followed: each device is there once.
fn collect_aliases(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if let Ok(alias) = fs::read_to_string(folder.join("modalias")) {
        found.insert(alias.trim().to_owned());
    }
    if depth >= MAX_DEPTH {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_aliases(&entry.path(), depth + 1, found);
        }
    }
}

/// Whether a pattern with `*`, `?` and `[…]` matches all of a text (fnmatch(3), no special characters).
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not match.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(b'?') => Some(1),
            Some(byte) if *byte == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) => {
                p = after;
                t = from + 1;
                star = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of the class a pattern begins with, if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|b| *b == b']')?;
    let mut inside = &pattern[1..end];
    let mut found = false;
    while let Some(first) = inside.first() {
        if let [low, b'-', high, rest @ ..] = inside {
            found |= (*low..=*high).contains(&byte);
            inside = rest;
        } else {
            found |= *first == byte;
            inside = &inside[1..];
        }
    }
    found.then_some(end + 1)
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` → `kvm-amd`.
fn module_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name)
}

/// The kernel takes `-` and `_` for the same.
fn plain(name: impl AsRef<str>) -> String {
    name.as_ref().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_shell_does() {
        for (pattern, text, expected) in [
            (
                "pci:v00001AF4d*sv*sd*bc*sc*i*",
                "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
                true,
            ),
            ("pci:v00001AF4d*", "pci:v00001AF5d1", false),
            ("acpi*:PNP0C0C:*", "acpi:PNP0C0C:", true),
            ("usb:v*p*d[0-9a-f]x", "usb:v1p2dax", true),
            ("usb:v*p*d[0-9a-f]x", "usb:v1p2dzx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "a", false),
            ("a*b*c", "axxbyybzc", true),
            ("[", "[", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn the_index_knows_files_aliases_and_hints() {
        let index = Index::parse(
            "kernel/a-a.ko.xz: kernel/b.ko\nkernel/b.ko:\n",
            "# comment\nalias pci:v1* a_a\nalias fs-b b\n",
            "softdep a_a pre: b c-c post: d\nsoftdep a_a pre: e\n",
            "kernel/e-e.ko\n",
        );
        assert_eq!(
            index.files["a_a"],
            ("kernel/a-a.ko.xz".into(), vec!["kernel/b.ko".into()])
        );
        assert_eq!(index.matching("pci:v12").collect::<Vec<_>>(), ["a_a"]);
        assert_eq!(index.before["a_a"], ["b", "c-c", "e"]);
        assert!(index.builtin.contains("e_e"));
    }

    #[test]
    fn devices_are_found_in_depth_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("pci0/0000:00:01.0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "pci:v1\n").unwrap();
        std::os::unix::fs::symlink(root.path(), device.join("subsystem")).unwrap();
        let mut found = BTreeSet::new();
        collect_aliases(root.path(), 0, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["pci:v1"]);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("modules.dep"), "").unwrap();
        let mut modules = Modules::open_at(folder.path()).unwrap();
        let error = modules.load("no-such").unwrap_err().to_string();
        assert!(error.contains("no_such"), "{error}");
        assert!(Modules::open_at(Path::new("/nonexistent")).is_err());
    }
}
