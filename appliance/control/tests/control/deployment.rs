//! Where instances may be: zones, deployment sets, and with or apart from others.

use crate::world::{LONG, World, gone, image, one, reach, run_one, token};
use control::{
    Control, ControlError, ErrorKind,
    commands::{
        Charging, CreateDeploymentSet, DecisionFilter, InstallPolicy, InstanceFilter,
        ModifyDeploymentSet, PolicySelector, Request, RunInstances,
    },
    model::{
        Decision, DeploymentSet, DeploymentStrategy, Instance, InstanceAffinity, PolicyRole, State,
        StoppedMode,
    },
};
use placement::{Affinity, PlacementRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Record, Store, StoreError};
use types::{ByteCount, DeploymentSetId, ImageId, InstanceId};

async fn set(control: &Control, strategy: DeploymentStrategy) -> DeploymentSetId {
    let command = CreateDeploymentSet {
        strategy,
        ..CreateDeploymentSet::default()
    };
    control.create_deployment_set(command).await.unwrap().id
}

fn into_set(image: ImageId, set: DeploymentSetId) -> RunInstances {
    RunInstances {
        deployment_set: Some(set),
        ..one(image)
    }
}

fn beside(image: ImageId, with: &[InstanceId], apart_from: &[InstanceId]) -> RunInstances {
    let affinity = InstanceAffinity {
        with: with.to_vec(),
        apart_from: apart_from.to_vec(),
    };
    RunInstances {
        affinity,
        ..one(image)
    }
}

async fn run(control: &Control, command: RunInstances) -> Instance {
    let instances = control.run_instances(command).await.unwrap();
    assert_eq!(instances.len(), 1);
    reach(control, instances[0].id, State::Running).await
}

async fn stop(control: &Control, id: InstanceId) {
    let mode = Some(StoppedMode::StopCharging);
    control.stop_instance(id, true, mode).await.unwrap();
    reach(control, id, State::Stopped).await;
}

async fn release(control: &Control, id: InstanceId) {
    control.delete_instance(id, true).await.unwrap();
    gone(control, id).await;
}

async fn members(control: &Control, set: DeploymentSetId) -> Vec<InstanceId> {
    control.deployment_set(set).await.unwrap().members
}

/// There is no stock because of that constraint, and what to do is said of it.
#[track_caller]
fn assert_no_stock(error: &ControlError, constraint: &str, next_step: &str) {
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NoStock, "OperationDenied.NoStock"),
        "{error}"
    );
    let named = format!("(constraint `{constraint}`)");
    assert!(error.message().contains(&named), "{error}");
    let said = error.next_step().unwrap();
    assert!(
        said.contains(next_step) && said.contains("decision dec-"),
        "{said}"
    );
}

/// Every decision there is comes out again.
async fn decisions(control: &Control) -> Vec<Decision> {
    let decisions = control.decisions(&DecisionFilter::default()).await.unwrap();
    for decision in &decisions {
        let rerun = control.rerun_decision(decision.id).await.unwrap();
        assert_eq!(rerun.kept_sha256, rerun.rerun_sha256, "{decision:?}");
    }
    decisions
}

#[tokio::test(start_paused = true)]
async fn deployment_sets_come_and_go() {
    let world = World::new();
    let control = world.start().await;
    let command = || CreateDeploymentSet {
        request: token("set"),
        name: Some("quorum".into()),
        ..CreateDeploymentSet::default()
    };
    let first = control.create_deployment_set(command()).await.unwrap();
    assert_eq!(first.strategy, DeploymentStrategy::Availability);
    assert_eq!(first.members, []);
    assert!(first.id.to_string().starts_with("ds-"));
    assert_eq!(
        control.create_deployment_set(command()).await.unwrap(),
        first
    );
    let dry = CreateDeploymentSet {
        request: Request {
            dry_run: true,
            ..Request::default()
        },
        ..CreateDeploymentSet::default()
    };
    let error = control.create_deployment_set(dry).await.unwrap_err();
    assert_eq!(error.code(), "DryRunOperation");
    let named = CreateDeploymentSet {
        name: Some("x".repeat(129)),
        ..CreateDeploymentSet::default()
    };
    let error = control.create_deployment_set(named).await.unwrap_err();
    assert_eq!(error.field(), Some("name"));

    let change = ModifyDeploymentSet {
        name: Some("trio".into()),
        ..ModifyDeploymentSet::default()
    };
    let changed = control.modify_deployment_set(first.id, change).await;
    assert_eq!(changed.unwrap().name.as_deref(), Some("trio"));
    let second = set(&control, DeploymentStrategy::LowLatency).await;
    let control = world.restart(control).await;
    let all = control.deployment_sets().await.unwrap();
    let shown = |set: &DeploymentSet| (set.id, set.name.clone(), set.strategy);
    assert_eq!(
        all.iter().map(shown).collect::<Vec<_>>(),
        [
            (
                first.id,
                Some("trio".into()),
                DeploymentStrategy::Availability
            ),
            (second, None, DeploymentStrategy::LowLatency),
        ]
    );

    control.delete_deployment_set(first.id).await.unwrap();
    let errors = [
        control.deployment_set(first.id).await.unwrap_err(),
        control.delete_deployment_set(first.id).await.unwrap_err(),
        control
            .modify_deployment_set(first.id, ModifyDeploymentSet::default())
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.code(), "InvalidDeploymentSetId.NotFound");
    }
    for _ in 1..100 {
        set(&control, DeploymentStrategy::Availability).await;
    }
    let error = control.create_deployment_set(CreateDeploymentSet::default());
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
}

#[tokio::test(start_paused = true)]
async fn members_are_kept_on_different_hosts() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let set = set(&control, DeploymentStrategy::Availability).await;
    let first = run(&control, into_set(image, set)).await;
    assert_eq!(first.deployment_set, Some(set));
    assert_eq!(members(&control, set).await, [first.id]);
    let other = run_one(&control, image).await;
    let filter = InstanceFilter {
        deployment_set: Some(set),
        ..InstanceFilter::default()
    };
    let found = control.instances(&filter).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, first.id);

    // There is but this host, also for the next daemon.
    let error = control.run_instances(into_set(image, set)).await;
    assert_no_stock(&error.unwrap_err(), "deployment-set", "deployment set");
    let control = world.restart(control).await;
    let error = control.run_instances(into_set(image, set)).await;
    assert_no_stock(&error.unwrap_err(), "deployment-set", "deployment set");
    let dry = RunInstances {
        request: Request {
            dry_run: true,
            ..Request::default()
        },
        ..into_set(image, set)
    };
    let error = control.run_instances(dry).await;
    assert_no_stock(&error.unwrap_err(), "deployment-set", "deployment set");
    let decisions = decisions(&control).await;
    let refused = decisions.iter().filter(|made| made.host.is_none());
    assert_eq!((decisions.len(), refused.count()), (4, 2));

    // A stopped member takes nobody's place, and is placed anew when it starts.
    stop(&control, first.id).await;
    let second = run(&control, into_set(image, set)).await;
    assert_eq!(members(&control, set).await, [first.id, second.id]);
    let error = control.start_instance(first.id, None).await.unwrap_err();
    assert_no_stock(&error, "deployment-set", "deployment set");
    for member in [second.id, first.id] {
        let error = control.delete_deployment_set(set).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Denied, "DependencyViolation.NotEmpty")
        );
        release(&control, member).await;
    }
    control.delete_deployment_set(set).await.unwrap();
    reach(&control, other.id, State::Running).await;
}

#[tokio::test(start_paused = true)]
async fn one_request_places_its_members_one_by_one() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let apart = set(&control, DeploymentStrategy::Availability).await;
    let some = |set, least| RunInstances {
        amount: 3,
        min_amount: least,
        ..into_set(image, set)
    };
    let error = control.run_instances(some(apart, None)).await.unwrap_err();
    assert_no_stock(&error, "deployment-set", "deployment set");
    assert_eq!(members(&control, apart).await, []);
    let made = control.run_instances(some(apart, Some(1))).await.unwrap();
    assert_eq!(made.len(), 1);
    let near = set(&control, DeploymentStrategy::LowLatency).await;
    let made = control.run_instances(some(near, None)).await.unwrap();
    let mut ids: Vec<InstanceId> = made.iter().map(|instance| instance.id).collect();
    ids.sort_unstable();
    assert_eq!(members(&control, near).await, ids);
    let about = decisions(&control).await;
    for id in ids {
        assert!(about.iter().any(|made| made.instance == id));
    }
}

#[tokio::test(start_paused = true)]
async fn instances_are_with_others_or_apart_from_them() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let first = run_one(&control, image).await.id;
    let near = run(&control, beside(image, &[first], &[])).await;
    assert_eq!(near.affinity.with, [first]);
    let error = control.run_instances(beside(image, &[], &[first])).await;
    let error = error.unwrap_err();
    assert_no_stock(&error, "affinity", "with or apart from");
    let error = control
        .run_instances(beside(image, &[near.id], &[first]))
        .await;
    assert_no_stock(&error.unwrap_err(), "affinity", "with or apart from");

    // Stopped, it still has its disks here.
    stop(&control, first).await;
    let error = control.run_instances(beside(image, &[], &[first])).await;
    assert_no_stock(&error.unwrap_err(), "affinity", "with or apart from");
    let control = world.restart(control).await;
    assert_eq!(
        control.instance(near.id).await.unwrap().affinity,
        near.affinity
    );

    // Gone, it does not count any more.
    release(&control, first).await;
    stop(&control, near.id).await;
    control.start_instance(near.id, None).await.unwrap();
    reach(&control, near.id, State::Running).await;
    decisions(&control).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_named_must_be_there() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let there = run_one(&control, image).await.id;
    let unknown = InstanceId::generate(999);
    let zone = |zone: &str| RunInstances {
        zone: Some(zone.to_owned()),
        ..one(image)
    };
    let no_set = into_set(image, DeploymentSetId::generate(999));
    let many = vec![there; InstanceAffinity::MAX + 1];
    for (command, kind, code, field) in [
        (
            no_set,
            ErrorKind::NotFound,
            "InvalidDeploymentSetId.NotFound",
            "deployment_set",
        ),
        (
            zone("elsewhere"),
            ErrorKind::NotFound,
            "InvalidZoneId.NotFound",
            "zone",
        ),
        (
            beside(image, &[there, unknown], &[]),
            ErrorKind::NotFound,
            "InvalidInstanceId.NotFound",
            "affinity.with[1]",
        ),
        (
            beside(image, &[], &[unknown]),
            ErrorKind::NotFound,
            "InvalidInstanceId.NotFound",
            "affinity.apart_from[0]",
        ),
        (
            beside(image, &[there], &[there]),
            ErrorKind::InvalidInput,
            "InvalidParameter",
            "affinity.apart_from[0]",
        ),
        (
            beside(image, &many, &[]),
            ErrorKind::InvalidInput,
            "InvalidParameter",
            "affinity.with",
        ),
    ] {
        let error = control.run_instances(command).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.field()),
            (kind, code, Some(field)),
            "{error}"
        );
    }
    let error = control.run_instances(zone("elsewhere")).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("local"), "{error:?}");
    assert_eq!(decisions(&control).await.len(), 1);
    assert_eq!(control.host().await.unwrap().zone, "local");
    run(&control, zone("local")).await;
}

/// Whether the instance was placed with that zone.
async fn asked_for(control: &Control, instance: &Instance, zone: Option<&str>) -> bool {
    let request = PlacementRequest {
        instance: instance.id,
        instance_type: "custom".to_owned(),
        vcpus: 1,
        memory: ByteCount::from_mib(64),
        local_disk: ByteCount::ZERO,
        zone: zone.map(str::to_owned),
        deployment_set: None,
        spot: false,
        affinity: Affinity::default(),
    };
    let decision = control.decision(instance.decision).await.unwrap();
    decision.request_sha256 == request.digest()
}

#[tokio::test(start_paused = true)]
async fn an_admission_policy_sees_the_zone_and_may_set_it() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let zone = || RunInstances {
        zone: Some("local".to_owned()),
        ..one(image)
    };
    let (named, plain) = (run(&control, zone()).await, run_one(&control, image).await);
    assert!(asked_for(&control, &named, Some("local")).await);
    assert!(asked_for(&control, &plain, None).await);
    let install = InstallPolicy {
        name: "zone".to_owned(),
        component: "admission zone".into(),
        ..InstallPolicy::default()
    };
    control.install_policy(install).await.unwrap();
    let selector = PolicySelector {
        name: "zone".to_owned(),
        revision: None,
    };
    let activated = control.give_policy_role(selector, PolicyRole::Active);
    activated.await.unwrap();
    let amended = run_one(&control, image).await;
    assert!(asked_for(&control, &amended, Some("local")).await);
    let refused = control.run_instances(zone()).await.unwrap_err();
    assert_eq!(refused.message(), "You named local.");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_reclaimed_for_one_that_could_not_be_here_anyhow() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let set = set(&control, DeploymentStrategy::Availability).await;
    let member = run(&control, into_set(image, set)).await.id;
    let preemptible = RunInstances {
        instance_type: Some("ecs.t6-c1m1.large".to_owned()),
        charging: Charging::Preemptible { limit: None },
        ..RunInstances::new(image)
    };
    let preemptible = run(&control, preemptible).await.id;
    // Past the first hour it could be reclaimed.
    tokio::time::sleep(2 * LONG).await;
    let large = |command| RunInstances {
        vcpus: Some(3),
        ..command
    };
    for command in [into_set(image, set), beside(image, &[], &[member])] {
        let error = control.run_instances(large(command)).await.unwrap_err();
        assert_no_stock(&error, "vcpus", "fewer vCPUs");
        let still = control.instance(preemptible).await.unwrap();
        assert_eq!(still.charge.lease().unwrap().notice, None);
    }
    // For anybody else it is.
    let error = control.run_instances(large(one(image))).await.unwrap_err();
    let said = error.next_step().unwrap();
    assert!(said.contains("Preemptible instances make room"), "{said}");
}

/// The record of an instance as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    id: InstanceId,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Record for Written {
    const TABLE: &'static str = "instances";
    type Key = InstanceId;

    fn key(&self) -> &InstanceId {
        &self.id
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_wrote_is_read() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let before = run_one(&control, image).await;
    // What tells two requests with a token apart is as it was where nothing of it is asked for.
    let command = serde_json::to_value(one(image)).unwrap();
    for field in ["zone", "deployment_set", "affinity"] {
        assert!(command.get(field).is_none(), "{field}");
    }
    stop(&control, before.id).await;
    world.end(control).await;
    let folder = world.settings().state_folder;
    let store = Store::open(&folder, &control::SCHEMA, &folder).unwrap();
    let rewrite = |writer: &store::Writer| {
        let mut written = writer.get::<Written>(&before.id)?.unwrap();
        for field in ["deployment_set", "affinity"] {
            assert!(written.rest.remove(field).is_some(), "{field}");
        }
        writer.put(&written)
    };
    store.write::<_, StoreError>(rewrite).unwrap();
    drop(store);
    let control = world.start().await;
    let read = control.instance(before.id).await.unwrap();
    assert_eq!(read.deployment_set, None);
    assert_eq!(read.affinity, InstanceAffinity::default());
    control.start_instance(before.id, None).await.unwrap();
    let after = reach(&control, before.id, State::Running).await;
    assert_eq!(after.host, control.host().await.unwrap().id);
    decisions(&control).await;
}
