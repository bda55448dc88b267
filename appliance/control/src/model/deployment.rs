//! Deployment sets, and where instances are with regard to each other.

use types::{DeploymentSetId, InstanceId, Timestamp};

/// Where a deployment set wants its members, as ECS names it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum DeploymentStrategy {
    /// On different hosts, so that they do not all fail with one.
    #[default]
    Availability,
    /// On the hosts that carry members already, so that they are near each other. The first one may go anywhere.
    LowLatency,
}

/// A deployment set: instances that are placed with regard to each other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeploymentSet {
    /// `ds-…`
    pub id: DeploymentSetId,
    /// A name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Where its members are placed.
    pub strategy: DeploymentStrategy,
    /// The instances that are in it, stopped ones included, oldest first; looked up when it is read.
    #[serde(skip)]
    pub members: Vec<InstanceId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Other instances that decide which hosts are left to one. Where those are is looked up each time it is placed: when it is made, and
/// when it is started again. One that is gone does not count any more.
///
/// An instance, running or stopped, is on the host that has its disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceAffinity {
    /// On the same host as all of these; at most [`Self::MAX`].
    #[serde(default)]
    pub with: Vec<InstanceId>,
    /// Not on the host of any of these; at most [`Self::MAX`]. They keep away from it likewise when they are started again.
    #[serde(default)]
    pub apart_from: Vec<InstanceId>,
}

impl InstanceAffinity {
    /// The most instances that each list may name.
    pub const MAX: usize = 20;

    /// Whether it names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.with.is_empty() && self.apart_from.is_empty()
    }
}
