//! Usage is counted once, charged once, and nobody can change it afterwards unnoticed.

use ledger::{
    Audit, Change, Charge, Entry, FailureKind, Ledger, LedgerError, ModuleDigest, PolicyFailure,
    PolicyIdentity, PriceList, Prices, Rater, RatingInput, RatingPolicy, Usage, UsageKey,
    intervals,
};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use types::{ByteCount, Currency, Decimal, DiskId, InstanceId, Money, Sha256Digest, Timestamp};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + millis).unwrap()
}

fn instance(id: u128) -> Usage {
    Usage::InstanceRunning {
        instance: InstanceId::generate(id),
        instance_type: "probe".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_mib(512),
    }
}

fn disk(id: u128) -> Usage {
    Usage::DiskAllocated {
        disk: DiskId::generate(id),
        category: "cloud_essd".to_owned(),
        size: ByteCount::from_gib(20),
    }
}

fn price_list(vcpu: &str) -> PriceList {
    let price = |text: &str| text.parse::<Decimal>().unwrap();
    PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: BTreeMap::from([("ecs.g6.large".to_owned(), price("0.72"))]),
        vcpu: price(vcpu),
        memory_gib: price("0.0300007"),
        disk_categories: BTreeMap::new(),
        disk_gib: price("0.0013"),
        meters: BTreeMap::new(),
    })
    .unwrap()
}

/// A ledger with what the store would hold.
#[derive(Default)]
struct Books {
    ledger: Ledger,
    entries: Vec<Entry>,
    charges: Vec<Charge>,
}

impl Books {
    fn enter(&mut self, change: Change, now: Timestamp) -> Result<(), LedgerError> {
        for entry in self.ledger.prepare([change], now)? {
            self.ledger.append(&entry)?;
            self.entries.push(entry);
        }
        Ok(())
    }

    fn tick(&mut self, rater: &Rater, now: Timestamp) -> Vec<Charge> {
        let charges = self.ledger.rate(rater, now).unwrap();
        for charge in &charges {
            self.ledger.record(charge).unwrap();
        }
        self.charges.extend(charges.clone());
        charges
    }

    fn total(&self) -> Decimal {
        self.charges.iter().map(|charge| charge.money.amount).sum()
    }

    /// As after a restart, from what was stored.
    fn reopened(&self) -> Ledger {
        let entries: Vec<Entry> = stored(&self.entries);
        let mut charges: Vec<Charge> = stored(&self.charges);
        charges.reverse();
        Ledger::replay(&entries, &charges).unwrap()
    }
}

fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(records: &[T]) -> Vec<T> {
    serde_json::from_slice(&serde_json::to_vec(records).unwrap()).unwrap()
}

#[test]
fn usage_opens_and_closes_exactly_once() {
    let mut books = Books::default();
    let key = UsageKey::instance_running(InstanceId::generate(1));
    let close = || Change::Close(key.clone());
    assert_eq!(
        books.enter(close(), at(0)),
        Err(LedgerError::NotOpen(key.clone()))
    );
    books.enter(Change::Open(instance(1)), at(0)).unwrap();
    let again = books.enter(Change::Open(instance(1)), at(1));
    assert_eq!(again, Err(LedgerError::AlreadyOpen(key.clone())));
    books.enter(Change::Open(disk(1)), at(1)).unwrap();
    assert!(books.ledger.open_interval(&key).is_some());
    books.enter(close(), at(2_500)).unwrap();
    assert_eq!(
        books.enter(close(), at(3_000)),
        Err(LedgerError::NotOpen(key))
    );

    let all = intervals(&books.entries).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].from, all[0].to), (at(0), Some(at(2_500))));
    assert_eq!(all[0].seconds(at(9_999)), 2);
    assert_eq!((all[1].from, all[1].to), (at(1), None));
    assert_eq!(all[1].seconds(at(9_999)), 9);
}

#[test]
fn several_changes_are_prepared_as_one() {
    let ledger = Ledger::default();
    let key = instance(1).key();
    let changes = [
        Change::Open(instance(1)),
        Change::Open(disk(1)),
        Change::Close(key.clone()),
        Change::Open(instance(1)),
    ];
    let entries = ledger.prepare(changes, at(0)).unwrap();
    assert!(ledger.is_empty());
    let replayed = Ledger::replay(&entries, []).unwrap();
    assert_eq!((replayed.len(), replayed.unsettled().count()), (4, 2));
    let changes = [Change::Open(instance(1)), Change::Open(instance(1))];
    assert_eq!(
        ledger.prepare(changes, at(0)),
        Err(LedgerError::AlreadyOpen(key))
    );
}

#[test]
fn a_clock_that_goes_back_costs_nobody_anything() {
    let mut books = Books::default();
    let rater = Rater::built_in(price_list("0.1"));
    books.enter(Change::Open(instance(1)), at(10_000)).unwrap();
    books.tick(&rater, at(20_000));
    // Back by an hour: nothing is due, and what is closed is closed where it is charged up to.
    assert!(books.tick(&rater, at(-3_600_000)).is_empty());
    books
        .enter(Change::Close(instance(1).key()), at(-3_600_000))
        .unwrap();
    let last = books.entries.last().unwrap();
    assert_eq!((last.time, last.clock), (at(20_000), Some(at(-3_600_000))));
    assert!(books.tick(&rater, at(30_000)).is_empty());
    assert_eq!(books.ledger.unsettled().count(), 0);
    assert_eq!(books.reopened().head(), books.ledger.head());
}

#[test]
fn prices_follow_the_list() {
    let rater = Rater::built_in(price_list("0.1"));
    let mut large = instance(2);
    if let Usage::InstanceRunning { instance_type, .. } = &mut large {
        *instance_type = "ecs.g6.large".to_owned();
    }
    for (usage, seconds, amount) in [
        (instance(1), 3_600, "0.215000"),
        (large, 3_600, "0.720000"),
        (disk(1), 36_000, "0.260000"),
        (disk(1), 1, "0.000007"),
    ] {
        let mut books = Books::default();
        books.enter(Change::Open(usage), at(0)).unwrap();
        let charges = books.tick(&rater, at(seconds * 1_000 + 999));
        assert_eq!(charges[0].money.to_string(), format!("{amount} CNY"));
        assert_eq!(charges[0].to, at(seconds * 1_000));
    }
    let negative = Prices {
        vcpu: Decimal::NEGATIVE_ONE,
        ..price_list("1").prices().clone()
    };
    let error = PriceList::new(negative).unwrap_err().to_string();
    assert!(error.contains("vcpu is -1 per hour"), "{error}");
}

/// A policy with a switch: it costs `rate` per second, or fails.
struct Switched {
    broken: AtomicBool,
    amount: fn(u64) -> Decimal,
}

impl RatingPolicy for Switched {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "switched".to_owned(),
            module_sha256: ModuleDigest::Sha256(Sha256Digest::of(b"switched")),
            configuration_sha256: Sha256Digest::of(b""),
        }
    }

    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(PolicyFailure {
                policy: Box::new(self.identity()),
                kind: FailureKind::Trap,
                message: "broken".to_owned(),
            });
        }
        let price = |input: &RatingInput| Money::new((self.amount)(input.seconds), currency);
        Ok(usage.iter().map(price).collect())
    }
}

#[test]
fn a_failing_policy_is_replaced_and_the_charge_says_so() {
    let policy = Arc::new(Switched {
        broken: AtomicBool::new(false),
        amount: |seconds| Decimal::from(seconds),
    });
    let rater = Rater::new(policy.clone(), price_list("0.1"));
    let mut books = Books::default();
    books.enter(Change::Open(instance(1)), at(0)).unwrap();
    let first = books.tick(&rater, at(10_000));
    assert_eq!(first[0].money.amount, Decimal::from(10));
    assert_eq!(
        first[0].module_sha256,
        ModuleDigest::Sha256(Sha256Digest::of(b"switched"))
    );
    policy.broken.store(true, Ordering::Relaxed);
    let second = books.tick(&rater, at(20_000));
    assert_eq!(second[0].module_sha256, ModuleDigest::BuiltIn);
    assert_eq!((second[0].from, second[0].to), (at(10_000), at(20_000)));
    assert_eq!(second[0].fallback.as_ref().unwrap().kind, FailureKind::Trap);
    policy.broken.store(false, Ordering::Relaxed);
    // It takes over anew: nothing it or the price list has charged is charged again.
    let third = books.tick(&rater, at(25_000));
    assert_eq!(third[0].money.amount, Decimal::from(5));
    assert_eq!(books.reopened().head(), books.ledger.head());
}

#[test]
fn prices_that_fall_or_are_negative_are_not_believed() {
    for amount in [
        |seconds| Decimal::from(100 - seconds),
        |seconds: u64| -Decimal::from(seconds),
        |_: u64| Decimal::MAX,
    ] {
        let policy = Switched {
            broken: AtomicBool::new(false),
            amount,
        };
        let rater = Rater::new(Arc::new(policy), price_list("0.1"));
        let mut books = Books::default();
        books.enter(Change::Open(instance(1)), at(0)).unwrap();
        books.tick(&rater, at(1_000));
        let charge = books.tick(&rater, at(2_000)).remove(0);
        let failure = charge.fallback.unwrap();
        assert_eq!(failure.kind, FailureKind::InvalidAnswer, "{failure}");
        assert!(
            books
                .charges
                .iter()
                .all(|charge| !charge.money.amount.is_sign_negative())
        );
    }
}

#[test]
fn a_charge_that_does_not_follow_on_is_refused() {
    let mut books = Books::default();
    let rater = Rater::built_in(price_list("0.1"));
    books.enter(Change::Open(instance(1)), at(0)).unwrap();
    let charge = books.tick(&rater, at(5_000)).remove(0);
    let mut gap = charge.clone();
    gap.from = at(6_000);
    gap.to = at(11_000);
    let mut length = charge.clone();
    length.from = at(5_000);
    length.to = at(9_000);
    let mut unknown = charge.clone();
    unknown.interval = types::UsageId::generate(9);
    for (bad, said) in [
        (charge, "charged up to"),
        (gap, "charged up to"),
        (length, "does not end 5 s"),
        (unknown, "unknown or wholly charged"),
    ] {
        let error = books.ledger.record(&bad).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    books
        .enter(Change::Close(instance(1).key()), at(6_900))
        .unwrap();
    let mut late = books.ledger.rate(&rater, at(60_000)).unwrap().remove(0);
    assert_eq!(late.seconds, 1);
    late.seconds = 2;
    late.to = at(7_000);
    assert!(
        books
            .ledger
            .record(&late)
            .unwrap_err()
            .to_string()
            .contains("after the interval")
    );
}

/// One step of a life: wait that many milliseconds (negative: the clock jumps back), then do something.
#[derive(Clone, Debug)]
enum Step {
    Toggle(u8),
    Tick,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        4 => (0_u8..6).prop_map(Step::Toggle),
        3 => Just(Step::Tick),
        1 => Just(Step::Reopen),
    ];
    let wait = prop_oneof![9 => 0_i64..10_000, 1 => -20_000_i64..0, 1 => 0_i64..5_000_000];
    vec((wait, step), 1..60)
}

fn thing(id: u8) -> Usage {
    if id.is_multiple_of(2) {
        instance(id.into())
    } else {
        disk(id.into())
    }
}

proptest! {
    #[test]
    fn ticks_and_settlement_add_up_to_the_price_of_the_interval(
        millis in 0_i64..400_000_000,
        ticks in vec(0_i64..=1_000, 0..20),
        vcpu in 0_i64..10_000_000,
    ) {
        let rater = Rater::built_in(price_list(&Decimal::new(vcpu, 9).to_string()));
        let life = |ticks: &[i64]| {
            let mut books = Books::default();
            books.enter(Change::Open(instance(1)), at(0)).unwrap();
            for tick in ticks {
                books.tick(&rater, at(*tick));
            }
            books.enter(Change::Close(instance(1).key()), at(millis)).unwrap();
            books.tick(&rater, at(millis + 86_400_000));
            books
        };
        let mut points: Vec<i64> = ticks.iter().map(|part| millis * part / 1_000).collect();
        points.sort_unstable();
        let (whole, parts) = (life(&[]), life(&points));
        prop_assert_eq!(whole.total(), parts.total());
        let seconds: u64 = parts.charges.iter().map(|charge| charge.seconds).sum();
        prop_assert_eq!(i64::try_from(seconds).unwrap(), millis / 1_000);
        prop_assert_eq!(parts.ledger.unsettled().count(), 0);
    }

    #[test]
    fn a_life_of_starts_stops_ticks_restarts_and_clock_jumps_is_charged_once(steps in steps()) {
        let rater = Rater::built_in(price_list("0.0712345"));
        let mut books = Books::default();
        let mut now = 0;
        for (wait, step) in steps {
            now += wait;
            match step {
                Step::Tick => drop(books.tick(&rater, at(now))),
                Step::Reopen => books.ledger = books.reopened(),
                Step::Toggle(id) => {
                    let open = books.ledger.open_interval(&thing(id).key()).is_some();
                    let change = if open { Change::Close(thing(id).key()) } else { Change::Open(thing(id)) };
                    books.enter(change, at(now)).unwrap();
                }
            }
        }
        let end = now + 100_000_000;
        books.tick(&rater, at(end));

        // Recomputed from the intervals alone: every one charged without gap or overlap, and by its length.
        let mut charged: BTreeMap<_, Vec<&Charge>> = BTreeMap::new();
        for charge in &books.charges {
            charged.entry(charge.interval).or_default().push(charge);
        }
        let list = price_list("0.0712345");
        for interval in intervals(&books.entries).unwrap() {
            let charges = charged.remove(&interval.id).unwrap_or_default();
            let mut from = interval.from;
            for charge in &charges {
                prop_assert_eq!(charge.from, from);
                from = charge.to;
            }
            let seconds = interval.seconds(at(end));
            prop_assert_eq!(charges.iter().map(|charge| charge.seconds).sum::<u64>(), seconds);
            let sum: Decimal = charges.iter().map(|charge| charge.money.amount).sum();
            let input = RatingInput { interval: interval.id, usage: interval.usage, from: interval.from, seconds };
            let whole = list.rate(Currency::CNY, &[input]).unwrap()[0].amount;
            prop_assert_eq!(sum, whole.round_dp(6));
        }
        prop_assert!(charged.is_empty());
        let ids: std::collections::BTreeSet<_> = books.charges.iter().map(|charge| charge.id).collect();
        prop_assert_eq!(ids.len(), books.charges.len());
    }

    #[test]
    fn any_change_to_the_history_is_noticed(
        toggles in vec(0_u8..4, 2..12),
        victim: prop::sample::Index,
        how in 0_u8..6,
    ) {
        let mut books = Books::default();
        for (number, id) in toggles.iter().enumerate() {
            let open = books.ledger.open_interval(&thing(*id).key()).is_some();
            let change = if open { Change::Close(thing(*id).key()) } else { Change::Open(thing(*id)) };
            books.enter(change, at(i64::try_from(number).unwrap() * 1_500)).unwrap();
        }
        prop_assert!(intervals(&books.entries).is_ok());
        let mut forged = books.entries.clone();
        // The last entry can be cut off without a trace in the rest: that is what the head is kept for.
        let place = victim.index(forged.len() - 1);
        match how {
            0 => drop(forged.remove(place)),
            1 => forged.swap(place, place + 1),
            2 => forged.insert(place, forged[place].clone()),
            3 => forged[place].time = forged[place].time.checked_add(std::time::Duration::from_millis(1)).unwrap(),
            4 => forged[place].event = ledger::Event::Opened { usage: disk(77) },
            _ => forged[place].digest = Sha256Digest::of(b"forged"),
        }
        prop_assert!(intervals(&forged).is_err());
        prop_assert!(Ledger::replay(&forged, []).is_err());
        let cut = Ledger::replay(&books.entries[..place], []).unwrap();
        prop_assert_ne!(cut.head(), books.ledger.head());
    }
}

#[test]
fn an_audit_names_everything_that_is_wrong_and_goes_on() {
    let mut books = Books::default();
    let rater = Rater::built_in(price_list("0.1"));
    for id in 1..=3 {
        books.enter(Change::Open(instance(id)), at(0)).unwrap();
    }
    for tick in 1..=4 {
        books.tick(&rater, at(tick * 60_000));
    }
    books
        .enter(Change::Close(instance(2).key()), at(300_000))
        .unwrap();
    let clean = Audit::of(&books.entries, &books.charges);
    assert_eq!(clean.faults, []);
    assert_eq!(clean.intervals, intervals(&books.entries).unwrap());
    assert!(clean.charged.values().all(|seconds| *seconds == 240));
    let sums: Decimal = clean.segments.iter().map(|part| part.money.amount).sum();
    assert_eq!((clean.segments.len(), sums), (3, books.total()));

    // Altered, twice there, left out, charged twice, left out, for nothing known.
    let mut entries = books.entries.clone();
    entries[1].time = at(1);
    entries.remove(0);
    let mut charges = books.charges.clone();
    let stray = |charge: &Charge| {
        let mut stray = charge.clone();
        stray.interval = types::UsageId::generate(7);
        stray
    };
    charges.push(stray(&charges[0]));
    let second = books.entries[1].id();
    let third = books.entries[2].id();
    let of = |id| move |charge: &&Charge| charge.interval == id;
    let twice = charges.iter().find(of(second)).unwrap().clone();
    charges.push(twice);
    let gap = charges
        .iter()
        .position(|charge| charge.interval == third && charge.from == at(60_000));
    charges.remove(gap.unwrap());
    let audit = Audit::of(&entries, &charges);
    let text: Vec<String> = audit.faults.iter().map(ToString::to_string).collect();
    let first = books.entries[0].id().to_string();
    for (count, part) in [
        (1, "entry 0 should be here"),
        (
            1,
            "u-00000000000000007 does not fit the usage ledger: the interval is unknown",
        ),
        (4, first.as_str()),
        (1, third.to_string().as_str()),
    ] {
        let found = text.iter().filter(|line| line.contains(part)).count();
        assert_eq!(found, count, "{part}: {text:#?}");
    }
    // The second interval begins a millisecond later now, so none of its charges fit.
    assert!(text.iter().any(|line| line.contains(&second.to_string())));
}

#[test]
fn an_agreed_price_is_charged_whatever_policies_say() {
    let switched = Arc::new(Switched {
        broken: AtomicBool::new(false),
        amount: |seconds| Decimal::from(seconds),
    });
    let rater = Rater::new(switched.clone(), price_list("0.1"));
    let preemptible = |hourly: &str| Usage::InstancePreemptible {
        instance: InstanceId::generate(1),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        hourly: hourly.parse().unwrap(),
    };
    let mut books = Books::default();
    // Among others, whose price the policy sets: each gets its own.
    for usage in [disk(1), preemptible("0.36"), disk(2)] {
        books.enter(Change::Open(usage), at(0)).unwrap();
    }
    let said = |charges: &[Charge]| -> Vec<String> {
        let mut said: Vec<String> = charges
            .iter()
            .map(|charge| format!("{} {}", charge.money.amount, charge.policy))
            .collect();
        said.sort();
        said
    };
    let charges = books.tick(&rater, at(10_000));
    let expected = [
        "0.001000 price-list",
        "10.000000 switched",
        "10.000000 switched",
    ];
    assert_eq!(said(&charges), expected);
    assert!(charges.iter().all(|charge| charge.fallback.is_none()));

    // The market moves: the meter stays the same one, and its next interval has the new price.
    let key = preemptible("0.36").key();
    books.enter(Change::Close(key.clone()), at(10_000)).unwrap();
    books
        .enter(Change::Open(preemptible("0.72")), at(10_000))
        .unwrap();
    for resource in [disk(1), disk(2)] {
        books
            .enter(Change::Close(resource.key()), at(10_000))
            .unwrap();
    }
    switched.broken.store(true, Ordering::Relaxed);
    let charges = books.tick(&rater, at(20_000));
    assert_eq!(said(&charges), ["0.002000 price-list"]);
    assert!(charges[0].fallback.is_none());
    assert_eq!(books.reopened().head(), books.ledger.head());
}
