use crate::{
    common::{DAY, HOUR, MINUTE, account, at, decimal},
    shop::{Doubled, Records, Shop, price_list},
};
use billing::{Order, Period, Plan, Report, Subscription, UsedSpan, ViolationKind as Kind};
use ledger::{Change, PriceList, Rater, RatingPolicy, Usage, UsageKey};
use types::{
    ByteCount, ChargeId, Currency, Decimal, DiskId, InstanceId, SubscriptionId, Timestamp,
    UtcOffset,
};

const THROUGH: i64 = 60 * DAY;

fn lists() -> [PriceList; 2] {
    [
        price_list([111_111, 23_457, 1_001]),
        price_list([130_003, 20_000, 999]),
    ]
}

fn running(id: u128) -> Usage {
    Usage::InstanceRunning {
        instance: InstanceId::generate(id),
        instance_type: "probe".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(4),
    }
}

fn disk(id: u128) -> Usage {
    Usage::DiskAllocated {
        disk: DiskId::generate(id),
        category: "cloud_essd".to_owned(),
        size: ByteCount::from_gib(20),
    }
}

fn used(key: UsageKey, from: i64, to: Option<i64>) -> UsedSpan {
    UsedSpan {
        key,
        from: at(from),
        to: to.map(at),
    }
}

/// Two months of two accounts, in which nothing is wrong.
fn clean() -> Records {
    let (a, b) = (account("a"), account("b"));
    let mut shop = Shop::new(&[a.clone(), b.clone()], at(0));
    for usage in [running(1), disk(1)] {
        shop.records.owners.insert(usage.key().resource, a.clone());
    }
    shop.records
        .owners
        .insert(running(2).key().resource, b.clone());
    let [first, second] = lists();
    // Instance 1 runs twice, instance 2 still does.
    let script = [
        (MINUTE, Change::Open(disk(1))),
        (MINUTE + 500, Change::Open(running(1))),
        (3 * DAY + 777, Change::Close(running(1).key())),
        (10 * DAY, Change::Open(running(2))),
        (20 * DAY, Change::Open(running(1))),
        (33 * DAY + 9, Change::Close(running(1).key())),
        (40 * DAY, Change::Close(disk(1).key())),
    ];
    let mut script = script.into_iter().peekable();
    let order = Order {
        id: SubscriptionId::generate(1),
        account: b,
        resource: "i-0000000000000000s".to_owned(),
        plan: Plan::new(
            "small",
            Currency::CNY,
            [decimal("30"), decimal("99"), decimal("999")],
        )
        .unwrap(),
        period: Period::months(2).unwrap(),
        zone: UtcOffset::UTC,
        auto_renew: None,
    };
    let (bought, purchase) = Subscription::buy(order, at(DAY)).unwrap();
    let large = [decimal("60"), decimal("198"), decimal("1998")];
    let large = Plan::new("large", Currency::CNY, large).unwrap();
    let (changed, upgrade) = bought.change_plan(large, at(9 * DAY)).unwrap();
    shop.records.purchases.extend([purchase, upgrade]);
    shop.records.subscriptions.insert(0, changed);
    for hour in 0..=THROUGH / (8 * HOUR) {
        let clock = hour * 8 * HOUR;
        while let Some((time, change)) = script.next_if(|(time, _)| *time <= clock) {
            shop.enter(change, at(time));
        }
        let rater = match clock / DAY % 20 {
            0..10 => Rater::built_in(first.clone()),
            10..15 => Rater::built_in(second.clone()),
            _ => Doubled::rater(&first, clock / DAY % 3 == 0),
        };
        shop.tick(&rater, at(clock));
        shop.settle(at(clock));
        shop.invoice(at(clock));
    }
    let key = |usage: Usage| usage.key();
    shop.records.history = vec![
        used(key(running(1)), MINUTE + 500, Some(3 * DAY + 777)),
        used(key(running(1)), 20 * DAY, Some(33 * DAY + 9)),
        used(key(running(2)), 10 * DAY, None),
        // Two spans of history that touch are one.
        used(key(disk(1)), MINUTE, Some(5 * DAY)),
        used(key(disk(1)), 5 * DAY, Some(40 * DAY)),
    ];
    shop.records
}

fn verify(records: &Records) -> Report {
    let [first, second] = lists();
    let doubled = Doubled {
        list: first.clone(),
        broken: false,
    };
    let policies: [&dyn RatingPolicy; 3] = [&first, &second, &doubled];
    records.verify(&policies, at(THROUGH))
}

/// The violations of `records`, as text; at least one is of `kind`, about `subject`, and says `what`.
#[track_caller]
fn names(records: &Records, kind: Kind, subject: &str, what: &str) -> Vec<String> {
    let report = verify(records);
    let found = report.violations.iter().any(|violation| {
        violation.kind == kind
            && violation.subject.contains(subject)
            && violation.what.contains(what)
    });
    let all = report.violations.iter().map(ToString::to_string);
    let all: Vec<String> = all.collect();
    assert!(
        found,
        "{kind:?} of `{subject}`: `{what}` is not in {all:#?}"
    );
    all
}

fn later(time: &mut Timestamp, millis: i64) {
    *time = Timestamp::from_unix_millis(time.unix_millis() + millis).unwrap();
}

#[test]
fn clean_records_have_nothing_wrong() {
    let report = verify(&clean());
    assert_eq!(report.violations, []);
    assert!(
        report.is_clean() && report.records > 400,
        "{}",
        report.records
    );
}

#[test]
fn an_altered_ledger_is_named() {
    let clean = clean();
    let mut records = clean.clone();
    later(&mut records.entries[2].time, 1000);
    names(&records, Kind::Ledger, "entry 2", "its digest should be");

    let mut records = clean.clone();
    records.entries.remove(3);
    let all = names(&records, Kind::Ledger, "entry 4", "entry 3 should be here");
    // Instance 2's charges have no interval now, and its use none that counts it.
    assert!(
        all.iter()
            .any(|line| line.contains("the interval is unknown"))
    );
    names(
        &records,
        Kind::Uncounted,
        &running(2).key().to_string(),
        "since 2026-01-11",
    );

    let mut records = clean;
    records.entries.pop();
    let key = disk(1).key().to_string();
    names(
        &records,
        Kind::OpenEnd,
        &key,
        "since 2026-02-10T00:00:00.000Z, and is still open",
    );
}

#[test]
fn what_the_ledger_counts_too_much_or_too_little_is_named() {
    let clean = clean();
    let key = running(1).key().to_string();
    let mut records = clean.clone();
    later(&mut records.history[0].from, -5);
    let what = "from 2026-01-01T00:01:00.495Z to 2026-01-01T00:01:00.500Z";
    assert_eq!(names(&records, Kind::Uncounted, &key, what).len(), 1);

    let mut records = clean.clone();
    records.history[0].to = Some(at(DAY));
    let what = "usage from 2026-01-02T00:00:00.000Z to 2026-01-04T00:00:00.777Z";
    assert_eq!(names(&records, Kind::Overcounted, &key, what).len(), 1);

    // Both, and one that nothing counts.
    let mut records = clean;
    records.history[1] = used(running(1).key(), 19 * DAY, Some(22 * DAY));
    records
        .history
        .push(used(running(9).key(), DAY, Some(2 * DAY)));
    let count = names(&records, Kind::Uncounted, &key, "to 2026-01-21").len();
    names(&records, Kind::Overcounted, &key, "usage from 2026-01-23");
    names(
        &records,
        Kind::Uncounted,
        &running(9).key().to_string(),
        "from 2026-01-02",
    );
    assert_eq!(count, 3);
}

#[test]
fn a_meter_that_was_opened_twice_overlaps() {
    // Two ledgers that each hold together, read as if they were one.
    let mut records = clean();
    let mut other = Shop::new(&[], at(0));
    other.enter(Change::Open(running(2)), at(30 * DAY));
    other.enter(Change::Close(running(2).key()), at(31 * DAY));
    other.enter(Change::Open(running(2)), at(35 * DAY));
    records.entries.extend(other.records.entries);
    let key = running(2).key().to_string();
    names(&records, Kind::Overlap, &key, "overlap from 2026-01-31");
    // With the first, which still goes on, not with the second, which is over.
    names(&records, Kind::Overlap, &key, "overlap from 2026-02-05");
    names(&records, Kind::Ledger, &key, "already open");
    names(
        &records,
        Kind::Uncharged,
        "u-",
        "0 of 2160000 seconds of it are charged",
    );
}

#[test]
fn an_altered_charge_is_named() {
    let clean = clean();
    let id = clean.charges[30].id.to_string();
    let interval = clean.charges[30].interval.to_string();

    let mut records = clean.clone();
    records.charges[30].money.amount += Decimal::new(1, 6);
    names(&records, Kind::Price, &interval, "but `");
    names(
        &records,
        Kind::Settlement,
        "stl-",
        "its sum of charges is not",
    );
    names(&records, Kind::Invoice, "inv-", "its usage is");

    let mut records = clean.clone();
    records.charges[30].money.amount = -Decimal::ONE;
    names(&records, Kind::Charge, &id, "its amount is negative");

    let mut records = clean.clone();
    let removed = records.charges.remove(30);
    let next = clean.charges[31..]
        .iter()
        .find(|it| it.interval == removed.interval);
    names(
        &records,
        Kind::Charge,
        &next.unwrap().id.to_string(),
        "is charged up to",
    );
    names(&records, Kind::Settlement, "stl-", &id);
    names(&records, Kind::Invoice, "inv-", &id);

    let mut records = clean.clone();
    records.charges.push(records.charges[30].clone());
    names(&records, Kind::Charge, &id, "is charged up to");

    let mut records = clean.clone();
    records.charges[30].meter = "egress".to_owned();
    names(&records, Kind::Charge, &id, "it says it is for egress");

    let mut records = clean.clone();
    records.charges[30].id = ChargeId::generate(7);
    names(
        &records,
        Kind::Charge,
        "chg-00000000000000007",
        &format!("has the id {id}"),
    );
    names(
        &records,
        Kind::Unsettled,
        "chg-00000000000000007",
        "no settlement has it",
    );

    let mut records = clean.clone();
    records.charges[30].policy = "cheap".to_owned();
    let unpriced = verify(&records).unpriced;
    assert_eq!(
        (unpriced.len(), unpriced[0].policy.name.as_str()),
        (1, "cheap")
    );
    assert_eq!(unpriced[0].runs, 1);

    let mut records = clean.clone();
    records.owners.remove(&clean.charges[30].resource);
    let resource = &clean.charges[30].resource;
    names(&records, Kind::Owner, resource, "nobody is known to own it");

    let mut records = clean.clone();
    records.charges.truncate(records.charges.len() - 1);
    names(&records, Kind::Uncharged, "u-", "seconds of it are charged");
}

#[test]
fn an_altered_settlement_is_named() {
    let clean = clean();
    let id = clean.settlements[20].id.to_string();
    let mut records = clean.clone();
    records.settlements[20].payable += Decimal::ONE;
    // The next one carries on from what it says, so it is not named too.
    let all = names(&records, Kind::Settlement, &id, "amount to pay");
    assert_eq!(all.len(), 1, "{all:#?}");

    let mut records = clean.clone();
    let removed = records.settlements.remove(20);
    let charge = removed.charges[0].to_string();
    names(&records, Kind::Unsettled, &charge, "no settlement has it");
    names(
        &records,
        Kind::Invoice,
        "inv-",
        "does not come from the records",
    );

    let mut records = clean.clone();
    records.settlements.push(records.settlements[20].clone());
    names(&records, Kind::Settlement, &id, "is settled or closed");

    let mut records = clean.clone();
    let stolen = records.settlements[20].charges[0];
    records.settlements[21].charges.push(stolen);
    let subject = records.settlements[21].id.to_string();
    names(&records, Kind::Settlement, &subject, &stolen.to_string());

    // Somebody else's account pays.
    let mut records = clean;
    let other = if records.settlements[20].account == account("a") {
        "b"
    } else {
        "a"
    };
    records.settlements[20].account = account(other);
    names(
        &records,
        Kind::Settlement,
        &id,
        "unknown or settled already",
    );
}

#[test]
fn a_charge_that_came_after_the_invoice_has_an_hour_more() {
    let mut shop = Shop::new(&[account("a")], at(0));
    let [first, _] = lists();
    let rater = Rater::built_in(first);
    let key = disk(1).key();
    shop.records
        .owners
        .insert(key.resource.clone(), account("a"));
    shop.enter(Change::Open(disk(1)), at(0));
    shop.tick(&rater, at(DAY));
    shop.settle(at(DAY));
    let end = 31 * DAY - 10 * MINUTE;
    shop.enter(Change::Close(key.clone()), at(end));
    assert_eq!(shop.invoice(at(31 * DAY)), 1);
    shop.tick(&rater, at(31 * DAY + MINUTE));
    shop.records.history.push(used(key, 0, Some(end)));
    let [first, _] = lists();
    let unsettled = |through: i64| {
        let report = shop.records.verify(&[&first], at(through));
        let kinds = report.violations.iter().map(|violation| violation.kind);
        kinds.collect::<Vec<_>>()
    };
    assert_eq!(unsettled(31 * DAY + HOUR - 1), []);
    assert_eq!(unsettled(31 * DAY + HOUR), [Kind::Unsettled]);
}

#[test]
fn an_altered_purchase_or_subscription_is_named() {
    let clean = clean();
    let id = clean.purchases[1].id.to_string();
    let subscription = clean.purchases[1].subscription.to_string();
    let mut records = clean.clone();
    records.purchases[1].money.amount -= Decimal::ONE;
    names(
        &records,
        Kind::Subscription,
        &subscription,
        "its purchases come to",
    );
    names(&records, Kind::Invoice, "inv-", "its purchases is");

    let mut records = clean.clone();
    records.purchases.push(records.purchases[1].clone());
    names(
        &records,
        Kind::Subscription,
        &id,
        "it is twice among the records",
    );

    let mut records = clean.clone();
    records.purchases.remove(1);
    names(
        &records,
        Kind::Subscription,
        &id,
        "there is no record of it",
    );

    let mut records = clean.clone();
    records.purchases[1].account = account("a");
    names(&records, Kind::Subscription, &id, "a pays it");

    let mut records = clean.clone();
    records.subscriptions.clear();
    names(&records, Kind::Subscription, &id, "which is not known");

    let mut records = clean;
    let mut json = serde_json::to_value(&records.subscriptions[&0]).unwrap();
    json["terms"][0]["pieces"][1]["from"] = "2026-01-11T00:00:00.000Z".into();
    json["expires"] = "2027-01-01T00:00:00.000Z".into();
    records
        .subscriptions
        .insert(0, serde_json::from_value(json).unwrap());
    names(
        &records,
        Kind::Subscription,
        &subscription,
        "does not follow at 2026-01-10",
    );
    names(
        &records,
        Kind::Subscription,
        &subscription,
        "its last term does not",
    );
}

#[test]
fn an_altered_invoice_is_named_with_everything_that_differs() {
    let clean = clean();
    let mut records = clean.clone();
    let invoice = &mut records.invoices[0];
    let id = invoice.id.to_string();
    invoice.total += Decimal::ONE;
    invoice.lines[0].amount += Decimal::ONE;
    let all = names(&records, Kind::Invoice, &id, "its total is");
    names(
        &records,
        Kind::Invoice,
        &id,
        "does not come from the records",
    );
    names(&records, Kind::Invoice, &id, "it lacks the usage line");
    assert_eq!(all.len(), 3, "{all:#?}");

    let mut records = clean.clone();
    records.invoices.remove(0);
    let all = names(
        &records,
        Kind::Invoice,
        &id,
        "2026-01 of a in CNY is not invoiced",
    );
    assert_eq!(all.len(), 1, "{all:#?}");

    let mut records = clean.clone();
    records.invoices.push(records.invoices[0].clone());
    names(&records, Kind::Invoice, &id, "invoiced twice");

    let mut records = clean;
    records.invoices[0].month = "2027-01".parse().unwrap();
    names(&records, Kind::Invoice, &id, "its month is not over");
    names(&records, Kind::Invoice, &id, "is not invoiced");
}

#[test]
fn a_report_lists_what_is_wrong_in_several_places() {
    let mut records = clean();
    later(&mut records.entries[0].time, 1000);
    records.charges[50].money.amount += Decimal::ONE;
    records.settlements[10].carried_out += Decimal::ONE;
    records.purchases.remove(0);
    records.invoices[1].refunds += Decimal::ONE;
    records.history.remove(2);
    let report = verify(&records);
    for kind in [
        Kind::Ledger,
        Kind::Charge,
        Kind::Settlement,
        Kind::Subscription,
        Kind::Invoice,
        Kind::OpenEnd,
    ] {
        let some = report
            .violations
            .iter()
            .any(|violation| violation.kind == kind);
        assert!(some, "{kind:?} is not in {:#?}", report.violations);
    }
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""kind":"open-end""#), "{json}");
    for violation in &report.violations {
        let name = serde_json::to_value(violation.kind).unwrap();
        assert_eq!(name, violation.kind.name());
    }
}
