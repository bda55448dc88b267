//! Where the machine has its control groups.

use crate::Error;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Which interface of control groups a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// The mounted hierarchies that control CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// cgroup v1.
    V1 {
        /// The cpu controller.
        cpu: PathBuf,
        /// The cpuacct controller; may be the same as `cpu`.
        cpuacct: PathBuf,
        /// The cpuset controller, if it is mounted; may be the same as the others.
        cpuset: Option<PathBuf>,
    },
    /// cgroup v2 with its cpu controller.
    V2 {
        /// The root.
        root: PathBuf,
    },
}

impl Hierarchy {
    /// What this machine has mounted (proc(5), mounts). v2 counts where it has the cpu controller.
    ///
    /// # Errors
    /// [`Error::NotMounted`], or the list cannot be read.
    pub fn find() -> Result<Self, Error> {
        const MOUNTS: &str = "/proc/self/mounts";
        let mounts = fs::read_to_string(MOUNTS).map_err(Error::io(format!("read {MOUNTS}")))?;
        let controls_cpu = |root: &Path| {
            fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "cpu"))
        };
        Self::among(&mounts, controls_cpu).ok_or(Error::NotMounted)
    }

    fn among(mounts: &str, controls_cpu: impl Fn(&Path) -> bool) -> Option<Self> {
        let (mut cpu, mut cpuacct, mut cpuset) = (None, None, None);
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, at, kind, options, ..] = fields[..] else {
                continue;
            };
            let path = PathBuf::from(at);
            if kind == "cgroup2" && controls_cpu(&path) {
                return Some(Self::V2 { root: path });
            }
            if kind != "cgroup" {
                continue;
            }
            let has = |controller| options.split(',').any(|option| option == controller);
            for (controller, found) in [
                ("cpu", &mut cpu),
                ("cpuacct", &mut cpuacct),
                ("cpuset", &mut cpuset),
            ] {
                if has(controller) && found.is_none() {
                    *found = Some(path.clone());
                }
            }
        }
        Some(Self::V1 {
            cpu: cpu?,
            cpuacct: cpuacct?,
            cpuset,
        })
    }

    /// Which interface it is.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::V1 { .. } => Version::V1,
            Self::V2 { .. } => Version::V2,
        }
    }

    /// Its roots, each once.
    pub(crate) fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = match self {
            Self::V2 { root } => vec![root],
            Self::V1 {
                cpu,
                cpuacct,
                cpuset,
            } => [Some(cpu), Some(cpuacct), cpuset.as_ref()]
                .into_iter()
                .flatten()
                .map(PathBuf::as_path)
                .collect(),
        };
        roots.sort_unstable();
        roots.dedup();
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n";

    #[test]
    fn v2_counts_where_it_controls_cpus() {
        let found = Hierarchy::among("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", |_| true).unwrap();
        assert_eq!(found.version(), Version::V2);
        assert_eq!(found.roots(), [Path::new("/sys/fs/cgroup")]);
        let found = Hierarchy::among(V1, |_| false).unwrap();
        assert_eq!(found.version(), Version::V1);
        let roots = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuset"].map(Path::new);
        assert_eq!(
            found.roots(),
            roots,
            "a controller that shares its mount counts once"
        );
    }

    #[test]
    fn without_both_controllers_there_is_nothing() {
        for mounts in [
            "",
            "proc /proc proc rw 0 0\n",
            "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
            "cgroup /c cgroup rw,cpu 0 0\n",
            "nonsense\n",
        ] {
            assert_eq!(Hierarchy::among(mounts, |_| false), None, "{mounts}");
        }
    }
}
