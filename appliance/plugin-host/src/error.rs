//! Why a policy was not loaded.

use crate::{CacheError, PluginKind};
use std::path::PathBuf;
use types::ByteCount;

/// A file or some bytes are no policy this host program can run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("cannot read policy {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("policy `{name}` is {size}; at most {limit} are allowed")]
    TooLarge {
        /// The policy.
        name: String,
        /// Its size.
        size: ByteCount,
        /// The limit.
        limit: ByteCount,
    },
    /// It doesn't begin like WebAssembly.
    #[error(
        "policy `{0}` is not WebAssembly: build it with `cargo build --target wasm32-unknown-unknown`, see plugins/README.md"
    )]
    NotWasm(String),
    /// It is WebAssembly, but not a component.
    #[error(
        "policy `{0}` is a core WebAssembly module, not a component: link it with `wasm-component-ld`, see plugins/README.md"
    )]
    CoreModule(String),
    /// It is malformed, or uses features that are not supported.
    #[error("policy `{name}` is not a valid component: {why}")]
    Invalid {
        /// The policy.
        name: String,
        /// What is wrong and where.
        why: String,
    },
    /// It needs something that isn't there.
    #[error(
        "policy `{name}` imports `{import}`, which is not offered: a policy may import only `ashlar:policy/log` and `ashlar:policy/random`"
    )]
    Import {
        /// The policy.
        name: String,
        /// What it imports.
        import: String,
    },
    /// It isn't a policy of that kind.
    #[error("policy `{name}` is not a {kind} policy: it lacks the export `{export}`{instead}")]
    Export {
        /// The policy.
        name: String,
        /// Of which kind it should be.
        kind: PluginKind,
        /// What it lacks.
        export: &'static str,
        /// What it exports instead, as a subordinate clause; may be empty.
        instead: String,
    },
    /// It isn't a policy of any kind.
    #[error(
        "component `{0}` is no policy: it exports none of the interfaces of `ashlar:policy`, see plugins/README.md"
    )]
    NoPolicy(String),
    /// An import or export is there, but of another shape.
    #[error("policy `{name}` was made for another version of `ashlar:policy`: {why}")]
    Interface {
        /// The policy.
        name: String,
        /// What differs.
        why: String,
    },
    /// It doesn't want its configuration, or fails when asked about it.
    #[error("policy `{name}` does not take its configuration: {why}")]
    Configuration {
        /// The policy.
        name: String,
        /// Its own words.
        why: String,
    },
    /// Compiled code can't be kept.
    #[error("cannot keep compiled policies")]
    Cache(#[from] CacheError),
    /// The engine can't be set up.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Engine(String),
}
