//! Settlements, bills and budgets, and doubting them.

use crate::world::{World, image, run_one};
use control::{
    Control, ErrorKind,
    commands::{BillSelector, CreateDisk, SetBudget},
    model::{Bill, BillState, Disk, ReplayKind, ViolationKind},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};
use store::{Record, Store};
use tokio::sync::broadcast::Receiver;
use types::{AccountId, ByteCount, Decimal, Month, Timestamp};

pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn month(text: &str) -> BillSelector {
    BillSelector::of(text.parse().unwrap())
}

/// The clock goes on from there, whatever it said.
async fn at(world: &World, control: &Control, text: &str) {
    world.things().clock_stands = Some(time(text));
    control.meter_now().await.unwrap();
}

pub async fn disk(control: &Control, gib: u64) -> Disk {
    let command = CreateDisk {
        size: ByteCount::from_gib(gib),
        ..CreateDisk::default()
    };
    control.create_disk(command).await.unwrap()
}

/// Nothing is wrong with any record.
pub async fn assert_sound(control: &Control) {
    let found = control.verify_bills().await.unwrap();
    assert_eq!(found.violations, [], "of {} records", found.records);
    assert_eq!(found.unpriced, []);
    for bill in control.bills().await.unwrap() {
        let selector = BillSelector {
            account: Some(bill.invoice.account.clone()),
            ..BillSelector::of(bill.invoice.month)
        };
        let again = control.replay_bill(&selector).await.unwrap();
        assert_eq!(again.differences, []);
        assert_eq!(again.total, bill.invoice.total);
    }
}

/// What happened since this was last asked, of one kind.
pub fn told(events: &mut Receiver<control::model::Event>, kind: &str) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if event.subject.kind() == kind {
            told.push(event.message);
        }
    }
    told
}

/// A record of a table, as the store keeps it.
macro_rules! raw {
    ($($name:ident: $table:literal by $key:literal;)*) => {$(
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        struct $name(Value);

        impl Record for $name {
            const TABLE: &'static str = $table;
            type Key = str;

            fn key(&self) -> &str {
                self.0[$key].as_str().unwrap()
            }
        }
    )*};
}

raw! {
    RawInvoice: "invoices" by "key";
    RawCharge: "charges" by "key";
    RawSettlement: "settlements" by "key";
    RawOwner: "owners" by "resource";
    RawDisk: "disks" by "id";
}

/// Changes every record of a table behind the daemon's back; those that `change` says no to are removed.
fn alter<R: Record>(folder: &Path, change: impl Fn(&mut R) -> bool) {
    let store = Store::open(folder, &control::SCHEMA, Path::new("/proc/self/exe")).unwrap();
    let records: Vec<R> = store
        .read::<_, store::StoreError>(|reader| reader.list())
        .unwrap();
    store
        .write::<_, store::StoreError>(|writer| {
            for mut record in records {
                if change(&mut record) {
                    writer.put(&record)?;
                } else {
                    writer.delete::<R>(record.key())?;
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A daemon that looks at what was altered.
async fn after_altering<R: Record>(
    world: &World,
    control: Control,
    change: impl Fn(&mut R) -> bool,
) -> Control {
    world.end(control).await;
    alter(&world.settings().state_folder, change);
    world.start().await
}

#[tokio::test(start_paused = true)]
async fn hours_are_settled_and_the_month_is_closed_when_it_is_over() {
    let world = World::new();
    let control = world.start().await;
    let mut events = control.subscribe();
    at(&world, &control, "2026-01-31T12:00:00Z").await;
    disk(&control, 100).await;
    at(&world, &control, "2026-01-31T12:30:00Z").await;
    // The hour is not over: nothing is to be paid yet.
    let bill = control.bill(&month("2026-01")).await.unwrap();
    let unsettled = "0.500000".parse().unwrap();
    assert_eq!(bill.state, BillState::Provisional { unsettled });
    assert_eq!(bill.invoice.lines, []);
    at(&world, &control, "2026-01-31T13:00:01Z").await;
    let bill = control.bill(&month("2026-01")).await.unwrap();
    assert_eq!(bill.invoice.total.to_string(), "0.50");
    assert!(
        bill.to_page().starts_with("PROVISIONAL"),
        "{}",
        bill.to_page()
    );
    at(&world, &control, "2026-02-01T00:00:00Z").await;
    let bill = control.bill(&month("2026-01")).await.unwrap();
    assert_eq!(bill.invoice.total.to_string(), "12.00");
    assert_eq!(bill.invoice.lines[0].seconds, Some(12 * 3600));
    let at_midnight = time("2026-02-01T00:00:00Z");
    assert!(matches!(bill.state, BillState::Closed { at, .. } if at == at_midnight));
    assert_eq!(
        told(&mut events, "bill.closed"),
        ["2026-01 is closed for default: 12.00 CNY to pay"]
    );
    at(&world, &control, "2026-02-01T02:00:00Z").await;
    let bills = control.bills().await.unwrap();
    let months: Vec<String> = bills
        .iter()
        .map(|bill| bill.invoice.month.to_string())
        .collect();
    assert_eq!(months, ["2026-01", "2026-02"]);
    assert_eq!(bills[1].invoice.total.to_string(), "2.00");
    let error = control.bill(&month("2025-12")).await.unwrap_err();
    assert_eq!(error.code(), "InvalidBillMonth.NotFound");
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_for_a_closed_month_is_in_the_next_bill() {
    let world = World::new();
    let mut control = world.start().await;
    at(&world, &control, "2026-01-31T12:00:00Z").await;
    let first = disk(&control, 100).await;
    at(&world, &control, "2026-02-01T00:00:00Z").await;
    let closed = control.bill(&month("2026-01")).await.unwrap();
    // The clock goes back into the closed month; something is used there.
    for restarts in [false, true] {
        if restarts {
            control = world.restart(control).await;
        }
        at(&world, &control, "2026-01-31T20:00:00Z").await;
        disk(&control, 100).await;
        at(&world, &control, "2026-01-31T21:00:00Z").await;
        assert_eq!(control.bill(&month("2026-01")).await.unwrap(), closed);
        assert_sound(&control).await;
    }
    control.delete_disk(first.id).await.unwrap();
    at(&world, &control, "2026-02-01T01:00:00Z").await;
    assert_eq!(control.bill(&month("2026-01")).await.unwrap(), closed);
    let next = control.bill(&month("2026-02")).await.unwrap();
    let from = next.invoice.lines.iter().map(|line| line.from).min();
    assert!(from.unwrap() < time("2026-02-01T00:00:00Z"));
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_killed_at_any_moment_settles_the_same() {
    let world = World::new();
    let control = world.start().await;
    at(&world, &control, "2026-01-31T12:00:00Z").await;
    disk(&control, 7).await;
    // Two hours are left to be settled: the clock was ahead for a while.
    at(&world, &control, "2026-01-31T15:10:00Z").await;
    at(&world, &control, "2026-01-31T12:01:00Z").await;
    disk(&control, 11).await;
    at(&world, &control, "2026-01-31T12:10:00Z").await;
    world.end(control).await;
    let state = world.settings().state_folder.join("state.redb");
    let begin = std::fs::read(&state).unwrap();

    let mut undisturbed: Option<Vec<Bill>> = None;
    let mut killed = 0;
    for reads in [u64::MAX].into_iter().chain(0..40) {
        std::fs::write(&state, &begin).unwrap();
        world.things().clock_stands = Some(time("2026-02-03T00:00:00Z"));
        let control = world.start().await;
        world.kill_after(reads);
        let metered = control.meter_now().await;
        killed += usize::from(world.killed());
        let control = world.restart(control).await;
        assert!(metered.is_ok() || reads < u64::MAX);
        at(&world, &control, "2026-02-03T02:00:00Z").await;
        assert_sound(&control).await;
        let bills = control.bills().await.unwrap();
        assert_eq!(bills.len(), 2);
        assert!(matches!(bills[0].state, BillState::Closed { .. }));
        let closed = |bills: &[Bill]| (bills[0].invoice.clone(), bills[1].invoice.usage);
        match &undisturbed {
            Some(undisturbed) => assert_eq!(closed(&bills), closed(undisturbed), "{reads}"),
            None => undisturbed = Some(bills),
        }
        world.end(control).await;
    }
    assert!(killed > 5, "killed {killed} times");
}

#[tokio::test(start_paused = true)]
async fn a_threshold_of_a_budget_is_told_once() {
    let world = World::new();
    let mut control = world.start().await;
    let budget = |limit: &str, thresholds: &[u32]| SetBudget {
        name: "team".to_owned(),
        limit: limit.parse().unwrap(),
        currency: None,
        thresholds: thresholds.to_vec(),
    };
    at(&world, &control, "2026-01-10T00:00:00Z").await;
    disk(&control, 100).await;
    control.set_budget(budget("10", &[50, 100])).await.unwrap();
    let mut events = control.subscribe();
    at(&world, &control, "2026-01-10T04:59:00Z").await;
    assert_eq!(told(&mut events, "budget.alert"), [""; 0]);
    at(&world, &control, "2026-01-10T06:00:00Z").await;
    assert_eq!(
        told(&mut events, "budget.alert"),
        ["6.00 CNY spent in 2026-01: 50 % of the budget team of 10 CNY is reached"]
    );
    control = world.restart(control).await;
    events = control.subscribe();
    at(&world, &control, "2026-01-10T09:00:00Z").await;
    // Setting it as it is changes nothing.
    let status = control.set_budget(budget("10", &[50, 100])).await.unwrap();
    assert_eq!(status.spent.amount.to_string(), "9.00");
    let fired = |month: Month| status.budget.fired(month).collect::<Vec<_>>();
    assert_eq!(fired("2026-01".parse().unwrap()), [50]);
    assert_eq!(told(&mut events, "budget.alert"), [""; 0]);
    at(&world, &control, "2026-01-10T12:00:00Z").await;
    assert_eq!(told(&mut events, "budget.alert").len(), 1);
    // Set otherwise, it tells at once what is passed already.
    control.set_budget(budget("20", &[50, 60])).await.unwrap();
    let messages = told(&mut events, "budget.alert");
    assert_eq!(messages.len(), 2, "{messages:?}");
    // Another month, another time.
    at(&world, &control, "2026-02-03T00:00:00Z").await;
    assert_eq!(told(&mut events, "budget.alert").len(), 2);
    assert_eq!(control.budgets().await.unwrap().len(), 1);
    control.delete_budget("team").await.unwrap();
    let error = control.delete_budget("team").await.unwrap_err();
    assert_eq!(error.code(), "InvalidBudgetName.NotFound");
    assert_eq!(control.budgets().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_makes_no_sense_is_refused() {
    let world = World::new();
    let control = world.start().await;
    let good = SetBudget {
        name: "team".to_owned(),
        limit: Decimal::TEN,
        currency: None,
        thresholds: vec![80],
    };
    let long = "x".repeat(65);
    for (field, bad) in [
        (
            "name",
            SetBudget {
                name: "a b".into(),
                ..good.clone()
            },
        ),
        (
            "name",
            SetBudget {
                name: long,
                ..good.clone()
            },
        ),
        (
            "limit",
            SetBudget {
                limit: Decimal::ZERO,
                ..good.clone()
            },
        ),
        (
            "thresholds",
            SetBudget {
                thresholds: vec![0],
                ..good.clone()
            },
        ),
        (
            "thresholds",
            SetBudget {
                thresholds: Vec::new(),
                ..good.clone()
            },
        ),
        (
            "currency",
            SetBudget {
                currency: Some(types::Currency::EUR),
                ..good.clone()
            },
        ),
    ] {
        let error = control.set_budget(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.field(), Some(field), "{error}");
    }
    assert_eq!(control.budgets().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn records_altered_behind_the_daemons_back_are_found() {
    let world = World::new();
    let control = world.start().await;
    at(&world, &control, "2026-01-31T12:00:00Z").await;
    let kept = disk(&control, 100).await;
    at(&world, &control, "2026-01-31T20:00:00Z").await;
    at(&world, &control, "2026-02-02T00:00:00Z").await;
    assert_sound(&control).await;

    // A charge of a closed month.
    let control = after_altering(&world, control, |charge: &mut RawCharge| {
        if charge.0["charge"]["to"] == "2026-01-31T20:00:00.000Z" {
            charge.0["charge"]["amount"] = "1.000000".into();
        }
        true
    })
    .await;
    let found = control.verify_bills().await.unwrap().violations;
    for kind in [
        ViolationKind::Price,
        ViolationKind::Settlement,
        ViolationKind::Invoice,
    ] {
        assert!(
            found.iter().any(|violation| violation.kind == kind),
            "{kind:?}: {found:?}"
        );
    }
    let again = control.replay_bill(&month("2026-01")).await.unwrap();
    for kind in [
        ReplayKind::Price,
        ReplayKind::Settlement,
        ReplayKind::Invoice,
    ] {
        let differs = again.differences.iter().any(|differs| differs.kind == kind);
        assert!(differs, "{kind:?}: {:?}", again.differences);
    }

    // The bytes of an invoice, charges as they were.
    let control = after_altering(&world, control, |charge: &mut RawCharge| {
        if charge.0["charge"]["to"] == "2026-01-31T20:00:00.000Z" {
            charge.0["charge"]["amount"] = "8.000000".into();
        }
        true
    })
    .await;
    assert_sound(&control).await;
    let control = after_altering(&world, control, |invoice: &mut RawInvoice| {
        let text = invoice.0["text"]
            .as_str()
            .unwrap()
            .replace("default", "defaulT");
        invoice.0["text"] = text.into();
        true
    })
    .await;
    let found = control.verify_bills().await.unwrap().violations;
    assert!(
        found
            .iter()
            .any(|violation| violation.what.contains("it was altered")),
        "{found:?}"
    );

    // A disk that is gone without an entry of the ledger.
    let control = after_altering(&world, control, |_: &mut RawDisk| false).await;
    let found = control.verify_bills().await.unwrap().violations;
    let open = found
        .iter()
        .find(|violation| violation.kind == ViolationKind::OpenEnd);
    assert!(
        open.unwrap().subject.contains(&kept.id.to_string()),
        "{found:?}"
    );

    // A settlement of a month that is not closed: nothing can be settled after it.
    world.end(control).await;
    alter(
        &world.settings().state_folder,
        |settlement: &mut RawSettlement| {
            settlement.0["settlement"]["payable"] = "0.01".into();
            true
        },
    );
    world.things().clock_stands = Some(time("2026-02-02T01:00:00Z"));
    let error = Control::open(world.settings(), world.ports()).await.err();
    assert!(error.unwrap().next_step().unwrap().contains("Restore"));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_stays_with_who_pays_for_it() {
    let world = World::new();
    let control = world.start().await;
    at(&world, &control, "2026-01-10T00:00:00Z").await;
    disk(&control, 100).await;
    at(&world, &control, "2026-01-10T01:00:00Z").await;
    world.end(control).await;
    // The daemon before wrote down no owners.
    alter(&world.settings().state_folder, |_: &mut RawOwner| false);
    let control = world.start().await;
    world.end(control).await;
    let mut settings = world.settings();
    settings.account = "another".parse().unwrap();
    let control = Control::open(settings, world.ports()).await.unwrap();
    disk(&control, 50).await;
    at(&world, &control, "2026-01-10T03:00:00Z").await;
    let bills = control.bills().await.unwrap();
    let totals: BTreeMap<AccountId, String> = bills
        .into_iter()
        .map(|bill| (bill.invoice.account, bill.invoice.total.to_string()))
        .collect();
    let expected = [("another", "1.00"), ("default", "3.00")];
    let expected = expected.map(|(account, total)| (account.parse().unwrap(), total.to_owned()));
    assert_eq!(totals, expected.into());
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_runs_is_on_the_bill_with_its_disk_and_its_image() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let instance = run_one(&control, image.id).await;
    world.things().clock_ms += 3 * HOUR;
    control.meter_now().await.unwrap();
    world.things().clock_ms += HOUR;
    control.meter_now().await.unwrap();
    let bill = control.bill(&month("2026-01")).await.unwrap();
    let mut resources: Vec<String> = bill
        .invoice
        .lines
        .iter()
        .map(|line| line.resource.clone())
        .collect();
    resources.sort();
    let disk = instance.system_disk.unwrap().to_string();
    let image = image.id.to_string();
    assert_eq!(resources, [disk, instance.id.to_string(), image]);
    assert_sound(&control).await;
}
