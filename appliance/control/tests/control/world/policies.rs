//! Policies whose components are a word or two: `scheduler spread`, `scheduler refuse`, `scheduler fail`, `billing 0.02`,
//! `billing 0.02 db`, which has a licence for that metered, `admission two`, `admission label`, `admission zone`, `admission odd`.

use super::World;
use billing::{
    ArrearsStep, CommercialPolicy, Debt, MeteredInstance, PolicyMeter, Quote, QuoteRequest,
    Renewal, RenewalRequest, SpotLease, StandardTerms, StockNeed,
};
use control::{
    model::{ComponentInfo, PolicyKind, PolicyStatus},
    ports::{LoadedPolicy, Policies, PortError, PortErrorKind, PortResult, Pricing},
};
use instance::admission::{
    AdmissionPolicy, Admitter, Amendment, Answer, Holdings, InstancesRequest, Offers,
};
use ledger::{PriceList, Prices, RatingInput, RatingPolicy};
use placement::{
    BuiltIn, Constraint, HostTable, PlacementRequest, Scheduler, SchedulingPolicy, Strategy,
    Verdict,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{
    ByteCount, Currency, FailureKind, InstanceId, ModuleDigest, Money, PolicyFailure,
    PolicyIdentity, Sha256Digest, Timestamp,
};

/// A policy under its own name.
struct Named<P> {
    identity: PolicyIdentity,
    policy: P,
}

/// What a scheduler of these tests does.
enum Places {
    As(BuiltIn),
    Nowhere,
    Badly,
}

impl SchedulingPolicy for Named<Places> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure> {
        match &self.policy {
            Places::As(policy) => Ok(policy.verdicts(request, hosts)),
            Places::Nowhere => Ok(vec![
                Verdict::Refused(Constraint::NotAccepting);
                hosts.len()
            ]),
            Places::Badly => Err(PolicyFailure {
                policy: Box::new(self.identity.clone()),
                kind: FailureKind::Trap,
                message: "it is made to".to_owned(),
            }),
        }
    }
}

impl RatingPolicy for Named<PriceList> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        self.policy.rate(currency, usage)
    }
}

impl CommercialPolicy for Named<PriceList> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn quote(&self, currency: Currency, request: &QuoteRequest) -> Result<Quote, PolicyFailure> {
        StandardTerms::new(self.policy.clone()).quote(currency, request)
    }

    fn renewal(&self, request: &RenewalRequest) -> Result<Renewal, PolicyFailure> {
        StandardTerms::new(self.policy.clone()).renewal(request)
    }

    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, PolicyFailure> {
        Ok(debt.due())
    }

    fn preempt(
        &self,
        leases: &[SpotLease],
        missing: StockNeed,
        now: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure> {
        StandardTerms::new(self.policy.clone()).preempt(leases, missing, now)
    }

    fn meters(&self, instance: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure> {
        let priced = &self.policy.prices().meters;
        let Some(name) = instance.tags.get("licence") else {
            return Ok(Vec::new());
        };
        let name = format!("licence.{name}");
        match name.as_str() {
            "licence.odd" => Err(PolicyFailure {
                policy: Box::new(self.identity.clone()),
                kind: FailureKind::Refused,
                message: "what an odd licence".to_owned(),
            }),
            _ if !priced.contains_key(&name) => Ok(Vec::new()),
            _ => Ok(vec![PolicyMeter {
                name,
                quantity: instance.vcpus.into(),
                while_running: true,
            }]),
        }
    }
}

impl AdmissionPolicy for Named<String> {
    fn identity(&self) -> PolicyIdentity {
        self.identity.clone()
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Answer, PolicyFailure> {
        let amend = |amendment| Ok(Answer::Amend(amendment));
        match self.policy.as_str() {
            "two" if holdings.instances + request.count <= 2 => Ok(Answer::Admit),
            "two" => Ok(Answer::Refuse {
                reason: "too-many".to_owned(),
                message: "Two instances are enough.".to_owned(),
            }),
            "label" => amend(Amendment {
                name: request.name.is_none().then(|| "named".to_owned()),
                add_tags: vec![("team".to_owned(), "a".to_owned())],
                deletion_protection: Some(true),
                ..Amendment::default()
            }),
            "zone" => match &request.zone {
                None => amend(Amendment {
                    zone: offers.zones.first().cloned(),
                    ..Amendment::default()
                }),
                Some(zone) => Ok(Answer::Refuse {
                    reason: "zone-named".to_owned(),
                    message: format!("You named {zone}."),
                }),
            },
            _ => amend(Amendment {
                zone: Some("nowhere".to_owned()),
                ..Amendment::default()
            }),
        }
    }
}

/// What everything costs, and the licence that there is.
fn prices(words: &str) -> PriceList {
    let (cent, licence) = words.split_once(' ').unzip();
    let price = cent.unwrap_or(words).parse().unwrap();
    let licence = licence.map(|name| (format!("licence.{name}"), price));
    PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: BTreeMap::new(),
        vcpu: price,
        memory_gib: price,
        disk_categories: BTreeMap::new(),
        disk_gib: price,
        meters: licence.into_iter().collect(),
    })
    .unwrap()
}

fn no_policy() -> PortError {
    PortError::new(PortErrorKind::Invalid, "component `given` is no policy")
}

impl Policies for World {
    fn scheduler(&self) -> Scheduler {
        Scheduler::built_in(BuiltIn::new(Strategy::Spread))
    }

    fn pricing(&self) -> Pricing {
        Pricing::built_in(prices("0.01"))
    }

    fn status(&self) -> Vec<PolicyStatus> {
        let identities = [
            (PolicyKind::Scheduler, Policies::scheduler(self).identity()),
            (
                PolicyKind::Billing,
                Policies::pricing(self).rater.identity(),
            ),
        ];
        let status = |(kind, identity): (PolicyKind, PolicyIdentity)| {
            PolicyStatus::new(kind, identity.name, identity.module_sha256)
        };
        identities.into_iter().map(status).collect()
    }

    fn author(&self, _: &[u8], signature: Option<&str>) -> PortResult<Option<String>> {
        Ok(signature.map(str::to_owned))
    }

    fn inspect(&self, component: &[u8]) -> PortResult<ComponentInfo> {
        let kind = match component.split(|byte| *byte == b' ').next() {
            Some(b"scheduler") => PolicyKind::Scheduler,
            Some(b"billing") => PolicyKind::Billing,
            Some(b"admission") => PolicyKind::Admission,
            _ => return Err(no_policy()),
        };
        Ok(ComponentInfo {
            kind,
            module_sha256: Sha256Digest::of(component),
            size: ByteCount::new(component.len() as u64),
            imports: Vec::new(),
            exports: Vec::new(),
        })
    }

    fn load(
        &self,
        name: &str,
        _: PolicyKind,
        component: &[u8],
        parameters: &BTreeMap<String, String>,
    ) -> PortResult<LoadedPolicy> {
        drop(self.call("load_policy")?);
        let identity = PolicyIdentity {
            name: name.to_owned(),
            module_sha256: ModuleDigest::Sha256(Sha256Digest::of(component)),
            configuration_sha256: Sha256Digest::of(format!("{parameters:?}").as_bytes()),
        };
        let text = String::from_utf8_lossy(component).into_owned();
        let places = match text.split_once(' ').ok_or_else(no_policy)? {
            ("billing", cent) => {
                let policy = prices(cent);
                let pricing = Pricing::new(Arc::new(Named { identity, policy }), prices("0.01"));
                return Ok(LoadedPolicy::Billing(Box::new(pricing)));
            }
            ("admission", does) => {
                let policy = does.to_owned();
                let policy = Arc::new(Named { identity, policy });
                return Ok(LoadedPolicy::Admission(Admitter::new(policy)));
            }
            (_, "refuse") => Places::Nowhere,
            (_, "fail") => Places::Badly,
            (_, strategy) => Places::As(BuiltIn::new(strategy.parse().map_err(|_| no_policy())?)),
        };
        let policy = Arc::new(Named {
            identity,
            policy: places,
        });
        Ok(LoadedPolicy::Scheduler(Scheduler::new(
            policy,
            BuiltIn::default(),
        )))
    }

    fn keep(&self, component: &[u8]) -> PortResult<()> {
        let mut things = self.call("keep_policy")?;
        let module = Sha256Digest::of(component);
        things.components.insert(module, component.to_vec());
        Ok(())
    }

    fn kept(&self, module: Sha256Digest) -> PortResult<Vec<u8>> {
        let kept = self.things().components.get(&module).cloned();
        kept.ok_or_else(|| PortError::new(PortErrorKind::NotFound, "no such component"))
    }

    fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> PortResult<()> {
        let components = &mut self.things().components;
        components.retain(|module, _| modules.contains(module));
        Ok(())
    }
}
