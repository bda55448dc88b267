//! What goes wrong with files of the kernel.

use std::{io, path::Path};

/// Something about a control group did not work: the operation and its subject. The cause is in `source`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No control groups that limit CPU time are mounted.
    #[error(
        "no control groups that limit CPU time are mounted: mount cgroup2 at /sys/fs/cgroup with its cpu controller, or the cpu and cpuacct controllers of cgroup v1"
    )]
    NotMounted,
    /// The controller is not there.
    #[error("the cpuset controller is not mounted: mount it to give machines CPUs of their own")]
    NoCpuset,
    /// The kernel refused.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel wrote something else than it documents.
    #[error("{path} does not say what it should: {text:?}")]
    Unreadable {
        /// The file.
        path: String,
        /// Its beginning.
        text: String,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn unreadable(path: &Path, text: &str) -> Self {
        Self::Unreadable {
            path: path.display().to_string(),
            text: text.chars().take(64).collect(),
        }
    }
}
