//! What can go wrong with the host's network.

use std::io;
use std::path::PathBuf;

/// An operation that failed. Repeating it later is always safe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel cannot be spoken to about its network.
    #[error("open a netlink socket; run as root in the network namespace of the host")]
    Open {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// What is there cannot be read.
    #[error("list the host's {what}")]
    List {
        /// Links, addresses or routes.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A step with an interface failed.
    #[error("{step} (interface {interface})")]
    Step {
        /// What was being done.
        step: String,
        /// With which interface.
        interface: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A kind of device that the kernel does not know.
    #[error(
        "{step} (interface {interface}): the kernel does not know how; load its module `{module}`"
    )]
    NoModule {
        /// What was being done.
        step: String,
        /// With which interface.
        interface: String,
        /// The module that is missing.
        module: &'static str,
    },
    /// The list of name servers cannot be written.
    #[error("write the list of name servers to {path}")]
    Resolver {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        #[source]
        source: io::Error,
    },
    /// The task that holds the network is gone.
    #[error("the network's task has ended; start it again")]
    Ended,
}

impl Error {
    /// With its causes, in one line for a console.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line += &format!(": {error}");
            cause = error.source();
        }
        line
    }
}
