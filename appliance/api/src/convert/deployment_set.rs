//! Deployment sets, and who is with whom.

use api_types::{Affinity, DeploymentSet, DeploymentStrategy};
use control::model::{self, InstanceAffinity};

use crate::{extract::parse_id, problem::ApiResult};

/// A deployment set as it goes over the wire.
pub fn to_wire(set: &model::DeploymentSet) -> DeploymentSet {
    DeploymentSet {
        id: set.id.to_string(),
        name: set.name.clone(),
        description: set.description.clone(),
        strategy: match set.strategy {
            model::DeploymentStrategy::Availability => DeploymentStrategy::Availability,
            model::DeploymentStrategy::LowLatency => DeploymentStrategy::LowLatency,
        },
        instance_ids: set.members.iter().map(ToString::to_string).collect(),
        created_at: set.created_at.to_string(),
    }
}

/// The strategy a request names.
pub fn strategy(strategy: DeploymentStrategy) -> model::DeploymentStrategy {
    match strategy {
        DeploymentStrategy::Availability => model::DeploymentStrategy::Availability,
        DeploymentStrategy::LowLatency => model::DeploymentStrategy::LowLatency,
    }
}

/// An instance's affinity as it goes over the wire; `None` if it names nobody.
pub fn affinity_to_wire(affinity: &InstanceAffinity) -> Option<Affinity> {
    let texts = |ids: &[types::InstanceId]| ids.iter().map(ToString::to_string).collect();
    (!affinity.is_empty()).then(|| Affinity {
        with: texts(&affinity.with),
        apart_from: texts(&affinity.apart_from),
    })
}

/// The affinity a request asks for.
pub fn affinity(affinity: Option<Affinity>) -> ApiResult<InstanceAffinity> {
    let affinity = affinity.unwrap_or_default();
    let ids = |list: &str, texts: &[String]| {
        let texts = texts.iter().enumerate();
        texts
            .map(|(index, id)| parse_id(&format!("affinity.{list}[{index}]"), id))
            .collect::<ApiResult<Vec<_>>>()
    };
    Ok(InstanceAffinity {
        with: ids("with", &affinity.with)?,
        apart_from: ids("apart_from", &affinity.apart_from)?,
    })
}
