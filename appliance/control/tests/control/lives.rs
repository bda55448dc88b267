//! Lives of instances: started, stopped, crashed, reset, released.

use crate::world::{Guest, LONG, World, gone, image, one, reach, run_one, until};
use control::{
    ErrorKind,
    commands::{CreateDisk, DataDisk, DiskFilter, ModifyInstance, RunInstances},
    model::{DiskCategory, DiskState, EventSubject, State, StopReason, StoppedMode},
    ports::MachineExit,
};
use std::time::Duration;
use types::ByteCount;

#[tokio::test(start_paused = true)]
async fn an_instance_comes_to_run() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let mut events = control.subscribe();
    let data = DataDisk::New {
        size: ByteCount::from_gib(2),
        name: None,
        delete_with_instance: false,
        category: DiskCategory::CloudEssd,
    };
    let command = RunInstances {
        data_disks: vec![data],
        cmdline: " quiet ".into(),
        ..one(image.id)
    };
    let id = control.run_instances(command).await.unwrap()[0].id;
    let instance = reach(&control, id, State::Running).await;

    let mut states = Vec::new();
    while states.last() != Some(&Some(State::Running)) {
        if let EventSubject::Instance(of, state) = events.recv().await.unwrap().subject {
            assert_eq!(of, id);
            states.push(state);
        }
    }
    assert_eq!(
        states,
        [State::Pending, State::Starting, State::Running].map(Some)
    );

    let asked = world.things().asked[&id].clone();
    assert_eq!(asked.run, 1);
    assert_eq!(asked.cmdline, "console=ttyS0 quiet");
    assert_eq!(asked.kernel, crate::world::kernel());
    let system_disk = (instance.system_disk.unwrap(), ByteCount::GIB);
    assert_eq!(
        asked.disks,
        [
            system_disk,
            (instance.data_disks[0], ByteCount::from_gib(2))
        ]
    );
    for disk in control
        .disks(&DiskFilter {
            instance: Some(id),
            ..DiskFilter::default()
        })
        .await
        .unwrap()
    {
        assert_eq!(disk.state, DiskState::InUse);
    }

    until(|| async {
        control
            .instance(id)
            .await
            .unwrap()
            .timings
            .first_output_ns
            .is_some()
    })
    .await;
    let instance = control.instance(id).await.unwrap();
    assert_eq!(instance.vmm_pid, Some(1));
    assert_eq!(instance.stop_reason, None);
    let timings = instance.timings;
    assert!(
        timings.accepted_ns <= timings.prepared_ns.unwrap()
            && timings.prepared_ns <= timings.running_ns
    );
    let decision = control.decision(instance.decision).await.unwrap();
    assert_eq!(
        (decision.instance, decision.host),
        (id, Some(instance.host))
    );

    // Its rules are in force, with it in them.
    let things = world.things();
    let security = &things.security[&instance.vpc];
    assert_eq!(security.interfaces.len(), 1);
    assert_eq!(security.interfaces[0].address, instance.private_ip);
    assert_eq!(security.groups[0].id, instance.security_groups[0]);
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_start_may_fail_and_leaves_nothing() {
    for call in [
        "clone_disk",
        "create_disk",
        "open_disk",
        "open_part",
        "ensure_interface",
        "apply_security",
        "start",
    ] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        world.fail(call, 1);
        let data = DataDisk::New {
            size: ByteCount::GIB,
            name: None,
            delete_with_instance: true,
            category: DiskCategory::CloudEssd,
        };
        let command = RunInstances {
            data_disks: vec![data],
            ..one(image.id)
        };
        let id = control.run_instances(command).await.unwrap()[0].id;
        let instance = reach(&control, id, State::Stopped).await;
        let reason = instance.stop_reason.unwrap();
        assert_eq!(reason.code(), "StartFailed");
        assert!(
            reason
                .to_string()
                .contains(&format!("{call} was made to fail")),
            "{reason}"
        );
        assert_eq!(world.left_over(), [""; 0], "{call}");
        assert_eq!(instance.vmm_pid, None);
        assert_eq!(control.host().await.unwrap().vcpus.used, 0, "{call}");

        // What failed once works the next time.
        control.start_instance(id, None).await.unwrap();
        reach(&control, id, State::Running).await;
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn undos_that_fail_are_tried_again() {
    for undo in ["remove_interface", "delete_disk", "apply_security"] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        world.fail("start", 1);
        world.fail(undo, 3);
        let id = control.run_instances(one(image.id)).await.unwrap()[0].id;
        reach(&control, id, State::Stopped).await;
        control.delete_instance(id, false).await.unwrap();
        gone(&control, id).await;
        until(|| async { world.left_over().is_empty() }).await;
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_asks_first_and_then_takes_the_power_away() {
    for (guest, force, reason, seconds) in [
        (Guest::PowersOff, false, StopReason::Requested, 0),
        (Guest::Ignores, false, StopReason::Forced, 20),
        (Guest::Ignores, true, StopReason::Forced, 0),
    ] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        let id = run_one(&control, image.id).await.id;
        world.things().guest = guest;
        let began = tokio::time::Instant::now();
        let mode = Some(StoppedMode::StopCharging);
        let stopping = control.stop_instance(id, force, mode).await.unwrap();
        assert_eq!(stopping.state, State::Stopping);
        let stopped = reach(&control, id, State::Stopped).await;
        assert_eq!(stopped.stop_reason, Some(reason));
        assert_eq!(began.elapsed().as_secs(), seconds);
        let left: Vec<String> = world
            .left_over()
            .into_iter()
            .filter(|left| !left.starts_with("disk"))
            .collect();
        assert_eq!(left, [""; 0]);
        // Disk and address are kept; the machine's room is not, as was asked.
        assert_eq!(
            control
                .disk(stopped.system_disk.unwrap())
                .await
                .unwrap()
                .state,
            DiskState::InUse
        );
        assert_eq!(control.host().await.unwrap().vcpus.used, 0);

        let again = control.start_instance(id, None).await.unwrap();
        assert_eq!((again.state, again.run), (State::Starting, 2));
        let again = reach(&control, id, State::Running).await;
        assert_eq!(
            (again.private_ip, again.mac),
            (stopped.private_ip, stopped.mac)
        );
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn force_cuts_a_stop_short() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    world.things().guest = Guest::Ignores;
    control.stop_instance(id, false, None).await.unwrap();
    let error = control.stop_instance(id, false, None).await.unwrap_err();
    assert_eq!(error.code(), "IncorrectInstanceStatus");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(control.instance(id).await.unwrap().state, State::Stopping);
    control.stop_instance(id, true, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_from_inside_or_outside_is_told_apart() {
    for (exit, reason) in [
        (MachineExit::PowerOff, "powered off by the guest"),
        (MachineExit::Crash, "the guest crashed (triple fault)"),
        (MachineExit::Signal(9), "its vmm was killed by signal 9"),
        (
            MachineExit::Failed("out of luck".into()),
            "its vmm failed: out of luck",
        ),
    ] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        let id = run_one(&control, image.id).await.id;
        world.exit(id, exit).await;
        let stopped = reach(&control, id, State::Stopped).await;
        assert_eq!(stopped.stop_reason.unwrap().to_string(), reason);
        assert_eq!(stopped.vmm_pid, None);
        let left: Vec<String> = world
            .left_over()
            .into_iter()
            .filter(|left| !left.starts_with("disk"))
            .collect();
        assert_eq!(left, [""; 0]);
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_followed_by_a_new_machine() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    world.exit(id, MachineExit::Reset).await;
    until(|| async { control.instance(id).await.unwrap().vmm_pid == Some(2) }).await;
    let instance = control.instance(id).await.unwrap();
    assert_eq!((instance.state, instance.run), (State::Running, 2));
    until(|| async {
        control
            .instance(id)
            .await
            .unwrap()
            .timings
            .first_output_ns
            .is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_nothing_but_reset_is_slowed_down() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        until(|| async { world.things().machines.contains_key(&id) }).await;
        world.exit(id, MachineExit::Reset).await;
    }
    let runs = control.instance(id).await.unwrap().run;
    assert!((5..20).contains(&runs), "{runs}");
    // It can still be stopped.
    control.stop_instance(id, true, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_reboot_stops_and_starts() {
    for (guest, force) in [
        (Guest::PowersOff, false),
        (Guest::Ignores, false),
        (Guest::Ignores, true),
    ] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        let id = run_one(&control, image.id).await.id;
        world.things().guest = guest;
        let rebooting = control.reboot_instance(id, force).await.unwrap();
        assert_eq!(rebooting.state, State::Stopping);
        let running = reach(&control, id, State::Running).await;
        assert_eq!((running.run, running.vmm_pid), (2, Some(2)));
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_takes_what_goes_with_it_and_leaves_the_rest() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let own = control
        .create_disk(CreateDisk {
            size: ByteCount::GIB,
            ..CreateDisk::default()
        })
        .await
        .unwrap();
    assert_eq!(own.state, DiskState::Available);
    let new = |delete_with_instance| DataDisk::New {
        size: ByteCount::GIB,
        name: None,
        delete_with_instance,
        category: DiskCategory::CloudEssd,
    };
    let data_disks = vec![new(true), new(false), DataDisk::Existing(own.id)];
    let id = control
        .run_instances(RunInstances {
            data_disks,
            ..one(image.id)
        })
        .await
        .unwrap()[0]
        .id;
    let instance = reach(&control, id, State::Running).await;

    let refused = control.delete_instance(id, false).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::IncorrectState, "IncorrectInstanceStatus")
    );
    let refused = control.delete_disk(own.id).await.unwrap_err();
    assert_eq!(refused.code(), "IncorrectDiskStatus");
    assert!(refused.message().contains(&id.to_string()), "{refused}");
    let protect = |on| ModifyInstance {
        deletion_protection: Some(on),
        ..ModifyInstance::default()
    };
    control.modify_instance(id, protect(true)).await.unwrap();
    let refused = control.delete_instance(id, true).await.unwrap_err();
    assert_eq!(refused.code(), "InvalidOperation.DeletionProtection");
    control.modify_instance(id, protect(false)).await.unwrap();

    control.delete_instance(id, true).await.unwrap();
    gone(&control, id).await;
    let kept = [instance.data_disks[1], own.id];
    let disks = control.disks(&DiskFilter::default()).await.unwrap();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        assert!(kept.contains(&disk.id));
        assert_eq!((disk.state, disk.instance), (DiskState::Available, None));
        control.delete_disk(disk.id).await.unwrap();
    }
    assert_eq!(world.left_over(), [""; 0]);
    assert!(world.things().forgotten.contains(&id));
    assert_eq!(control.interfaces().await.unwrap(), []);
    assert_eq!(
        control.delete_instance(id, true).await.unwrap_err().code(),
        "InvalidInstanceId.NotFound"
    );
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_release_may_fail_and_is_tried_again() {
    for call in [
        "kill",
        "remove_interface",
        "apply_security",
        "delete_disk",
        "forget",
    ] {
        let world = World::new();
        let control = world.start().await;
        let image = image(&control).await;
        let id = run_one(&control, image.id).await.id;
        world.fail(call, 2);
        control.delete_instance(id, true).await.unwrap();
        gone(&control, id).await;
        assert_eq!(world.left_over(), [""; 0], "{call}");
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_whose_file_vanished_is_named() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let instance = run_one(&control, image.id).await;
    control
        .stop_instance(instance.id, false, None)
        .await
        .unwrap();
    reach(&control, instance.id, State::Stopped).await;
    let disk = instance.system_disk.unwrap();
    world.things().disks.remove(&disk);
    control.start_instance(instance.id, None).await.unwrap();
    let failed = reach(&control, instance.id, State::Stopped).await;
    let reason = failed.stop_reason.unwrap().to_string();
    assert!(
        reason.contains(&format!("disk {disk} has vanished")),
        "{reason}"
    );
    // A disk that had content is not made anew in silence.
    assert!(!world.things().disks.contains_key(&disk));
}

#[tokio::test(start_paused = true)]
async fn an_instance_may_be_made_for_later() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let made = control
        .run_instances(RunInstances {
            start: false,
            ..one(image.id)
        })
        .await
        .unwrap();
    assert_eq!((made[0].state, made[0].run), (State::Stopped, 0));
    assert_eq!(made[0].stop_reason, Some(StopReason::NeverStarted));
    assert_eq!(world.left_over(), [""; 0]);
    control.start_instance(made[0].id, None).await.unwrap();
    assert_eq!(reach(&control, made[0].id, State::Running).await.run, 1);
}

#[tokio::test(start_paused = true)]
async fn the_console_is_read_followed_and_typed_into() {
    use futures_util::StreamExt;
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let chunk = control.console(id, 0, 3).await.unwrap();
    assert_eq!((chunk.data.as_ref(), chunk.next()), (&b"hel"[..], 3));
    let mut follow = Box::pin(control.follow_console(id, chunk.next()));
    assert_eq!(follow.next().await.unwrap().unwrap().data.as_ref(), b"lo\n");
    control
        .console_input(id, bytes::Bytes::from_static(b"typed"))
        .await
        .unwrap();
    assert_eq!(
        follow.next().await.unwrap().unwrap().data.as_ref(),
        b"typed"
    );
    control.stop_instance(id, true, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    let refused = control
        .console_input(id, bytes::Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "IncorrectInstanceStatus");
    control.delete_instance(id, false).await.unwrap();
    assert!(follow.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_its_time() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let error = control
        .wait_for_instance(id, &[State::Stopped], Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("still Running"), "{error}");
    let waiting = tokio::spawn({
        let control = control.clone();
        async move {
            control
                .wait_for_instance(id, &[State::Starting], LONG)
                .await
        }
    });
    control.delete_instance(id, true).await.unwrap();
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
