//! What of an instance is charged by the second, in each of its states.

use crate::{
    Result,
    core::{Core, Transaction},
    model::{Instance, InstanceCharge, Intent, State},
    placing::type_name,
    reconcile::spot,
};
use ledger::{Usage, UsageKey};
use types::{InstanceId, Timestamp};

/// What is used of an instance at `now`: a machine, or virtual CPUs and memory that are kept while it is stopped; nothing of one
/// that is paid for in advance.
pub(crate) fn usage(core: &Core, instance: &Instance, now: Timestamp) -> Result<Option<Usage>> {
    let stopped = match instance.state {
        State::Running | State::Stopping => false,
        State::Stopped if instance.holds_capacity() && instance.intent != Intent::Released => true,
        State::Stopped | State::Pending | State::Starting => return Ok(None),
    };
    let hourly = match &instance.charge {
        InstanceCharge::PayAsYouGo => None,
        InstanceCharge::Preemptible { lease } => Some(spot::price(core, instance, lease, now)?),
        InstanceCharge::Subscription { .. } => return Ok(None),
    };
    let instance_type = type_name(instance.instance_type.as_deref()).to_owned();
    let (vcpus, memory, instance) = (instance.vcpus, instance.memory, instance.id);
    Ok(Some(match (stopped, hourly) {
        (true, hourly) => Usage::InstanceStopped {
            instance,
            instance_type,
            vcpus,
            memory,
            hourly,
        },
        (false, None) => Usage::InstanceRunning {
            instance,
            instance_type,
            vcpus,
            memory,
        },
        (false, Some(hourly)) => Usage::InstancePreemptible {
            instance,
            instance_type,
            vcpus,
            memory,
            hourly,
        },
    }))
}

/// An instance came to another state, or keeps something else: what is used of it no more ends, and what is used from now on begins.
pub(crate) fn follow(transaction: &mut Transaction<'_>, instance: &Instance) -> Result<()> {
    let core = transaction.core();
    let usage = usage(core, instance, core.now())?;
    for key in keys(instance.id) {
        if usage.as_ref().is_none_or(|usage| usage.key() != key) {
            transaction.close_usage(key);
        }
    }
    if let Some(usage) = usage {
        transaction.open_usage(usage);
    }
    Ok(())
}

/// An instance is no more.
pub(crate) fn end(transaction: &mut Transaction<'_>, id: InstanceId) {
    for key in keys(id) {
        transaction.close_usage(key);
    }
}

fn keys(id: InstanceId) -> [UsageKey; 2] {
    [
        UsageKey::instance_running(id),
        UsageKey::instance_stopped(id),
    ]
}
