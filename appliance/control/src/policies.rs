//! Who decides at the moment: the active policies, their canaries and their shadows.
//!
//! ```text
//! roles in the store ─► Board ─► InForce (one for all questions of a moment) ─► active, or the canary by the resource's id
//!                         └ swapped whole: who has begun to ask goes on with what it took      └ afterwards, the shadow
//! ```

use crate::{
    Result,
    core::{Core, lock},
    model::{
        Charge, Decision, MAX_DIFFERENCES, Policy, PolicyComparison, PolicyDifference, PolicyKind,
        PolicyRevision, PolicyRoles, PolicyStatus,
    },
    ports::{LoadedPolicy, Policies, PortResult, Pricing},
    records::DecisionInputs,
};
use billing::Commerce;
use instance::admission::{Admitter, Answer, Holdings, InstancesRequest, Offers};
use ledger::{Rater, RatingInput};
use placement::Scheduler;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use types::{
    AccountId, Currency, Decided, InstanceId, ModuleDigest, Money, PolicyFailure, Sha256Digest,
    Timestamp,
};

/// So many comparisons with a shadow may wait at a time; those that come then are skipped.
const SHADOWS_WAITING: usize = 64;

/// Who is asked about one kind of question.
#[derive(Clone)]
pub(crate) struct Lineup<P> {
    active: P,
    canary: Option<(P, u8)>,
    shadow: Option<(PolicyRevision, P)>,
}

impl<P> Lineup<P> {
    fn only(active: P) -> Self {
        Self {
            active,
            canary: None,
            shadow: None,
        }
    }

    /// Who decides about the resource of that id: always the same one while the share is.
    fn of(&self, resource: &str) -> &P {
        match &self.canary {
            Some((canary, percent)) if is_canary(resource, *percent) => canary,
            _ => &self.active,
        }
    }
}

/// Whether a resource belongs to a share of that many percent.
fn is_canary(resource: &str, percent: u8) -> bool {
    // Of a digest every bit is as good as any other, whatever ids look like.
    Sha256Digest::of(resource.as_bytes()).id_bits() % 100 < u128::from(percent)
}

/// The policies of a moment.
#[derive(Clone)]
pub(crate) struct InForce {
    schedulers: Lineup<Scheduler>,
    pricings: Lineup<Pricing>,
    admitters: Lineup<Admitter>,
}

impl InForce {
    fn base(policies: &dyn Policies) -> Self {
        Self {
            schedulers: Lineup::only(policies.scheduler()),
            pricings: Lineup::only(policies.pricing()),
            admitters: Lineup::only(Admitter::built_in()),
        }
    }

    /// Whether a shadow is asked where instances go.
    pub(crate) fn shadows_decisions(&self) -> bool {
        self.schedulers.shadow.is_some()
    }

    /// Whether a shadow is asked for prices.
    pub(crate) fn shadows_prices(&self) -> bool {
        self.pricings.shadow.is_some()
    }

    /// Who places that instance.
    pub(crate) fn scheduler(&self, instance: InstanceId) -> &Scheduler {
        self.schedulers.of(&instance.to_string())
    }

    /// Who lets requests in. It has no canary: requests have no ids to choose by.
    pub(crate) fn admitter(&self) -> &Admitter {
        &self.admitters.active
    }

    /// The currency of the prices in force.
    pub(crate) fn currency(&self) -> Currency {
        self.pricings.active.rater.currency()
    }

    /// Who quotes, renews and says what is done about debts. It has no canary: a customer's answers come from one policy.
    pub(crate) fn commerce(&self) -> &Commerce {
        &self.pricings.active.commerce
    }

    /// Every policy that sets prices, and for which resources.
    pub(crate) fn raters(&self) -> Vec<(&Rater, impl Fn(&str) -> bool + use<>)> {
        let percent = self.pricings.canary.as_ref().map(|(_, percent)| *percent);
        let of = move |canary: bool| {
            move |resource: &str| {
                percent.is_some_and(|percent| is_canary(resource, percent)) == canary
            }
        };
        let mut raters = vec![(&self.pricings.active.rater, of(false))];
        if let Some((canary, _)) = &self.pricings.canary {
            raters.push((&canary.rater, of(true)));
        }
        raters
    }
}

/// The policies in force, and how they are swapped.
pub(crate) struct Board {
    in_force: RwLock<Arc<InForce>>,
    /// Held by who changes a role, from reading it to swapping.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// What the shadows would have done, since they are shadows or the daemon started.
    shadows: Mutex<BTreeMap<PolicyKind, PolicyComparison>>,
    waiting: AtomicUsize,
    /// Those that have a role.
    loaded: Mutex<BTreeMap<PolicyRevision, LoadedPolicy>>,
    /// Those that have one and could not be loaded.
    broken: Mutex<Vec<PolicyStatus>>,
}

impl Board {
    /// With only what the daemon was started with.
    pub(crate) fn new(policies: &dyn Policies) -> Self {
        Self {
            in_force: RwLock::new(Arc::new(InForce::base(policies))),
            changing: tokio::sync::Mutex::default(),
            shadows: Mutex::default(),
            waiting: AtomicUsize::new(0),
            loaded: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// The policies of this moment.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        let in_force = self.in_force.read();
        in_force.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a shadow would have done.
    pub(crate) fn shadow(&self, kind: PolicyKind) -> Option<PolicyComparison> {
        lock(&self.shadows).get(&kind).cloned()
    }

    /// The policies that have a role and could not be loaded.
    pub(crate) fn broken(&self) -> Vec<PolicyStatus> {
        lock(&self.broken).clone()
    }

    /// Puts others in force, at once for whoever asks next; who has begun goes on with what it took.
    fn swap(&self, change: impl FnOnce(&mut InForce)) {
        let mut in_force = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut in_force));
    }

    /// Puts in force what the roles say. `fresh` was just loaded for one of them; others that are loaded stay as they are.
    ///
    /// A policy that cannot be loaded is noted, and its role stays empty. Blocks while policies are loaded.
    pub(crate) fn assume(
        &self,
        core: &Core,
        roles: &PolicyRoles,
        fresh: Option<(PolicyRevision, LoadedPolicy)>,
    ) -> Result<()> {
        let mut known = lock(&self.loaded).clone();
        known.extend(fresh);
        lock(&self.broken).retain(|broken| broken.kind != roles.kind);
        let mut find = |revision: &PolicyRevision| -> Result<Option<LoadedPolicy>> {
            if let Some(policy) = known.get(revision) {
                return Ok(Some(policy.clone()));
            }
            let Some(policy) = core.get::<Policy>(revision)? else {
                return Ok(None);
            };
            let found = load(core, &policy);
            match &found {
                Ok(policy) => drop(known.insert(revision.clone(), policy.clone())),
                Err(error) => self.note_broken(&policy, error),
            }
            Ok(found.ok())
        };
        let active = roles.active.as_ref().map(&mut find).transpose()?.flatten();
        let canary = match &roles.canary {
            Some((canary, percent)) => find(canary)?.map(|canary| (canary, *percent)),
            None => None,
        };
        let shadow = match &roles.shadow {
            Some(shadow) => find(shadow)?.map(|policy| (shadow.clone(), policy)),
            None => None,
        };
        self.note_shadow(core.now(), roles);
        let policies = &*core.ports.policies;
        self.swap(|in_force| match roles.kind {
            PolicyKind::Scheduler => {
                in_force.schedulers =
                    lineup(scheduler, active, canary, shadow, || policies.scheduler());
            }
            PolicyKind::Billing => {
                in_force.pricings = lineup(pricing, active, canary, shadow, || policies.pricing());
            }
            PolicyKind::Admission => {
                in_force.admitters = lineup(admitter, active, canary, shadow, Admitter::built_in);
            }
        });
        known.retain(|revision, policy| {
            policy.kind() != roles.kind || !roles.of(revision).is_empty()
        });
        *lock(&self.loaded) = known;
        Ok(())
    }

    fn note_broken(&self, policy: &Policy, error: &crate::ports::PortError) {
        let why = error.chain().to_string();
        tracing::error!(policy = %policy.id, error = why, "the policy is not in force: it cannot be loaded");
        let module = ModuleDigest::Sha256(policy.module_sha256);
        let status = PolicyStatus::new(policy.kind, policy.id.to_string(), module);
        lock(&self.broken).push(status.broken(why));
    }

    /// A new shadow is compared from the beginning.
    fn note_shadow(&self, now: Timestamp, roles: &PolicyRoles) {
        let mut shadows = lock(&self.shadows);
        match &roles.shadow {
            None => {
                shadows.remove(&roles.kind);
            }
            Some(shadow) => {
                let known = shadows.get(&roles.kind);
                if known.is_none_or(|known| known.policy != *shadow) {
                    shadows.insert(roles.kind, PolicyComparison::new(shadow.clone(), now));
                }
            }
        }
    }

    /// Has the shadow make these decisions, too, after they are made. Nobody waits for it.
    pub(crate) fn shadow_decisions(self: &Arc<Self>, decided: Vec<(Decision, DecisionInputs)>) {
        let in_force = self.in_force();
        let Some((revision, scheduler)) = in_force.schedulers.shadow.clone() else {
            return;
        };
        if decided.is_empty() {
            return;
        }
        let count = u64::try_from(decided.len()).unwrap_or(u64::MAX);
        self.aside(PolicyKind::Scheduler, revision, count, move |compare| {
            for (decision, inputs) in &decided {
                let answer = decide_again(&scheduler, decision, inputs);
                compare(&|comparison| comparison.placement(decision, &answer));
            }
        });
    }

    /// Has the shadow price what was charged, too, stretch by stretch. Nobody waits for it.
    pub(crate) fn shadow_charges(self: &Arc<Self>, charged: Vec<(Charge, RatingInput)>) {
        let in_force = self.in_force();
        let Some((revision, pricing)) = in_force.pricings.shadow.clone() else {
            return;
        };
        if charged.is_empty() {
            return;
        }
        let count = u64::try_from(charged.len()).unwrap_or(u64::MAX);
        self.aside(PolicyKind::Billing, revision, count, move |compare| {
            let (charges, usage): (Vec<_>, Vec<_>) = charged.into_iter().unzip();
            let start = Instant::now();
            let prices = pricing.rater.price(&usage);
            let elapsed = start.elapsed();
            compare(&|comparison| {
                let active = charges
                    .iter()
                    .map(|charge| (charge.resource.as_str(), charge.money));
                comparison.prices(active, &prices, elapsed);
            });
        });
    }

    /// Asks the shadow, too, what became of a request. Nobody waits for it.
    pub(crate) fn shadow_admission(
        self: &Arc<Self>,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
        active: &Answer,
    ) {
        let in_force = self.in_force();
        let Some((revision, admitter)) = in_force.admitters.shadow.clone() else {
            return;
        };
        let (request, holdings) = (request.clone(), *holdings);
        let (offers, active) = (offers.clone(), active.clone());
        self.aside(PolicyKind::Admission, revision, 1, move |compare| {
            let start = Instant::now();
            let other = admitter.decide(&request, &holdings, &offers);
            let elapsed = start.elapsed();
            compare(&|comparison| {
                comparison.admission(&request.account, &active, &other, elapsed);
            });
        });
    }

    /// Runs a comparison where it delays nobody, unless too many wait already.
    fn aside(
        self: &Arc<Self>,
        kind: PolicyKind,
        revision: PolicyRevision,
        count: u64,
        work: impl FnOnce(&dyn Fn(&dyn Fn(&mut PolicyComparison))) + Send + 'static,
    ) {
        let board = self.clone();
        // One that is no shadow any more has nothing to be compared for.
        let compare = move |with: &dyn Fn(&mut PolicyComparison)| {
            if let Some(comparison) = lock(&board.shadows).get_mut(&kind)
                && comparison.policy == revision
            {
                with(comparison);
            }
        };
        let runtime = tokio::runtime::Handle::try_current();
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        match runtime {
            Ok(runtime) if waiting < SHADOWS_WAITING => {
                let board = self.clone();
                runtime.spawn_blocking(move || {
                    work(&compare);
                    board.waiting.fetch_sub(1, Ordering::Relaxed);
                });
            }
            _ => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                compare(&|comparison| {
                    comparison.skipped = comparison.skipped.saturating_add(count)
                });
            }
        }
    }
}

/// Every policy that may have set one of these prices and is still here: those in force, what the daemon was started with, and installed
/// ones. Blocks while those are loaded.
pub(crate) fn raters_of(core: &Core, charges: &[Charge]) -> Result<Vec<Rater>> {
    let in_force = core.policies.in_force();
    let mut raters: Vec<Rater> = in_force
        .raters()
        .into_iter()
        .map(|(rater, _)| rater.clone())
        .collect();
    raters.push(core.ports.policies.pricing().rater);
    let names: BTreeSet<&str> = charges
        .iter()
        .map(|charge| charge.policy.as_str())
        .collect();
    for name in names {
        let Ok(revision) = name.parse::<PolicyRevision>() else {
            continue;
        };
        if raters.iter().any(|rater| rater.identity().name == name) {
            continue;
        }
        let Some(policy) = core.get::<Policy>(&revision)? else {
            continue;
        };
        match load(core, &policy).map(pricing) {
            Ok(pricing) => raters.extend(pricing.map(|pricing| pricing.rater)),
            Err(error) => {
                let why = error.chain();
                tracing::warn!(policy = %policy.id, error = why, "its prices cannot be checked: it cannot be loaded");
            }
        }
    }
    Ok(raters)
}

/// Loads an installed policy. Blocks.
pub(crate) fn load(core: &Core, policy: &Policy) -> PortResult<LoadedPolicy> {
    let policies = &core.ports.policies;
    let component = policies.kept(policy.module_sha256)?;
    policies.load(
        &policy.id.to_string(),
        policy.kind,
        &component,
        &policy.parameters,
    )
}

fn scheduler(policy: LoadedPolicy) -> Option<Scheduler> {
    match policy {
        LoadedPolicy::Scheduler(scheduler) => Some(scheduler),
        _ => None,
    }
}

fn pricing(policy: LoadedPolicy) -> Option<Pricing> {
    match policy {
        LoadedPolicy::Billing(pricing) => Some(*pricing),
        _ => None,
    }
}

fn admitter(policy: LoadedPolicy) -> Option<Admitter> {
    match policy {
        LoadedPolicy::Admission(admitter) => Some(admitter),
        _ => None,
    }
}

fn lineup<P>(
    of_kind: impl Fn(LoadedPolicy) -> Option<P>,
    active: Option<LoadedPolicy>,
    canary: Option<(LoadedPolicy, u8)>,
    shadow: Option<(PolicyRevision, LoadedPolicy)>,
    base: impl FnOnce() -> P,
) -> Lineup<P> {
    Lineup {
        active: active.and_then(&of_kind).unwrap_or_else(base),
        canary: canary.and_then(|(policy, percent)| Some((of_kind(policy)?, percent))),
        shadow: shadow.and_then(|(revision, policy)| Some((revision, of_kind(policy)?))),
    }
}

/// The decision that `scheduler` makes on the same inputs.
pub(crate) fn decide_again(
    scheduler: &Scheduler,
    decision: &Decision,
    inputs: &DecisionInputs,
) -> Decision {
    scheduler
        .decide(decision.id, decision.time, &inputs.request, &inputs.hosts)
        .unwrap_or_else(|refusal| *refusal.decision)
}

impl PolicyComparison {
    /// Nothing compared yet.
    pub(crate) fn new(policy: PolicyRevision, since: Timestamp) -> Self {
        Self {
            policy,
            since,
            compared: 0,
            same: 0,
            failures: 0,
            skipped: 0,
            differences: VecDeque::new(),
            totals: Vec::new(),
            mean_ns: 0,
            max_ns: 0,
            last_error: None,
        }
    }

    /// Notes what this policy decided where the active one made `decision`.
    pub(crate) fn placement(&mut self, decision: &Decision, other: &Decision) {
        self.took(other.duration_ns);
        if let Some(failure) = &other.fallback {
            return self.failed(1, failure);
        }
        self.compared += 1;
        if other.host == decision.host {
            self.same += 1;
            return;
        }
        self.differs(PolicyDifference::Placement {
            decision: decision.id,
            instance: decision.instance,
            active: decision.host,
            other: other.host,
        });
    }

    /// Notes what this policy made of a request of which the active one made `active`.
    pub(crate) fn admission(
        &mut self,
        account: &AccountId,
        active: &Answer,
        other: &Decided<Answer>,
        elapsed: Duration,
    ) {
        self.took(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        if let Some(failure) = &other.fallback {
            return self.failed(1, failure);
        }
        self.compared += 1;
        if *active == other.answer {
            self.same += 1;
            return;
        }
        self.differs(PolicyDifference::Admission {
            account: account.clone(),
            active: in_words(active),
            other: in_words(&other.answer),
        });
    }

    /// Notes what this policy charges, all asked at once, where the active one charged `active`.
    pub(crate) fn prices<'a>(
        &mut self,
        active: impl ExactSizeIterator<Item = (&'a str, Money)>,
        prices: &std::result::Result<Vec<Money>, PolicyFailure>,
        elapsed: Duration,
    ) {
        self.took(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        let prices = match prices {
            Ok(prices) => prices,
            Err(failure) => {
                let count = u64::try_from(active.len()).unwrap_or(u64::MAX);
                return self.failed(count, failure);
            }
        };
        for ((resource, active), other) in active.zip(prices) {
            self.compared += 1;
            self.add(active, *other);
            if active == *other {
                self.same += 1;
            } else {
                self.differs(PolicyDifference::Price {
                    resource: resource.to_owned(),
                    active,
                    other: *other,
                });
            }
        }
    }

    fn add(&mut self, active: Money, other: Money) {
        let known = self
            .totals
            .iter_mut()
            .find(|(total, _)| total.currency == active.currency);
        // Sums of believable prices stay far from what a decimal holds.
        let sum = |a: Money, b: Money| a.checked_add(b).unwrap_or(a);
        match known {
            Some((total, others)) => {
                *total = sum(*total, active);
                *others = sum(*others, other);
            }
            None => self.totals.push((active, other)),
        }
    }

    fn took(&mut self, duration_ns: u64) {
        let asked = self.compared + self.failures;
        let sum = u128::from(self.mean_ns) * u128::from(asked) + u128::from(duration_ns);
        self.mean_ns = u64::try_from(sum / u128::from(asked + 1)).unwrap_or(u64::MAX);
        self.max_ns = self.max_ns.max(duration_ns);
    }

    fn failed(&mut self, count: u64, failure: &PolicyFailure) {
        self.failures += count;
        self.last_error = Some(failure.to_string());
    }

    fn differs(&mut self, difference: PolicyDifference) {
        if self.differences.len() == MAX_DIFFERENCES {
            self.differences.pop_front();
        }
        self.differences.push_back(difference);
    }
}

fn in_words(answer: &Answer) -> String {
    match answer {
        Answer::Admit => "admit".to_owned(),
        Answer::Refuse { reason, .. } => format!("refuse: {reason}"),
        Answer::Amend(_) => "amend".to_owned(),
    }
}
