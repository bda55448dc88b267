//! Requests that are refused, repeated or only tried, and requests there is no room for.

use crate::world::{World, image, one, reach, run_one, token};
use control::{
    Control, ControlError, ErrorKind,
    commands::{
        CreateDisk, CreateSecurityGroup, CreateVpc, DataDisk, DecisionFilter, DiskFilter,
        InstanceFilter, Request, RunInstances, SystemDisk,
    },
    model::{DiskCategory, InnerAccessPolicy, State, StoppedMode},
};
use std::collections::BTreeMap;
use types::{ByteCount, DiskId, ImageId, InstanceId, SecurityGroupId, VswitchId};

/// Nothing was made: no record of anything a request makes, and nothing on the host.
async fn assert_untouched(control: &Control, world: &World, what: &str) {
    assert_eq!(
        control.instances(&InstanceFilter::default()).await.unwrap(),
        [],
        "{what}"
    );
    assert_eq!(
        control.disks(&DiskFilter::default()).await.unwrap(),
        [],
        "{what}"
    );
    assert_eq!(control.interfaces().await.unwrap(), [], "{what}");
    assert_eq!(control.vpcs().await.unwrap(), [], "{what}");
    assert_eq!(world.left_over(), [""; 0], "{what}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_by_name_and_leaves_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let ok = || one(image.id);
    let mib = |mib| Some(ByteCount::from_mib(mib));
    let new = |gib| DataDisk::New {
        size: ByteCount::from_gib(gib),
        name: None,
        delete_with_instance: true,
        category: DiskCategory::CloudEssd,
    };
    let many_tags: BTreeMap<String, String> = (0..21)
        .map(|key| (key.to_string(), String::new()))
        .collect();
    let bad_token = Request {
        client_token: Some("x".repeat(65)),
        ..Request::default()
    };
    let cases: [(RunInstances, &str, &str, &str); 26] = [
        (
            RunInstances {
                vcpus: Some(0),
                ..ok()
            },
            "InvalidParameter",
            "vcpus",
            "1 to 4",
        ),
        (
            RunInstances {
                vcpus: Some(5),
                ..ok()
            },
            "InvalidParameter",
            "vcpus",
            "1 to 4",
        ),
        (
            RunInstances {
                vcpus: None,
                ..ok()
            },
            "MissingParameter",
            "vcpus",
            "Neither an instance type nor",
        ),
        (
            RunInstances {
                memory: None,
                ..ok()
            },
            "MissingParameter",
            "memory",
            "Neither an instance type nor",
        ),
        (
            RunInstances {
                memory: mib(1),
                ..ok()
            },
            "InvalidParameter",
            "memory",
            "8 MiB to 4 GiB",
        ),
        (
            RunInstances {
                memory: mib(4097),
                ..ok()
            },
            "InvalidParameter",
            "memory",
            "8 MiB to 4 GiB",
        ),
        (
            RunInstances { amount: 0, ..ok() },
            "InvalidParameter",
            "amount",
            "1 to 100",
        ),
        (
            RunInstances {
                amount: 101,
                ..ok()
            },
            "InvalidParameter",
            "amount",
            "1 to 100",
        ),
        (
            RunInstances {
                min_amount: Some(2),
                ..ok()
            },
            "InvalidParameter",
            "min_amount",
            "1 to the amount",
        ),
        (
            RunInstances {
                name: Some("x".repeat(129)),
                ..ok()
            },
            "InvalidParameter",
            "name",
            "1 to 128",
        ),
        (
            RunInstances {
                tags: many_tags,
                ..ok()
            },
            "InvalidParameter",
            "tags",
            "at most 20",
        ),
        (
            RunInstances {
                cmdline: "a\nb".into(),
                ..ok()
            },
            "InvalidParameter",
            "cmdline",
            "printable",
        ),
        (
            RunInstances {
                cmdline: "x".repeat(2048),
                ..ok()
            },
            "InvalidParameter",
            "cmdline",
            "2048",
        ),
        (
            RunInstances {
                request: bad_token,
                ..ok()
            },
            "InvalidClientToken.Malformed",
            "client_token",
            "1 to 64",
        ),
        (
            RunInstances {
                instance_type: Some("ecs.none.large".into()),
                ..ok()
            },
            "InvalidInstanceType.ValueNotSupported",
            "instance_type",
            "`ecs.none.large`",
        ),
        (
            RunInstances::new(ImageId::generate(99)),
            "InvalidImageId.NotFound",
            "",
            "There is no image m-",
        ),
        (
            RunInstances {
                vswitch: Some(VswitchId::generate(99)),
                ..ok()
            },
            "InvalidVSwitchId.NotFound",
            "vswitch",
            "There is no vswitch vsw-",
        ),
        (
            RunInstances {
                security_groups: vec![SecurityGroupId::generate(99)],
                ..ok()
            },
            "InvalidSecurityGroupId.NotFound",
            "security_groups[0]",
            "There is no security group sg-",
        ),
        (
            RunInstances {
                data_disks: vec![DataDisk::Existing(DiskId::generate(99))],
                ..ok()
            },
            "InvalidDiskId.NotFound",
            "data_disks[0]",
            "There is no disk d-",
        ),
        (
            RunInstances {
                data_disks: vec![new(1), new(0)],
                ..ok()
            },
            "InvalidParameter",
            "data_disks[1].size",
            "whole GiB",
        ),
        (
            RunInstances {
                data_disks: vec![new(32_769)],
                ..ok()
            },
            "InvalidParameter",
            "data_disks[0].size",
            "32768",
        ),
        (
            RunInstances {
                data_disks: vec![new(1); 17],
                ..ok()
            },
            "InstanceDiskLimitExceeded",
            "data_disks",
            "at most 16",
        ),
        (
            RunInstances {
                system_disk: SystemDisk {
                    size: Some(ByteCount::MIB),
                    ..SystemDisk::default()
                },
                ..ok()
            },
            "InvalidParameter",
            "system_disk.size",
            "whole GiB",
        ),
        (
            RunInstances {
                private_ip: Some("172.16.0.0".parse().unwrap()),
                ..ok()
            },
            "InvalidPrivateIpAddress.Malformed",
            "private_ip",
            "not one of the vswitch's addresses",
        ),
        (
            RunInstances {
                private_ip: Some("172.16.0.9".parse().unwrap()),
                amount: 2,
                ..ok()
            },
            "InvalidParameter",
            "private_ip",
            "one instance only",
        ),
        (
            RunInstances {
                data_disks: vec![DataDisk::Existing(DiskId::generate(99))],
                amount: 2,
                ..ok()
            },
            "InvalidParameter",
            "data_disks[0]",
            "one instance only",
        ),
    ];
    for (command, code, field, part) in cases {
        let error = control.run_instances(command).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.field().unwrap_or_default(), field, "{error}");
        assert!(error.message().contains(part), "{error} has no {part:?}");
        assert_untouched(&control, &world, error.message()).await;
    }
    let unknown = InstanceId::generate(99);
    for error in [
        control.instance(unknown).await.unwrap_err(),
        control.start_instance(unknown, None).await.unwrap_err(),
        control
            .stop_instance(unknown, true, None)
            .await
            .unwrap_err(),
        control.reboot_instance(unknown, true).await.unwrap_err(),
        control.delete_instance(unknown, true).await.unwrap_err(),
        control.console(unknown, 0, 1).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NotFound, "InvalidInstanceId.NotFound")
        );
        assert!(error.message().contains(&unknown.to_string()) && error.next_step().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn operations_are_refused_in_the_wrong_state() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let refused = |error: ControlError| {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::IncorrectState, "IncorrectInstanceStatus")
        );
        assert!(error.message().contains(&id.to_string()), "{error}");
    };
    refused(control.start_instance(id, None).await.unwrap_err());
    refused(control.delete_instance(id, false).await.unwrap_err());
    control.stop_instance(id, false, None).await.unwrap();
    reach(&control, id, State::Stopped).await;
    refused(control.stop_instance(id, false, None).await.unwrap_err());
    refused(control.stop_instance(id, true, None).await.unwrap_err());
    refused(control.reboot_instance(id, false).await.unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_token_answers_what_the_first_did() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let command = || RunInstances {
        request: token("again"),
        amount: 2,
        ..one(image.id)
    };
    let first = control.run_instances(command()).await.unwrap();
    let ids = |instances: &[control::model::Instance]| {
        instances.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let second = control.run_instances(command()).await.unwrap();
    assert_eq!(ids(&first), ids(&second));
    // When it was received makes no difference.
    let later = Request {
        received_ns: Some(7),
        ..token("again")
    };
    let third = control
        .run_instances(RunInstances {
            request: later,
            ..command()
        })
        .await
        .unwrap();
    assert_eq!(ids(&first), ids(&third));
    assert_eq!(
        control
            .instances(&InstanceFilter::default())
            .await
            .unwrap()
            .len(),
        2
    );

    let other = RunInstances {
        vcpus: Some(2),
        ..command()
    };
    let error = control.run_instances(other).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "IdempotentParameterMismatch")
    );
    assert!(error.next_step().is_some());
    // Another operation's tokens are its own.
    let disk = CreateDisk {
        request: token("again"),
        size: ByteCount::GIB,
        name: None,
    };
    let made = control.create_disk(disk.clone()).await.unwrap();
    assert_eq!(control.create_disk(disk.clone()).await.unwrap().id, made.id);
    let error = control
        .create_disk(CreateDisk {
            size: ByteCount::from_gib(2),
            ..disk.clone()
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "IdempotentParameterMismatch");

    // The answer survives a restart, and is forgotten after a day.
    world.stop(control.clone()).await;
    drop(control);
    let control = world.start().await;
    assert_eq!(
        ids(&first),
        ids(&control.run_instances(command()).await.unwrap())
    );
    tokio::time::sleep(std::time::Duration::from_secs(25 * 3600)).await;
    assert_ne!(control.create_disk(disk).await.unwrap().id, made.id);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_does_not_use_its_token_up() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let refused = RunInstances {
        request: token("t"),
        vcpus: Some(99),
        ..one(image.id)
    };
    assert_eq!(
        control.run_instances(refused).await.unwrap_err().code(),
        "InvalidParameter"
    );
    let good = RunInstances {
        request: token("t"),
        ..one(image.id)
    };
    control.run_instances(good).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let dry = || Request {
        dry_run: true,
        ..token("dry")
    };
    let errors = [
        control
            .run_instances(RunInstances {
                request: dry(),
                ..one(image.id)
            })
            .await
            .unwrap_err(),
        control
            .create_disk(CreateDisk {
                request: dry(),
                size: ByteCount::GIB,
                name: None,
            })
            .await
            .unwrap_err(),
        control
            .create_vpc(CreateVpc {
                request: dry(),
                cidr: "10.0.0.0/16".parse().unwrap(),
                name: None,
            })
            .await
            .unwrap_err(),
        control
            .create_security_group(CreateSecurityGroup {
                request: dry(),
                vpc: None,
                name: None,
                description: None,
                inner_access: InnerAccessPolicy::Accept,
            })
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::DryRun, "DryRunOperation")
        );
    }
    assert_untouched(&control, &world, "dry run").await;
    assert_eq!(
        control.decisions(&DecisionFilter::default()).await.unwrap(),
        []
    );
    // What would fail, fails as it would.
    let refused = RunInstances {
        request: dry(),
        vcpus: Some(0),
        ..one(image.id)
    };
    assert_eq!(
        control.run_instances(refused).await.unwrap_err().code(),
        "InvalidParameter"
    );
    // The token was not used up.
    control
        .run_instances(RunInstances {
            request: token("dry"),
            ..one(image.id)
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_room_there_is_a_decision_and_nothing_else() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let first = control
        .run_instances(RunInstances {
            vcpus: Some(3),
            ..one(image.id)
        })
        .await
        .unwrap();
    let error = control
        .run_instances(RunInstances {
            vcpus: Some(2),
            ..one(image.id)
        })
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NoStock, "OperationDenied.NoStock")
    );
    assert!(error.message().contains("vcpus"), "{error}");
    let decisions = control.decisions(&DecisionFilter::default()).await.unwrap();
    assert_eq!(decisions.len(), 2);
    let refused = decisions
        .iter()
        .find(|decision| decision.host.is_none())
        .unwrap();
    assert!(error.next_step().unwrap().contains(&refused.id.to_string()));
    assert_eq!(
        control
            .instances(&InstanceFilter::default())
            .await
            .unwrap()
            .len(),
        1
    );

    // All or none, unless fewer will do.
    let error = control
        .run_instances(RunInstances {
            amount: 2,
            ..one(image.id)
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "OperationDenied.NoStock");
    assert_eq!(
        control
            .instances(&InstanceFilter::default())
            .await
            .unwrap()
            .len(),
        1
    );
    let some = RunInstances {
        amount: 5,
        min_amount: Some(1),
        ..one(image.id)
    };
    assert_eq!(control.run_instances(some).await.unwrap().len(), 1);

    // A stop without charge gives room back, and a start asks for it again.
    let id = first[0].id;
    reach(&control, id, State::Running).await;
    let mode = Some(StoppedMode::StopCharging);
    control.stop_instance(id, true, mode).await.unwrap();
    reach(&control, id, State::Stopped).await;
    run_one(&control, image.id).await;
    let error = control.start_instance(id, None).await.unwrap_err();
    assert_eq!(error.code(), "OperationDenied.NoStock");
    assert_eq!(control.instance(id).await.unwrap().state, State::Stopped);
    let decisions = control
        .decisions(&DecisionFilter { instance: Some(id) })
        .await
        .unwrap();
    assert_eq!(decisions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn quotas_hold() {
    let world = World::new();
    let mut settings = world.settings();
    settings.limits.max_instances = 1;
    settings.limits.max_disks = 2;
    let control = Control::open(settings, world.ports()).await.unwrap();
    let image = image(&control).await;
    let error = control
        .run_instances(RunInstances {
            amount: 2,
            ..one(image.id)
        })
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::QuotaExceeded, "QuotaExceed.Instance")
    );
    run_one(&control, image.id).await;
    let disk = || CreateDisk {
        size: ByteCount::GIB,
        ..CreateDisk::default()
    };
    control.create_disk(disk()).await.unwrap();
    let error = control.create_disk(disk()).await.unwrap_err();
    assert_eq!(error.code(), "QuotaExceed.Disk");
    assert!(error.message().contains("there are 2 of 2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_made_leaves_nothing() {
    for call in ["create_disk", "sync_disk"] {
        let world = World::new();
        let control = world.start().await;
        world.fail(call, 1);
        let disk = CreateDisk {
            size: ByteCount::GIB,
            ..CreateDisk::default()
        };
        let error = control.create_disk(disk).await.unwrap_err();
        assert!(
            error
                .message()
                .contains(&format!("{call} was made to fail")),
            "{error}"
        );
        assert_eq!(control.disks(&DiskFilter::default()).await.unwrap(), []);
        assert_eq!(world.left_over(), [""; 0]);
        world.stop(control).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let tags = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
    let tagged = RunInstances {
        tags: tags.clone(),
        name: Some("a".into()),
        ..one(image.id)
    };
    let tagged = control.run_instances(tagged).await.unwrap()[0].id;
    let plain = control
        .run_instances(RunInstances {
            start: false,
            ..one(image.id)
        })
        .await
        .unwrap()[0]
        .id;
    reach(&control, tagged, State::Running).await;
    let all = InstanceFilter::default();
    for (filter, expected) in [
        (all.clone(), vec![tagged, plain]),
        (
            InstanceFilter {
                ids: vec![plain],
                ..all.clone()
            },
            vec![plain],
        ),
        (
            InstanceFilter {
                states: vec![State::Running],
                ..all.clone()
            },
            vec![tagged],
        ),
        (
            InstanceFilter {
                name: Some("a".into()),
                ..all.clone()
            },
            vec![tagged],
        ),
        (
            InstanceFilter {
                tags,
                ..all.clone()
            },
            vec![tagged],
        ),
        (
            InstanceFilter {
                image: Some(ImageId::generate(99)),
                ..all
            },
            vec![],
        ),
    ] {
        let mut found: Vec<_> = control
            .instances(&filter)
            .await
            .unwrap()
            .iter()
            .map(|one| one.id)
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
}
