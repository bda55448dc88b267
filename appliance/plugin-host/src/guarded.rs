//! Counts how a policy does, and stops asking one that fails again and again.

use crate::PluginKind;
use billing::{
    ArrearsStep, CommercialPolicy, Debt, MeteredInstance, PolicyMeter, Quote, QuoteRequest,
    Renewal, RenewalRequest, SpotLease, StockNeed,
};
use instance::admission::{AdmissionPolicy, Answer, Holdings, InstancesRequest, Offers};
use ledger::{RatingInput, RatingPolicy};
use placement::{HostTable, PlacementRequest, SchedulingPolicy, Verdict};
use serde::Serialize;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use types::{
    Currency, FailureKind, InstanceId, ModuleDigest, Money, PolicyFailure, PolicyIdentity,
    Sha256Digest, Timestamp,
};

/// How a loaded policy does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// The operator's name for it.
    pub name: String,
    /// What it decides.
    pub kind: PluginKind,
    /// SHA-256 of its component file.
    pub module_sha256: ModuleDigest,
    /// Digest of its parameters.
    pub configuration_sha256: Sha256Digest,
    /// Calls so far, including those that failed.
    pub calls: u64,
    /// Failed calls so far.
    pub failures: u64,
    /// Whether it is not asked any more, or not what is metered.
    pub set_aside: bool,
    /// The last failure.
    pub last_failure: Option<PolicyFailure>,
    /// Mean time of a call, in nanoseconds.
    pub mean_ns: u64,
    /// Longest time of a call, in nanoseconds.
    pub max_ns: u64,
}

/// A policy that is asked until it has failed too often in a row.
///
/// A failure is passed on: `placement`, `ledger`, `billing` and `instance` fall back to their built-in policy and say why. After as many
/// failures in a row as [`Limits::failures`](crate::Limits::failures) it is *set aside*: every further call fails at once, until
/// [`reinstate`](Self::reinstate). What is metered is counted apart: a policy that has no answer to that goes on to set prices.
pub struct Guarded<P> {
    policy: P,
    identity: PolicyIdentity,
    kind: PluginKind,
    most_failures: u32,
    in_a_row: AtomicU32,
    /// Of those about what is metered.
    meters_in_a_row: AtomicU32,
    calls: AtomicU64,
    failures: AtomicU64,
    total_ns: AtomicU64,
    max_ns: AtomicU64,
    last_failure: Mutex<Option<PolicyFailure>>,
}

impl<P> Guarded<P> {
    pub(crate) fn new(
        policy: P,
        identity: PolicyIdentity,
        kind: PluginKind,
        most_failures: u32,
    ) -> Self {
        Self {
            policy,
            identity,
            kind,
            most_failures,
            in_a_row: AtomicU32::new(0),
            meters_in_a_row: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            total_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    /// The policy itself, whose calls are not counted.
    #[must_use]
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// Whether it has failed too often in a row.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        self.are_too_many(&self.in_a_row)
    }

    fn are_too_many(&self, in_a_row: &AtomicU32) -> bool {
        in_a_row.load(Ordering::Relaxed) >= self.most_failures
    }

    /// Asks it again from now on.
    pub fn reinstate(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.meters_in_a_row.store(0, Ordering::Relaxed);
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> PluginStatus {
        let calls = self.calls.load(Ordering::Relaxed);
        let total_ns = self.total_ns.load(Ordering::Relaxed);
        PluginStatus {
            name: self.identity.name.clone(),
            kind: self.kind,
            module_sha256: self.identity.module_sha256,
            configuration_sha256: self.identity.configuration_sha256,
            calls,
            failures: self.failures.load(Ordering::Relaxed),
            set_aside: self.is_set_aside() || self.are_too_many(&self.meters_in_a_row),
            last_failure: self.last_failure(),
            mean_ns: total_ns.checked_div(calls).unwrap_or_default(),
            max_ns: self.max_ns.load(Ordering::Relaxed),
        }
    }

    fn last_failure(&self) -> Option<PolicyFailure> {
        let last = self.last_failure.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask<T>(&self, ask: impl FnOnce(&P) -> Result<T, PolicyFailure>) -> Result<T, PolicyFailure> {
        self.ask_counting(&self.in_a_row, ask)
    }

    fn ask_counting<T>(
        &self,
        in_a_row: &AtomicU32,
        ask: impl FnOnce(&P) -> Result<T, PolicyFailure>,
    ) -> Result<T, PolicyFailure> {
        if self.are_too_many(in_a_row) {
            let last = self.last_failure();
            let last = last.map_or_else(String::new, |last| {
                format!("; the last time it {}: {}", last.kind, last.message)
            });
            return Err(PolicyFailure {
                policy: Box::new(self.identity.clone()),
                kind: FailureKind::SetAside,
                message: format!("it failed {} times in a row{last}", self.most_failures),
            });
        }
        let start = Instant::now();
        let answer = ask(&self.policy);
        self.count(start.elapsed());
        match &answer {
            Ok(_) => in_a_row.store(0, Ordering::Relaxed),
            Err(failure) => self.note(failure, in_a_row),
        }
        answer
    }

    fn count(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(time, Ordering::Relaxed);
        self.max_ns.fetch_max(time, Ordering::Relaxed);
    }

    fn note(&self, failure: &PolicyFailure, in_a_row: &AtomicU32) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let last = self.last_failure.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
        tracing::warn!("{failure}");
        // Too many calls at once are nothing the policy could help.
        if failure.kind == FailureKind::Busy {
            return;
        }
        if in_a_row.fetch_add(1, Ordering::Relaxed) + 1 == self.most_failures {
            let (policy, times) = (&failure.policy, self.most_failures);
            tracing::error!("policy {policy} failed {times} times in a row and is set aside");
        }
    }
}

impl<P: SchedulingPolicy> SchedulingPolicy for Guarded<P> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure> {
        self.ask(|policy| policy.evaluate(request, hosts))
    }

    fn place(
        &self,
        requests: &[PlacementRequest],
        hosts: &HostTable,
    ) -> Result<Vec<Option<usize>>, PolicyFailure> {
        self.ask(|policy| policy.place(requests, hosts))
    }
}

impl<P: RatingPolicy> RatingPolicy for Guarded<P> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        self.ask(|policy| policy.rate(currency, usage))
    }
}

impl<P: CommercialPolicy> CommercialPolicy for Guarded<P> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn quote(&self, currency: Currency, request: &QuoteRequest) -> Result<Quote, PolicyFailure> {
        self.ask(|policy| policy.quote(currency, request))
    }

    fn renewal(&self, request: &RenewalRequest) -> Result<Renewal, PolicyFailure> {
        self.ask(|policy| policy.renewal(request))
    }

    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, PolicyFailure> {
        self.ask(|policy| policy.arrears(debt))
    }

    fn preempt(
        &self,
        leases: &[SpotLease],
        missing: StockNeed,
        now: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure> {
        self.ask(|policy| policy.preempt(leases, missing, now))
    }

    fn meters(&self, instance: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure> {
        self.ask_counting(&self.meters_in_a_row, |policy| policy.meters(instance))
    }
}

impl<P: AdmissionPolicy> AdmissionPolicy for Guarded<P> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Answer, PolicyFailure> {
        self.ask(|policy| policy.admit(request, holdings, offers))
    }
}

/// Something whose status can be listed.
pub(crate) trait Reports: Send + Sync {
    fn status(&self) -> PluginStatus;
}

impl<P: Send + Sync> Reports for Guarded<P> {
    fn status(&self) -> PluginStatus {
        Guarded::status(self)
    }
}
