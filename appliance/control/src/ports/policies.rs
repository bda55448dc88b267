//! Where policies come from, and what can be asked of one.

use super::PortResult;
use crate::model::{ComponentInfo, PolicyKind, PolicyStatus};
use billing::{Commerce, CommercialPolicy};
use instance::admission::Admitter;
use ledger::{PriceList, Rater, RatingPolicy};
use placement::Scheduler;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::Sha256Digest;

/// A policy that can be asked, with the built-in one behind it.
#[derive(Clone)]
pub enum LoadedPolicy {
    /// Chooses hosts. A choice takes microseconds to some milliseconds.
    Scheduler(Scheduler),
    /// Prices use, and says what purchases and debts come to.
    Billing(Box<Pricing>),
    /// Lets requests in.
    Admission(Admitter),
}

/// A billing policy: one component answers both kinds of questions.
#[derive(Clone)]
pub struct Pricing {
    /// Prices use.
    pub rater: Rater,
    /// Quotes, renews, and says what is done about debts and which preemptible instances go first.
    pub commerce: Commerce,
}

impl Pricing {
    /// Asks `policy`, with `prices` and the standard terms over them behind it.
    #[must_use]
    pub fn new<P: RatingPolicy + CommercialPolicy + 'static>(
        policy: Arc<P>,
        prices: PriceList,
    ) -> Self {
        Self {
            rater: Rater::new(policy.clone(), prices.clone()),
            commerce: Commerce::new(policy, prices),
        }
    }

    /// The price list and the standard terms alone.
    #[must_use]
    pub fn built_in(prices: PriceList) -> Self {
        Self {
            rater: Rater::built_in(prices.clone()),
            commerce: Commerce::built_in(prices),
        }
    }
}

impl LoadedPolicy {
    /// What it decides about.
    #[must_use]
    pub fn kind(&self) -> PolicyKind {
        match self {
            Self::Scheduler(_) => PolicyKind::Scheduler,
            Self::Billing(_) => PolicyKind::Billing,
            Self::Admission(_) => PolicyKind::Admission,
        }
    }
}

/// Where policies come from: those the daemon was started with, and components. Calls block; loading one for the first time takes up
/// to seconds.
///
/// Where a loaded policy has no answer the built-in one decides, and the answer says so. A policy is unloaded when the last clone of
/// it is gone.
pub trait Policies: Send + Sync + 'static {
    /// What chooses hosts where nothing else was activated.
    fn scheduler(&self) -> Scheduler;

    /// What sets prices where nothing else was activated.
    fn pricing(&self) -> Pricing;

    /// The policies that are loaded and how they do, those the daemon was started with first.
    fn status(&self) -> Vec<PolicyStatus>;

    /// What the signature of a component says of itself, if signatures are asked for ([`PortErrorKind::Invalid`] without a good
    /// signature by a trusted key).
    fn author(&self, component: &[u8], signature: Option<&str>) -> PortResult<Option<String>>;

    /// What a component is ([`PortErrorKind::Invalid`] if it is no policy).
    fn inspect(&self, component: &[u8]) -> PortResult<ComponentInfo>;

    /// Loads a component under that name ([`PortErrorKind::Invalid`] if it cannot be loaded or does not take its parameters).
    fn load(
        &self,
        name: &str,
        kind: PolicyKind,
        component: &[u8],
        parameters: &BTreeMap<String, String>,
    ) -> PortResult<LoadedPolicy>;

    /// Keeps a component on stable storage, under its digest.
    fn keep(&self, component: &[u8]) -> PortResult<()>;

    /// A component that is kept.
    fn kept(&self, module: Sha256Digest) -> PortResult<Vec<u8>>;

    /// Removes every kept component but these.
    fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> PortResult<()>;
}
