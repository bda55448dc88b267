//! Deployment sets.

use super::Request;
use crate::model::DeploymentStrategy;

/// Make a deployment set (ECS CreateDeploymentSet).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CreateDeploymentSet {
    /// Token and dry run.
    pub request: Request,
    /// A name for people, at most 128 characters.
    pub name: Option<String>,
    /// For people, at most 256 characters.
    pub description: Option<String>,
    /// Where its members are placed. It stays so.
    pub strategy: DeploymentStrategy,
}

/// Change a deployment set's attributes (ECS ModifyDeploymentSetAttribute); `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModifyDeploymentSet {
    /// The name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
}
