//! Lives of hosts, made up from a seed: whatever happens to the daemon and its clock, every record of money agrees with all others.

use crate::{
    bills::{DAY, HOUR, assert_sound},
    world::{World, gone, image, one, until},
};
use control::{
    Control,
    commands::{
        ChargeFilter, Charging, DiskFilter, PayIn, RenewSubscription, Request, RunInstances,
        SetAccount, SetBudget,
    },
    model::{BillState, DiskState, PayBy, Period, Stage, StoppedMode},
};
use std::{collections::BTreeSet, time::Duration};
use types::{Decimal, ImageId};

/// A small generator of numbers: the same seed gives the same life.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % end
    }

    fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn millis(&mut self, end: i64) -> i64 {
        i64::try_from(self.below(end.unsigned_abs())).unwrap()
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let count = u64::try_from(all.len()).unwrap();
        (count > 0).then(|| all[usize::try_from(self.below(count)).unwrap()])
    }
}

/// Asks for something. It may be refused, and a daemon that is killed answers nothing.
async fn act(control: &Control, image: ImageId, dice: &mut Dice) {
    let instances = control.instances(&Default::default()).await.unwrap();
    let ids: Vec<_> = instances.iter().map(|instance| instance.id).collect();
    let disks = control.disks(&DiskFilter::default()).await.unwrap();
    let free = disks
        .iter()
        .filter(|disk| disk.state == DiskState::Available);
    let free: Vec<_> = free.map(|disk| disk.id).collect();
    match (dice.below(12), dice.pick(&ids), dice.pick(&free)) {
        (0, ..) if ids.len() < 4 => drop(control.run_instances(one(image)).await),
        (8, ..) if ids.len() < 4 => {
            let charging = match dice.once_in(2) {
                true => Charging::Preemptible { limit: None },
                false => Charging::Subscription {
                    period: Period::weeks(1).unwrap(),
                    auto_renew: dice.once_in(2).then(|| Period::weeks(2).unwrap()),
                },
            };
            let command = RunInstances {
                charging,
                ..one(image)
            };
            drop(control.run_instances(command).await);
        }
        (9, ..) => {
            let pay_by = match dice.once_in(3) {
                true => PayBy::Invoice,
                false => PayBy::Balance,
            };
            let account = SetAccount {
                account: None,
                pay_by,
            };
            drop(control.set_account(account).await);
        }
        (10, ..) => {
            let payment = PayIn {
                request: Request::default(),
                account: None,
                amount: Decimal::from(1 + dice.below(50)),
                currency: None,
                reference: None,
            };
            drop(control.pay_in(payment).await);
        }
        (11, ..) => {
            for status in control.subscriptions().await.unwrap_or_default() {
                let renewal = RenewSubscription {
                    request: Request::default(),
                    subscription: status.subscription.id(),
                    period: Period::weeks(1).unwrap(),
                };
                if dice.once_in(2) {
                    drop(control.renew_subscription(renewal).await);
                }
            }
        }
        (1, Some(id), _) => {
            let mode = match dice.once_in(2) {
                true => Some(StoppedMode::StopCharging),
                false => None,
            };
            drop(control.stop_instance(id, dice.once_in(2), mode).await);
        }
        (2, Some(id), _) => drop(control.start_instance(id, None).await),
        (3, Some(id), _) => drop(control.delete_instance(id, true).await),
        (4, _, Some(id)) => drop(control.delete_disk(id).await),
        (5, ..) => {
            let budget = SetBudget {
                name: "all".to_owned(),
                limit: Decimal::from(1 + dice.below(3)),
                currency: None,
                thresholds: vec![10, 50, 100],
            };
            drop(control.set_budget(budget).await);
        }
        (6, ..) => drop(control.meter_now().await),
        _ if free.len() < 4 => {
            let size = control::commands::CreateDisk {
                size: types::ByteCount::from_gib(1 + dice.below(40)),
                ..Default::default()
            };
            drop(control.create_disk(size).await);
        }
        _ => {}
    }
}

/// What is on all bills, and what is charged and on none.
async fn billed(control: &Control) -> (Decimal, Decimal) {
    let bills = control.bills().await.unwrap();
    let usage: Decimal = bills.iter().map(|bill| bill.invoice.usage).sum();
    let settled: Decimal = bills.iter().map(|bill| bill.invoice.settled).sum();
    let carried = bills.last().map(|bill| bill.invoice.carried_out);
    assert_eq!(settled + carried.unwrap_or_default(), usage);
    let unsettled = bills.last().map(|bill| match bill.state {
        BillState::Provisional { unsettled } => unsettled,
        BillState::Closed { .. } => Decimal::ZERO,
    });
    (usage, unsettled.unwrap_or_default())
}

async fn charged(control: &Control) -> Decimal {
    let charges = control.charges(&ChargeFilter::default()).await.unwrap();
    let ids: BTreeSet<_> = charges.iter().map(|charge| charge.id).collect();
    assert_eq!(ids.len(), charges.len(), "a charge is there twice");
    charges.iter().map(|charge| charge.money.amount).sum()
}

/// Has every subscription end that there is.
async fn expire(world: &World, control: &Control) {
    let by_invoice = SetAccount {
        account: None,
        pay_by: PayBy::Invoice,
    };
    control.set_account(by_invoice).await.unwrap();
    for status in control.subscriptions().await.unwrap() {
        // Of one that is over already it is refused.
        drop(control.set_auto_renew(status.subscription.id(), None).await);
    }
    let over = async || {
        let all = control.subscriptions().await.unwrap();
        let mut stages = all.iter().map(|status| status.subscription.stage());
        stages.all(|stage| stage == Stage::Released)
    };
    while !over().await {
        world.things().clock_ms += 16 * DAY;
        control.meter_now().await.unwrap();
    }
}

/// Takes everything away that is used.
async fn clear(control: &Control) {
    for instance in control.instances(&Default::default()).await.unwrap() {
        // One that is going already cannot be asked to.
        drop(control.delete_instance(instance.id, true).await);
        gone(control, instance.id).await;
    }
    for disk in control.disks(&DiskFilter::default()).await.unwrap() {
        drop(control.delete_disk(disk.id).await);
    }
    let none = || async {
        let disks = control.disks(&DiskFilter::default()).await.unwrap();
        disks.is_empty()
    };
    until(none).await;
}

async fn live(seed: u64) -> u32 {
    let mut dice = Dice(seed);
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await.id;
    let (mut kills, mut ahead) = (0, 0);
    for _ in 0..60 {
        if dice.once_in(3) {
            world.kill_after(dice.below(16));
        }
        if dice.once_in(4) {
            let name = dice.pick(&["start", "delete_disk", "create_disk", "ensure_interface"]);
            world.fail(name.unwrap(), 1);
        }
        act(&control, image, &mut dice).await;
        tokio::time::sleep(Duration::from_secs(dice.below(150))).await;
        let killed = world.killed();
        kills += u32::from(killed);
        if killed || dice.once_in(8) {
            control = world.restart(control).await;
        }
        let jump = match dice.below(6) {
            0 => -dice.millis(2 * HOUR),
            1 | 2 => dice.millis(2 * HOUR),
            3 if dice.once_in(4) => dice.millis(20 * DAY) - 5 * DAY,
            _ => 0,
        };
        let mut things = world.things();
        things.clock_ms += jump;
        ahead = things.clock_ms.max(ahead);
    }
    control = world.restart(control).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_sound(&control).await;
    expire(&world, &control).await;
    ahead = world.things().clock_ms.max(ahead);
    assert_sound(&control).await;
    clear(&control).await;
    assert_sound(&control).await;
    // When every hour and month is over, every charge is on one bill, and nothing is used any more.
    world.things().clock_ms = ahead + 70 * DAY;
    control.meter_now().await.unwrap();
    let (usage, unsettled) = billed(&control).await;
    assert_eq!(
        (usage, unsettled),
        (charged(&control).await, Decimal::ZERO),
        "seed {seed}"
    );
    assert!(usage > Decimal::ZERO);
    world.things().clock_ms += 40 * DAY;
    control.meter_now().await.unwrap();
    assert_eq!(billed(&control).await.0, usage);
    assert_sound(&control).await;
    kills
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_every_second_is_on_one_bill() {
    let mut kills = 0;
    for seed in 0..6 {
        kills += live(seed).await;
    }
    assert!(kills > 15, "the daemon was killed only {kills} times");
}
