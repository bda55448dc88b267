//! What was used is charged: every second once, whatever happens.

use crate::{
    bills::assert_sound,
    policies::{activate, install, named},
    world::{Guest, World, gone, image, one, reach, run_one, until},
};
use control::{
    Control, SCHEMA,
    commands::{ChargeFilter, CreateDisk, ModifyInstance, RunInstances, SetMeter},
    model::{Charge, State, StoppedMode},
    ports::MachineExit,
};
use std::{collections::BTreeMap, time::Duration};
use store::Store;
use types::{ByteCount, InstanceId};

async fn charges(control: &Control, instance: InstanceId) -> Vec<Charge> {
    control
        .charges(&ChargeFilter {
            instance: Some(instance),
            ..ChargeFilter::default()
        })
        .await
        .unwrap()
}

/// Each charge begins where the one before it ended.
fn assert_seamless(charges: &[Charge]) -> u64 {
    for pair in charges.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
    charges.iter().map(|charge| charge.seconds).sum()
}

#[tokio::test(start_paused = true)]
async fn running_is_charged_by_the_second_until_it_stops() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    tokio::time::sleep(Duration::from_secs(150)).await;
    let so_far = charges(&control, id).await;
    assert_eq!(so_far.len(), 2);
    assert!(
        (119..=121).contains(&assert_seamless(&so_far)),
        "{so_far:?}"
    );
    let mode = Some(StoppedMode::StopCharging);
    control.stop_instance(id, false, mode).await.unwrap();
    let stopped = reach(&control, id, State::Stopped).await;
    let ran = stopped
        .stopped_at
        .unwrap()
        .saturating_since(stopped.started_at.unwrap())
        .as_secs();
    until(|| async { charges(&control, id).await.len() == 3 }).await;
    assert_eq!(assert_seamless(&charges(&control, id).await), ran);
    // Stopped, it costs nothing more; its disk does.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(charges(&control, id).await.len(), 3);
    let totals = control
        .charge_totals(&ChargeFilter::default())
        .await
        .unwrap();
    let of = |resource: String| {
        totals
            .iter()
            .find(|total| total.resource == resource)
            .unwrap()
    };
    assert_eq!(of(id.to_string()).seconds, ran);
    assert!(of(stopped.system_disk.unwrap().to_string()).seconds > ran + 500);
    assert!(of(id.to_string()).amount.amount > types::Decimal::ZERO);
    let first = &charges(&control, id).await[0];
    assert_eq!(first.module_sha256, types::ModuleDigest::BuiltIn);
}

#[tokio::test(start_paused = true)]
async fn a_restart_neither_loses_nor_doubles_a_second() {
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await;
    let began = run_one(&control, image.id).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(100)).await;
        world.stop(control.clone()).await;
        drop(control);
        tokio::time::sleep(Duration::from_secs(50)).await;
        control = world.start().await;
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    control.meter_now().await.unwrap();
    let all = charges(&control, began.id).await;
    let ran = control::ports::Clock::now(&world)
        .saturating_since(began.started_at.unwrap())
        .as_secs();
    assert_eq!(assert_seamless(&all), ran);
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_charged_from_its_making_to_its_end() {
    let world = World::new();
    let control = world.start().await;
    let disk = control
        .create_disk(CreateDisk {
            size: ByteCount::from_gib(10),
            ..CreateDisk::default()
        })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(90)).await;
    control.delete_disk(disk.id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    let totals = control
        .charge_totals(&ChargeFilter::default())
        .await
        .unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!(
        (totals[0].resource.as_str(), totals[0].seconds),
        (disk.id.to_string().as_str(), 90)
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_of_stopping_is_charged_and_that_of_waiting_to_start_is_not() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    world.fail("start", 1);
    let failed = control
        .run_instances(crate::world::one(image.id))
        .await
        .unwrap()[0]
        .id;
    reach(&control, failed, State::Stopped).await;
    let id = run_one(&control, image.id).await.id;
    world.things().guest = Guest::Ignores;
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    until(|| async { !charges(&control, id).await.is_empty() }).await;
    assert_eq!(assert_seamless(&charges(&control, id).await), 20);
    assert_eq!(charges(&control, failed).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_keeps_its_room_and_is_charged_for_it_until_it_gives_it_up() {
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await;
    let all = RunInstances {
        vcpus: Some(4),
        ..one(image.id)
    };
    let id = control.run_instances(all.clone()).await.unwrap()[0].id;
    let placed = reach(&control, id, State::Running).await.decision;
    let of = async |control: &Control| -> BTreeMap<String, u64> {
        control.meter_now().await.unwrap();
        let mut seconds = BTreeMap::new();
        for charge in charges(control, id).await {
            *seconds.entry(charge.meter).or_default() += charge.seconds;
        }
        seconds
    };
    // The guest ends it itself: it is charged on, and nobody else gets its room.
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.exit(id, MachineExit::PowerOff).await;
    let stopped = reach(&control, id, State::Stopped).await;
    assert_eq!(stopped.stopped_mode, StoppedMode::KeepCharging);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let host = control.host().await.unwrap();
    assert_eq!((host.vcpus.used, host.instances_running), (4, 0));
    let refused = control.run_instances(all.clone()).await.unwrap_err();
    assert_eq!(refused.code(), "OperationDenied.NoStock");
    assert!(
        refused.next_step().unwrap().contains("StopCharging"),
        "{refused}"
    );
    assert_eq!(
        of(&control).await,
        [
            ("instance-running".into(), 100),
            ("instance-stopped".into(), 50)
        ]
        .into()
    );
    assert_sound(&control).await;

    // So it starts without being placed anew, also with another daemon; while it waits to start nothing is charged.
    control = world.restart(control).await;
    control.start_instance(id, None).await.unwrap();
    assert_eq!(reach(&control, id, State::Running).await.decision, placed);
    assert_sound(&control).await;
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    let kept = of(&control).await;
    tokio::time::sleep(Duration::from_secs(50)).await;

    // What it keeps it can give up later.
    let mode = Some(StoppedMode::StopCharging);
    let given_up = control.stop_instance(id, false, mode).await.unwrap();
    assert_eq!(
        (given_up.state, given_up.stopped_mode),
        (State::Stopped, StoppedMode::StopCharging)
    );
    let twice = control.stop_instance(id, false, mode).await.unwrap_err();
    assert_eq!(twice.code(), "IncorrectInstanceStatus");
    assert_eq!(control.host().await.unwrap().vcpus.used, 0);
    assert_sound(&control).await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    let over = of(&control).await;
    assert_eq!(over["instance-stopped"], kept["instance-stopped"] + 50);
    assert_eq!(over["instance-running"], kept["instance-running"]);
    let other = control.run_instances(all).await.unwrap()[0].id;
    reach(&control, other, State::Running).await;
    let refused = control.start_instance(id, None).await.unwrap_err();
    assert_eq!(refused.code(), "OperationDenied.NoStock");

    // What the host breaks off nobody pays for; what is released ends at once.
    world.exit(other, MachineExit::Signal(9)).await;
    let broken = reach(&control, other, State::Stopped).await;
    assert_eq!(broken.stopped_mode, StoppedMode::StopCharging);
    control.start_instance(id, None).await.unwrap();
    reach(&control, id, State::Running).await;
    control.stop_instance(id, true, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    assert_sound(&control).await;
    control.delete_instance(id, false).await.unwrap();
    assert_sound(&control).await;
    gone(&control, id).await;
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_what_never_came_to_run_costs_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    world.fail("start", 1);
    let id = control.run_instances(one(image.id)).await.unwrap()[0].id;
    control.stop_instance(id, false, None).await.unwrap();
    let stopped = reach(&control, id, State::Stopped).await;
    assert_eq!(
        stopped.stopped_mode,
        StoppedMode::StopCharging,
        "{stopped:?}"
    );
    tokio::time::sleep(Duration::from_secs(100)).await;
    control.meter_now().await.unwrap();
    assert_eq!(charges(&control, id).await, []);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_daemon_goes_on_unless_it_would_misread_something() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    world.end(control).await;
    let folder = world.settings().state_folder;
    let back = || Store::migrate(&folder, &SCHEMA, 1);
    assert_eq!(back().unwrap(), SCHEMA.version);
    // The newer one comes back, and writes what the older does not know.
    let control = world.start().await;
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    world.end(control).await;
    let refused = back().unwrap_err();
    assert!(
        refused.to_string().contains("use of stopped instances"),
        "{refused}"
    );
    let control = world.start().await;
    assert_sound(&control).await;
}

async fn seconds_of(control: &Control, resource: &str) -> u64 {
    let charges = control.charges(&ChargeFilter::default()).await.unwrap();
    let of = charges.iter().filter(|charge| charge.resource == resource);
    of.map(|charge| charge.seconds).sum()
}

#[tokio::test(start_paused = true)]
async fn an_image_is_charged_by_its_size_until_it_is_deleted() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    control.delete_image(image.id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    control.meter_now().await.unwrap();
    assert_eq!(seconds_of(&control, &image.id.to_string()).await, 90);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn meters_last_as_long_as_they_are_to_and_end_with_what_they_are_of() {
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let set = |name: &str, quantity: u32, while_running| SetMeter {
        resource: id.to_string(),
        name: name.to_owned(),
        quantity: quantity.into(),
        while_running,
    };
    let open = |control: &Control| {
        let control = control.clone();
        async move {
            let charges = control.charges(&ChargeFilter::default()).await.unwrap();
            let mut counted: BTreeMap<String, u64> = BTreeMap::new();
            for charge in charges
                .iter()
                .filter(|charge| charge.resource == id.to_string())
            {
                *counted.entry(charge.meter.clone()).or_default() += charge.seconds;
            }
            counted
        }
    };
    control.set_meter(set("licence", 4, true)).await.unwrap();
    control.set_meter(set("support", 1, false)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    // As it is: nothing changes. Otherwise: what was counted stays.
    control.set_meter(set("licence", 4, true)).await.unwrap();
    control.set_meter(set("licence", 2, true)).await.unwrap();
    assert_eq!(control.meters().await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(100)).await;
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    assert_sound(&control).await;
    let ran = open(&control).await;
    assert_eq!(ran["licence"], 200);
    // A daemon that comes back counts on, and no more.
    world.stop(control.clone()).await;
    drop(control);
    tokio::time::sleep(Duration::from_secs(100)).await;
    control = world.start().await;
    control.meter_now().await.unwrap();
    let stopped = open(&control).await;
    assert_eq!(stopped["licence"], 200);
    assert!(stopped["support"] >= 300, "{stopped:?}");
    control.start_instance(id, None).await.unwrap();
    reach(&control, id, State::Running).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    control.meter_now().await.unwrap();
    assert_sound(&control).await;
    let again = open(&control).await;
    assert!((249..=251).contains(&again["licence"]), "{again:?}");
    control
        .delete_meter(&id.to_string(), "support")
        .await
        .unwrap();
    let twice = control.delete_meter(&id.to_string(), "support").await;
    assert_eq!(twice.unwrap_err().code(), "InvalidMeter.NotFound");

    control.delete_instance(id, true).await.unwrap();
    gone(&control, id).await;
    assert_eq!(control.meters().await.unwrap(), []);
    tokio::time::sleep(Duration::from_secs(100)).await;
    control.meter_now().await.unwrap();
    let ended = open(&control).await;
    assert!(ended["licence"] < again["licence"] + 60, "{ended:?}");
    assert_sound(&control).await;
    let unknown = control
        .set_meter(set("licence", 1, false))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), "InvalidResourceId.NotFound");
}

/// Gives the instance that label, and no other.
async fn label(control: &Control, id: InstanceId, licence: &str) {
    let tags = [("licence".to_owned(), licence.to_owned())].into();
    let change = ModifyInstance {
        tags: Some(tags),
        ..ModifyInstance::default()
    };
    control.modify_instance(id, change).await.unwrap();
}

/// What is metered of each instance: name, quantity, and whether the policy has it metered.
async fn metered(control: &Control) -> Vec<(String, String, String, bool)> {
    let meters = control.meters().await.unwrap().into_iter();
    meters
        .map(|meter| {
            let quantity = meter.quantity.to_string();
            (meter.resource, meter.name, quantity, meter.by_policy)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_billing_policy_has_metered_what_it_has_a_price_for() {
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await;
    let licensed = |licence: &str| RunInstances {
        vcpus: Some(2),
        tags: [("licence".to_owned(), licence.to_owned())].into(),
        ..one(image.id)
    };
    let id = control.run_instances(licensed("db")).await.unwrap()[0].id;
    reach(&control, id, State::Running).await;
    assert_eq!(metered(&control).await, []);

    // From when it is in force, over restarts, while the instance runs.
    install(&control, "prices", "billing 0.02 db").await;
    activate(&control, "prices").await;
    let of = |id: InstanceId, quantity: &str, by_policy| {
        let name = "licence.db".to_owned();
        (id.to_string(), name, quantity.to_owned(), by_policy)
    };
    assert_eq!(metered(&control).await, [of(id, "2", true)]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    control = world.restart(control).await;
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_sound(&control).await;
    let charged = async |control: &Control, meter: &str| -> u64 {
        control.meter_now().await.unwrap();
        let all = charges(control, id).await.into_iter();
        all.filter(|charge| charge.meter == meter)
            .map(|charge| charge.seconds)
            .sum()
    };
    assert_eq!(charged(&control, "licence.db").await, 100);
    control.start_instance(id, None).await.unwrap();
    reach(&control, id, State::Running).await;

    // A policy that fails changes nothing; another answer does. New instances have theirs from the beginning.
    label(&control, id, "odd").await;
    assert_eq!(metered(&control).await, [of(id, "2", true)]);
    label(&control, id, "other").await;
    assert_eq!(metered(&control).await, []);
    let new = control.run_instances(licensed("db")).await.unwrap()[0].id;
    reach(&control, new, State::Running).await;
    assert_eq!(metered(&control).await, [of(new, "2", true)]);
    assert_sound(&control).await;

    // The operator's word counts, where there is one.
    let taken = control.delete_meter(&new.to_string(), "licence.db").await;
    assert_eq!(taken.unwrap_err().code(), "OperationDenied.BillingPolicy");
    let set = SetMeter {
        resource: new.to_string(),
        name: "licence.db".to_owned(),
        quantity: 5.into(),
        while_running: false,
    };
    control.set_meter(set.clone()).await.unwrap();
    assert_eq!(metered(&control).await, [of(new, "5", false)]);
    control
        .delete_meter(&set.resource, &set.name)
        .await
        .unwrap();
    assert_eq!(metered(&control).await, [of(new, "2", true)]);
    assert_sound(&control).await;
    control.set_meter(set).await.unwrap();
    label(&control, new, "none").await;
    assert_eq!(metered(&control).await, [of(new, "5", false)]);
    label(&control, id, "db").await;

    // With the policy goes what it had metered, and with an instance all.
    control.retire_policy(named("prices")).await.unwrap();
    assert_eq!(metered(&control).await, [of(new, "5", false)]);
    control.delete_instance(new, true).await.unwrap();
    gone(&control, new).await;
    assert_eq!(metered(&control).await, []);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn a_meter_is_refused_for_what_makes_no_sense() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let command = SetMeter {
        resource: image.id.to_string(),
        name: "support".to_owned(),
        quantity: 1.into(),
        while_running: true,
    };
    let refused = control.set_meter(command.clone()).await.unwrap_err();
    assert_eq!(refused.field(), Some("while_running"));
    let named = SetMeter {
        name: "image-stored".to_owned(),
        while_running: false,
        ..command
    };
    let refused = control.set_meter(named).await.unwrap_err();
    assert_eq!(refused.field(), Some("name"));
    assert_eq!(control.meters().await.unwrap(), []);
}
