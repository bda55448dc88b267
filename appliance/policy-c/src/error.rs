//! What can go wrong between sources and a component.

use std::{
    error::Error as Cause,
    io,
    path::{Path, PathBuf},
};

/// Why a policy in C was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be used.
    #[error("{doing} {}", .path.display())]
    File {
        /// What was to be done with it.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is nothing to compile.
    #[error("{} holds no C sources", .0.display())]
    NoSources(PathBuf),
    /// The package is not one, or has no such world.
    #[error("cannot make C bindings of the world {kind} in {}", .wit.display())]
    Interface {
        /// Where the package is.
        wit: PathBuf,
        /// The world.
        kind: String,
        /// Why not.
        source: Box<dyn Cause + Send + Sync>,
    },
    /// The compiler does not start.
    #[error("cannot run clang")]
    NoClang(#[source] io::Error),
    /// The compiler says no.
    #[error("cannot compile {what}; clang says why above")]
    Refused {
        /// What it was to compile.
        what: &'static str,
    },
    /// What was linked does not have what its world asks for.
    #[error("what was compiled is no component")]
    NoComponent(#[source] Box<dyn Cause + Send + Sync>),
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}
