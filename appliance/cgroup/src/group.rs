//! The groups of one daemon.

use crate::{Error, Hierarchy, Version};
use cpu::CpuSet;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a group weighs that nobody weighed; v2 allows 1 to 10,000 (cgroup v2, cpu.weight).
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Of which the v1 controller's unit is this much (cpu.shares, 1024 by default).
const SHARES_PER_100: u32 = 1024;

/// The groups under one parent.
#[derive(Debug)]
pub struct Groups {
    hierarchy: Hierarchy,
    parent: String,
    weight: u32,
    pins: bool,
    /// Held while a group is made or removed: the parent comes and goes with them.
    changing: Mutex<()>,
}

/// A group that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    hierarchy: Hierarchy,
    /// Relative to each root.
    path: PathBuf,
}

impl Groups {
    /// Groups under the parent of that name, which together weigh `weight` (100 is what one thread outside weighs). Tries
    /// whether groups can be made.
    ///
    /// # Errors
    /// They cannot: no permission, a read-only mount, a controller that cannot be handed on.
    pub fn open(hierarchy: Hierarchy, parent: &str, weight: u32) -> Result<Self, Error> {
        let mut groups = Self {
            hierarchy,
            parent: parent.to_owned(),
            weight,
            pins: false,
            changing: Mutex::default(),
        };
        let probe = groups.make("probe")?;
        groups.pins = match &groups.hierarchy {
            Hierarchy::V1 { cpuset, .. } => cpuset.is_some(),
            Hierarchy::V2 { root } => root.join(&probe.path).join("cpuset.cpus").exists(),
        };
        groups.remove("probe")?;
        Ok(groups)
    }

    /// Which interface they are made with.
    #[must_use]
    pub fn version(&self) -> Version {
        self.hierarchy.version()
    }

    /// Whether groups can be kept on CPUs ([`Group::set_cpus`]).
    #[must_use]
    pub fn pins(&self) -> bool {
        self.pins
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of that name, whether it is there or not.
    #[must_use]
    pub fn group(&self, name: &str) -> Group {
        Group {
            hierarchy: self.hierarchy.clone(),
            path: Path::new(&self.parent).join(name),
        }
    }

    fn parents(&self) -> Group {
        Group {
            hierarchy: self.hierarchy.clone(),
            path: PathBuf::from(&self.parent),
        }
    }

    /// Makes the group unless it is there.
    ///
    /// # Errors
    /// As for [`open`](Self::open). Nothing of the group is left then.
    pub fn make(&self, name: &str) -> Result<Group, Error> {
        let _changing = self.changing();
        let (parent, group) = (self.parents(), self.group(name));
        let made = parent.make(true).and_then(|made| {
            if made {
                parent.set_weight(self.weight)?;
            }
            group.make(false)
        });
        if let Err(error) = made {
            let _ = group.remove();
            let _ = parent.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// Removes the group, and the parent with the last one. Fine when it is not there.
    ///
    /// # Errors
    /// The kernel refused: there is a process in it, say.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let _changing = self.changing();
        let removed = self.group(name).remove();
        // Only goes if it is empty.
        let _ = self.parents().remove();
        removed
    }

    /// The groups there are.
    ///
    /// # Errors
    /// The kernel refused to list them.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for directory in self.parents().directories() {
            let doing = format!("list the control groups in {}", directory.display());
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(doing)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(Error::io(doing.as_str()))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the groups in which there is no process.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn sweep(&self) -> Result<(), Error> {
        for name in self.list()? {
            // Busy ones are somebody's.
            let _ = self.remove(&name);
        }
        let _changing = self.changing();
        let _ = self.parents().remove();
        Ok(())
    }
}

impl Group {
    /// Its directories: one, or with v1 one for each mount. A process belongs into all of them.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let roots = self.hierarchy.roots();
        roots
            .into_iter()
            .map(|root| root.join(&self.path))
            .collect()
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directories().iter().all(|path| path.is_dir())
    }

    /// Makes its directories; whether any was new. A `parent` may have groups below it that limit CPUs.
    fn make(&self, parent: bool) -> Result<bool, Error> {
        let mut new = false;
        for root in self.hierarchy.roots() {
            let directory = root.join(&self.path);
            match fs::create_dir(&directory) {
                Ok(()) => new = true,
                // A daemon that was killed may have left it as it had just been made.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && parent => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    let doing = format!("make the control group {}", directory.display());
                    return Err(Error::io(doing)(error));
                }
            }
            match &self.hierarchy {
                Hierarchy::V2 { .. } if parent => {
                    for directory in [root, &directory] {
                        write(&directory.join("cgroup.subtree_control"), "+cpu")?;
                        // Without it machines have no CPUs of their own; that is found out when one is to.
                        let _ = write(&directory.join("cgroup.subtree_control"), "+cpuset");
                    }
                }
                Hierarchy::V1 {
                    cpuset: Some(cpuset),
                    ..
                } if cpuset == root => {
                    // Before that no process may enter (cpusets(7)).
                    let above = directory.parent().unwrap_or(root);
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let all = read(&above.join(file))?;
                        write(&directory.join(file), all.trim())?;
                    }
                }
                _ => {}
            }
        }
        Ok(new)
    }

    fn remove(&self) -> Result<(), Error> {
        for directory in self.directories() {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let doing = format!("remove the control group {}", directory.display());
                    return Err(Error::io(doing)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What it weighs beside its siblings when all want more CPU time than there is: 100 is usual. Taken into 1–10,000.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_weight(&self, weight: u32) -> Result<(), Error> {
        let weight = weight.clamp(*WEIGHTS.start(), *WEIGHTS.end());
        match &self.hierarchy {
            Hierarchy::V2 { root } => write(
                &root.join(&self.path).join("cpu.weight"),
                &weight.to_string(),
            ),
            Hierarchy::V1 { cpu, .. } => {
                let shares = (weight * SHARES_PER_100 / 100).max(2);
                write(
                    &cpu.join(&self.path).join("cpu.shares"),
                    &shares.to_string(),
                )
            }
        }
    }

    /// Limits it to `quota` of CPU time, all CPUs together, in each [`cpu::PERIOD`]; `None`: no limit. At least 1 ms.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_quota(&self, quota: Option<Duration>) -> Result<(), Error> {
        let period = cpu::PERIOD.as_micros();
        let quota = quota.map(|quota| quota.as_micros().max(1000));
        match &self.hierarchy {
            Hierarchy::V2 { root } => {
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                let text = format!("{quota} {period}");
                write(&root.join(&self.path).join("cpu.max"), &text)
            }
            Hierarchy::V1 { cpu, .. } => {
                let directory = cpu.join(&self.path);
                let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
                write(&directory.join("cpu.cfs_period_us"), &period.to_string())?;
                write(&directory.join("cpu.cfs_quota_us"), &quota)
            }
        }
    }

    /// Keeps it on these CPUs, with memory of these nodes.
    ///
    /// # Errors
    /// [`Error::NoCpuset`]; or the kernel refused.
    pub fn set_cpus(&self, cpus: &CpuSet, nodes: &CpuSet) -> Result<(), Error> {
        let root = match &self.hierarchy {
            Hierarchy::V2 { root } => root,
            Hierarchy::V1 { cpuset, .. } => cpuset.as_ref().ok_or(Error::NoCpuset)?,
        };
        let directory = root.join(&self.path);
        write(&directory.join("cpuset.mems"), &nodes.to_string())?;
        write(&directory.join("cpuset.cpus"), &cpus.to_string())
    }

    /// The CPU time that processes used in it since it was made.
    ///
    /// # Errors
    /// The kernel refused, or there is no such group.
    pub fn used(&self) -> Result<Duration, Error> {
        match &self.hierarchy {
            Hierarchy::V2 { root } => {
                let path = root.join(&self.path).join("cpu.stat");
                let text = read(&path)?;
                let usage = text
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "))
                    .and_then(|micros| micros.trim().parse().ok());
                usage
                    .map(Duration::from_micros)
                    .ok_or_else(|| Error::unreadable(&path, &text))
            }
            Hierarchy::V1 { cpuacct, .. } => {
                let path = cpuacct.join(&self.path).join("cpuacct.usage");
                let text = read(&path)?;
                text.trim()
                    .parse()
                    .map(Duration::from_nanos)
                    .map_err(|_| Error::unreadable(&path, &text))
            }
        }
    }

    /// The processes in it.
    ///
    /// # Errors
    /// The kernel refused, or there is no such group.
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        let mut processes = Vec::new();
        for directory in self.directories() {
            let path = directory.join("cgroup.procs");
            let text = read(&path)?;
            for line in text.lines() {
                let pid = line.parse().map_err(|_| Error::unreadable(&path, &text))?;
                processes.push(pid);
            }
        }
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(format!("write {text:?} to {}", path.display())))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))
}
