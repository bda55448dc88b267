//! What a component is, as far as its outside tells.

use crate::{LoadError, PluginKind, limits::one_line};
use types::Sha256Digest;
use wasmtime::component::Component;

/// A component that may be a policy of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentFacts {
    /// What it decides.
    pub kind: PluginKind,
    /// SHA-256 of its file.
    pub module_sha256: Sha256Digest,
    /// What it imports, with versions.
    pub imports: Vec<String>,
    /// What it exports, with versions.
    pub exports: Vec<String>,
}

impl ComponentFacts {
    pub(crate) fn of(
        name: &str,
        module_sha256: Sha256Digest,
        component: &Component,
    ) -> Result<Self, LoadError> {
        let world = component.component_type();
        let engine = component.engine();
        let imports = world.imports(engine).map(|(name, _)| one_line(name));
        let exports: Vec<String> = world
            .exports(engine)
            .map(|(name, _)| one_line(name))
            .collect();
        let exports_of = |kind: &PluginKind| {
            let unversioned = |export: &String| export.split('@').next() == Some(kind.export());
            exports.iter().any(unversioned)
        };
        let kind = PluginKind::ALL.into_iter().find(exports_of);
        Ok(Self {
            kind: kind.ok_or_else(|| LoadError::NoPolicy(name.to_owned()))?,
            module_sha256,
            imports: imports.collect(),
            exports,
        })
    }
}
