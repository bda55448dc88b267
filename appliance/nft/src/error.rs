//! What can go wrong between a ruleset and the kernel.

use std::io;

/// A ruleset was not put into force; the one from before still is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that would need quoting.
    #[error("table name {name:?} is not 1–32 letters, digits or `_`, beginning with a letter")]
    TableName {
        /// The name.
        name: String,
    },
    /// The namespace is gone, or this process may not enter it.
    #[error("enter the network namespace to change its packet filter (this needs root)")]
    Namespace {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// No conversation with the kernel.
    #[error("talk to the packet filter over netlink")]
    Socket {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know something that the ruleset uses.
    #[error("the kernel lacks {missing}; load the module or use a kernel that has it")]
    KernelLacks {
        /// Modules that are likely to help.
        missing: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the transaction.
    #[error("the kernel refused to {command}")]
    Refused {
        /// The first command of the transaction that it refused.
        command: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}
