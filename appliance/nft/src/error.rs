//! What can go wrong between a ruleset and the kernel.

use std::ffi::OsString;
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
    /// No tool.
    #[error("the nft tool is not at {tool:?}; install the package `nftables`")]
    ToolMissing {
        /// Where it was looked for.
        tool: OsString,
    },
    /// The tool could not be run to its end.
    #[error("run the nft tool {tool:?}")]
    Tool {
        /// The tool.
        tool: OsString,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace is gone, or this process may not enter it.
    #[error("enter the network namespace to change its packet filter (this needs root)")]
    Namespace {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know something that the ruleset uses.
    #[error("the kernel lacks {missing} for nftables: {message}")]
    KernelLacks {
        /// Modules that are likely to help.
        missing: &'static str,
        /// What the tool said.
        message: String,
    },
    /// The tool or the kernel refused the transaction.
    #[error("nft refused the transaction: {message}")]
    Refused {
        /// What the tool said, shortened.
        message: String,
    },
    /// The tool printed something unexpected.
    #[error("the ruleset in force cannot be read: {what}")]
    Unreadable {
        /// What was unexpected.
        what: String,
    },
}
