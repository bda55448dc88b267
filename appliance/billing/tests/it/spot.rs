use crate::common::{HOUR, MINUTE, at, cny, decimal, stored};
use billing::{
    PriceHistory, SpotLease, SpotReason, SpotStrategy, SpotVerdict, StockNeed, StockPlan,
    reclaim_for_stock, reclaim_order,
};
use proptest::{collection::vec, prelude::*};
use types::{ByteCount, Currency, Decimal, InstanceId};

fn limit(price: &str) -> SpotStrategy {
    SpotStrategy::SpotWithPriceLimit {
        limit: decimal(price),
    }
}

fn lease(number: u128, started: i64, strategy: SpotStrategy) -> SpotLease {
    SpotLease {
        instance: InstanceId::generate(number),
        started: at(started),
        entry_price: cny("0.40"),
        strategy,
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        notice: None,
    }
}

fn prices(steps: &[(i64, &str)]) -> PriceHistory {
    let steps = steps
        .iter()
        .map(|(from, price)| (at(*from), decimal(price)));
    PriceHistory::new(Currency::CNY, steps.collect()).unwrap()
}

#[test]
fn the_first_hour_is_safe_and_then_the_price_decides() {
    // Above the limit from 30 min to 50 min (protected), and from 2 h to 2 h 1 min.
    let prices = prices(&[
        (0, "0.40"),
        (30 * MINUTE, "0.90"),
        (50 * MINUTE, "0.30"),
        (2 * HOUR, "0.51"),
        (2 * HOUR + MINUTE, "0.30"),
    ]);
    let mut it = lease(1, 0, limit("0.50"));
    let verdict = |it: &SpotLease, now: i64| it.verdict(&prices, at(now)).unwrap();
    let protected = SpotVerdict::Protected { until: at(HOUR) };
    let keep = SpotVerdict::Keep {
        price: decimal("0.30"),
    };
    assert_eq!(verdict(&it, 40 * MINUTE), protected);
    assert_eq!(verdict(&it, HOUR - 1), protected);
    assert_eq!(verdict(&it, HOUR), keep);
    assert_eq!(verdict(&it, 2 * HOUR - 1), keep);
    let reason = SpotReason::PriceAboveLimit {
        since: at(2 * HOUR),
        price: decimal("0.51"),
        limit: decimal("0.50"),
    };
    // Also for who looks only after it fell again.
    for now in [2 * HOUR, 2 * HOUR + MINUTE, 9 * HOUR] {
        assert_eq!(verdict(&it, now), SpotVerdict::Notify { reason });
    }
    let notice = it.give_notice(reason, at(2 * HOUR + 1)).unwrap();
    assert_eq!(notice.reclaim_at, at(2 * HOUR + 1 + 5 * MINUTE));
    assert_eq!(it.give_notice(reason, at(3 * HOUR)), None);
    assert_eq!(it.wake(at(2 * HOUR + 1)), Some(notice.reclaim_at));
    let it = stored(&it);
    assert_eq!(
        verdict(&it, 2 * HOUR + 5 * MINUTE),
        SpotVerdict::Noticed(notice)
    );
    assert_eq!(
        verdict(&it, 2 * HOUR + 1 + 5 * MINUTE),
        SpotVerdict::Reclaim(notice)
    );
}

#[test]
fn who_pays_any_price_is_not_reclaimed_for_it() {
    let prices = prices(&[(0, "999999")]);
    let any = lease(1, 0, SpotStrategy::SpotAsPriceGo);
    let keep = SpotVerdict::Keep {
        price: decimal("999999"),
    };
    assert_eq!(any.verdict(&prices, at(5 * HOUR)).unwrap(), keep);
    let mut not = lease(2, 0, SpotStrategy::NoSpot);
    let verdict = not.verdict(&prices, at(5 * HOUR)).unwrap();
    assert_eq!(verdict, SpotVerdict::NotPreemptible);
    assert_eq!(not.give_notice(SpotReason::StockNeeded, at(5 * HOUR)), None);
    assert_eq!(not.wake(at(0)), None);
    let euros = PriceHistory::new(Currency::EUR, vec![]).unwrap();
    assert!(any.verdict(&euros, at(0)).is_err());
    assert!(any.priced(&euros, at(0), at(1)).is_err());
}

#[test]
fn a_price_that_does_not_change_is_one_span() {
    let prices = prices(&[(3 * HOUR, "0.30")]);
    let it = lease(1, 0, SpotStrategy::SpotAsPriceGo);
    let spans = it.priced(&prices, at(2 * HOUR), at(5 * HOUR)).unwrap();
    assert_eq!((spans.len(), spans[0].price), (1, decimal("0.30")));
    let spans = it.priced(&prices, at(-HOUR), at(5 * HOUR)).unwrap();
    assert_eq!(
        (spans.len(), spans[0].from, spans[0].to),
        (2, at(0), at(HOUR))
    );
}

#[test]
fn a_strategy_has_its_ecs_name() {
    for (strategy, name) in [
        (SpotStrategy::NoSpot, "NoSpot"),
        (limit("0.5"), "SpotWithPriceLimit"),
        (SpotStrategy::SpotAsPriceGo, "SpotAsPriceGo"),
    ] {
        let json = serde_json::to_value(lease(1, 0, strategy)).unwrap();
        assert_eq!(json["strategy"], name);
        assert_eq!(stored(&lease(1, 0, strategy)), lease(1, 0, strategy));
    }
}

#[test]
fn lowest_bid_goes_first_then_the_newest() {
    let leases = [
        lease(1, 0, SpotStrategy::SpotAsPriceGo),
        lease(2, 0, limit("0.6")),
        lease(3, 1, limit("0.6")),
        lease(4, 0, limit("0.50")),
        lease(5, 4 * HOUR + 1, limit("0.1")),
        lease(6, 0, SpotStrategy::NoSpot),
    ];
    let now = at(5 * HOUR);
    let order = |leases: &[SpotLease]| -> Vec<InstanceId> {
        let order = reclaim_order(leases, now);
        order.iter().map(|lease| lease.instance).collect()
    };
    let ids = |numbers: &[u128]| -> Vec<InstanceId> {
        numbers.iter().copied().map(InstanceId::generate).collect()
    };
    assert_eq!(order(&leases), ids(&[4, 3, 2, 1]));

    let need = |vcpus, gib| StockNeed {
        vcpus,
        memory: ByteCount::from_gib(gib),
    };
    let plan = |leases: &[SpotLease], need| reclaim_for_stock(leases, need, now);
    let reclaim = |numbers: &[u128]| StockPlan::Reclaim {
        instances: ids(numbers),
    };
    assert_eq!(plan(&leases, need(0, 0)), StockPlan::UnderWay);
    assert_eq!(plan(&leases, need(1, 1)), reclaim(&[4]));
    assert_eq!(plan(&leases, need(3, 1)), reclaim(&[4, 3]));
    assert_eq!(plan(&leases, need(1, 24)), reclaim(&[4, 3, 2]));
    let too_little = StockPlan::TooLittle {
        missing: need(1, 0),
        ask_again: Some(at(5 * HOUR + 1)),
    };
    assert_eq!(plan(&leases, need(9, 1)), too_little);
    // What is under notice counts.
    let mut leases = leases;
    leases[3].give_notice(SpotReason::StockNeeded, now).unwrap();
    assert_eq!(plan(&leases, need(2, 8)), StockPlan::UnderWay);
    assert_eq!(plan(&leases, need(3, 8)), reclaim(&[3]));
}

#[test]
fn prices_that_are_no_history_are_refused() {
    for steps in [
        vec![(at(0), decimal("-1"))],
        vec![(at(0), decimal("1000001"))],
        vec![(at(1), decimal("1")), (at(1), decimal("2"))],
        vec![(at(1), decimal("1")), (at(0), decimal("2"))],
    ] {
        assert!(PriceHistory::new(Currency::CNY, steps).is_err());
    }
    let history = prices(&[(5, "1"), (7, "2")]);
    for (when, price) in [(0, "1"), (5, "1"), (6, "1"), (7, "2"), (9, "2")] {
        assert_eq!(history.at(at(when)), decimal(price));
    }
    assert_eq!(stored(&history), history);
}

/// Price changes every so many minutes, in cents.
fn changes() -> impl Strategy<Value = Vec<(i64, i64)>> {
    vec((1..90_i64, 0..100_i64), 1..12).prop_map(|gaps| {
        let mut from = -30 * MINUTE;
        gaps.into_iter()
            .map(|(gap, cents)| {
                from += gap * MINUTE;
                (from, cents)
            })
            .collect()
    })
}

fn history(changes: &[(i64, i64)]) -> PriceHistory {
    let steps = changes
        .iter()
        .map(|(from, cents)| (at(*from), Decimal::new(*cents, 2)));
    PriceHistory::new(Currency::CNY, steps.collect()).unwrap()
}

/// The price at a minute, found the slow way.
fn slow_price(changes: &[(i64, i64)], now: i64) -> i64 {
    let mut price = changes[0].1;
    for (from, cents) in changes {
        if *from <= now {
            price = *cents;
        }
    }
    price
}

proptest! {
    #[test]
    fn the_reason_does_not_depend_on_when_anybody_looks(changes in changes(), limit_cents in 0..100_i64, now in 0..20 * 60_i64) {
        let history = history(&changes);
        let it = lease(1, 0, SpotStrategy::SpotWithPriceLimit { limit: Decimal::new(limit_cents, 2) });
        // Minute by minute, as all changes are at whole minutes.
        let first = (60..=now).find(|minute| slow_price(&changes, minute * MINUTE) > limit_cents);
        let verdict = it.verdict(&history, at(now * MINUTE)).unwrap();
        match (now < 60, first) {
            (true, _) => prop_assert_eq!(verdict, SpotVerdict::Protected { until: at(HOUR) }),
            (_, None) => prop_assert_eq!(verdict, SpotVerdict::Keep { price: history.at(at(now * MINUTE)) }),
            (_, Some(minute)) => prop_assert_eq!(verdict, SpotVerdict::Notify { reason: SpotReason::PriceAboveLimit {
                since: at(minute * MINUTE),
                price: Decimal::new(slow_price(&changes, minute * MINUTE), 2),
                limit: Decimal::new(limit_cents, 2),
            } }),
        }
    }

    #[test]
    fn nobody_is_reclaimed_in_the_first_hour_or_without_notice(
        changes in changes(), mut looks in vec(0..20 * 60_i64, 1..40),
    ) {
        let history = history(&changes);
        let mut it = lease(1, 0, limit("0.50"));
        looks.sort_unstable();
        let mut told = None;
        for look in looks {
            it = stored(&it);
            let now = at(look * MINUTE);
            match it.verdict(&history, now).unwrap() {
                SpotVerdict::Notify { reason } => {
                    prop_assert!(told.is_none() && look >= 60);
                    told = Some(look);
                    it.give_notice(reason, now).unwrap();
                }
                SpotVerdict::Reclaim(_) => prop_assert!(told.is_some_and(|told| look >= told + 5)),
                SpotVerdict::Noticed(_) => prop_assert!(told.is_some_and(|told| look < told + 5)),
                SpotVerdict::Protected { .. } => prop_assert!(look < 60),
                SpotVerdict::Keep { price } => prop_assert!(told.is_none() && price <= decimal("0.50")),
                SpotVerdict::NotPreemptible => prop_assert!(false),
            }
        }
    }

    #[test]
    fn spans_add_up_whatever_they_are_cut_into(changes in changes(), mut cuts in vec(-60..20 * 60_i64, 2..10)) {
        let history = history(&changes);
        let it = lease(1, 0, SpotStrategy::SpotAsPriceGo);
        cuts.sort_unstable();
        let (first, last) = (cuts[0], cuts[cuts.len() - 1]);
        let cost = |from: i64, to: i64| -> Decimal {
            let spans = it.priced(&history, at(from * MINUTE), at(to * MINUTE)).unwrap();
            assert!(spans.is_sorted_by(|a, b| a.to == b.from));
            spans.iter().map(|span| span.price * Decimal::from(span.to.unix_millis() - span.from.unix_millis())).sum()
        };
        let parts: Decimal = cuts.windows(2).map(|cut| cost(cut[0], cut[1])).sum();
        prop_assert_eq!(parts, cost(first, last));
        // Minute by minute: 40 cents in the first hour, the market's price afterwards.
        let cents: i64 = (first.max(0)..last).map(|minute| match minute {
            0..60 => 40,
            _ => slow_price(&changes, minute * MINUTE),
        }).sum();
        prop_assert_eq!(parts, Decimal::new(cents * MINUTE, 2));
        let spans = it.priced(&history, at(0), at(MINUTE)).unwrap();
        prop_assert_eq!(spans[0].cost(), Decimal::new(40, 2) / Decimal::from(60));
    }
}
