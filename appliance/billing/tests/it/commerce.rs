//! What a commercial policy may say, and what counts when it says something else.

use crate::common::{DAY, HOUR, account, at, cny, decimal, stored};
use billing::{
    Arrears, ArrearsAction, ArrearsStep, ChargeType, Commerce, CommercialPolicy, Debt, Due,
    MeteredInstance, Order, Period, Plan, PolicyMeter, PriceUnit, Quote, QuoteLine, QuoteRequest,
    QuotedDisk, Renewal, RenewalRequest, SpotLease, SpotNotice, SpotReason, SpotStrategy,
    StandardTerms, StockNeed, StockPlan, Subscription, SubscriptionError, check_order,
    reclaim_for_stock,
};
use ledger::{PriceList, Prices};
use proptest::{collection::vec, prelude::*};
use std::sync::Arc;
use types::{
    ByteCount, Currency, FailureKind, ImageId, InstanceId, Money, PolicyFailure, PolicyIdentity,
    SubscriptionId, Timestamp, UtcOffset,
};

fn prices() -> PriceList {
    PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: [("ecs.g6.large".to_owned(), decimal("0.72"))].into(),
        vcpu: decimal("0.1"),
        memory_gib: decimal("0.05"),
        disk_categories: [].into(),
        disk_gib: decimal("0.002"),
        meters: [].into(),
    })
    .unwrap()
}

fn request(charge: ChargeType) -> QuoteRequest {
    QuoteRequest {
        account: account("a"),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        disks: vec![QuotedDisk {
            category: "cloud_essd".to_owned(),
            size: ByteCount::from_gib(40),
        }],
        charge,
        count: 2,
        now: at(0),
    }
}

/// A policy that always says the same.
struct Says {
    quote: Quote,
    renewal: Renewal,
    step: ArrearsStep,
    order: Vec<InstanceId>,
}

impl Says {
    fn new() -> Self {
        Self {
            quote: Quote { lines: Vec::new() },
            renewal: Renewal::Refuse {
                message: "This plan ends.".to_owned(),
            },
            step: ArrearsStep::Wait,
            order: Vec::new(),
        }
    }

    fn asked(self) -> Commerce {
        Commerce::new(Arc::new(self), prices())
    }
}

impl CommercialPolicy for Says {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "says".to_owned(),
            ..StandardTerms::new(prices()).identity()
        }
    }

    fn quote(&self, _: Currency, _: &QuoteRequest) -> Result<Quote, PolicyFailure> {
        Ok(self.quote.clone())
    }

    fn renewal(&self, _: &RenewalRequest) -> Result<Renewal, PolicyFailure> {
        Ok(self.renewal.clone())
    }

    fn arrears(&self, _: &Debt) -> Result<ArrearsStep, PolicyFailure> {
        Ok(self.step)
    }

    fn preempt(
        &self,
        _: &[SpotLease],
        _: StockNeed,
        _: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure> {
        Ok(self.order.clone())
    }

    fn meters(&self, instance: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure> {
        // Its quantity is its virtual CPUs: of none there is nothing to meter.
        Ok(vec![PolicyMeter {
            name: "licence".to_owned(),
            quantity: instance.vcpus.into(),
            while_running: true,
        }])
    }
}

#[test]
fn meters_without_a_usable_answer_stay_as_they_are() {
    let of = |vcpus| MeteredInstance {
        instance: InstanceId::generate(1),
        account: "team-a".parse().unwrap(),
        instance_type: "custom".to_owned(),
        vcpus,
        memory: ByteCount::GIB,
        image: ImageId::generate(1),
        tags: [].into(),
        subscribed: false,
    };
    let says = Says::new().asked();
    let decided = says.meters(&of(2));
    assert_eq!(decided.answer.unwrap()[0].quantity, decimal("2"));
    assert_eq!(decided.fallback, None);
    let decided = says.meters(&of(0));
    assert_eq!(decided.answer, None);
    assert!(
        decided
            .fallback
            .unwrap()
            .message
            .contains("a quantity of 0")
    );
    let built_in = Commerce::built_in(prices()).meters(&of(2));
    assert_eq!(
        (built_in.answer, built_in.fallback),
        (Some(Vec::new()), None)
    );
}

#[test]
fn the_standard_terms_quote_the_price_list() {
    let subscription = |period: Period| ChargeType::Subscription { period };
    let spot = |market: Option<&str>| ChargeType::Preemptible {
        limit: None,
        market: market.map(decimal),
    };
    let commerce = Commerce::built_in(prices());
    for (charge, instances, disks, total) in [
        (ChargeType::PayAsYouGo, "1.440000", "0.160000", "1.600000"),
        (spot(None), "1.440000", "0.160000", "1.600000"),
        (spot(Some("0.1")), "0.200000", "0.160000", "0.360000"),
        (
            subscription(Period::weeks(1).unwrap()),
            "241.92",
            "26.88",
            "268.80",
        ),
        (
            subscription(Period::months(3).unwrap()),
            "3110.40",
            "345.60",
            "3456.00",
        ),
    ] {
        let decided = commerce.quote(&stored(&request(charge)));
        assert_eq!(decided.fallback, None);
        assert_eq!(decided.policy.name, "standard-terms");
        let quote = stored(&decided.answer);
        assert_eq!(quote.total().unwrap(), cny(total));
        let lines: Vec<(&str, String)> = quote
            .lines
            .iter()
            .map(|line| (line.item.as_str(), line.price.amount.to_string()))
            .collect();
        let expected = [
            ("2 × ecs.g6.large", instances.to_owned()),
            ("2 × cloud_essd of 40 GiB", disks.to_owned()),
        ];
        assert_eq!(lines, expected);
        let per = quote.lines.iter().all(|line| line.per == charge.per());
        assert!(per, "{quote:?}");
    }
}

#[test]
fn a_quote_that_cannot_be_is_replaced_by_the_price_list() {
    let line = QuoteLine {
        item: "everything".to_owned(),
        price: cny("1"),
        per: PriceUnit::Hour,
        discount: Some("first customer".to_owned()),
    };
    let asked = request(ChargeType::PayAsYouGo);
    let quoted = |lines: Vec<QuoteLine>| {
        let says = Says {
            quote: Quote { lines },
            ..Says::new()
        };
        says.asked().quote(&asked)
    };
    let good = quoted(vec![line.clone()]);
    assert_eq!(good.fallback, None);
    assert_eq!(good.answer.total().unwrap(), cny("1.000000"));
    let with = |change: fn(&mut QuoteLine)| {
        let mut line = line.clone();
        change(&mut line);
        vec![line]
    };
    for (lines, said) in [
        (vec![], "0 lines"),
        (vec![line.clone(); 65], "65 lines; it must have 1 to 64"),
        (with(|line| line.price = cny("-0.01")), "is negative"),
        (
            with(|line| line.price = cny("1000000000000001")),
            "is believed",
        ),
        (
            with(|line| line.price.currency = Currency::USD),
            "is in USD; prices here are in CNY",
        ),
        (with(|line| line.per = PriceUnit::Term), "wrong time"),
        (with(|line| line.item.clear()), "item of line 1 has 0"),
        (
            with(|line| line.item = "x".repeat(129)),
            "item of line 1 has 129",
        ),
        (
            with(|line| line.discount = Some("a\nb".to_owned())),
            "discount of line 1 has control",
        ),
    ] {
        let decided = quoted(lines);
        let failure = decided.fallback.unwrap();
        assert_eq!(failure.kind, FailureKind::InvalidAnswer);
        assert!(failure.message.contains(said), "{failure}");
        assert_eq!(decided.policy.name, "standard-terms");
        assert_eq!(decided.answer.total().unwrap(), cny("1.600000"));
    }
}

fn subscription() -> Subscription {
    let order = Order {
        id: SubscriptionId::generate(1),
        account: account("a"),
        resource: "i-0123456789abcdefg".to_owned(),
        plan: Plan::new("small", Currency::CNY, ["25", "100", "1000"].map(decimal)).unwrap(),
        period: Period::months(1).unwrap(),
        zone: "+08:00".parse::<UtcOffset>().unwrap(),
        auto_renew: None,
    };
    Subscription::buy(order, at(0)).unwrap().0
}

#[test]
fn a_renewal_costs_what_the_policy_says_if_that_is_a_price() {
    let bought = subscription();
    let month = Period::months(1).unwrap();
    let asked = bought.renewal(month, Some(2), at(20 * DAY)).unwrap();
    assert_eq!((asked.price, asked.terms), (cny("100.00"), 1));
    let renewed = |price: Money, discount: Option<&str>| {
        let says = Says {
            renewal: Renewal::Renew {
                price,
                discount: discount.map(str::to_owned),
            },
            ..Says::new()
        };
        says.asked().renewal(&asked)
    };
    let cheaper = renewed(cny("79.996"), Some("stays with us"));
    assert_eq!(cheaper.fallback, None);
    let Renewal::Renew { price, .. } = cheaper.answer else {
        panic!("{cheaper:?}");
    };
    let (after, purchase) = bought.renew_for(month, Some(price), at(20 * DAY)).unwrap();
    assert_eq!(purchase.money, cny("80.00"));
    assert_eq!(after.paid().unwrap(), cny("180.00"));
    assert_eq!(after.plan(), bought.plan());
    let refused = Says::new().asked().renewal(&asked);
    assert_eq!(refused.fallback, None);
    assert!(matches!(refused.answer, Renewal::Refuse { .. }));

    let (usd, long) = (Money::new(decimal("1"), Currency::USD), "x".repeat(129));
    for (price, discount, said) in [
        (cny("-1"), None, "is negative"),
        (usd, None, "is in USD"),
        (cny("1"), Some(long.as_str()), "129 characters"),
    ] {
        let decided = renewed(price, discount);
        let failure = decided.fallback.unwrap();
        assert!(failure.message.contains(said), "{failure}");
        let listed = Renewal::Renew {
            price: cny("100.00"),
            discount: None,
        };
        assert_eq!(decided.answer, listed);
    }
    for (price, refused) in [(cny("-1"), true), (usd, true), (cny("0"), false)] {
        let renewal = bought.renew_for(month, Some(price), at(DAY));
        assert_eq!(renewal.is_err(), refused);
    }
    assert!(matches!(
        bought.renew_for(month, Some(usd), at(DAY)),
        Err(SubscriptionError::Currency(_))
    ));
}

fn debt(days: i64, failed_payments: u32, stopped: Option<i64>) -> Debt {
    Debt {
        account: account("a"),
        owed: cny("3"),
        since: at(0),
        failed_payments,
        stopped: stopped.map(|days| at(days * DAY)),
        now: at(days * DAY),
    }
}

#[test]
fn a_policy_may_be_milder_than_the_rules_and_never_harsher() {
    use ArrearsStep::{Release, Retry, Stop, Wait};
    for (days, failed, stopped, due) in [
        (0, 0, None, Retry),
        (0, 1, None, Wait),
        (6, 1, None, Wait),
        (7, 1, None, Retry),
        (14, 2, None, Retry),
        (14, 3, None, Wait),
        (15, 3, None, Stop),
        // Nobody was there to try again.
        (40, 0, None, Retry),
        (40, 3, None, Stop),
        (29, 3, Some(15), Wait),
        (30, 3, Some(15), Release),
        // It was stopped late.
        (40, 3, Some(28), Wait),
        (43, 3, Some(28), Release),
    ] {
        let asked = stored(&debt(days, failed, stopped));
        assert_eq!(asked.due(), due, "{asked:?}");
        for step in [Wait, Retry, Stop, Release] {
            let says = Says {
                step,
                ..Says::new()
            };
            let decided = says.asked().arrears(&asked);
            if step <= due {
                assert_eq!((decided.answer, decided.fallback), (step, None));
                continue;
            }
            assert_eq!(decided.answer, due);
            let failure = decided.fallback.unwrap();
            let said = format!("`{step}` is harsher than what is due after {days} days");
            assert!(failure.message.contains(&said), "{failure}");
        }
    }
    let mut paid = debt(40, 3, Some(15));
    paid.owed = cny("0");
    assert_eq!(paid.due(), Wait);
}

proptest! {
    /// Whoever does what is due as soon as it is, or much later, does what the schedule of arrears has, in its order.
    #[test]
    fn what_is_due_of_a_debt_is_what_is_due_of_its_arrears(looks in vec(0_i64..60 * 24, 1..40)) {
        let mut looks = looks;
        looks.sort_unstable();
        let mut arrears = Arrears::new(account("a"), cny("3"), at(0));
        let mut stopped = None;
        for look in looks {
            let now = at(look * HOUR);
            loop {
                let step = arrears.debt(stopped, now).due();
                let next = arrears.due(now).first().copied();
                let scheduled = next.map_or(ArrearsStep::Wait, |due| match due.action {
                    ArrearsAction::Retry { .. } => ArrearsStep::Retry,
                    ArrearsAction::Stop => ArrearsStep::Stop,
                    ArrearsAction::Release => ArrearsStep::Release,
                });
                // A release counts from when it was really stopped, which may be later than the schedule has it.
                prop_assert!(step == scheduled || (step, scheduled) == (ArrearsStep::Wait, ArrearsStep::Release));
                let Some(due) = next.filter(|_| step == scheduled) else {
                    break;
                };
                let Due { action, .. } = due;
                arrears.done(&due).unwrap();
                match action {
                    ArrearsAction::Stop => stopped = Some(now),
                    ArrearsAction::Release => return Ok(()),
                    ArrearsAction::Retry { .. } => {}
                }
            }
        }
    }
}

fn lease(number: u128, started: i64, limit: Option<&str>) -> SpotLease {
    SpotLease {
        instance: InstanceId::generate(number),
        started: at(started),
        entry_price: cny("0.40"),
        strategy: limit.map_or(SpotStrategy::SpotAsPriceGo, |limit| {
            SpotStrategy::SpotWithPriceLimit {
                limit: decimal(limit),
            }
        }),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        notice: None,
    }
}

#[test]
fn a_policy_orders_who_is_reclaimed_among_those_that_may_be() {
    let now = at(2 * HOUR);
    let mut noticed = lease(4, 0, None);
    noticed.notice = Some(SpotNotice {
        given: now,
        reclaim_at: now,
        reason: SpotReason::StockNeeded,
    });
    let mut fixed = lease(5, 0, None);
    fixed.strategy = SpotStrategy::NoSpot;
    let leases = [
        lease(1, 0, Some("0.5")),
        lease(2, 0, Some("0.2")),
        lease(3, HOUR + 1, Some("0.1")),
        noticed,
        fixed,
    ];
    let id = InstanceId::generate;
    let need = |vcpus| StockNeed {
        vcpus,
        memory: ByteCount::ZERO,
    };
    let preempt = |order: &[u128], vcpus| {
        let says = Says {
            order: order.iter().map(|number| id(*number)).collect(),
            ..Says::new()
        };
        says.asked().preempt(&leases, need(vcpus), now)
    };
    let reclaim = |numbers: &[u128]| StockPlan::Reclaim {
        instances: numbers.iter().map(|number| id(*number)).collect(),
    };
    // Two of what is needed are under way.
    for (order, vcpus, plan) in [
        (&[1, 2][..], 4, reclaim(&[1])),
        (&[2, 1], 4, reclaim(&[2])),
        (&[1, 2], 6, reclaim(&[1, 2])),
        (&[], 2, StockPlan::UnderWay),
    ] {
        let decided = preempt(order, vcpus);
        assert_eq!((decided.answer, decided.fallback), (plan, None));
    }
    // A policy that spares everybody is not overruled.
    let spared = preempt(&[], 4);
    assert_eq!(spared.fallback, None);
    assert!(matches!(spared.answer, StockPlan::TooLittle { .. }));

    for (order, said) in [
        (&[3][..], "which is protected until"),
        (&[1, 4], "which was given notice already"),
        (&[5], "which is not preemptible"),
        (&[9], "which is not among those asked about"),
        (&[1, 1], "twice"),
    ] {
        let decided = preempt(order, 4);
        let failure = decided.fallback.unwrap();
        assert!(failure.message.contains(said), "{failure}");
        assert_eq!(decided.answer, reclaim(&[2]));
        assert_eq!(decided.answer, reclaim_for_stock(&leases, need(4), now));
    }
    assert_eq!(check_order(&leases, now, &[id(2), id(1)]), Ok(()));
}
