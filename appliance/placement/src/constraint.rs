//! Why a host was refused.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, sync::Arc};

/// A condition a host did not meet. Serialised as its name, in kebab case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// The host takes no new instances (maintenance, draining, lost).
    NotAccepting,
    /// The host is in another zone.
    Zone,
    /// Too few free vCPUs.
    Vcpus,
    /// Too little free memory.
    Memory,
    /// Too little free local disk.
    LocalDisk,
    /// The host already has as many members of the deployment set as it may have.
    DeploymentSet,
    /// Where other instances are rules the host out: see [`Affinity`](crate::Affinity).
    Affinity,
    /// A policy's own condition, by the policy's own name for it.
    Named(Arc<str>),
}

impl Constraint {
    /// The longest name kept of a policy's own condition, in characters.
    pub const MAX_NAME: usize = 64;

    const KNOWN: [(Self, &'static str); 7] = [
        (Self::NotAccepting, "not-accepting"),
        (Self::Zone, "zone"),
        (Self::Vcpus, "vcpus"),
        (Self::Memory, "memory"),
        (Self::LocalDisk, "local-disk"),
        (Self::DeploymentSet, "deployment-set"),
        (Self::Affinity, "affinity"),
    ];

    /// The constraint of that name; a name that isn't one of the known ones is kept, cut to [`Self::MAX_NAME`] printable
    /// characters.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::KNOWN
            .into_iter()
            .find_map(|(constraint, known)| (known == name).then_some(constraint))
            .unwrap_or_else(|| {
                let printable = name.chars().filter(|c| !c.is_control());
                Self::Named(printable.take(Self::MAX_NAME).collect::<String>().into())
            })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::NotAccepting => "not-accepting",
            Self::Zone => "zone",
            Self::Vcpus => "vcpus",
            Self::Memory => "memory",
            Self::LocalDisk => "local-disk",
            Self::DeploymentSet => "deployment-set",
            Self::Affinity => "affinity",
            Self::Named(name) => name,
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Constraint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from_name(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (constraint, name) in Constraint::KNOWN {
            assert_eq!(constraint.name(), name);
            assert_eq!(Constraint::from_name(name), constraint);
        }
        let own = Constraint::from_name("carbon\n-budget");
        assert_eq!(own, Constraint::Named("carbon-budget".into()));
        assert_eq!(Constraint::from_name(&"x".repeat(1000)).name().len(), 64);
    }
}
