//! Subscriptions, preemptible instances and debts, over months that pass in a moment.

use crate::{
    bills::{assert_sound, disk, told},
    world::{World, gone, image, one, reach, run_one, token, until},
};
use control::{
    Control, ErrorKind,
    commands::{
        BillSelector, ChangeSubscription, ChargeFilter, Charging, DiskFilter, PayIn,
        QuoteInstances, RenewSubscription, RunInstances, SetAccount, SetSpotPrice,
    },
    model::{
        DiskCategory, FinancialLock, Instance, InstanceCharge, LineKind, PayBy, Period,
        PurchaseKind, Stage, State, StoppedMode, SubscriptionStatus,
    },
};
use types::{Decimal, ImageId, InstanceId, SubscriptionId, Timestamp};

/// 2 vCPUs and 2 GiB: by the prices of these tests 0.04 per hour.
const SMALL: &str = "ecs.t6-c1m1.large";
/// 2 vCPUs and 4 GiB: 0.06 per hour.
const LARGER: &str = "ecs.c6.large";

fn money(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn month() -> Period {
    Period::months(1).unwrap()
}

fn at(world: &World, time: &str) {
    world.things().clock_stands = Some(time.parse().unwrap());
}

/// Time goes on to there, and everything that is due by then is done.
async fn pass(world: &World, control: &Control, time: &str) {
    at(world, time);
    control.meter_now().await.unwrap();
}

fn small(image: ImageId, charging: Charging) -> RunInstances {
    RunInstances {
        instance_type: Some(SMALL.to_owned()),
        charging,
        ..RunInstances::new(image)
    }
}

async fn run(control: &Control, command: RunInstances) -> Instance {
    let made = control.run_instances(command).await.unwrap();
    reach(control, made[0].id, State::Running).await
}

async fn subscribe(
    control: &Control,
    image: ImageId,
    auto_renew: Option<Period>,
) -> (Instance, SubscriptionId) {
    let period = month();
    let charging = Charging::Subscription { period, auto_renew };
    let instance = run(control, small(image, charging)).await;
    let id = instance.charge.subscription().unwrap();
    (instance, id)
}

async fn bid(control: &Control, image: ImageId, limit: Option<&str>) -> Instance {
    let limit = limit.map(money);
    run(control, small(image, Charging::Preemptible { limit })).await
}

/// What the instance was charged so far, and for how many seconds.
async fn charged(control: &Control, id: InstanceId) -> (Decimal, u64) {
    let filter = ChargeFilter {
        instance: Some(id),
        ..ChargeFilter::default()
    };
    let charges = control.charges(&filter).await.unwrap();
    let amounts = charges.iter().map(|charge| charge.money.amount);
    (
        amounts.sum(),
        charges.iter().map(|charge| charge.seconds).sum(),
    )
}

async fn code<T: std::fmt::Debug>(done: impl Future<Output = control::Result<T>>) -> String {
    done.await.unwrap_err().code().to_owned()
}

fn renew(subscription: SubscriptionId) -> RenewSubscription {
    RenewSubscription {
        request: token("renew"),
        subscription,
        period: month(),
    }
}

fn kinds(status: &SubscriptionStatus) -> Vec<PurchaseKind> {
    let purchases = status.purchases.iter();
    purchases.map(|purchase| purchase.kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_paid_at_once_and_its_instance_lives_as_long() {
    let world = World::new();
    let control = world.start().await;
    let mut events = control.subscribe();
    at(&world, "2026-01-30T12:00:00Z");
    let image = image(&control).await.id;
    let quoted = control
        .quote(QuoteInstances {
            instance_type: Some(SMALL.to_owned()),
            vcpus: None,
            memory: None,
            disks: vec![(types::ByteCount::GIB, DiskCategory::CloudEssd)],
            charging: Charging::Subscription {
                period: month(),
                auto_renew: None,
            },
            count: 1,
        })
        .await
        .unwrap();
    let (instance, id) = subscribe(&control, image, None).await;
    let status = control.subscription(id).await.unwrap();
    let bought = &status.purchases[0];
    // 720 hours of 2 vCPUs, 2 GiB and a disk of 1 GiB, at 0.01 each.
    assert_eq!(bought.money.to_string(), "36.00 CNY");
    assert_eq!(
        (bought.money, bought.kind),
        (quoted.total, PurchaseKind::New)
    );
    // Until the 28th is over: there is no 30th.
    let expires: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    assert_eq!(status.subscription.expires(), expires);

    // Nothing else is paid for it, nor for its disk.
    pass(&world, &control, "2026-01-31T12:00:00Z").await;
    assert_eq!(charged(&control, instance.id).await, (Decimal::ZERO, 0));
    let january = BillSelector::of("2026-01".parse().unwrap());
    let bill = control.bill(&january).await.unwrap();
    assert_eq!(bill.invoice.total.to_string(), "36.00");
    assert_sound(&control).await;
    let release = control.delete_instance(instance.id, true);
    assert_eq!(code(release).await, "ChargeTypeViolation");

    // It expires: stopped, and kept for 15 days.
    pass(&world, &control, "2026-03-01T00:00:00Z").await;
    let stopped = reach(&control, instance.id, State::Stopped).await;
    assert_eq!(stopped.lock, Some(FinancialLock::Expired { restart: true }));
    let start = control.start_instance(instance.id, None);
    assert_eq!(code(start).await, "InstanceExpiredOrInArrears");
    let said = told(&mut events, "subscription.changed");
    assert!(
        said.iter()
            .any(|said| said.starts_with("InstanceExpiration.Stop")),
        "{said:?}"
    );

    // Renewed, it runs again; the same request renews once.
    pass(&world, &control, "2026-03-10T08:00:00Z").await;
    control.renew_subscription(renew(id)).await.unwrap();
    let again = control.renew_subscription(renew(id)).await.unwrap();
    assert_eq!(kinds(&again), [PurchaseKind::New, PurchaseKind::Renewal]);
    let runs = reach(&control, instance.id, State::Running).await;
    assert_eq!(runs.lock, None);
    assert_sound(&control).await;

    // It expires for good, and takes its disk along.
    pass(&world, &control, "2026-04-11T00:00:00Z").await;
    reach(&control, instance.id, State::Stopped).await;
    pass(&world, &control, "2026-04-25T23:59:59Z").await;
    control.instance(instance.id).await.unwrap();
    pass(&world, &control, "2026-04-26T00:00:00Z").await;
    gone(&control, instance.id).await;
    let status = control.subscription(id).await.unwrap();
    assert_eq!(status.subscription.stage(), Stage::Released);
    assert!(
        control
            .disks(&DiskFilter::default())
            .await
            .unwrap()
            .is_empty()
    );
    let refused = control.renew_subscription(RenewSubscription {
        request: token("late"),
        ..renew(id)
    });
    assert_eq!(code(refused).await, "IncorrectSubscriptionStatus");
    assert_sound(&control).await;
    assert_eq!(world.left_over(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_slept_for_a_year_has_renewed_all_along() {
    let world = World::new();
    let control = world.start().await;
    at(&world, "2026-01-30T12:00:00Z");
    let image = image(&control).await.id;
    let (instance, id) = subscribe(&control, image, Some(month())).await;
    at(&world, "2027-01-15T12:00:00Z");
    let control = world.restart(control).await;
    control.meter_now().await.unwrap();
    let status = control.subscription(id).await.unwrap();
    assert_eq!(status.purchases.len(), 12);
    assert!(
        kinds(&status)[1..]
            .iter()
            .all(|kind| *kind == PurchaseKind::AutoRenewal)
    );
    let terms = status.subscription.terms();
    assert!(terms.windows(2).all(|pair| pair[0].to == pair[1].from));
    let now = control.instance(instance.id).await.unwrap();
    assert_eq!((now.state, now.lock, now.run), (State::Running, None, 1));
    assert_sound(&control).await;

    // Switched off, it ends with what is paid.
    let off = control.set_auto_renew(id, None).await.unwrap();
    let expires = off.subscription.expires();
    world.things().clock_stands = Some(expires);
    control.meter_now().await.unwrap();
    reach(&control, instance.id, State::Stopped).await;
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn a_larger_type_costs_the_difference_for_the_rest() {
    let world = World::new();
    let control = world.start().await;
    at(&world, "2026-01-31T00:00:00Z");
    let image = image(&control).await.id;
    let (instance, id) = subscribe(&control, image, None).await;
    let change = |name: &str, to: &str| {
        control.change_subscription(ChangeSubscription {
            request: token(name),
            subscription: id,
            instance_type: to.to_owned(),
        })
    };
    assert_eq!(
        code(change("runs", LARGER)).await,
        "IncorrectInstanceStatus"
    );
    let nothing = Some(StoppedMode::StopCharging);
    control
        .stop_instance(instance.id, true, nothing)
        .await
        .unwrap();
    let stopped = reach(&control, instance.id, State::Stopped).await;
    assert_eq!(stopped.stopped_mode, StoppedMode::NotApplicable);
    assert_eq!(
        control.host().await.unwrap().vcpus.used,
        2,
        "it is paid for"
    );
    assert_sound(&control).await;
    // 14 of 28 days are left: half of 720 h × 2 GiB × 0.01.
    pass(&world, &control, "2026-02-14T12:00:00Z").await;
    let changed = change("larger", LARGER).await.unwrap();
    let upgrade = changed.purchases.last().unwrap();
    assert_eq!(upgrade.kind, PurchaseKind::Upgrade);
    assert_eq!(upgrade.money.to_string(), "7.20 CNY");
    let larger = control.instance(instance.id).await.unwrap();
    assert_eq!(larger.memory, types::ByteCount::from_gib(4));
    let back = change("smaller", SMALL).await.unwrap();
    let refund = back.purchases.last().unwrap();
    assert_eq!(refund.money.to_string(), "-7.20 CNY");
    let smaller = control.start_instance(instance.id, None).await.unwrap();
    assert_eq!(smaller.memory, types::ByteCount::from_gib(2));
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_paid_for_in_advance_is_kept_as_long_as_it_is() {
    let world = World::new();
    let control = world.start().await;
    at(&world, "2026-01-31T00:00:00Z");
    let image = image(&control).await.id;
    let used = async || control.host().await.unwrap().vcpus.used;
    let charging = Charging::Subscription {
        period: month(),
        auto_renew: None,
    };
    let later = RunInstances {
        start: false,
        ..small(image, charging)
    };
    let instance = control.run_instances(later).await.unwrap().remove(0);
    let id = instance.charge.subscription().unwrap();
    assert_eq!(instance.stopped_mode, StoppedMode::NotApplicable);
    assert_eq!(used().await, 2, "it is paid for from the beginning");
    let change = ChangeSubscription {
        request: token("larger"),
        subscription: id,
        instance_type: LARGER.to_owned(),
    };
    control.change_subscription(change).await.unwrap();
    let changed = control.instance(instance.id).await.unwrap();
    assert_eq!(changed.stopped_mode, StoppedMode::NotApplicable);

    // When it is over others may have the room; renewed, it has room again.
    pass(&world, &control, "2026-03-02T00:00:00Z").await;
    let until_locked = || async { control.instance(instance.id).await.unwrap().lock.is_some() };
    until(until_locked).await;
    assert_eq!(used().await, 0);
    control.renew_subscription(renew(id)).await.unwrap();
    let renewed = control.instance(instance.id).await.unwrap();
    assert_eq!(renewed.stopped_mode, StoppedMode::NotApplicable);
    assert_eq!(used().await, 2);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn who_pays_from_a_balance_and_owes_is_stopped_then_released_and_paying_ends_it() {
    let world = World::new();
    let control = world.start().await;
    let mut events = control.subscribe();
    at(&world, "2026-01-31T12:00:00Z");
    let image = image(&control).await.id;
    // What was used before is paid by invoice.
    let before = disk(&control, 100).await;
    pass(&world, &control, "2026-01-31T14:00:00Z").await;
    let pay_by = |pay_by| {
        control.set_account(SetAccount {
            account: None,
            pay_by,
        })
    };
    let account = pay_by(PayBy::Balance).await.unwrap();
    assert_eq!(account.balances[0].to_string(), "0.00 CNY");
    let charging = Charging::Subscription {
        period: month(),
        auto_renew: None,
    };
    let refused = control.run_instances(small(image, charging.clone()));
    assert_eq!(code(refused).await, "InvalidAccountStatus.NotEnoughBalance");
    let pay = |name: &str, amount: &str| {
        control.pay_in(PayIn {
            request: token(name),
            account: None,
            amount: money(amount),
            currency: None,
            reference: Some("transfer 7".to_owned()),
        })
    };
    // The same transfer counts once.
    let paid = pay("a", "40").await.unwrap();
    assert_eq!(pay("a", "40").await.unwrap().id, paid.id);
    let prepaid = run(&control, small(image, charging)).await;
    let by_the_second = run_one(&control, image).await;
    let balance = async || control.accounts().await.unwrap()[0].balances[0].amount;
    assert_eq!(balance().await, money("4"));

    // 100 GiB and a little more, an hour, at 0.01 each.
    pass(&world, &control, "2026-01-31T18:00:00Z").await;
    assert!(balance().await.is_sign_negative());
    let account = control.accounts().await.unwrap().remove(0);
    let since: Timestamp = "2026-01-31T18:00:00Z".parse().unwrap();
    assert_eq!(account.arrears[0].since, since);
    let refused = control.run_instances(one(image));
    assert_eq!(code(refused).await, "Account.Arrearage");

    // Fifteen days later everything stops that is not paid for, however late that is noticed.
    pass(&world, &control, "2026-02-15T17:59:59Z").await;
    let runs = control.instance(by_the_second.id).await.unwrap();
    assert_eq!(runs.state, State::Running);
    pass(&world, &control, "2026-02-17T06:00:00Z").await;
    let stopped = reach(&control, by_the_second.id, State::Stopped).await;
    assert_eq!(stopped.lock, Some(FinancialLock::Arrears { restart: true }));
    assert_eq!(stopped.stopped_mode, StoppedMode::StopCharging);
    let start = control.start_instance(by_the_second.id, None);
    assert_eq!(code(start).await, "InstanceExpiredOrInArrears");
    let kept = control.instance(prepaid.id).await.unwrap();
    assert_eq!(kept.state, State::Running);
    let said = told(&mut events, "account.changed");
    let tries = said.iter().filter(|said| said.contains("try")).count();
    assert_eq!(tries, 3, "{said:?}");

    // Something is not all.
    pay("b", "1").await.unwrap();
    let locked = control.instance(by_the_second.id).await.unwrap();
    assert!(locked.lock.is_some());
    pay("c", "1000").await.unwrap();
    reach(&control, by_the_second.id, State::Running).await;
    assert_eq!(control.accounts().await.unwrap()[0].arrears, []);
    assert_sound(&control).await;

    // A year is used while no daemon runs, and charged when one does: it is owed from then on.
    at(&world, "2027-02-17T06:00:00Z");
    let control = world.restart(control).await;
    control.meter_now().await.unwrap();
    let debt = control
        .accounts()
        .await
        .unwrap()
        .remove(0)
        .arrears
        .remove(0);
    let owed: Timestamp = "2027-02-17T06:00:00Z".parse().unwrap();
    assert_eq!(debt.since, owed);
    // It is stopped, too, as late as a daemon runs again, and released 15 days after that.
    at(&world, "2027-04-01T06:00:00Z");
    let control = world.restart(control).await;
    control.meter_now().await.unwrap();
    reach(&control, by_the_second.id, State::Stopped).await;
    let debt = control
        .accounts()
        .await
        .unwrap()
        .remove(0)
        .arrears
        .remove(0);
    let stopped: Timestamp = "2027-04-01T06:00:00Z".parse().unwrap();
    assert_eq!((debt.since, debt.stopped), (owed, Some(stopped)));
    pass(&world, &control, "2027-04-16T05:59:59Z").await;
    control.instance(by_the_second.id).await.unwrap();
    pass(&world, &control, "2027-04-16T06:00:00Z").await;
    gone(&control, by_the_second.id).await;
    let deleted = || async { control.disk(before.id).await.is_err() };
    until(deleted).await;
    assert_sound(&control).await;

    // By invoice, nothing is owed here.
    let account = control
        .set_account(SetAccount {
            account: None,
            pay_by: PayBy::Invoice,
        })
        .await
        .unwrap();
    assert_eq!((account.balances.len(), account.arrears.len()), (0, 0));
    run_one(&control, image).await;
}

#[tokio::test(start_paused = true)]
async fn a_preemptible_instance_costs_the_market_price_and_goes_when_that_is_above_its_bid() {
    let world = World::new();
    let control = world.start().await;
    let mut events = control.subscribe();
    at(&world, "2026-01-31T12:00:00Z");
    let image = image(&control).await.id;
    let price = async |price: &str| {
        let set = control.set_spot_price(SetSpotPrice {
            instance_type: SMALL.to_owned(),
            price: money(price),
        });
        set.await.unwrap();
    };
    price("0.036").await;
    let limit = Some(money("0.03"));
    let low = control.run_instances(small(image, Charging::Preemptible { limit }));
    assert_eq!(
        code(low).await,
        "InvalidSpotPriceLimit.LowerThanPublicPrice"
    );
    let bids = bid(&control, image, Some("0.10")).await;
    let InstanceCharge::Preemptible { lease } = &bids.charge else {
        panic!("{:?}", bids.charge);
    };
    assert_eq!(lease.entry_price.amount, money("0.036"));

    // The first hour costs what it began with, and is safe, whatever the market does.
    pass(&world, &control, "2026-01-31T12:30:00Z").await;
    price("0.72").await;
    pass(&world, &control, "2026-01-31T12:40:00Z").await;
    price("0.072").await;
    pass(&world, &control, "2026-01-31T13:00:00Z").await;
    assert_eq!(charged(&control, bids.id).await, (money("0.036"), 3600));
    // Then it costs the market price.
    pass(&world, &control, "2026-01-31T13:30:00Z").await;
    assert_eq!(charged(&control, bids.id).await, (money("0.072"), 5400));
    // Stopped with its room it costs that on.
    control.stop_instance(bids.id, true, None).await.unwrap();
    reach(&control, bids.id, State::Stopped).await;
    price("0.09").await;
    pass(&world, &control, "2026-01-31T13:40:00Z").await;
    assert_eq!(charged(&control, bids.id).await, (money("0.087"), 6000));
    control.start_instance(bids.id, None).await.unwrap();
    reach(&control, bids.id, State::Running).await;
    assert_eq!(told(&mut events, "spot.notice"), [""; 0]);

    // Above its bid: five minutes' notice, which stands.
    price("0.11").await;
    let told_so = control.instance(bids.id).await.unwrap();
    let notice = told_so.charge.lease().unwrap().notice.unwrap();
    let reclaimed: Timestamp = "2026-01-31T13:45:00Z".parse().unwrap();
    assert_eq!(notice.reclaim_at, reclaimed);
    assert_eq!(told(&mut events, "spot.notice").len(), 1);
    price("0.02").await;
    pass(&world, &control, "2026-01-31T13:44:59Z").await;
    let still = control.instance(bids.id).await.unwrap();
    assert_eq!(still.state, State::Running);
    pass(&world, &control, "2026-01-31T13:45:00Z").await;
    gone(&control, bids.id).await;
    assert_sound(&control).await;
    assert_eq!(world.left_over(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn preemptible_instances_make_room_for_others_after_their_first_hour() {
    let world = World::new();
    let control = world.start().await;
    at(&world, "2026-01-31T12:00:00Z");
    let image = image(&control).await.id;
    let first = bid(&control, image, Some("0.05")).await;
    let second = bid(&control, image, None).await;
    let wanted = || control.run_instances(small(image, Charging::PayAsYouGo));
    // The host is full, and its first hour protects everybody.
    let full = wanted().await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoStock);
    assert!(!full.next_step().unwrap().contains("Preemptible"), "{full}");

    pass(&world, &control, "2026-01-31T13:00:00Z").await;
    let full = wanted().await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoStock);
    let advice = full.next_step().unwrap();
    assert!(advice.contains("2026-01-31T13:05:00.000Z"), "{advice}");
    // One is enough: the one that bids less. Asked again, no other is told.
    wanted().await.unwrap_err();
    let lease = |instance: Instance| instance.charge.lease().cloned().unwrap();
    let told = control.instance(first.id).await.unwrap();
    assert!(lease(told).notice.is_some());
    let spared = control.instance(second.id).await.unwrap();
    assert_eq!(lease(spared).notice, None);

    pass(&world, &control, "2026-01-31T13:05:00Z").await;
    gone(&control, first.id).await;
    wanted().await.unwrap();
    // Without a market they cost what is quoted: 2 × 0.01 + 2 × 0.01 per hour.
    control.meter_now().await.unwrap();
    let (amount, seconds) = charged(&control, second.id).await;
    assert_eq!((amount, seconds), (money("0.043333"), 3900));
    let lines = control
        .bill(&BillSelector::of("2026-01".parse().unwrap()))
        .await
        .unwrap()
        .invoice
        .lines;
    assert!(lines.iter().all(|line| line.kind == LineKind::Usage));
    assert_sound(&control).await;
}
