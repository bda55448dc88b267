use crate::common::{DAY, HOUR, account, at, cny, decimal, looks, stored, time};
use billing::{
    Due, Order, Period, Plan, Purchase, PurchaseKind, Stage, Subscription,
    SubscriptionAction as Action, SubscriptionError,
};
use proptest::{collection::vec, prelude::*};
use types::{Currency, Decimal, Money, SubscriptionId, Timestamp, UtcOffset};

fn plan(name: &str, month: &str) -> Plan {
    let month = decimal(month);
    let week = month / Decimal::from(4);
    Plan::new(name, Currency::CNY, [week, month, month * Decimal::TEN]).unwrap()
}

fn order(period: Period, zone: &str, auto_renew: Option<Period>) -> Order {
    Order {
        id: SubscriptionId::generate(1),
        account: account("a"),
        resource: "i-0123456789abcdefg".to_owned(),
        plan: plan("small", "100"),
        period,
        zone: zone.parse().unwrap(),
        auto_renew,
    }
}

fn month() -> Period {
    Period::months(1).unwrap()
}

fn bought(period: Period, zone: &str, now: Timestamp) -> Subscription {
    Subscription::buy(order(period, zone, None), now).unwrap().0
}

#[test]
fn a_term_ends_at_the_start_of_the_day_after_its_last() {
    let months = |count| Period::months(count).unwrap();
    for (bought_at, period, zone, expires) in [
        (
            "2026-01-15T10:30:00Z",
            months(1),
            "+00:00",
            "2026-02-16T00:00:00Z",
        ),
        (
            "2026-01-31T10:30:00Z",
            months(1),
            "+00:00",
            "2026-03-01T00:00:00Z",
        ),
        (
            "2028-01-31T00:00:00Z",
            months(1),
            "+00:00",
            "2028-03-01T00:00:00Z",
        ),
        (
            "2026-01-31T23:59:59.999Z",
            months(13),
            "+00:00",
            "2027-03-01T00:00:00Z",
        ),
        (
            "2026-12-15T00:00:00Z",
            months(1),
            "+00:00",
            "2027-01-16T00:00:00Z",
        ),
        // 23:30 UTC is the first of February in Shanghai, the 31st of January in Newfoundland.
        (
            "2026-01-31T23:30:00Z",
            months(1),
            "+08:00",
            "2026-03-01T16:00:00Z",
        ),
        (
            "2026-01-31T23:30:00Z",
            months(1),
            "-03:30",
            "2026-03-01T03:30:00Z",
        ),
        (
            "2028-02-29T12:00:00Z",
            Period::years(1).unwrap(),
            "+00:00",
            "2029-03-01T00:00:00Z",
        ),
        (
            "2026-01-01T12:00:00Z",
            Period::weeks(2).unwrap(),
            "+00:00",
            "2026-01-16T00:00:00Z",
        ),
    ] {
        let it = bought(period, zone, time(bought_at));
        assert_eq!(it.expires(), time(expires), "{bought_at} {period} {zone}");
    }
}

#[test]
fn renewals_keep_to_the_day_of_the_purchase() {
    let mut it = bought(month(), "+00:00", time("2026-01-31T10:30:00Z"));
    let now = time("2026-02-02T00:00:00Z");
    for (period, expires) in [
        (month(), "2026-04-01T00:00:00Z"),
        (month(), "2026-05-01T00:00:00Z"),
        (month(), "2026-06-01T00:00:00Z"),
        (Period::weeks(1).unwrap(), "2026-06-08T00:00:00Z"),
        // From now on to the 7th.
        (month(), "2026-07-08T00:00:00Z"),
        (Period::years(2).unwrap(), "2028-07-08T00:00:00Z"),
    ] {
        let (next, purchase) = it.renew(period, now).unwrap();
        assert_eq!(next.expires(), time(expires));
        assert_eq!((purchase.from, purchase.to), (it.expires(), next.expires()));
        assert_eq!((purchase.kind, purchase.at), (PurchaseKind::Renewal, now));
        it = next;
    }
}

#[test]
fn a_term_that_is_not_sold_is_refused() {
    assert!(Period::weeks(0).is_err() && Period::weeks(5).is_err());
    assert!(Period::months(0).is_err() && Period::months(61).is_err());
    let error = Period::years(6).unwrap_err().to_string();
    assert!(error.contains("6 years is not sold"), "{error}");
    let json = serde_json::to_string(&month()).unwrap();
    assert_eq!(json, r#"{"unit":"months","count":1}"#);
    assert!(serde_json::from_str::<Period>(r#"{"unit":"weeks","count":9}"#).is_err());
    let negative = Plan::new(
        "x",
        Currency::CNY,
        [Decimal::ONE, -Decimal::ONE, Decimal::ONE],
    );
    assert!(
        negative
            .unwrap_err()
            .to_string()
            .contains("`x` has the price -1")
    );
    let last = time("9999-12-20T00:00:00Z");
    let error = Subscription::buy(order(month(), "+00:00", None), last).unwrap_err();
    assert_eq!(
        error,
        SubscriptionError::OutOfRange(SubscriptionId::generate(1))
    );
}

/// Does what is due, in vain.
fn work(it: &mut Subscription, now: Timestamp) -> Vec<Due<Action>> {
    let due = it.due(now);
    for action in &due {
        it.done(action).unwrap();
        it.done(action).unwrap();
    }
    due
}

/// What happens to a term up to `expires` that nobody pays for again.
fn unpaid(expires: Timestamp) -> Vec<Due<Action>> {
    let day = |days: i64| Timestamp::from_unix_millis(expires.unix_millis() + days * DAY).unwrap();
    let renew = |attempt: u8| Due {
        at: day(i64::from(attempt) - 10),
        action: Action::AutoRenew {
            attempt,
            period: month(),
        },
    };
    let rest = [(0, Action::Stop), (15, Action::Release)];
    let rest = rest.map(|(days, action)| Due {
        at: day(days),
        action,
    });
    (1..=9).map(renew).chain(rest).collect()
}

#[test]
fn renewal_is_tried_daily_for_nine_days_and_then_the_end_comes() {
    let order = order(month(), "+08:00", Some(month()));
    let (mut it, purchase) = Subscription::buy(order, at(0)).unwrap();
    assert_eq!(
        (purchase.kind, purchase.money),
        (PurchaseKind::New, cny("100.00"))
    );
    let sequence = unpaid(it.expires());
    assert_eq!(it.wake(), Some(sequence[0].at));
    assert_eq!(it.clone().due(sequence[4].at), sequence[..5]);
    assert_eq!(work(&mut it, at(400 * DAY)), sequence);
    assert_eq!((it.stage(), it.wake()), (Stage::Released, None));
    let gone = SubscriptionError::Gone(it.id());
    assert_eq!(it.renew(month(), at(33 * DAY)).unwrap_err(), gone);
}

#[test]
fn without_auto_renewal_or_before_it_was_asked_for_nothing_is_tried() {
    let mut it = bought(month(), "+00:00", at(0));
    let sequence = unpaid(it.expires());
    assert_eq!(it.due(at(400 * DAY)), sequence[9..]);
    // Switched on at noon two days before the end: one try is left.
    let noon = at(30 * DAY + 12 * HOUR);
    it.set_auto_renew(Some(month()), noon);
    assert_eq!(it.due(at(400 * DAY)), sequence[8..]);
    it.set_auto_renew(None, noon);
    assert_eq!(it.due(at(400 * DAY)), sequence[9..]);
    // A term of a week is not renewed before it begins.
    let week = Period::weeks(1).unwrap();
    let (it, _) = Subscription::buy(order(week, "+00:00", Some(week)), at(0)).unwrap();
    let due = it.due(at(3 * DAY));
    assert_eq!(due[0].at, at(DAY));
    let (next, _) = it.auto_renew(&due[0], at(DAY)).unwrap();
    assert_eq!(next.wake(), Some(at(9 * DAY)));
}

#[test]
fn a_renewal_that_is_due_is_paid_once() {
    let (it, _) = Subscription::buy(order(month(), "+00:00", Some(month())), at(0)).unwrap();
    let due = it.due(at(400 * DAY));
    let late = at(300 * DAY);
    assert!(
        it.auto_renew(&due[1], late).is_err(),
        "the first comes first"
    );
    assert!(it.auto_renew(&due[9], late).is_err(), "that is the stop");
    let (next, purchase) = it.auto_renew(&due[0], late).unwrap();
    // As if it had been done in time, but paid when it was.
    assert_eq!(next.expires(), time("2026-03-02T00:00:00Z"));
    assert_eq!(
        (purchase.kind, purchase.at),
        (PurchaseKind::AutoRenewal, late)
    );
    assert!(next.auto_renew(&due[0], late).is_err(), "that was done");
    assert_eq!(next.due(at(400 * DAY)), unpaid(next.expires()));
}

#[test]
fn after_the_expiry_a_term_begins_when_it_is_bought() {
    let mut it = bought(month(), "+00:00", time("2026-01-31T10:00:00Z"));
    for due in it.due(it.expires()) {
        it.done(&due).unwrap();
    }
    assert_eq!(it.stage(), Stage::Stopped);
    let now = time("2026-03-10T08:09:35Z");
    assert!(matches!(
        it.change_plan(plan("large", "200"), now),
        Err(SubscriptionError::Expired(_))
    ));
    let (next, purchase) = it.renew(month(), now).unwrap();
    assert_eq!((next.stage(), purchase.from), (Stage::Active, now));
    assert_eq!(next.expires(), time("2026-04-11T00:00:00Z"));
    // The same if nobody noted the stop.
    let forgotten = bought(month(), "+00:00", time("2026-01-31T10:00:00Z"));
    let (same, _) = forgotten.renew(month(), now).unwrap();
    assert_eq!(same.terms(), next.terms());
    // The last moment, and the first that is too late.
    let kept = time("2026-03-16T00:00:00Z");
    let before = Timestamp::from_unix_millis(kept.unix_millis() - 1).unwrap();
    assert!(it.renew(month(), before).is_ok());
    assert_eq!(
        it.renew(month(), kept).unwrap_err(),
        SubscriptionError::Gone(it.id())
    );
}

#[test]
fn an_upgrade_costs_the_rest_and_a_downgrade_pays_it_back() {
    // 32 days: from the start of January 1st to that of February 2nd.
    let it = bought(month(), "+00:00", at(0));
    let (it, _) = it.renew(month(), at(0)).unwrap();
    // A quarter of the first term is over: the upgrade costs three quarters of it and all of the second.
    let (up, purchase) = it.change_plan(plan("large", "300"), at(8 * DAY)).unwrap();
    assert_eq!(
        (purchase.kind, purchase.money),
        (PurchaseKind::Upgrade, cny("350.00"))
    );
    assert_eq!(up.paid().unwrap(), cny("550.00"));
    // Half of it is over. Back pays (300 − 100) × (½ + 1).
    let (down, purchase) = up.change_plan(plan("small", "100"), at(16 * DAY)).unwrap();
    assert_eq!(
        (purchase.kind, purchase.money),
        (PurchaseKind::Downgrade, cny("-300.00"))
    );
    let pieces = down.terms().iter().map(|term| term.pieces.len());
    assert_eq!(pieces.collect::<Vec<_>>(), [3, 1]);
    assert_eq!(down.terms()[1].pieces[0].plan, "small");
    // Renewals are at the new price.
    let (renewed, purchase) = up.renew(month(), at(9 * DAY)).unwrap();
    assert_eq!(purchase.money, cny("300.00"));
    assert_eq!(stored(&renewed), renewed);
    let euros = Plan::new("eu", Currency::EUR, [Decimal::ONE; 3]).unwrap();
    assert!(matches!(
        up.change_plan(euros, at(9 * DAY)),
        Err(SubscriptionError::Currency(_))
    ));
    // The clock went back: the change counts from the last one.
    let (back, purchase) = up.change_plan(plan("small", "100"), at(0)).unwrap();
    assert_eq!((purchase.at, purchase.money), (at(8 * DAY), cny("-350.00")));
    assert_eq!(back.terms()[0].pieces[0].to, at(8 * DAY));
}

#[test]
fn a_change_is_priced_by_what_whole_terms_are_quoted_at() {
    let it = bought(month(), "+00:00", at(0));
    // The plan alone would say 300; as a term it is sold for less.
    let quoted = |period: Period| (period == month()).then(|| cny("260"));
    let (up, purchase) = it
        .change_plan_for(plan("large", "300"), quoted, at(8 * DAY))
        .unwrap();
    // Three quarters of 260 less as much of the 100 that were paid.
    assert_eq!(purchase.money, cny("120.00"));
    // To the same plan at the same quote: nothing is paid.
    let (_, purchase) = up
        .change_plan_for(plan("large", "300"), quoted, at(16 * DAY))
        .unwrap();
    assert_eq!(purchase.money, cny("0.00"));
    let euros = |_| Some(Money::new(Decimal::ONE, Currency::EUR));
    assert!(
        it.change_plan_for(plan("large", "300"), euros, at(8 * DAY))
            .is_err()
    );
}

/// What happens to a subscription.
#[derive(Clone, Debug)]
enum Step {
    Renew(Period),
    Change(i64),
    Work,
    AutoRenew(Option<Period>),
}

fn period() -> impl Strategy<Value = Period> {
    prop_oneof![
        (1..=4_u8).prop_map(|count| Period::weeks(count).unwrap()),
        (1..=12_u8).prop_map(|count| Period::months(count).unwrap()),
        Just(Period::years(1).unwrap()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        period().prop_map(Step::Renew),
        (0..100_000_i64).prop_map(Step::Change),
        Just(Step::Work),
        proptest::option::of(period()).prop_map(Step::AutoRenew),
    ];
    vec((-HOUR..20 * DAY, step), 0..25)
}

proptest! {
    #[test]
    fn what_was_paid_is_what_terms_come_to(period in period(), minutes in -1080..1080_i16, steps in steps()) {
        let mut bought = order(period, "+00:00", Some(month()));
        bought.zone = UtcOffset::from_minutes(minutes).unwrap();
        let (mut it, first) = Subscription::buy(bought, at(0)).unwrap();
        let mut paid: Vec<Purchase> = vec![first];
        let mut clock = 0;
        for (later, step) in steps {
            clock += later;
            let now = at(clock);
            let changed = match step {
                Step::Renew(period) => it.renew(period, now),
                Step::Change(cents) => {
                    let plan = plan("other", &Decimal::new(cents, 2).to_string());
                    it.change_plan(plan, now)
                }
                Step::Work => { work(&mut it, now); continue }
                Step::AutoRenew(period) => { it.set_auto_renew(period, now); continue }
            };
            if let Ok((next, purchase)) = changed {
                prop_assert!(purchase.money.amount >= -it.paid().unwrap().amount);
                it = stored(&next);
                paid.push(purchase);
            }
        }
        let sum: Decimal = paid.iter().map(|purchase| purchase.money.amount).sum();
        prop_assert_eq!(sum, it.paid().unwrap().amount);
        prop_assert!(paid.iter().all(|purchase| purchase.money.amount.scale() == 2));
        prop_assert!(paid.is_sorted_by(|a, b| a.at <= b.at && a.id != b.id));
        for term in it.terms() {
            prop_assert_eq!(term.pieces[0].from, term.from);
            prop_assert_eq!(term.pieces[term.pieces.len() - 1].to, term.to);
            prop_assert!(term.pieces.is_sorted_by(|a, b| a.to == b.from));
            prop_assert!(term.pieces.iter().all(|piece| piece.price >= Decimal::ZERO));
        }
        prop_assert!(it.terms().is_sorted_by(|a, b| a.to <= b.from));
        prop_assert_eq!((it.expires().unix_millis() + i64::from(minutes) * 60_000).rem_euclid(DAY), 0);
    }

    #[test]
    fn a_detour_at_one_moment_costs_what_the_straight_way_does(
        now in 0..31 * DAY, prices in vec(0..100_000_i64, 1..6),
    ) {
        let start = bought(month(), "+00:00", at(0));
        let to = |it: &Subscription, cents: i64| {
            it.change_plan(plan("other", &Decimal::new(cents, 2).to_string()), at(now)).unwrap()
        };
        let mut it = start.clone();
        let mut sum = Decimal::ZERO;
        for cents in &prices {
            let (next, purchase) = to(&it, *cents);
            sum += purchase.money.amount;
            it = next;
        }
        let (straight, purchase) = to(&start, prices[prices.len() - 1]);
        prop_assert_eq!(sum, purchase.money.amount);
        prop_assert_eq!(straight.terms(), it.terms());
        // By whole numbers: what is left of the old and the new price, each rounded half to even on what is used.
        let length = 32 * i128::from(DAY);
        let left = |cents: i64| {
            let cents = i128::from(cents);
            let used = cents * i128::from(now);
            let (whole, rest) = (used / length, used % length);
            let up = rest * 2 > length || (rest * 2 == length && whole % 2 == 1);
            cents - whole - i128::from(up)
        };
        let expected = left(prices[prices.len() - 1]) - left(10_000);
        prop_assert_eq!(sum, Decimal::from_i128_with_scale(expected, 2));
    }

    #[test]
    fn looking_at_any_times_gives_what_looking_once_does(looks in looks(60)) {
        let start = Subscription::buy(order(month(), "+08:00", Some(month())), at(0)).unwrap().0;
        let mut often = start.clone();
        let mut done = Vec::new();
        for look in &looks {
            often = stored(&often);
            prop_assert_eq!(often.due(at(*look)), often.due(at(*look)));
            done.extend(work(&mut often, at(*look)));
        }
        let mut once = start;
        let last = looks.iter().max().copied().unwrap_or(-DAY);
        prop_assert_eq!(&done, &work(&mut once, at(last)));
        prop_assert_eq!(&often, &once);
        // A year later the sequence is whole.
        let mut late = stored(&once);
        done.extend(work(&mut late, at(365 * DAY)));
        prop_assert_eq!(&done, &unpaid(late.expires()));
    }
}
