//! Every question a policy can be asked, each through the type that also has the built-in answer.

use crate::components::{
    BillingExports, Host, admission, billing_with, hosts, parameters, request, scheduler,
};
use billing::{
    ChargeType, Commerce, Debt, MeteredInstance, Period, QuoteRequest, QuotedDisk, RenewalRequest,
    SpotLease, SpotStrategy, StandardTerms, StockNeed,
};
use instance::admission::{
    AdmitAll, Admitter, Answer, DiskRequest, Holdings, InstancesRequest, Offers,
};
use ledger::{Change, Ledger, PriceList, Prices, Rater, Usage};
use placement::{BuiltIn, Scheduler};
use plugin_host::{PluginStatus, PolicyFailure};
use std::sync::Arc;
use types::{
    ByteCount, Currency, Decimal, DecisionId, ImageId, InstanceId, Money, SubscriptionId, Timestamp,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Evaluate,
    Rate,
    Quote,
    Renewal,
    Arrears,
    Preempt,
    Meters,
    Admit,
}

pub const QUESTIONS: [Question; 8] = [
    Question::Evaluate,
    Question::Rate,
    Question::Quote,
    Question::Renewal,
    Question::Arrears,
    Question::Preempt,
    Question::Meters,
    Question::Admit,
];

/// A component, and the question it is asked again and again.
pub struct Asked {
    ask: Box<dyn Fn() -> (String, Option<PolicyFailure>)>,
    status: Box<dyn Fn() -> PluginStatus>,
    /// What the built-in policy answers, as text.
    pub built_in: String,
}

impl Asked {
    /// What is done, as text, and why it is the built-in answer if it is.
    pub fn ask(&self) -> (String, Option<PolicyFailure>) {
        (self.ask)()
    }

    pub fn status(&self) -> PluginStatus {
        (self.status)()
    }
}

/// A component that answers `question` with `body`, which leaves the address of its answer on the stack; `more` comes before it.
pub fn asked(host: &Host, question: Question, more: &str, body: &str) -> Asked {
    match question {
        Question::Evaluate => evaluate(host, &scheduler(more, body)),
        Question::Admit => admit(host, &admission(more, body)),
        Question::Rate => rate(host, &commercial(question, more, body)),
        _ => decide(host, question, &commercial(question, more, body)),
    }
}

fn commercial(question: Question, more: &str, body: &str) -> Vec<u8> {
    let of = |which: Question| {
        if which == question {
            body
        } else {
            "unreachable"
        }
    };
    billing_with(&BillingExports {
        more,
        rate: of(Question::Rate),
        quote: of(Question::Quote),
        renewal: of(Question::Renewal),
        arrears: of(Question::Arrears),
        preempt: of(Question::Preempt),
        meters: of(Question::Meters),
    })
}

fn evaluate(host: &Host, bytes: &[u8]) -> Asked {
    let policy = host
        .host
        .load_scheduler("bad", bytes, &parameters(&[]))
        .unwrap();
    let decide = |scheduler: &Scheduler| {
        let decision = scheduler
            .decide(
                DecisionId::generate(1),
                Timestamp::UNIX_EPOCH,
                &request(),
                &hosts(1),
            )
            .unwrap();
        let said = format!("{:?} {:?}", decision.host, decision.outcomes);
        (said, decision.fallback)
    };
    let scheduler = Scheduler::new(policy.clone(), BuiltIn::default());
    Asked {
        built_in: decide(&Scheduler::built_in(BuiltIn::default())).0,
        ask: Box::new(move || decide(&scheduler)),
        status: Box::new(move || policy.status()),
    }
}

fn rate(host: &Host, bytes: &[u8]) -> Asked {
    let policy = host
        .host
        .load_billing("bad", bytes, &parameters(&[]))
        .unwrap();
    let charge = |rater: &Rater| {
        let mut ledger = Ledger::default();
        let usage = Usage::InstanceRunning {
            instance: InstanceId::generate(1),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: ByteCount::from_gib(8),
        };
        let entries = ledger.prepare([Change::Open(usage)], Timestamp::UNIX_EPOCH);
        let entries = entries.unwrap();
        for entry in &entries {
            ledger.append(entry).unwrap();
        }
        let charges = ledger.rate(rater, now()).unwrap();
        (charges[0].money.to_string(), charges[0].fallback.clone())
    };
    let rater = Rater::new(policy.clone(), prices());
    Asked {
        built_in: charge(&Rater::built_in(prices())).0,
        ask: Box::new(move || charge(&rater)),
        status: Box::new(move || policy.status()),
    }
}

fn decide(host: &Host, question: Question, bytes: &[u8]) -> Asked {
    let policy = host
        .host
        .load_billing("bad", bytes, &parameters(&[]))
        .unwrap();
    let decide = move |commerce: &Commerce| match question {
        Question::Quote => {
            let decided = commerce.quote(&purchase());
            (format!("{:?}", decided.answer), decided.fallback)
        }
        Question::Renewal => {
            let decided = commerce.renewal(&term());
            (format!("{:?}", decided.answer), decided.fallback)
        }
        Question::Arrears => {
            let decided = commerce.arrears(&debt());
            (format!("{:?}", decided.answer), decided.fallback)
        }
        Question::Meters => {
            let decided = commerce.meters(&metered());
            (format!("{:?}", decided.answer), decided.fallback)
        }
        _ => {
            let need = StockNeed {
                vcpus: 2,
                memory: ByteCount::ZERO,
            };
            let decided = commerce.preempt(&leases(), need, now());
            (format!("{:?}", decided.answer), decided.fallback)
        }
    };
    let commerce = Commerce::new(policy.clone(), prices());
    let standard = Commerce::new(Arc::new(StandardTerms::new(prices())), prices());
    let built_in = match question {
        // What is metered stays as it is.
        Question::Meters => "None".to_owned(),
        _ => decide(&standard).0,
    };
    Asked {
        built_in,
        ask: Box::new(move || decide(&commerce)),
        status: Box::new(move || policy.status()),
    }
}

fn admit(host: &Host, bytes: &[u8]) -> Asked {
    let policy = host
        .host
        .load_admission("bad", bytes, &parameters(&[]))
        .unwrap();
    let decide = |admitter: &Admitter| {
        let decided = admitter.decide(&instances(), &Holdings::default(), &offers());
        (format!("{:?}", decided.answer), decided.fallback)
    };
    let admitter = Admitter::new(policy.clone());
    assert_eq!(
        Admitter::new(Arc::new(AdmitAll)).identity(),
        Admitter::built_in().identity()
    );
    Asked {
        built_in: format!("{:?}", Answer::Admit),
        ask: Box::new(move || decide(&admitter)),
        status: Box::new(move || policy.status()),
    }
}

pub fn prices() -> PriceList {
    PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: [].into(),
        vcpu: Decimal::new(1, 1),
        memory_gib: Decimal::new(5, 2),
        disk_categories: [].into(),
        disk_gib: Decimal::new(2, 3),
        meters: [].into(),
    })
    .unwrap()
}

/// An hour and two minutes after the beginning of time.
pub fn now() -> Timestamp {
    Timestamp::from_unix_millis(62 * 60_000).unwrap()
}

pub fn purchase() -> QuoteRequest {
    QuoteRequest {
        account: "team-a".parse().unwrap(),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        disks: vec![QuotedDisk {
            category: "cloud_essd".to_owned(),
            size: ByteCount::from_gib(40),
        }],
        charge: ChargeType::PayAsYouGo,
        count: 2,
        now: now(),
    }
}

pub fn term() -> RenewalRequest {
    RenewalRequest {
        account: "team-a".parse().unwrap(),
        subscription: SubscriptionId::generate(1),
        resource: "i-0123456789abcdefg".to_owned(),
        plan: "small".to_owned(),
        period: Period::months(1).unwrap(),
        price: Money::new(Decimal::ONE_HUNDRED, Currency::CNY),
        terms: 3,
        attempt: Some(1),
        expires: now(),
        now: Timestamp::UNIX_EPOCH,
    }
}

/// A debt that is an hour old, and was not paid when it was tried again.
pub fn debt() -> Debt {
    Debt {
        account: "team-a".parse().unwrap(),
        owed: Money::new(Decimal::ONE, Currency::CNY),
        since: Timestamp::UNIX_EPOCH,
        failed_payments: 1,
        stopped: None,
        now: now(),
    }
}

/// One that may be reclaimed, and one in its first hour; in the order of their ids.
pub fn leases() -> Vec<SpotLease> {
    let lease = |number: u128, started: Timestamp| SpotLease {
        instance: InstanceId::generate(number),
        started,
        entry_price: Money::new(Decimal::ONE, Currency::CNY),
        strategy: SpotStrategy::SpotAsPriceGo,
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        notice: None,
    };
    vec![lease(1, Timestamp::UNIX_EPOCH), lease(2, now())]
}

pub fn metered() -> MeteredInstance {
    MeteredInstance {
        instance: InstanceId::generate(1),
        account: "team-a".parse().unwrap(),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        image: ImageId::generate(1),
        tags: [("licence".to_owned(), "database".to_owned())].into(),
        subscribed: false,
    }
}

pub fn instances() -> InstancesRequest {
    InstancesRequest {
        account: "team-a".parse().unwrap(),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        disks: vec![DiskRequest {
            category: "cloud_ssd".to_owned(),
            size: ByteCount::from_gib(40),
        }],
        count: 1,
        image: ImageId::generate(1),
        name: None,
        tags: [("team".to_owned(), "a".to_owned())].into(),
        zone: None,
        spot: false,
        deletion_protection: true,
    }
}

pub fn offers() -> Offers {
    Offers {
        zones: vec!["zone-a".to_owned()],
        disk_categories: vec!["cloud_essd".to_owned()],
    }
}
