//! Decisions, charges and the policies that make them.

use api_types::{
    Charge, Decision, DecisionInputs, DecisionRerun, HostOutcome, Outcome, Plugin,
    PluginComparison, PluginDifference, PluginKind, PluginModule, PluginRole, PluginTotal,
    UsageTotal,
};
use control::model;
use types::ModuleDigest;

/// What a decision was made from as it goes over the wire.
pub fn inputs_to_wire(inputs: &model::DecisionInputs) -> DecisionInputs {
    // Both were read from JSON.
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    DecisionInputs {
        decision_id: inputs.decision.id.to_string(),
        decided_at: inputs.decision.time.to_string(),
        host_id: inputs.decision.host.map(|host| host.to_string()),
        request: json(serde_json::to_value(&inputs.request)),
        hosts: json(serde_json::to_value(&inputs.hosts)),
    }
}

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
        meter: total.meter.clone(),
        instance_id: total.instance().map(|id| id.to_string()),
        seconds: total.seconds,
        amount: total.amount.amount.to_string(),
        currency: total.amount.currency.to_string(),
    }
}

/// A policy as it goes over the wire.
pub fn plugin_to_wire(info: &model::PolicyInfo) -> Plugin {
    let (installed, status) = (info.installed.as_ref(), info.status.as_ref());
    let loaded = status.and_then(|status| module(&status.module_sha256));
    let canary = info.roles.iter().find_map(|role| match role {
        model::PolicyRole::Canary(percent) => Some(*percent),
        _ => None,
    });
    Plugin {
        name: info.name.clone(),
        kind: kind_to_wire(info.kind),
        module_sha256: installed
            .map(|policy| policy.module_sha256.to_string())
            .or(loaded),
        size_bytes: installed.map(|policy| policy.size.bytes()),
        installed_at: installed.map(|policy| policy.installed_at.to_string()),
        parameters: installed.map_or_else(Default::default, |policy| policy.parameters.clone()),
        author: installed.and_then(|policy| policy.author.clone()),
        roles: info.roles.iter().map(role_to_wire).collect(),
        canary_percent: canary,
        healthy: status.is_none_or(|status| status.healthy),
        calls: status.map_or(0, |status| status.calls),
        fallbacks: status.map_or(0, |status| status.fallbacks),
        mean_us: status.map_or(0.0, |status| microseconds(status.mean_ns)),
        max_us: status.map_or(0.0, |status| microseconds(status.max_ns)),
        last_error: status.and_then(|status| status.last_error.clone()),
    }
}

fn role_to_wire(role: &model::PolicyRole) -> PluginRole {
    match role {
        model::PolicyRole::Active => PluginRole::Active,
        model::PolicyRole::Canary(_) => PluginRole::Canary,
        model::PolicyRole::Shadow => PluginRole::Shadow,
    }
}

/// A kind of policy as it goes over the wire.
pub fn kind_to_wire(kind: model::PolicyKind) -> PluginKind {
    match kind {
        model::PolicyKind::Scheduler => PluginKind::Scheduler,
        model::PolicyKind::Billing => PluginKind::Billing,
        model::PolicyKind::Admission => PluginKind::Admission,
    }
}

/// A kind of policy as it came over the wire.
pub fn kind_from_wire(kind: PluginKind) -> model::PolicyKind {
    match kind {
        PluginKind::Scheduler => model::PolicyKind::Scheduler,
        PluginKind::Billing => model::PolicyKind::Billing,
        PluginKind::Admission => model::PolicyKind::Admission,
    }
}

/// What a component is, as it goes over the wire.
pub fn module_to_wire(info: &model::ComponentInfo) -> PluginModule {
    PluginModule {
        kind: kind_to_wire(info.kind),
        module_sha256: info.module_sha256.to_string(),
        size_bytes: info.size.bytes(),
        imports: info.imports.clone(),
        exports: info.exports.clone(),
    }
}

/// A comparison as it goes over the wire.
pub fn comparison_to_wire(comparison: &model::PolicyComparison) -> PluginComparison {
    let total = |(active, other): &(types::Money, types::Money)| PluginTotal {
        currency: active.currency.to_string(),
        active: active.amount.to_string(),
        other: other.amount.to_string(),
    };
    PluginComparison {
        plugin: comparison.policy.to_string(),
        since: comparison.since.to_string(),
        compared: comparison.compared,
        same: comparison.same,
        failures: comparison.failures,
        skipped: comparison.skipped,
        differences: comparison
            .differences
            .iter()
            .map(difference_to_wire)
            .collect(),
        totals: comparison.totals.iter().map(total).collect(),
        mean_us: microseconds(comparison.mean_ns),
        max_us: microseconds(comparison.max_ns),
        last_error: comparison.last_error.clone(),
    }
}

fn difference_to_wire(difference: &model::PolicyDifference) -> PluginDifference {
    match difference {
        model::PolicyDifference::Placement {
            decision,
            instance,
            active,
            other,
        } => PluginDifference {
            resource_id: instance.to_string(),
            decision_id: Some(decision.to_string()),
            active: active.as_ref().map(ToString::to_string),
            other: other.as_ref().map(ToString::to_string),
        },
        model::PolicyDifference::Admission {
            account,
            active,
            other,
        } => PluginDifference {
            resource_id: account.to_string(),
            decision_id: None,
            active: Some(active.clone()),
            other: Some(other.clone()),
        },
        model::PolicyDifference::Price {
            resource,
            active,
            other,
        } => PluginDifference {
            resource_id: resource.clone(),
            decision_id: None,
            active: Some(active.amount.to_string()),
            other: Some(other.amount.to_string()),
        },
    }
}

/// A decision that was made again, as it goes over the wire.
pub fn rerun_to_wire(rerun: &model::Rerun) -> DecisionRerun {
    DecisionRerun {
        same: rerun.kept_sha256 == rerun.rerun_sha256,
        kept_sha256: rerun.kept_sha256.to_string(),
        rerun_sha256: rerun.rerun_sha256.to_string(),
        decision: decision_to_wire(&rerun.decision),
    }
}

/// Nanoseconds as microseconds, to the nanosecond.
fn microseconds(nanoseconds: u64) -> f64 {
    super::milliseconds(nanoseconds) * 1000.0
}

/// The digest of a module; none of the built-in one.
pub(super) fn module(module: &ModuleDigest) -> Option<String> {
    match module {
        ModuleDigest::BuiltIn => None,
        ModuleDigest::Sha256(digest) => Some(digest.to_string()),
    }
}
