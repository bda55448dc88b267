//! CPU credits of burstable instances: settled, written down, and put in force as a quota.
//!
//! ```text
//!  start of a machine ─► account opened or taken up ─► share of the CPUs, in force before the guest's first instruction
//!         │
//!         └─► look: CPU time used ─► settle ─► quota, where it changes ─► event, where credits ran out or came back
//!               ▲                                  │
//!               └── when it may change next, and at least each interval
//! ```
//!
//! An account is written down once a minute, when its quota changes, when its machine ended and when the daemon does. The
//! kernel counts CPU time on while no daemon runs, so nothing is lost then. While an instance is stopped it earns nothing
//! and keeps what it has (as ECS does where a stopped instance is still paid for).

use crate::{
    Result,
    core::{Core, Transaction, blocking, lock},
    model::{CpuCredits, EventSubject, Instance, State},
    ports::{CpuControl, CpuPlace, CpuShare},
    records::{CpuRecord, CreditRecord},
};
use cpu::{Credits, Plan};
use instance::baseline_percent;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::InstanceId;

/// How old what is written down of an account may be.
const WRITTEN_EACH_MS: u64 = 60_000;
/// Nobody looks more often than that: what is used too much meanwhile is owed.
const LOOKS_APART: Duration = Duration::from_secs(1);
const WEIGHT_PER_VCPU: u32 = 100;

/// The accounts of the instances that this daemon has looked at.
#[derive(Default)]
pub(crate) struct Accounts {
    accounts: Mutex<HashMap<InstanceId, Account>>,
    /// Told when an account was opened or taken up, and when a machine ended.
    changed: Notify,
}

#[derive(Clone)]
struct Account {
    record: CreditRecord,
    written_ms: u64,
    /// The quota that is in force, as far as this daemon knows.
    in_force: Option<Duration>,
    /// Whether it was said that the quota cannot be put in force, or use not be read.
    told: bool,
}

/// What a burstable instance may use, by its type; `None` for others.
fn plan(core: &Core, instance: &Instance) -> Option<Plan> {
    let percent = baseline_percent(instance.instance_type.as_deref()?)?;
    let plan = Plan::new(instance.vcpus, percent);
    Some(plan.with_launch_credits(core.settings.launch_credits))
}

/// Milliseconds of the host's clock that does not go back.
fn now_ms(core: &Core) -> u64 {
    core.ports.clock.monotonic_ns() / 1_000_000
}

impl Account {
    /// What is kept of the instance, or a new account.
    fn open(core: &Core, instance: &Instance, plan: Plan) -> Result<Self> {
        let now = now_ms(core);
        let kept = core.get::<CreditRecord>(&instance.id)?;
        let record = kept.unwrap_or_else(|| CreditRecord {
            instance: instance.id,
            run: instance.run,
            ended: false,
            credits: Credits::new(plan, now),
        });
        Ok(Self {
            record,
            written_ms: now,
            in_force: None,
            told: false,
        })
    }

    /// The machine of that start of the instance runs now.
    fn take_up(&mut self, run: u64, now_ms: u64) {
        self.record.run = run;
        self.record.ended = false;
        self.record.credits.resume(now_ms);
        self.in_force = None;
    }
}

/// What a machine that is about to start may use of the CPUs. Its account is opened or taken up.
pub(crate) fn share_at_start(core: &Core, instance: &Instance) -> CpuShare {
    let quota = plan(core, instance).and_then(|plan| {
        let mut accounts = lock(&core.credits.accounts);
        let account = match accounts.remove(&instance.id) {
            Some(account) => Ok(account),
            None => Account::open(core, instance, plan),
        };
        let mut account = match account {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(instance = %instance.id, "its CPU credits cannot be read: {error}");
                return None;
            }
        };
        let (record, now) = (&mut account.record, now_ms(core));
        if !record.ended
            && let Ok(used) = core.ports.processors.used(instance.id, record.run)
        {
            // A reboot is quicker than the next look.
            record.credits.settle(plan, used, now);
        }
        account.take_up(instance.run, now);
        let quota = account.record.credits.quota(plan);
        account.in_force = Some(quota);
        accounts.insert(instance.id, account);
        core.credits.changed.notify_one();
        Some(quota)
    });
    // Where all share all it is on all of them from the start.
    let place = match core.settings.dedicated_cpus.is_empty() {
        true => Ok(None),
        false => place(core, instance),
    };
    CpuShare {
        weight: Some(instance.vcpus.saturating_mul(WEIGHT_PER_VCPU)),
        quota,
        place: place.unwrap_or_else(|error| {
            tracing::warn!(instance = %instance.id, "its CPUs cannot be found: {error}");
            None
        }),
    }
}

/// The CPUs it runs on: its own, else those that all others share; `None` where machines cannot be kept on CPUs.
fn place(core: &Core, instance: &Instance) -> Result<Option<CpuPlace>> {
    let Some(topology) = core.ports.processors.topology() else {
        return Ok(None);
    };
    let cpus = match (core.cpus_of(instance)?, core.own_cpus()) {
        (Some(cpus), _) => cpus,
        (None, Some(own)) => own.shared().clone(),
        (None, None) => topology.cpus(),
    };
    let nodes = topology.nodes_of(&cpus);
    Ok((!cpus.is_empty()).then_some(CpuPlace { cpus, nodes }))
}

/// A machine ended: what it used is settled now, and it earns no more.
pub(crate) fn ended(core: &Core) {
    core.credits.changed.notify_one();
}

/// Drops what is kept of an instance that goes.
pub(crate) fn forget(transaction: &mut Transaction<'_>, id: InstanceId) -> Result<()> {
    lock(&transaction.core().credits.accounts).remove(&id);
    transaction.delete::<CreditRecord>(&id)?;
    transaction.delete::<CpuRecord>(&id)?;
    Ok(())
}

/// The account of a burstable instance as of its last settlement; `None` for others.
pub(crate) fn shown(core: &Core, instance: &Instance) -> Result<Option<CpuCredits>> {
    let Some(plan) = plan(core, instance) else {
        return Ok(None);
    };
    let known = lock(&core.credits.accounts).get(&instance.id).cloned();
    let account = match known {
        Some(account) => account,
        None => Account::open(core, instance, plan)?,
    };
    let credits = &account.record.credits;
    Ok(Some(CpuCredits {
        balance: credits.balance(),
        max: plan.max(),
        centicredits_per_hour: plan.centicredits_per_hour(),
        baseline_percent: plan.baseline_percent(),
        throttled: credits.throttled(),
    }))
}

/// Looks until the daemon ends, and then once more.
pub(super) async fn run(core: Arc<Core>, end: CancellationToken) {
    if let CpuControl::None(why) = core.ports.processors.control() {
        tracing::warn!(
            "what instances use of the CPUs is not limited, and CPU credits stand still: {why}"
        );
        return;
    }
    let put = core.clone();
    let placed = blocking(move || put_everyone_in_place(&put)).await;
    if let Err(error) = placed.and_then(|placed| placed) {
        tracing::warn!("not every machine could be put on its CPUs: {error}");
    }
    loop {
        let next = look(&core, false).await;
        tokio::select! {
            biased;
            () = end.cancelled() => break,
            () = core.credits.changed.notified() => {}
            () = sleep_until(next.unwrap_or_else(far)), if next.is_some() => {}
        }
    }
    look(&core, true).await;
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// Settles everything; when to do so again, if there is anything to settle.
async fn look(core: &Arc<Core>, last: bool) -> Option<Instant> {
    let began = Instant::now();
    let looking = core.clone();
    let looked = blocking(move || looking.look_at_credits(last)).await;
    match looked.and_then(|looked| looked) {
        Ok(next) => next.map(|next| began + next),
        Err(error) => {
            tracing::error!("CPU credits could not be settled: {error}");
            Some(began + core.settings.credit_interval)
        }
    }
}

/// The set of CPUs that instances have for themselves may be another one than that of the daemon before.
fn put_everyone_in_place(core: &Core) -> Result<()> {
    let dedicated = &core.settings.dedicated_cpus;
    match core.own_cpus() {
        None if !dedicated.is_empty() => tracing::warn!(
            "no instance gets CPUs of its own: this host cannot keep machines on CPUs"
        ),
        Some(own) if own.given() != *dedicated => tracing::warn!(
            "of the CPUs {dedicated} instances get {} for themselves: the others are no whole cores of this host",
            own.given()
        ),
        _ => {}
    }
    for id in core.ports.machines.running() {
        let Some(instance) = core.get::<Instance>(&id)? else {
            continue;
        };
        let share = CpuShare {
            place: place(core, &instance)?,
            ..CpuShare::default()
        };
        if let Err(error) = core.ports.processors.limit(id, &share) {
            tracing::warn!(instance = %id, "cannot be put on its CPUs: {}", error.chain());
        }
    }
    Ok(())
}

impl Core {
    /// Settles the accounts of all burstable instances, puts their quotas in force and writes down what is due, or everything.
    /// In what time to look again; `None` when no burstable instance runs. Blocks.
    fn look_at_credits(&self, everything: bool) -> Result<Option<Duration>> {
        let running: HashSet<InstanceId> = self.ports.machines.running().into_iter().collect();
        let (mut next, mut due, mut changed) = (None, Vec::new(), Vec::new());
        let instances = self.all::<Instance>();
        for instance in instances.values() {
            let Some(plan) = plan(self, instance) else {
                continue;
            };
            let mut accounts = lock(&self.credits.accounts);
            let account = match accounts.remove(&instance.id) {
                Some(account) => account,
                None => Account::open(self, instance, plan)?,
            };
            let account = accounts.entry(instance.id).or_insert(account);
            let runs = running.contains(&instance.id);
            if account.record.ended && !runs {
                continue;
            }
            let before = account.record.credits.throttled();
            self.settle_credits(account, plan, instance, runs);
            let credits = &account.record.credits;
            let over = account.record.ended;
            if before != credits.throttled() {
                changed.push((instance.id, plan, credits.throttled()));
            }
            let now = now_ms(self);
            let old = now.saturating_sub(account.written_ms) >= WRITTEN_EACH_MS;
            if everything || over || old || before != credits.throttled() {
                account.written_ms = now;
                due.push(account.record.clone());
            }
            if !over {
                let wanted = credits.look_again_in(plan);
                let soonest = wanted
                    .unwrap_or(self.settings.credit_interval)
                    .clamp(LOOKS_APART, self.settings.credit_interval.max(LOOKS_APART));
                next = Some(next.map_or(soonest, |next: Duration| next.min(soonest)));
            }
        }
        if !due.is_empty() {
            self.write_credits(&due, &changed)?;
        }
        // Released while this went on. One that is newer than the list has nothing to lose.
        lock(&self.credits.accounts).retain(|id, _| instances.contains_key(id));
        Ok(next)
    }

    /// Settles one account by what the kernel counted, and puts its quota in force where it is not.
    fn settle_credits(&self, account: &mut Account, plan: Plan, instance: &Instance, runs: bool) {
        let (id, now) = (instance.id, now_ms(self));
        if account.record.run != instance.run {
            if !runs {
                // Of a start that has not come to a machine; or of one that came and went unseen.
                account.record.ended = instance.state == State::Stopped;
                return;
            }
            account.take_up(instance.run, now);
        }
        match self.ports.processors.used(id, instance.run) {
            Ok(used) => account.record.credits.settle(plan, used, now),
            Err(error) if runs && !account.told => {
                account.told = true;
                tracing::warn!(instance = %id, "its CPU credits stand still: {}", error.chain());
            }
            Err(_) => {}
        }
        // A machine that is about to start is in nobody's list yet.
        account.record.ended = !runs && instance.state == State::Stopped;
        let quota = account.record.credits.quota(plan);
        if runs && account.in_force != Some(quota) {
            let share = CpuShare {
                quota: Some(quota),
                ..CpuShare::default()
            };
            match self.ports.processors.limit(id, &share) {
                Ok(()) => account.in_force = Some(quota),
                Err(error) if !account.told => {
                    account.told = true;
                    tracing::warn!(instance = %id, "its CPU time cannot be limited: {}", error.chain());
                }
                Err(_) => {}
            }
        }
    }

    /// Writes accounts down, and says whose quota changed.
    fn write_credits(
        &self,
        due: &[CreditRecord],
        changed: &[(InstanceId, Plan, bool)],
    ) -> Result<()> {
        self.write_blocking(true, |transaction| {
            for record in due {
                // One that was released meanwhile has none any more.
                if transaction.get::<Instance>(&record.instance)?.is_some() {
                    transaction.put(record)?;
                }
            }
            for (id, plan, throttled) in changed {
                let message = match throttled {
                    true => format!(
                        "instance {id} has used up its CPU credits and runs at its baseline of {} %",
                        plan.baseline_percent()
                    ),
                    false => format!("instance {id} has CPU credits again"),
                };
                transaction.event(EventSubject::CpuCredits(*id), message);
            }
            Ok(())
        })
    }
}
