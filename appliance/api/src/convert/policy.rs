//! Decisions, charges and the policies that make them.

use api_types::{Charge, Decision, HostOutcome, Outcome, Plugin, PluginKind, UsageTotal};
use control::model;
use types::ModuleDigest;

/// A decision as it goes over the wire.
pub fn decision_to_wire(decision: &model::Decision) -> Decision {
    Decision {
        id: decision.id.to_string(),
        instance_id: decision.instance.to_string(),
        decided_at: decision.time.to_string(),
        policy: decision.policy.clone(),
        module_sha256: module(&decision.module_sha256),
        configuration_sha256: decision.configuration_sha256.to_string(),
        inputs_sha256: decision.inputs_sha256.to_string(),
        host_id: decision.host.as_ref().map(ToString::to_string),
        reason: decision.reason.clone(),
        fallback_reason: decision.fallback.as_ref().map(ToString::to_string),
        elapsed_ms: super::milliseconds(decision.duration_ns),
        hosts: decision
            .outcomes
            .iter()
            .map(|of_host| outcome_to_wire(of_host, decision))
            .collect(),
    }
}

fn outcome_to_wire(of_host: &model::HostOutcome, decision: &model::Decision) -> HostOutcome {
    let (outcome, score, constraint) = match &of_host.outcome {
        model::Outcome::Refused(constraint) => {
            (Outcome::Rejected, None, Some(constraint.to_string()))
        }
        model::Outcome::Score(score) if decision.host.as_ref() == Some(&of_host.host) => {
            (Outcome::Chosen, Some(*score), None)
        }
        model::Outcome::Score(score) => (Outcome::Fit, Some(*score), None),
    };
    HostOutcome {
        host_id: of_host.host.to_string(),
        outcome,
        score,
        constraint,
    }
}

/// A charge as it goes over the wire.
pub fn charge_to_wire(charge: &model::Charge) -> Charge {
    Charge {
        id: charge.id.to_string(),
        resource_id: charge.resource.clone(),
        instance_id: charge.instance().map(|id| id.to_string()),
        meter: charge.meter.clone(),
        from: charge.from.to_string(),
        to: charge.to.to_string(),
        seconds: charge.seconds,
        amount: charge.money.amount.to_string(),
        currency: charge.money.currency.to_string(),
        policy: charge.policy.clone(),
        module_sha256: module(&charge.module_sha256),
        configuration_sha256: charge.configuration_sha256.to_string(),
        fallback_reason: charge.fallback.as_ref().map(ToString::to_string),
    }
}

/// A total as it goes over the wire.
pub fn total_to_wire(total: &model::ChargeTotal) -> UsageTotal {
    UsageTotal {
        resource_id: total.resource.clone(),
        instance_id: total.instance().map(|id| id.to_string()),
        seconds: total.seconds,
        amount: total.amount.amount.to_string(),
        currency: total.amount.currency.to_string(),
    }
}

/// A policy as it goes over the wire.
pub fn plugin_to_wire(status: &model::PolicyStatus) -> Plugin {
    Plugin {
        kind: match status.kind {
            model::PolicyKind::Scheduler => PluginKind::Scheduler,
            model::PolicyKind::Billing => PluginKind::Billing,
            model::PolicyKind::Admission => PluginKind::Admission,
        },
        name: status.name.clone(),
        module_sha256: module(&status.module_sha256),
        healthy: status.healthy,
        calls: status.calls,
        fallbacks: status.fallbacks,
        last_error: status.last_error.clone(),
    }
}

fn module(module: &ModuleDigest) -> Option<String> {
    match module {
        ModuleDigest::BuiltIn => None,
        ModuleDigest::Sha256(digest) => Some(digest.to_string()),
    }
}
