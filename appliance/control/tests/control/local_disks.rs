//! Local disks: made with their instance, kept on its host, gone with it.

use crate::{
    bills::assert_sound,
    world::{World, gone, image, one, reach, token},
};
use control::{
    Control, ErrorKind,
    commands::{ChangeSubscription, Charging, DataDisk, DiskFilter, QuoteInstances, RunInstances},
    model::{DiskCategory, Instance, Period, State, StoppedMode},
};
use types::{ByteCount, ImageId};

/// 4 vCPUs, 16 GiB, and two local disks of 104 GiB.
const TYPE: &str = "ecs.i1.xlarge";

/// A host with 300 GiB of local disks.
async fn open(world: &World) -> Control {
    let mut settings = world.settings();
    settings.vcpus = 16;
    settings.memory = ByteCount::from_gib(64);
    settings.local_disk = ByteCount::from_gib(300);
    settings.limits.max_vcpus = 16;
    settings.limits.max_memory = ByteCount::from_gib(64);
    Control::open(settings, world.ports()).await.unwrap()
}

fn of_type(image: ImageId) -> RunInstances {
    RunInstances {
        instance_type: Some(TYPE.to_owned()),
        ..RunInstances::new(image)
    }
}

fn local(gib: u64) -> DataDisk {
    DataDisk::New {
        size: ByteCount::from_gib(gib),
        name: None,
        delete_with_instance: true,
        category: DiskCategory::LocalSsdPro,
    }
}

async fn run(control: &Control, command: RunInstances) -> Instance {
    let instances = control.run_instances(command).await.unwrap();
    reach(control, instances[0].id, State::Running).await
}

async fn given(control: &Control) -> u64 {
    control.host().await.unwrap().local_disk.used.gib()
}

#[tokio::test(start_paused = true)]
async fn a_type_brings_its_local_disks_and_a_host_gives_what_it_has() {
    let world = World::new();
    let control = open(&world).await;
    let image = image(&control).await.id;
    let cloud = DataDisk::New {
        size: ByteCount::from_gib(20),
        name: None,
        delete_with_instance: true,
        category: DiskCategory::CloudEssd,
    };
    let command = RunInstances {
        data_disks: vec![cloud],
        ..of_type(image)
    };
    let first = run(&control, command).await;
    let of_first = DiskFilter {
        instance: Some(first.id),
        ..DiskFilter::default()
    };
    let disks = control.disks(&of_first).await.unwrap();
    let seen = first.data_disks.iter().map(|id| {
        let disk = disks.iter().find(|disk| disk.id == *id).unwrap();
        (disk.category, disk.size.gib())
    });
    let seen: Vec<(DiskCategory, u64)> = seen.collect();
    let ssd = (DiskCategory::LocalSsdPro, 104);
    assert_eq!(seen, [ssd, ssd, (DiskCategory::CloudEssd, 20)]);
    assert_eq!(world.things().local_disks.len(), 2);
    assert_eq!(given(&control).await, 208);

    // What is not there is not given; the decision says why.
    let refused = control.run_instances(of_type(image)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoStock);
    let (said, next) = (refused.message(), refused.next_step().unwrap());
    assert!(said.contains("(constraint `local-disk`)"), "{refused}");
    assert!(
        next.contains("Release instances with local disks"),
        "{next}"
    );
    let asked = RunInstances {
        data_disks: vec![local(90)],
        ..one(image)
    };
    let second = run(&control, asked).await;
    assert_eq!(given(&control).await, 298);

    // They keep their instance where it is, with its room; released, they are gone.
    let nothing = Some(StoppedMode::StopCharging);
    control
        .stop_instance(first.id, true, nothing)
        .await
        .unwrap();
    let stopped = reach(&control, first.id, State::Stopped).await;
    assert_eq!(stopped.stopped_mode, StoppedMode::KeepCharging);
    let twice = control.stop_instance(first.id, true, nothing).await;
    assert_eq!(twice.unwrap_err().code(), "IncorrectInstanceStatus");
    control.start_instance(first.id, None).await.unwrap();
    reach(&control, first.id, State::Running).await;
    assert_sound(&control).await;
    for id in [first.id, second.id] {
        control.delete_instance(id, true).await.unwrap();
        gone(&control, id).await;
    }
    assert_eq!(given(&control).await, 0);
    assert_eq!(world.left_over(), [""; 0]);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_never_made_is_not_held_and_no_one_is_reclaimed_for_it() {
    let world = World::new();
    let control = open(&world).await;
    let image = image(&control).await.id;
    let later = RunInstances {
        start: false,
        ..of_type(image)
    };
    let later = control.run_instances(later).await.unwrap()[0].id;
    assert_eq!(given(&control).await, 0);
    let now = run(&control, of_type(image)).await;
    let refused = control.start_instance(later, None).await.unwrap_err();
    assert!(
        refused.message().contains("(constraint `local-disk`)"),
        "{refused}"
    );

    // Preemptible instances hold all vCPUs but four, past their first hour; what is missing is local disk as well.
    let charging = Charging::Preemptible { limit: None };
    let spot = RunInstances {
        vcpus: Some(12),
        charging,
        ..one(image)
    };
    let spot = run(&control, spot).await.id;
    tokio::time::sleep(std::time::Duration::from_secs(2 * 3600)).await;
    let refused = control.run_instances(of_type(image)).await.unwrap_err();
    assert_eq!(refused.code(), "OperationDenied.NoStock");
    let spared = control.instance(spot).await.unwrap();
    assert_eq!(spared.charge.lease().unwrap().notice, None);

    control.delete_instance(now.id, true).await.unwrap();
    gone(&control, now.id).await;
    control.start_instance(later, None).await.unwrap();
    reach(&control, later, State::Running).await;
    assert_eq!(given(&control).await, 208);
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_made_is_held_however_short_its_machine_lived() {
    let world = World::new();
    let control = open(&world).await;
    let image = image(&control).await.id;
    // The machine ends with the start.
    world.things().dies_at_once = true;
    let id = control.run_instances(of_type(image)).await.unwrap()[0].id;
    reach(&control, id, State::Stopped).await;
    world.things().dies_at_once = false;
    assert_eq!(given(&control).await, 208);
    let refused = control.run_instances(of_type(image)).await.unwrap_err();
    assert!(
        refused.message().contains("(constraint `local-disk`)"),
        "{refused}"
    );
    assert_sound(&control).await;
}

#[tokio::test(start_paused = true)]
async fn what_local_disks_cannot_do_is_refused() {
    let world = World::new();
    let control = open(&world).await;
    let image = image(&control).await.id;
    let refused = async |command: RunInstances| control.run_instances(command).await.unwrap_err();
    let stays = DataDisk::New {
        size: ByteCount::from_gib(10),
        name: None,
        delete_with_instance: false,
        category: DiskCategory::LocalSsdPro,
    };
    let error = refused(RunInstances {
        data_disks: vec![local(10), stays],
        ..one(image)
    })
    .await;
    let field = "data_disks[1].delete_with_instance";
    assert_eq!(error.field(), Some(field), "{error}");
    let error = refused(RunInstances {
        data_disks: vec![local(1); 15],
        ..of_type(image)
    })
    .await;
    assert_eq!(error.code(), "InstanceDiskLimitExceeded");
    assert!(error.message().contains("its type brings 2"), "{error}");

    // A subscription changes neither to nor from a type that has any.
    let subscribe = async |command: RunInstances| {
        let charging = Charging::Subscription {
            period: Period::months(1).unwrap(),
            auto_renew: None,
        };
        let command = RunInstances {
            charging,
            ..command
        };
        let id = run(&control, command).await.id;
        control.stop_instance(id, true, None).await.unwrap();
        reach(&control, id, State::Stopped).await
    };
    let change = async |instance: &Instance, to: &str| {
        let change = ChangeSubscription {
            request: token(to),
            subscription: instance.charge.subscription().unwrap(),
            instance_type: to.to_owned(),
        };
        control.change_subscription(change).await.unwrap_err()
    };
    let with = subscribe(of_type(image)).await;
    let code = "InvalidInstanceType.NotSupported";
    assert_eq!(change(&with, "ecs.g6.large").await.code(), code);
    let without = subscribe(RunInstances {
        instance_type: Some("ecs.g6.large".to_owned()),
        ..RunInstances::new(image)
    });
    assert_eq!(change(&without.await, TYPE).await.code(), code);

    // Without local disks there is no host for them.
    let world = World::new();
    let control = world.start().await;
    let image = crate::world::image(&control).await.id;
    let none = RunInstances {
        data_disks: vec![local(1)],
        ..one(image)
    };
    let error = control.run_instances(none).await.unwrap_err();
    assert_eq!(error.code(), "OperationDenied.NoStock");
}

#[tokio::test(start_paused = true)]
async fn local_disks_have_a_price_of_their_own() {
    let world = World::new();
    let control = open(&world).await;
    let quote = QuoteInstances {
        instance_type: Some(TYPE.to_owned()),
        vcpus: None,
        memory: None,
        disks: vec![(ByteCount::from_gib(10), DiskCategory::CloudEssd)],
        charging: Charging::PayAsYouGo,
        count: 1,
    };
    let quoted = control.quote(quote).await.unwrap();
    let items: Vec<&str> = quoted.lines.iter().map(|line| line.item.as_str()).collect();
    let ssd = "1 × local_ssd_pro of 104 GiB";
    assert_eq!(
        items,
        ["1 × ecs.i1.xlarge", ssd, ssd, "1 × cloud_essd of 10 GiB"]
    );
}
