use crate::common::{DAY, HOUR, MINUTE, account, at, charge, decimal, stored};
use billing::{Settlement, SettlementError, Settler};
use ledger::Charge;
use proptest::{collection::vec, prelude::*};
use types::{Currency, Decimal, Timestamp};

fn settler() -> Settler {
    Settler::new(account("a"), Currency::CNY)
}

fn settle(settler: &mut Settler, now: Timestamp) -> Vec<Settlement> {
    let due = settler.due(now).unwrap();
    assert_eq!(settler.due(now).unwrap(), due);
    for settlement in &due {
        settler.record(settlement).unwrap();
    }
    due
}

#[test]
fn an_hour_is_settled_when_it_is_over_and_cut_off_amounts_are_carried() {
    let mut settler = settler();
    for (number, to, micros) in [
        (1, HOUR, 19_999),
        (2, HOUR + 1, 1),
        (3, 2 * HOUR, 10_000),
        (4, 5 * HOUR - 1, 0),
    ] {
        assert!(settler.add(&charge(number, to, micros)).unwrap());
        assert!(!settler.add(&charge(number, to, micros)).unwrap());
    }
    assert_eq!(settler.wake(), Some(at(HOUR)));
    assert_eq!(settler.due(at(HOUR - 1)).unwrap(), []);
    let first = settle(&mut settler, at(HOUR));
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].from, first[0].to), (at(0), at(HOUR)));
    assert_eq!(first[0].payable.to_string(), "0.01");
    assert_eq!(first[0].carried_out, decimal("0.009999"));
    let rest = settle(&mut settler, at(9 * HOUR));
    assert_eq!(rest.len(), 2);
    assert_eq!(rest[0].charges.len(), 2);
    assert_eq!(rest[0].payable.to_string(), "0.02");
    assert_eq!((rest[1].from, rest[1].to), (at(4 * HOUR), at(5 * HOUR)));
    assert_eq!(
        (rest[1].payable, settler.carried()),
        (Decimal::ZERO, Decimal::ZERO)
    );
    assert_eq!((settler.wake(), settler.pending()), (None, 0));
}

#[test]
fn late_charges_go_to_the_next_settlement() {
    let mut settler = settler();
    settler.add(&charge(1, 3 * HOUR, 20_000)).unwrap();
    settle(&mut settler, at(3 * HOUR));
    settler.add(&charge(2, HOUR, 10_000)).unwrap();
    assert_eq!(settler.due(at(4 * HOUR - 1)).unwrap(), []);
    let late = settle(&mut settler, at(4 * HOUR));
    assert_eq!(late[0].from, at(3 * HOUR));
    // A month that is invoiced gets no settlement any more, even where it had none.
    settler.close(at(31 * DAY));
    settler.add(&charge(3, 30 * DAY, 10_000)).unwrap();
    let late = settle(&mut settler, at(32 * DAY));
    assert_eq!(late[0].from, at(31 * DAY));
}

#[test]
fn what_cannot_be_settled_is_named() {
    let mut settler = settler();
    let mut euros = charge(1, HOUR, 5);
    euros.money.currency = Currency::EUR;
    let negative = charge(1, HOUR, -5);
    for bad in [&euros, &negative] {
        let error = settler.add(bad).unwrap_err();
        assert!(error.to_string().contains(&bad.id.to_string()), "{error}");
    }
    settler.add(&charge(1, HOUR, 50_000)).unwrap();
    settler.add(&charge(2, 2 * HOUR, 50_000)).unwrap();
    let due = settler.due(at(2 * HOUR)).unwrap();
    type Tamper = fn(&mut Settlement);
    let altered: [(&str, Tamper); 6] = [
        ("amount to pay", |it| it.payable += Decimal::ONE),
        ("amount carried out", |it| it.carried_out += Decimal::ONE),
        ("amount carried in", |it| it.carried_in += Decimal::ONE),
        ("sum of charges", |it| it.charged += Decimal::ONE),
        ("hour", |it| it.from = at(1)),
        ("account", |it| it.account = account("b")),
    ];
    for (what, tamper) in altered {
        let mut settlement = due[0].clone();
        tamper(&mut settlement);
        let error = settler.record(&settlement).unwrap_err();
        let id = settlement.id;
        assert_eq!(
            error,
            SettlementError::Altered {
                settlement: id,
                what
            }
        );
    }
    let hour = |settlement: &Settlement| SettlementError::Altered {
        settlement: settlement.id,
        what: "hour",
    };
    let mut shifted = due[0].clone();
    (shifted.from, shifted.to) = (at(MINUTE), at(HOUR + MINUTE));
    assert_eq!(settler.record(&shifted), Err(hour(&shifted)));
    // It adds up, but one of its charges is for a later hour.
    let mut early = due[0].clone();
    early.charges.extend(due[1].charges.clone());
    early.charges.sort_unstable();
    (early.charged, early.payable) = (decimal("0.1"), decimal("0.1"));
    assert_eq!(settler.record(&early), Err(hour(&early)));
    settler.record(&due[0]).unwrap();
    assert!(matches!(
        settler.record(&due[0]),
        Err(SettlementError::AlreadySettled { .. })
    ));
    let mut again = due[1].clone();
    again.charges.extend(due[0].charges.clone());
    assert!(matches!(
        settler.record(&again),
        Err(SettlementError::Unsettleable { charge, .. }) if charge == due[0].charges[0]
    ));
}

/// What happens to a settler.
#[derive(Clone, Debug)]
enum Step {
    Charge { to: i64, micros: i64 },
    Again(usize),
    Look(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..50 * HOUR, 0..100_000_i64).prop_map(|(to, micros)| Step::Charge { to, micros }),
        1 => any::<usize>().prop_map(Step::Again),
        2 => (0..60 * HOUR).prop_map(Step::Look),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..60)
}

proptest! {
    #[test]
    fn no_charge_is_settled_twice_or_never(steps in steps()) {
        let mut state = settler();
        let (mut charges, mut settlements): (Vec<Charge>, Vec<Settlement>) = (vec![], vec![]);
        for step in steps {
            match step {
                Step::Charge { to, micros } => {
                    let charge = charge(charges.len() as u128, to, micros);
                    state.add(&charge).unwrap();
                    charges.push(charge);
                }
                Step::Again(index) => if !charges.is_empty() {
                    prop_assert!(!state.add(&charges[index % charges.len()]).unwrap());
                },
                Step::Look(now) => settlements.extend(settle(&mut state, at(now))),
                Step::Restart => {
                    let (charges, mut settlements) = (stored(&charges), stored(&settlements));
                    settlements.reverse();
                    let replayed = Settler::replay(account("a"), Currency::CNY, &charges, &settlements, None).unwrap();
                    prop_assert_eq!(&replayed, &state);
                    state = replayed;
                }
            }
        }
        settlements.extend(settle(&mut state, at(200 * HOUR)));
        prop_assert_eq!(state.pending(), 0);
        let mut settled: Vec<_> = settlements.iter().flat_map(|it| it.charges.clone()).collect();
        settled.sort_unstable();
        let mut all: Vec<_> = charges.iter().map(|charge| charge.id).collect();
        all.sort_unstable();
        prop_assert_eq!(settled, all);
        prop_assert!(settlements.is_sorted_by(|a, b| a.to <= b.from));
        let charged: Decimal = charges.iter().map(|charge| charge.money.amount).sum();
        let paid: Decimal = settlements.iter().map(|it| it.payable).sum();
        prop_assert_eq!(paid + state.carried(), charged);
        prop_assert!(state.carried() < decimal("0.01"));
    }

    #[test]
    fn looking_often_settles_as_looking_once(
        ends in vec((0..50 * HOUR, 0..100_000_i64), 0..40),
        mut looks in vec(0..50 * HOUR, 0..20),
    ) {
        // All charges are there in time, so when anybody looks makes no difference.
        let (mut often, mut once) = (settler(), settler());
        for (number, (to, micros)) in (0..).zip(&ends) {
            often.add(&charge(number, *to, *micros)).unwrap();
            once.add(&charge(number, *to, *micros)).unwrap();
        }
        looks.sort_unstable();
        looks.push(51 * HOUR);
        let mut settled = Vec::new();
        for look in looks {
            settled.extend(settle(&mut often, at(look)));
        }
        prop_assert_eq!(&settled, &settle(&mut once, at(51 * HOUR)));
        prop_assert_eq!(often, once);
        for it in settled {
            prop_assert_eq!(it.to.unix_millis() - it.from.unix_millis(), 60 * MINUTE);
            prop_assert_eq!(it.to.unix_millis() % HOUR, 0);
        }
    }
}
