use crate::common::{account, cny, stored};
use billing::{Budget, InvalidBudget};
use proptest::prelude::*;
use types::{Currency, Money, Month};

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn budget() -> Budget {
    Budget::new(account("a"), cny("200"), &[50, 80, 100]).unwrap()
}

fn fire(budget: &mut Budget, month: Month, spent: Money) -> Vec<u32> {
    let alerts = budget.alerts(month, spent).unwrap();
    assert_eq!(budget.alerts(month, spent).unwrap(), alerts);
    for alert in &alerts {
        budget.record(alert);
    }
    alerts.iter().map(|alert| alert.percent).collect()
}

#[test]
fn each_threshold_is_told_once_a_month() {
    let mut budget = budget();
    let (january, february) = (month("2026-01"), month("2026-02"));
    assert_eq!(fire(&mut budget, january, cny("99.99")), [0_u32; 0]);
    assert_eq!(fire(&mut budget, january, cny("100")), [50]);
    // Some is paid back, and spent again.
    assert_eq!(fire(&mut budget, january, cny("10")), [0_u32; 0]);
    assert_eq!(fire(&mut budget, january, cny("200")), [80, 100]);
    assert_eq!(fire(&mut budget, february, cny("170")), [50, 80]);
    // The clock went back.
    assert_eq!(fire(&mut budget, january, cny("900")), [0_u32; 0]);
    assert_eq!(fire(&mut budget, february, cny("900")), [100]);
}

#[test]
fn a_budget_that_cannot_be_kept_is_refused() {
    let new = |limit, thresholds: &[u32]| Budget::new(account("a"), limit, thresholds);
    for limit in ["0", "-1"] {
        assert_eq!(
            new(cny(limit), &[50]),
            Err(InvalidBudget::Limit(cny(limit)))
        );
    }
    for bad in [
        &[][..],
        &[0],
        &[1001],
        &[50, 50],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    ] {
        let error = new(cny("1"), bad).unwrap_err();
        assert_eq!(error, InvalidBudget::Thresholds(bad.to_vec()));
    }
    let euros = Money::new(1.into(), Currency::EUR);
    assert!(budget().alerts(month("2026-01"), euros).is_err());
}

proptest! {
    #[test]
    fn nothing_fires_twice_and_the_highest_decides(spent in proptest::collection::vec(0_i64..300, 1..30)) {
        let mut budget = budget();
        let month = month("2026-07");
        let mut fired = Vec::new();
        for amount in &spent {
            budget = stored(&budget);
            fired.extend(fire(&mut budget, month, cny(&amount.to_string())));
        }
        let highest = spent.iter().max().unwrap();
        let expected: Vec<u32> = [50, 80, 100].into_iter().filter(|percent| *highest >= i64::from(*percent) * 2).collect();
        prop_assert_eq!(fired, expected);
    }
}
