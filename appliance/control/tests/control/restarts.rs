//! Daemons that end, politely or not, and the next one.

use crate::world::{World, gone, image, one, reach, run_one, until};
use control::{
    Control, ErrorKind,
    commands::DiskFilter,
    model::{DiskState, State, StopReason},
    ports::{Machine, MachineEvent, MachineEventKind, MachineExit},
};
use types::{ByteCount, DiskId, ImageId, InstanceId, InterfaceId, VpcId};

#[tokio::test(start_paused = true)]
async fn machines_go_on_and_are_found_again() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let before = run_one(&control, image.id).await;
    until(|| async {
        control
            .instance(before.id)
            .await
            .unwrap()
            .timings
            .first_output_ns
            .is_some()
    })
    .await;
    let before = control.instance(before.id).await.unwrap();
    world.stop(control.clone()).await;
    drop(control);
    assert_eq!(world.things().machines.len(), 1);
    world.things().security.clear();

    let control = world.start().await;
    assert_eq!(control.instance(before.id).await.unwrap(), before);
    assert!(world.things().resumed.contains(&before.interface));
    assert_eq!(world.things().security[&before.vpc].interfaces.len(), 1);
    // Its events are heard again.
    world.exit(before.id, MachineExit::PowerOff).await;
    let stopped = reach(&control, before.id, State::Stopped).await;
    assert_eq!(stopped.stop_reason, Some(StopReason::GuestPowerOff));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_gone_is_noticed() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    world.stop(control.clone()).await;
    drop(control);
    world.things().machines.clear();
    let control = world.start().await;
    let stopped = reach(&control, id, State::Stopped).await;
    assert_eq!(stopped.stop_reason, Some(StopReason::Vanished));
    let left: Vec<String> = world
        .left_over()
        .into_iter()
        .filter(|left| !left.starts_with("disk"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn or_started_again_where_that_is_wanted() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let stopped = run_one(&control, image.id).await.id;
    control.stop_instance(stopped, false, None).await.unwrap();
    reach(&control, stopped, State::Stopped).await;
    world.stop(control.clone()).await;
    drop(control);
    world.things().machines.clear();
    let mut settings = world.settings();
    settings.restart_vanished = true;
    let control = Control::open(settings, world.ports()).await.unwrap();
    let running = reach(&control, id, State::Running).await;
    assert_eq!(running.run, 2);
    assert_eq!(
        control.instance(stopped).await.unwrap().state,
        State::Stopped
    );
}

#[tokio::test(start_paused = true)]
async fn how_a_machine_ended_meanwhile_is_told_and_it_is_not_started_again() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let off = run_one(&control, image.id).await.id;
    let vanished = run_one(&control, image.id).await.id;
    world.stop(control.clone()).await;
    drop(control);
    let run = world.things().machines[&off].run;
    world.things().machines.clear();
    let kind = MachineEventKind::Exited(MachineExit::PowerOff);
    let event = MachineEvent {
        instance: off,
        run,
        kind,
    };
    world.things().ended = vec![event; 5000];
    let mut settings = world.settings();
    settings.restart_vanished = true;
    let control = Control::open(settings, world.ports()).await.unwrap();
    let stopped = reach(&control, off, State::Stopped).await;
    assert_eq!(stopped.stop_reason, Some(StopReason::GuestPowerOff));
    let running = reach(&control, vanished, State::Running).await;
    assert_eq!(running.run, 2);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_dies_in_mid_start_is_taken_over_from() {
    // Whatever was done when it died, the next one ends at Running with one machine.
    for call in ["ensure_interface", "start"] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        // The machine's start hangs for ever: the daemon is then thrown away as a kill would.
        world.things().hang = Some(call);
        let id = control.run_instances(one(image.id)).await.unwrap()[0].id;
        until(|| async { world.things().hanging }).await;
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(
            world.settings().state_folder.join("state.redb"),
            copy.path().join("state.redb"),
        )
        .unwrap();
        world.things().hang = None;
        let mut settings = world.settings();
        settings.state_folder = copy.path().to_owned();
        let next = Control::open(settings, world.ports()).await.unwrap();
        let running = reach(&next, id, State::Running).await;
        assert_eq!(running.run, 1);
        assert_eq!(world.things().machines.len(), 1);
        next.shut_down().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_started_but_not_recorded_is_kept() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = control.run_instances(one(image.id)).await.unwrap()[0].id;
    reach(&control, id, State::Running).await;
    world.stop(control.clone()).await;
    drop(control);
    // As if only the acceptance had reached the disk.
    let control = world.start().await;
    assert_eq!(reach(&control, id, State::Running).await.vmm_pid, Some(1));
    assert_eq!(world.things().asked[&id].run, 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_is_removed() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let kept = run_one(&control, image.id).await;
    world.stop(control.clone()).await;
    drop(control);
    let stranger = InstanceId::generate(1 << 100);
    {
        let mut things = world.things();
        let machine = Machine {
            instance: stranger,
            run: 1,
            pid: 99,
            first_output_ns: None,
        };
        things.machines.insert(stranger, machine);
        things
            .disks
            .insert(DiskId::generate(1 << 100), ByteCount::GIB);
        things
            .parts
            .insert((ImageId::generate(1 << 100), "kernel"), Vec::new());
        things
            .vpcs
            .entry(VpcId::generate(1 << 100))
            .or_default()
            .insert(InterfaceId::generate(1 << 100));
        things
            .vpcs
            .entry(kept.vpc)
            .or_default()
            .insert(InterfaceId::generate(1 << 101));
    }
    let control = world.start().await;
    until(|| async {
        let things = world.things();
        things.vpcs.len() == 1
            && things.vpcs[&kept.vpc].len() == 1
            && things.disks.len() == 1
            && things.parts.len() == 2
    })
    .await;
    {
        let things = world.things();
        assert_eq!(things.machines.keys().collect::<Vec<_>>(), [&kept.id]);
        assert!(things.vpcs[&kept.vpc].contains(&kept.interface));
        assert!(things.disks.contains_key(&kept.system_disk.unwrap()));
    }
    assert_eq!(
        control.instance(kept.id).await.unwrap().state,
        State::Running
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_is_ended() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let disk = control::commands::CreateDisk {
        size: ByteCount::GIB,
        ..Default::default()
    };
    let disk = control.create_disk(disk).await.unwrap();
    let id = run_one(&control, image.id).await.id;
    // A deletion and a release that do not get through before the daemon ends.
    world.fail("delete_disk", usize::MAX);
    assert!(control.delete_disk(disk.id).await.is_err());
    assert_eq!(
        control.disk(disk.id).await.unwrap().state,
        DiskState::Deleting
    );
    control.delete_instance(id, true).await.unwrap();
    until(|| async { world.things().machines.is_empty() }).await;
    world.stop(control.clone()).await;
    drop(control);
    world.fail("delete_disk", 0);
    let control = world.start().await;
    gone(&control, id).await;
    until(|| async {
        control
            .disks(&DiskFilter::default())
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    assert_eq!(world.left_over(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_second_daemon_is_told_who_has_the_folder() {
    let world = World::new();
    let control = world.start().await;
    let error = Control::open(world.settings(), world.ports())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let folder = world.settings().state_folder.display().to_string();
    let pid = std::process::id().to_string();
    assert!(
        error.message().contains(&folder) && error.message().contains(&pid),
        "{error}"
    );
    assert!(error.next_step().is_some());
    world.stop(control).await;
}
