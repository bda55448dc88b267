//! Asking policies about the past: what would have been decided and charged, and whether a decision comes out again.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::{PolicySelector, ReplayPeriod},
    core::{Core, blocking},
    model::{Charge, Decision, Policy, PolicyComparison, PolicyRevision, Rerun},
    policies::{self, decide_again},
    ports::LoadedPolicy,
    records::{ChargeRecord, DecisionRecord, EntryRecord},
    use_cases::policy_life::find,
};
use ledger::{MAX_BATCH, Rater, RatingInput, UsageInterval};
use placement::{BuiltIn, Scheduler, Strategy};
use std::{collections::BTreeMap, time::Instant};
use types::{DecisionId, ModuleDigest, Money, PolicyIdentity, Sha256Digest, Timestamp, UsageId};

impl Control {
    /// Asks an installed policy what was asked in a period: a scheduler every placement of it, a billing policy the prices of everything
    /// that was charged, each interval's charges as one stretch. Nothing changes.
    pub async fn replay_policy(
        &self,
        selector: PolicySelector,
        period: ReplayPeriod,
    ) -> Result<PolicyComparison> {
        let core = self.core().clone();
        blocking(move || {
            let policy = find(&core, &selector)?;
            let loaded = policies::load(&core, &policy)?;
            let since = period.from.unwrap_or(Timestamp::UNIX_EPOCH);
            let mut comparison = PolicyComparison::new(policy.id, since);
            match loaded {
                LoadedPolicy::Scheduler(scheduler) => {
                    replay_decisions(&core, &scheduler, period, &mut comparison)?;
                }
                LoadedPolicy::Billing(pricing) => {
                    replay_charges(&core, &pricing.rater, period, &mut comparison)?;
                }
                LoadedPolicy::Admission(_) => {
                    return Err(ControlError::new(
                        ErrorKind::InvalidInput,
                        "OperationUnsupported.PolicyReplay",
                        "Requests are not kept, so an admission policy cannot be asked about them again.",
                    )
                    .with_next_step("Make it the shadow, and read its report later."));
                }
            }
            Ok(comparison)
        })
        .await?
    }

    /// Makes a decision again, by the policy that made it and from what it was asked. All but the time it took must come out the
    /// same.
    pub async fn rerun_decision(&self, id: DecisionId) -> Result<Rerun> {
        let core = self.core().clone();
        blocking(move || {
            let record = core
                .get::<DecisionRecord>(&id)?
                .ok_or_else(|| ControlError::not_found("DecisionId", "decision", &id))?;
            let inputs = record.inputs.ok_or_else(|| {
                let message = format!(
                    "Decision {id} was kept without what it takes to make it again, by an earlier version."
                );
                ControlError::new(ErrorKind::IncorrectState, "IncorrectDecisionStatus", message)
            })?;
            let scheduler = scheduler_of(&core, &record.decision)?;
            let decision = decide_again(&scheduler, &record.decision, &inputs);
            Ok(Rerun {
                kept_sha256: digest(&record.decision)?,
                rerun_sha256: digest(&decision)?,
                decision,
            })
        })
        .await?
    }
}

/// Digest of a decision without the time it took.
fn digest(decision: &Decision) -> Result<Sha256Digest> {
    let timeless = Decision {
        duration_ns: 0,
        ..decision.clone()
    };
    let bytes = serde_json::to_vec(&timeless)
        .map_err(|error| ControlError::internal("A decision cannot be written.", error))?;
    Ok(Sha256Digest::of(&bytes))
}

/// The policy that was asked for a decision, as it was then.
fn scheduler_of(core: &Core, decision: &Decision) -> Result<Scheduler> {
    let asked = match &decision.fallback {
        Some(failure) => (*failure.policy).clone(),
        None => PolicyIdentity {
            name: decision.policy.clone(),
            module_sha256: decision.module_sha256,
            configuration_sha256: decision.configuration_sha256,
        },
    };
    if let Ok(revision) = asked.name.parse::<PolicyRevision>()
        && let Some(policy) = core.get::<Policy>(&revision)?
        && ModuleDigest::Sha256(policy.module_sha256) == asked.module_sha256
        && let LoadedPolicy::Scheduler(scheduler) = policies::load(core, &policy)?
    {
        return Ok(scheduler);
    }
    let others = [
        core.ports.policies.scheduler(),
        Scheduler::built_in(BuiltIn::new(Strategy::Spread)),
        Scheduler::built_in(BuiltIn::new(Strategy::BinPack)),
    ];
    let found = others
        .into_iter()
        .find(|scheduler| scheduler.identity() == asked);
    found.ok_or_else(|| {
        let message = format!(
            "The policy that made decision {}, {}, is not here any more.",
            decision.id, asked.name
        );
        ControlError::new(ErrorKind::NotFound, "InvalidPolicy.NotFound", message)
            .with_next_step("Start the daemon with that policy, or keep policies installed as long as their decisions are to be explained.")
    })
}

impl ReplayPeriod {
    fn contains(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }

    /// As bills count: a charge belongs to where it ends, so that periods side by side have each charge once.
    fn has(self, charge: &Charge) -> bool {
        self.from.is_none_or(|from| charge.to > from) && self.to.is_none_or(|to| charge.to <= to)
    }
}

fn replay_decisions(
    core: &Core,
    scheduler: &Scheduler,
    period: ReplayPeriod,
    comparison: &mut PolicyComparison,
) -> Result<()> {
    let mut records: Vec<DecisionRecord> = core.list()?;
    records.retain(|record| period.contains(record.decision.time));
    records.sort_by_key(|record| (record.decision.time, record.decision.id));
    for record in &records {
        match &record.inputs {
            Some(inputs) => {
                let other = decide_again(scheduler, &record.decision, inputs);
                comparison.placement(&record.decision, &other);
            }
            None => comparison.skipped += 1,
        }
    }
    Ok(())
}

/// What was charged of an interval in a period.
struct Stretch {
    input: RatingInput,
    resource: String,
    charged: Money,
}

fn replay_charges(
    core: &Core,
    rater: &Rater,
    period: ReplayPeriod,
    comparison: &mut PolicyComparison,
) -> Result<()> {
    let entries: Vec<EntryRecord> = core.list()?;
    let intervals = ledger::intervals(entries.iter().map(|record| &record.entry))
        .map_err(|error| ControlError::internal("The usage ledger does not add up.", error))?;
    let intervals: BTreeMap<UsageId, UsageInterval> = intervals
        .into_iter()
        .map(|interval| (interval.id, interval))
        .collect();
    let mut charges: Vec<Charge> = core
        .list::<ChargeRecord>()?
        .into_iter()
        .map(|record| record.charge)
        .filter(|charge| period.has(charge))
        .collect();
    charges.sort_by_key(|charge| (charge.interval, charge.from));
    let mut stretches: Vec<Stretch> = Vec::new();
    for charge in charges {
        match stretches.last_mut() {
            Some(last)
                if last.input.interval == charge.interval
                    && last.charged.currency == charge.money.currency =>
            {
                last.input.seconds = last.input.seconds.saturating_add(charge.seconds);
                last.charged = last.charged.checked_add(charge.money).map_err(|error| {
                    ControlError::internal("The charges cannot be added up.", error)
                })?;
            }
            _ => match intervals.get(&charge.interval) {
                Some(interval) if charge.money.currency == rater.currency() => {
                    stretches.push(Stretch {
                        input: RatingInput {
                            interval: charge.interval,
                            usage: interval.usage.clone(),
                            from: charge.from,
                            seconds: charge.seconds,
                        },
                        resource: charge.resource,
                        charged: charge.money,
                    });
                }
                // Prices in another currency are not comparable.
                _ => comparison.skipped += 1,
            },
        }
    }
    for batch in stretches.chunks(MAX_BATCH) {
        let usage: Vec<RatingInput> = batch.iter().map(|stretch| stretch.input.clone()).collect();
        let start = Instant::now();
        let prices = rater.price(&usage);
        let elapsed = start.elapsed();
        let charged = batch
            .iter()
            .map(|stretch| (stretch.resource.as_str(), stretch.charged));
        comparison.prices(charged, &prices, elapsed);
    }
    Ok(())
}
