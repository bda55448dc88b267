use crate::common::{DAY, account, at, cny, looks, stored};
use billing::{Arrears, ArrearsAction as Action, Cleared, Due};
use proptest::prelude::*;
use types::{Currency, Money};

fn arrears() -> Arrears {
    Arrears::new(account("a"), cny("10.00"), at(0))
}

fn whole_sequence() -> Vec<Due<Action>> {
    [
        (0, Action::Retry { attempt: 1 }),
        (7, Action::Retry { attempt: 2 }),
        (14, Action::Retry { attempt: 3 }),
        (15, Action::Stop),
        (30, Action::Release),
    ]
    .into_iter()
    .map(|(day, action)| Due {
        at: at(day * DAY),
        action,
    })
    .collect()
}

/// Does what is due, in vain.
fn work(arrears: &mut Arrears, now: i64) -> Vec<Due<Action>> {
    let due = arrears.due(at(now));
    for action in &due {
        arrears.done(action).unwrap();
        arrears.done(action).unwrap();
    }
    due
}

#[test]
fn a_year_late_everything_is_due_in_its_order() {
    let mut late = arrears();
    assert_eq!(late.due(at(-1)), []);
    assert_eq!(late.wake(), Some(at(0)));
    assert_eq!(work(&mut late, 365 * DAY), whole_sequence());
    assert_eq!(late.wake(), None);
    assert_eq!(late.last_done(), Some(Action::Release));
}

#[test]
fn each_action_has_its_day() {
    for (index, due) in whole_sequence().iter().enumerate() {
        let before = due.at.unix_millis() - at(0).unix_millis() - 1;
        assert_eq!(arrears().due(at(before)).len(), index);
        assert_eq!(arrears().due(due.at).len(), index + 1);
    }
}

#[test]
fn actions_are_reported_in_order() {
    let mut arrears = arrears();
    let sequence = whole_sequence();
    let error = arrears.done(&sequence[1]).unwrap_err().to_string();
    assert!(error.contains("Retry { attempt: 2 }"), "{error}");
    assert!(error.contains("ask what is due"), "{error}");
    arrears.done(&sequence[0]).unwrap();
    arrears.done(&sequence[0]).unwrap();
    assert_eq!(arrears.due(at(365 * DAY)), sequence[1..]);
}

#[test]
fn paying_ends_it_whenever_that_is() {
    for (after, start_again) in [(0, false), (3, false), (4, true), (5, false)] {
        let mut arrears = arrears();
        for due in &whole_sequence()[..after] {
            arrears.done(due).unwrap();
        }
        arrears.add(cny("2.50")).unwrap();
        let Cleared::Partly(arrears) = arrears.pay(cny("12.49")).unwrap() else {
            panic!("a fen was left");
        };
        assert_eq!(arrears.owed(), cny("0.01"));
        // The schedule is the one it was.
        assert_eq!(arrears.due(at(365 * DAY)), whole_sequence()[after..]);
        let credit = cny("0.04");
        let wholly = Cleared::Wholly {
            credit,
            start_again,
        };
        assert_eq!(arrears.pay(cny("0.05")).unwrap(), wholly, "after {after}");
    }
    let euros = Money::new(1.into(), Currency::EUR);
    assert!(arrears().pay(euros).is_err());
}

proptest! {
    #[test]
    fn looking_at_any_times_gives_what_looking_once_does(looks in looks(40), restart: bool) {
        let mut often = arrears();
        let mut done = Vec::new();
        for look in &looks {
            if restart {
                often = stored(&often);
            }
            prop_assert_eq!(often.due(at(*look)), often.due(at(*look)));
            done.extend(work(&mut often, *look));
        }
        let mut once = arrears();
        let last = looks.iter().max().copied().unwrap_or(-DAY);
        prop_assert_eq!(&done, &work(&mut once, last));
        prop_assert_eq!(often, once);
    }
}
