use crate::common::{DAY, HOUR, account, at, charge};
use billing::{Replay, Replayed, Settlement, Settler};
use ledger::Charge;
use types::{Currency, Timestamp};

/// A January with a late charge, and the first hours of February.
fn records() -> (Vec<Charge>, Vec<Settlement>) {
    let mut settler = Settler::new(account("a"), Currency::CNY);
    let (mut charges, mut settlements) = (Vec::new(), Vec::new());
    let ticks = [
        (1, HOUR, 19_999, HOUR),
        (2, HOUR + 1, 12_345, 2 * HOUR),
        // Its hour was settled before it came.
        (3, HOUR / 2, 55_555, 4 * HOUR),
        (4, 30 * DAY, 10_001, 30 * DAY),
        (5, 31 * DAY + 1, 40_000, 31 * DAY + HOUR),
        // Its month was closed before it came.
        (6, 31 * DAY, 7_777, 31 * DAY + 2 * HOUR),
    ];
    for (number, to, micros, tick) in ticks {
        let charge = charge(number, to, micros);
        settler.add(&charge).unwrap();
        charges.push(charge);
        for due in settler.due(at(tick)).unwrap() {
            settler.record(&due).unwrap();
            settlements.push(due);
        }
        if tick >= 31 * DAY {
            settler.close(at(31 * DAY));
        }
    }
    (charges, settlements)
}

fn replay(
    month: &str,
    charges: &[Charge],
    settlements: &[Settlement],
    settled: Timestamp,
) -> Replayed {
    let month: types::Month = month.parse().unwrap();
    let charges: Vec<&Charge> = charges.iter().collect();
    let settlements: Vec<&Settlement> = settlements.iter().collect();
    let february = month.start() == at(31 * DAY);
    Replay {
        account: &account("a"),
        currency: Currency::CNY,
        month,
        charges: &charges,
        settlements: &settlements,
        closed: february.then(|| at(31 * DAY)),
        settled,
    }
    .run()
    .unwrap()
}

#[test]
fn a_month_comes_to_the_same_again_late_charges_and_all() {
    let (charges, settlements) = records();
    let now = at(40 * DAY);
    let (january, february) = settlements.split_at(4);
    let again = replay("2026-01", &charges, &settlements, now);
    assert_eq!(again.differences, []);
    assert_eq!(again.settlements, january);
    let again = replay("2026-02", &charges, &settlements, now);
    assert_eq!(again.differences, []);
    assert_eq!(again.settlements, february);
}

#[test]
fn what_was_altered_is_named_and_what_follows_is_not() {
    let (charges, clean) = records();
    let now = at(40 * DAY);
    let check = |settlements: &[Settlement], charges: &[Charge], subject: &str, what: &str| {
        let again = replay("2026-01", charges, settlements, now);
        let found = again.differences;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].0 == subject && found[0].1.contains(what),
            "{found:#?}"
        );
    };
    let id = clean[1].id.to_string();
    let mut settlements = clean.clone();
    settlements[1].payable += types::Decimal::ONE;
    check(&settlements, &charges, &id, "amount to pay");
    // An hour that was never settled: its charge is due after all that was.
    let mut settlements = clean.clone();
    settlements.remove(3);
    let again = replay("2026-01", &charges, &settlements, now);
    assert_eq!(again.differences.len(), 1, "{:#?}", again.differences);
    assert!(again.differences[0].1.contains("is not settled"));
    assert_eq!(again.settlements, clean[..4]);
    // A charge that a settlement names is gone.
    let again = replay("2026-01", &charges[1..], &clean, now);
    let missing = again.differences.iter().any(|(subject, what)| {
        *subject == clean[0].id.to_string() && what.contains("there is no charge")
    });
    assert!(missing, "{:#?}", again.differences);
}

#[test]
fn a_month_that_is_not_over_is_compared_up_to_now() {
    let (charges, settlements) = records();
    let again = replay("2026-01", &charges[..2], &settlements[..1], at(HOUR + 2));
    assert_eq!(again.differences, []);
    assert_eq!(again.settlements, settlements[..1]);
    let again = replay("2026-01", &charges[..2], &settlements[..1], at(2 * HOUR));
    assert_eq!(again.differences.len(), 1, "{:#?}", again.differences);
}
