//! CPU credits from a guest's CPU time to its quota, and CPUs that are an instance's own.

use crate::world::{World, gone, image, one, reach, until};
use control::{
    Control, ErrorKind,
    commands::RunInstances,
    model::{CpuCredits, EventSubject, Instance, Outcome, State, StoppedMode},
    ports::{CpuControl, MachineExit},
};
use cpu::{CREDIT, Core, Plan, Topology};
use placement::Constraint;
use std::time::Duration;
use types::{ByteCount, ImageId, InstanceId};

const SMALL: &str = "ecs.t6-c1m1.large";
const SECOND: Duration = Duration::from_secs(1);

fn of_type(image: ImageId, instance_type: &str) -> RunInstances {
    RunInstances {
        instance_type: Some(instance_type.to_owned()),
        memory: Some(ByteCount::from_mib(64)),
        ..RunInstances::new(image)
    }
}

async fn run(control: &Control, command: RunInstances) -> Instance {
    let made = control.run_instances(command).await.unwrap();
    reach(control, made[0].id, State::Running).await
}

async fn credits(control: &Control, id: InstanceId) -> CpuCredits {
    let instance = control.instance(id).await.unwrap();
    control.cpu_of(&instance).unwrap().credits.unwrap()
}

fn quota(world: &World, id: InstanceId) -> Option<Duration> {
    world.things().shares[&id].quota
}

/// The guest wants that much CPU time in every second for so many, and gets what its quota lets it have.
async fn burn(world: &World, id: InstanceId, seconds: u32, wanted: Duration) {
    for _ in 0..seconds {
        tokio::time::sleep(SECOND).await;
        let mut things = world.things();
        let run = things.machines[&id].run;
        let quota = things.shares[&id].quota.map_or(wanted, |quota| quota * 10);
        *things.cpu_used.get_mut(&(id, run)).unwrap() += wanted.min(quota);
    }
}

/// Counts minutes of CPU time, to a credit.
fn about(balance: Duration, credits: u32) -> bool {
    balance.abs_diff(CREDIT * credits) < CREDIT
}

#[tokio::test(start_paused = true)]
async fn a_burst_ends_at_the_baseline_and_comes_back_after_a_rest() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let mut events = control.subscribe();
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    let plan = Plan::new(2, 20);
    assert_eq!(
        quota(&world, id),
        Some(plan.full()),
        "before its first instruction"
    );
    assert_eq!(world.things().shares[&id].weight, Some(200));
    let at_first = credits(&control, id).await;
    assert!(
        about(at_first.balance, 60) && !at_first.throttled,
        "{at_first:?}"
    );
    assert_eq!(
        (at_first.max, at_first.centicredits_per_hour),
        (CREDIT * 576, 2400)
    );

    // 60 credits given and 24 an hour, at two minutes of CPU time in every minute: 37.5 minutes.
    burn(&world, id, 2200, SECOND * 2).await;
    assert!(!credits(&control, id).await.throttled);
    burn(&world, id, 60, SECOND * 2).await;
    let spent = credits(&control, id).await;
    assert!(
        spent.throttled && spent.balance == Duration::ZERO,
        "{spent:?}"
    );
    assert_eq!(quota(&world, id), Some(plan.baseline()));

    // It has its baseline for ever, and no more.
    let before = world.things().cpu_used[&(id, 1)];
    burn(&world, id, 3600, SECOND * 2).await;
    let used = world.things().cpu_used[&(id, 1)] - before;
    assert_eq!(used, CREDIT * 24);
    assert!(credits(&control, id).await.throttled);

    // At rest it earns enough to go on in half a minute, and 24 credits in an hour.
    burn(&world, id, 45, Duration::ZERO).await;
    assert_eq!(quota(&world, id), Some(plan.full()));
    burn(&world, id, 3600, Duration::ZERO).await;
    assert!(about(credits(&control, id).await.balance, 24));

    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if event.subject == EventSubject::CpuCredits(id) {
            assert_eq!(event.subject.kind(), "instance.cpu_credits");
            told.push(event.message);
        }
    }
    assert_eq!(
        told,
        [
            format!("instance {id} has used up its CPU credits and runs at its baseline of 20 %"),
            format!("instance {id} has CPU credits again"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_used_and_earned_while_no_daemon_runs_counts() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    burn(&world, id, 605, SECOND).await;
    // 60 - 10 used, 4 earned.
    assert!(about(credits(&control, id).await.balance, 54));
    world.stop(control.clone()).await;
    burn(&world, id, 600, SECOND).await;
    let control = world.restart(control).await;
    until(|| async { about(credits(&control, id).await.balance, 48) }).await;

    // Nobody looks for hours, and there is no daemon to throttle it: it owes, and says so by having nothing.
    world.stop(control.clone()).await;
    burn(&world, id, 7200, SECOND * 2).await;
    let control = world.restart(control).await;
    until(|| async { credits(&control, id).await.throttled }).await;
    assert_eq!(quota(&world, id), Some(Plan::new(2, 20).baseline()));
    burn(&world, id, 1800, Duration::ZERO).await;
    let owing = credits(&control, id).await;
    assert!(
        owing.throttled && owing.balance == Duration::ZERO,
        "{owing:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn stopped_it_keeps_what_it_has_and_earns_nothing() {
    let world = World::new();
    let mut control = world.start().await;
    let image = image(&control).await;
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    burn(&world, id, 1505, SECOND).await;
    // 60 - 25 used; 10 earned.
    assert!(about(credits(&control, id).await.balance, 45));
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    // What it used last is settled with the stop.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let kept = credits(&control, id).await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    control = world.restart(control).await;
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert_eq!(credits(&control, id).await, kept);
    control.start_instance(id, None).await.unwrap();
    reach(&control, id, State::Running).await;
    assert!(about(credits(&control, id).await.balance, 45));
    // A reboot neither gives nor forgets: 10 used just before it.
    burn(&world, id, 595, SECOND).await;
    let before = credits(&control, id).await.balance;
    burn(&world, id, 8, SECOND).await;
    control.reboot_instance(id, false).await.unwrap();
    until(|| async {
        world
            .things()
            .machines
            .get(&id)
            .is_some_and(|machine| machine.run == 3)
    })
    .await;
    let after = credits(&control, id).await.balance;
    assert!(before - after >= SECOND * 4, "{before:?} {after:?}");
    control.delete_instance(id, true).await.unwrap();
    gone(&control, id).await;
    // Another one begins anew.
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    assert!(about(credits(&control, id).await.balance, 60));
}

#[tokio::test(start_paused = true)]
async fn others_have_no_account_and_no_quota() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    for command in [one(image.id), of_type(image.id, "ecs.c6.large")] {
        let vcpus = command.vcpus.unwrap_or(2);
        let instance = run(&control, command).await;
        assert_eq!(
            control.cpu_of(&instance).unwrap(),
            control::model::CpuUse::default()
        );
        let share = world.things().shares[&instance.id].clone();
        assert_eq!(
            (share.weight, share.quota, share.place),
            (Some(vcpus * 100), None, None)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_without_control_groups_runs_everything_and_says_so() {
    let world = World::new();
    world.things().no_cpu_control = Some("nothing is mounted".into());
    let control = world.start().await;
    let image = image(&control).await;
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    burn(&world, id, 100, SECOND).await;
    let why = CpuControl::None("nothing is mounted".into());
    assert_eq!(control.host().await.unwrap().cpu_control, why);
    // Nothing is counted, so nothing is taken.
    assert!(about(credits(&control, id).await.balance, 60));
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_cannot_be_set_is_tried_again() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run(&control, of_type(image.id, SMALL)).await.id;
    world.fail("limit", 3);
    burn(&world, id, 2260, SECOND * 2).await;
    burn(&world, id, 60, SECOND * 2).await;
    assert_eq!(quota(&world, id), Some(Plan::new(2, 20).baseline()));
    assert_eq!(control.instance(id).await.unwrap().state, State::Running);
    // A machine that vanished is accounted for, and no daemon minds.
    world.exit(id, MachineExit::Crash).await;
    reach(&control, id, State::Stopped).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(credits(&control, id).await.throttled);
}

/// Four cores with two CPUs each on two nodes: 0+4, 1+5 | 2+6, 3+7.
fn machine() -> Topology {
    Topology::new((0..4_u32).map(|core| Core {
        node: core / 2,
        cpus: [core, core + 4].into_iter().collect(),
    }))
}

#[tokio::test(start_paused = true)]
async fn enterprise_families_have_cpus_of_their_own_as_far_as_there_are_any() {
    let world = World::new();
    world.things().topology = Some(machine());
    let mut settings = world.settings();
    settings.dedicated_cpus = "1-3,5-7".parse().unwrap();
    let open = || Control::open(settings.clone(), world.ports());
    let control = open().await.unwrap();
    let image = image(&control).await;
    let place = |id: InstanceId| {
        let place = world.things().shares[&id].place.clone().unwrap();
        (place.cpus.to_string(), place.nodes.to_string())
    };
    let host = control.host().await.unwrap();
    assert_eq!(host.dedicated_cpus, settings.dedicated_cpus.clone().into());
    assert_eq!(host.vcpus.total, 4 + 6);

    let large = run(&control, of_type(image.id, "ecs.g6.xlarge")).await;
    assert_eq!(place(large.id), ("2-3,6-7".into(), "1".into()));
    let own = control.cpu_of(&large).unwrap().cpus;
    assert_eq!(own, Some("2-3,6-7".parse().unwrap()));
    // Everybody else is on what is left, and takes nothing of the others' room.
    let small = run(&control, of_type(image.id, SMALL)).await;
    assert_eq!(place(small.id), ("0,4".into(), "0".into()));
    let second = run(&control, of_type(image.id, "ecs.c6.large")).await;
    assert_eq!(place(second.id), ("1,5".into(), "0".into()));

    let refused = control
        .run_instances(of_type(image.id, "ecs.g6.large"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoStock);
    let decisions = control.decisions(&Default::default()).await.unwrap();
    let lacking = decisions
        .iter()
        .find(|decision| decision.host.is_none())
        .unwrap();
    let vcpus = Outcome::Refused(Constraint::Vcpus);
    assert_eq!(lacking.outcomes[0].outcome, vcpus, "{lacking:?}");
    let third = run(&control, one(image.id)).await;
    assert_eq!(
        place(third.id),
        ("0,4".into(), "0".into()),
        "there is room beside them"
    );

    // The next daemon knows whose they are; a stop without charge gives them back.
    world.end(control).await;
    let control = open().await.unwrap();
    assert_eq!(control.cpu_of(&large).unwrap().cpus, own);
    control.stop_instance(large.id, false, None).await.unwrap();
    let kept = reach(&control, large.id, State::Stopped).await;
    assert_eq!(
        control.cpu_of(&kept).unwrap().cpus,
        own,
        "they are paid for"
    );
    let gives_up = Some(StoppedMode::StopCharging);
    control
        .stop_instance(large.id, false, gives_up)
        .await
        .unwrap();
    let stopped = reach(&control, large.id, State::Stopped).await;
    assert_eq!(control.cpu_of(&stopped).unwrap().cpus, None);
    let next = run(&control, of_type(image.id, "ecs.g6.large")).await;
    assert_eq!(place(next.id), ("2,6".into(), "1".into()));
    control.start_instance(large.id, None).await.unwrap_err();

    // A daemon with another set moves those that have lost their CPUs to the others, and those that share to where they may.
    world.end(control).await;
    settings.dedicated_cpus = "2,6".parse().unwrap();
    let control = Control::open(settings.clone(), world.ports())
        .await
        .unwrap();
    until(|| async { place(second.id).0 == "0-1,3-5,7" && place(small.id).0 == "0-1,3-5,7" }).await;
    assert_eq!(place(next.id).0, "2,6");
    assert_eq!(control.cpu_of(&second).unwrap().cpus, None);
}
