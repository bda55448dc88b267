//! From verdicts to a decision, and the record of it.
//!
//! What a policy said is checked as it said it. Then hosts that the request's [`Affinity`](crate::Affinity) rules out are refused with
//! [`Constraint::Affinity`] in place of their scores, whoever the policy is: it need not know that there is such a thing.

use crate::{
    BuiltIn, Constraint, HostTable, PlacementRequest, SchedulingPolicy, Verdict, digest, highest,
    policy::checked_verdicts,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use types::{
    DecisionId, HostId, InstanceId, ModuleDigest, PolicyFailure, PolicyIdentity, Sha256Digest,
    Timestamp,
};

/// Everything needed to explain a placement and to make it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// When it was made.
    pub time: Timestamp,
    /// The instance that was placed.
    pub instance: InstanceId,
    /// [`PlacementRequest::digest`].
    pub request_sha256: Sha256Digest,
    /// Digest of the request and the whole host table: equal inputs and an equal policy give an equal outcome.
    pub inputs_sha256: Sha256Digest,
    /// Name of the policy whose verdicts counted.
    pub policy: String,
    /// Its code.
    pub module_sha256: ModuleDigest,
    /// Digest of its parameters.
    pub configuration_sha256: Sha256Digest,
    /// The host that won; `None` if none was left.
    pub host: Option<HostId>,
    /// One sentence for people.
    pub reason: String,
    /// What the policy, or else the request's affinity, said of each host, ascending by id.
    pub outcomes: Vec<HostOutcome>,
    /// If the configured policy failed: how. The verdicts are then the built-in policy's.
    pub fallback: Option<PolicyFailure>,
    /// How long the policy (and, after a failure, the built-in one) took, in nanoseconds.
    pub duration_ns: u64,
}

/// What was said of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostOutcome {
    /// The host.
    pub host: HostId,
    /// What was said.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Refused with a constraint, or scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not possible: the condition that was not met.
    Refused(Constraint),
    /// Possible, and how good.
    Score(f64),
}

/// No host can take the instance.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no host can take instance {}: {}", .decision.instance, .decision.reason)]
pub struct NoStock {
    /// The constraint that ruled out most hosts; `None` if there is no host at all.
    pub constraint: Option<Constraint>,
    /// How many hosts it ruled out.
    pub refused: usize,
    /// How many hosts there are.
    pub hosts: usize,
    /// The full record, without a host.
    pub decision: Box<Decision>,
}

/// The configured policy, with the built-in one behind it.
#[derive(Clone)]
pub struct Scheduler {
    pub(crate) policy: Arc<dyn SchedulingPolicy>,
    pub(crate) fallback: BuiltIn,
}

impl Scheduler {
    /// Asks `policy`; where that gives no usable answer, `fallback` decides.
    #[must_use]
    pub fn new(policy: Arc<dyn SchedulingPolicy>, fallback: BuiltIn) -> Self {
        Self { policy, fallback }
    }

    /// The built-in policy alone.
    #[must_use]
    pub fn built_in(policy: BuiltIn) -> Self {
        Self::new(Arc::new(policy), policy)
    }

    /// The configured policy.
    #[must_use]
    pub fn identity(&self) -> PolicyIdentity {
        self.policy.identity()
    }

    /// Chooses a host for `request`. Nothing is reserved: the caller books the footprint with the rest of its transaction.
    ///
    /// Everything but [`Decision::duration_ns`] is determined by the arguments and the policy.
    ///
    /// # Errors
    /// [`NoStock`] when every host is refused; it carries the decision, which is as worth keeping as any other.
    pub fn decide(
        &self,
        id: DecisionId,
        time: Timestamp,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Decision, NoStock> {
        let start = Instant::now();
        let (policy, mut verdicts, fallback) = self.ask(request, hosts);
        let duration_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        request.affinity.rule_out(hosts, &mut verdicts);

        let request_sha256 = request.digest();
        let best = best(hosts, &verdicts);
        let (constraint, refused) = most_frequent(&verdicts);
        let decision = Decision {
            id,
            time,
            instance: request.instance,
            request_sha256,
            inputs_sha256: digest::inputs(request_sha256, hosts.digest()),
            reason: reason(&policy, &verdicts, best, constraint.as_ref(), refused),
            policy: policy.name,
            module_sha256: policy.module_sha256,
            configuration_sha256: policy.configuration_sha256,
            host: best.map(|(host, _)| host),
            outcomes: outcomes(hosts, verdicts),
            fallback,
            duration_ns,
        };
        if decision.host.is_some() {
            return Ok(decision);
        }
        Err(NoStock {
            constraint,
            refused,
            hosts: hosts.len(),
            decision: Box::new(decision),
        })
    }

    fn ask(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> (PolicyIdentity, Vec<Verdict>, Option<PolicyFailure>) {
        match checked_verdicts(&*self.policy, request, hosts) {
            Ok(verdicts) => (self.policy.identity(), verdicts, None),
            Err(failure) => (
                self.fallback.identity(),
                self.fallback.verdicts(request, hosts),
                Some(failure),
            ),
        }
    }
}

/// The host with the highest score; of several, the one with the lowest id.
fn best(hosts: &HostTable, verdicts: &[Verdict]) -> Option<(HostId, f64)> {
    let position = highest(verdicts)?;
    match (hosts.ids().get(position), verdicts.get(position)) {
        (Some(host), Some(Verdict::Score(score))) => Some((*host, *score)),
        _ => None,
    }
}

/// The constraint that refused most hosts (the first by order on a tie), and how many.
fn most_frequent(verdicts: &[Verdict]) -> (Option<Constraint>, usize) {
    let mut counts: BTreeMap<&Constraint, usize> = BTreeMap::new();
    for verdict in verdicts {
        if let Verdict::Refused(constraint) = verdict {
            *counts.entry(constraint).or_default() += 1;
        }
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map_or((None, 0), |(constraint, count)| {
        (Some(constraint.clone()), count)
    })
}

fn reason(
    policy: &PolicyIdentity,
    verdicts: &[Verdict],
    best: Option<(HostId, f64)>,
    constraint: Option<&Constraint>,
    refused: usize,
) -> String {
    let hosts = verdicts.len();
    let scored = |verdict: &&Verdict| matches!(verdict, Verdict::Score(_));
    let possible = verdicts.iter().filter(scored).count();
    match (best, constraint) {
        (Some((host, score)), _) => format!(
            "{}: {host} has the best score, {score:.3}, of {possible} possible among {hosts} hosts",
            policy.name
        ),
        (None, Some(constraint)) => {
            let rest = if refused == hosts {
                ""
            } else {
                ", other conditions the rest"
            };
            format!("`{constraint}` rules out {refused} of {hosts} hosts{rest}")
        }
        (None, None) => "there is no host".to_owned(),
    }
}

fn outcomes(hosts: &HostTable, verdicts: Vec<Verdict>) -> Vec<HostOutcome> {
    let outcome = |(host, verdict): (&HostId, Verdict)| HostOutcome {
        host: *host,
        outcome: match verdict {
            Verdict::Refused(constraint) => Outcome::Refused(constraint),
            Verdict::Score(score) => Outcome::Score(score),
        },
    };
    hosts.ids().iter().zip(verdicts).map(outcome).collect()
}
