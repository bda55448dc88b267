//! A death after every single write of some weeks: whatever was not stored is forgotten, and the books come to the same.

mod host;

use crate::common::{DAY, Dice, HOUR};
use host::{Act, Deaths, Host, Request, SLOTS, START, SUBSCRIPTIONS};
use std::collections::BTreeSet;

/// What happens, and when by the host's clock.
type Script = Vec<(i64, Act)>;

/// Seven weeks over two ends of a month, with everything that can happen, as the seed has it.
fn script(seed: u64) -> Script {
    let mut dice = Dice(seed);
    let (mut script, mut clock) = (Script::new(), START);
    while clock < START + 45 * DAY {
        clock += dice.range(HOUR / 2, 18 * HOUR);
        if dice.once_in(15) {
            clock = (clock + dice.range(-DAY, DAY)).max(START);
        }
        for _ in 0..dice.below(4) {
            script.push((clock, Act::Ask(request(&mut dice))));
        }
        script.extend([Act::Spot, Act::Expire].map(|act| (clock, act)));
        if dice.once_in(2) {
            script.push((clock, Act::Tick));
        }
        let rest = [Act::Settle, Act::Invoice, Act::Chase];
        script.extend(rest.map(|act| (clock, act)));
    }
    // Everything is given up, and February is over.
    let release = |slot| (clock, Act::Ask(Request::Release(slot)));
    script.extend((0..SLOTS).map(release));
    let end = 59 * DAY + HOUR;
    let rest = [
        Act::Expire,
        Act::Tick,
        Act::Settle,
        Act::Invoice,
        Act::Chase,
    ];
    script.extend(rest.map(|act| (end, act)));
    script
}

fn request(dice: &mut Dice) -> Request {
    let slot = usize::try_from(dice.below(SLOTS as u64)).unwrap();
    match dice.below(16) {
        0..3 => Request::Run(slot),
        3..7 => Request::Start(slot),
        7..9 => Request::Stop(slot),
        9 => Request::Release(slot),
        10 => Request::Subscribe(slot % SUBSCRIPTIONS),
        11 => Request::Renew(slot % SUBSCRIPTIONS),
        12 => Request::ChangePlan(slot % SUBSCRIPTIONS, dice.range(0, 9_000)),
        13 => Request::Swap(slot % 4),
        _ => Request::Price(u8::try_from(1 + dice.below(8)).unwrap()),
    }
}

/// Goes through the rest of the script.
fn go_on(host: &mut Host, script: &Script, from: usize) {
    for (number, (clock, act)) in script.iter().enumerate().skip(from) {
        host.work(number, *clock, *act);
    }
}

/// Says what is not the same, rather than printing all of both.
fn same(which: &str, is: &Host, should: &Host) {
    let (books, expected) = (&is.stored.records, &should.stored.records);
    let compared = [
        ("entries", books.entries == expected.entries),
        ("charges", books.charges == expected.charges),
        ("settlements", books.settlements == expected.settlements),
        ("invoices", books.invoices == expected.invoices),
        ("purchases", books.purchases == expected.purchases),
        (
            "subscriptions",
            books.subscriptions == expected.subscriptions,
        ),
        ("arrears", is.stored.arrears == should.stored.arrears),
        ("alerts", is.stored.alerts == should.stored.alerts),
        ("rest of the store", is.stored == should.stored),
        ("open ends", is.unsettled() == should.unsettled()),
    ];
    let others: Vec<&str> = compared
        .into_iter()
        .filter_map(|(what, same)| (!same).then_some(what))
        .collect();
    assert_eq!(others, [""; 0], "{which}: these are others");
    let (made, expected) = (is.writes.iter(), should.writes.iter());
    let other = made.zip(expected).position(|(is, should)| is != should);
    assert_eq!(other, None, "{which}: the first write that is another one");
    assert_eq!(
        is.writes.len(),
        should.writes.len(),
        "{which}: as many writes"
    );
}

/// Runs the script of that seed without a death, then with one after each of its writes, then with all of them.
fn check(seed: u64) -> BTreeSet<&'static str> {
    let script = script(seed);
    let mut calm = Host::new(Deaths::Never);
    go_on(&mut calm, &script, 0);
    calm.check(&format!("seed {seed}, without a death"));

    let mut reached = Host::new(Deaths::Never);
    for (number, (clock, act)) in script.iter().enumerate() {
        let before = reached.clone();
        reached.work(number, *clock, *act);
        for write in before.writes.len() + 1..=reached.writes.len() {
            let mut host = before.clone();
            host.deaths = Deaths::After(write);
            go_on(&mut host, &script, number);
            let what = calm.writes[write - 1];
            let which = format!("seed {seed}, death after write {write} ({what})");
            assert_eq!(host.died, 1, "{which}");
            same(&which, &host, &calm);
        }
    }

    let mut host = Host::new(Deaths::AfterEach);
    go_on(&mut host, &script, 0);
    let which = format!("seed {seed}, death after each write");
    assert_eq!(host.died, calm.writes.len(), "{which}");
    same(&which, &host, &calm);
    calm.writes.into_iter().collect()
}

/// A death after a write of that seed, and nobody there for three days: the books are others then, but they hold together.
fn check_absence(seed: u64, every: usize) {
    let script = script(seed);
    let mut calm = Host::new(Deaths::Never);
    go_on(&mut calm, &script, 0);
    for write in (1..=calm.writes.len()).step_by(every) {
        let mut host = Host::new(Deaths::After(write));
        let mut back = None;
        let end = script.len() - SLOTS - 5;
        for (number, (clock, act)) in script.iter().enumerate() {
            let away = back.is_some_and(|back| *clock < back);
            if away && number < end {
                continue;
            }
            host.work(number, *clock, *act);
            if host.died > 0 && back.is_none() {
                back = Some(clock + 3 * DAY);
            }
        }
        host.check(&format!("seed {seed}, absence after write {write}"));
    }
}

#[test]
fn a_death_after_any_write_changes_nothing() {
    let mut seen = BTreeSet::new();
    for seed in 1..=2 {
        seen.extend(check(seed));
    }
    let all = [
        "all released",
        "all stopped",
        "auto-renewal",
        "charges",
        "cleared",
        "end of subscription",
        "expiry",
        "fallback charges",
        "invoice",
        "no more starts",
        "notice",
        "plan change",
        "price",
        "reclaim",
        "release",
        "released in arrears",
        "renewal",
        "renewed in vain",
        "run",
        "settlement",
        "settlement with alert",
        "start",
        "stop",
        "stopped in arrears",
        "subscription",
        "swap",
        "tried in vain",
        "unpaid settlement",
    ];
    assert_eq!(seen, BTreeSet::from(all), "every kind of write was there");
}

#[test]
fn an_absence_after_a_death_leaves_books_that_fit() {
    for seed in 11..=14 {
        check_absence(seed, 17);
    }
}
