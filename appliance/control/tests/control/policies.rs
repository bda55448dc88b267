//! Policies: who decides, since when, and what another would have done.

use crate::world::{LONG, World, image, one, run_one, until};
use control::{
    Control, ErrorKind,
    commands::{DecisionFilter, InstallPolicy, PolicySelector, ReplayPeriod},
    model::{Decision, PolicyDifference, PolicyInfo, PolicyKind, PolicyRole},
};
use std::{collections::BTreeSet, time::Duration};
use types::InstanceId;

pub async fn install(control: &Control, name: &str, component: &str) -> PolicyInfo {
    try_install(control, name, component).await.unwrap()
}

async fn try_install(
    control: &Control,
    name: &str,
    component: &str,
) -> control::Result<PolicyInfo> {
    let command = InstallPolicy {
        name: name.to_owned(),
        component: component.into(),
        ..InstallPolicy::default()
    };
    control.install_policy(command).await
}

/// `pack` or `pack@2`.
pub fn named(text: &str) -> PolicySelector {
    match text.split_once('@') {
        Some((name, revision)) => PolicySelector {
            name: name.to_owned(),
            revision: Some(revision.parse().unwrap()),
        },
        None => PolicySelector {
            name: text.to_owned(),
            revision: None,
        },
    }
}

pub async fn activate(control: &Control, name: &str) {
    let info = control
        .give_policy_role(named(name), PolicyRole::Active)
        .await
        .unwrap();
    assert_eq!(info.roles, [PolicyRole::Active]);
}

/// Who decides about a new instance, which is released again.
async fn decides(control: &Control, image: types::ImageId) -> Decision {
    let instance = run_one(control, image).await.id;
    let decision = decision_about(control, instance).await;
    control.stop_instance(instance, true, None).await.unwrap();
    control
        .wait_for_instance(instance, &[control::model::State::Stopped], LONG)
        .await
        .unwrap();
    control.delete_instance(instance, false).await.unwrap();
    decision
}

async fn decision_about(control: &Control, instance: InstanceId) -> Decision {
    let filter = DecisionFilter {
        instance: Some(instance),
    };
    control.decisions(&filter).await.unwrap().pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn revisions_count_up_and_are_never_given_again() {
    let world = World::new();
    let control = world.start().await;
    assert_eq!(
        install(&control, "place", "scheduler spread").await.name,
        "place@1"
    );
    let again = install(&control, "place", "scheduler spread").await;
    assert_eq!(again.name, "place@1", "the same is installed once");
    assert_eq!(
        install(&control, "place", "scheduler bin-pack").await.name,
        "place@2"
    );
    let tuned = InstallPolicy {
        name: "place".to_owned(),
        component: b"scheduler spread".to_vec(),
        parameters: [("weight".to_owned(), "2".to_owned())].into(),
        ..InstallPolicy::default()
    };
    let tuned = control.install_policy(tuned).await.unwrap();
    assert_eq!(
        tuned.name, "place@3",
        "other parameters are another revision"
    );
    control.remove_policy(named("place@3")).await.unwrap();
    assert_eq!(
        control.policy(named("place")).await.unwrap().name,
        "place@2"
    );
    let gone = control.policy(named("place@3")).await.unwrap_err();
    assert_eq!(gone.code(), "InvalidPolicy.NotFound");
    let next = install(&control, "place", "scheduler refuse").await;
    assert_eq!(next.name, "place@4");
    assert!(next.roles.is_empty(), "it decides nothing yet");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_installed_leaves_nothing() {
    let world = World::new();
    let control = world.start().await;
    install(&control, "prices", "billing 0.02").await;
    for (name, component, field) in [
        ("Place", "scheduler spread", Some("name")),
        ("", "scheduler spread", Some("name")),
        ("prices", "scheduler spread", Some("name")),
        ("place", "nonsense", None),
        ("place", "scheduler nowhere", None),
    ] {
        let error = try_install(&control, name, component).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name} {component}");
        assert_eq!(error.field(), field, "{name} {component}");
    }
    let tried = InstallPolicy {
        name: "place".to_owned(),
        component: b"scheduler spread".to_vec(),
        dry_run: true,
        ..InstallPolicy::default()
    };
    let tried = control.install_policy(tried).await.unwrap_err();
    assert_eq!(tried.code(), "DryRunOperation");
    world.fail("keep_policy", 1);
    try_install(&control, "place", "scheduler spread")
        .await
        .unwrap_err();
    let names: Vec<String> = control
        .policies()
        .await
        .unwrap()
        .into_iter()
        .filter(|info| info.installed.is_some())
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["prices@1"]);
    // Whatever was kept of refused ones is gone with the next start.
    world.stop(control).await;
    let _control = world.start().await;
    assert_eq!(world.things().components.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_active_one_decides_until_it_is_rolled_back_also_after_a_restart() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let first = decides(&control, image).await;
    install(&control, "pack", "scheduler bin-pack").await;
    install(&control, "pack", "scheduler spread").await;
    assert_eq!(decides(&control, image).await.policy, first.policy);
    activate(&control, "pack@1").await;
    assert_eq!(decides(&control, image).await.policy, "pack@1");
    activate(&control, "pack").await;
    assert_eq!(decides(&control, image).await.policy, "pack@2");
    world.stop(control).await;
    let control = world.start().await;
    assert_eq!(decides(&control, image).await.policy, "pack@2");
    let used = control.remove_policy(named("pack@2")).await.unwrap_err();
    assert_eq!(used.code(), "IncorrectPolicyStatus");
    let back = control
        .roll_back_policy(PolicyKind::Scheduler)
        .await
        .unwrap();
    assert_eq!(back.name, "pack@1");
    assert_eq!(decides(&control, image).await.policy, "pack@1");
    let back = control
        .roll_back_policy(PolicyKind::Scheduler)
        .await
        .unwrap();
    assert_eq!((back.name, back.installed), (first.policy.clone(), None));
    assert_eq!(decides(&control, image).await.policy, first.policy);
    let end = control
        .roll_back_policy(PolicyKind::Scheduler)
        .await
        .unwrap_err();
    assert_eq!(end.code(), "IncorrectPolicyStatus");
    activate(&control, "pack@2").await;
    control.retire_policy(named("pack@2")).await.unwrap();
    assert_eq!(decides(&control, image).await.policy, first.policy);
    control.retire_policy(named("pack@2")).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_loaded_leaves_who_decides() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "pack", "scheduler bin-pack").await;
    world.fail("load_policy", 1);
    let refused = control
        .give_policy_role(named("pack"), PolicyRole::Active)
        .await;
    refused.unwrap_err();
    assert_ne!(decides(&control, image).await.policy, "pack@1");
    activate(&control, "pack").await;
    world.stop(control).await;
    world.fail("load_policy", 1);
    let control = world.start().await;
    assert_ne!(decides(&control, image).await.policy, "pack@1");
    let info = control.policy(named("pack")).await.unwrap();
    let status = info.status.unwrap();
    assert_eq!(
        (info.roles, status.healthy),
        (vec![PolicyRole::Active], false)
    );
    assert!(status.last_error.unwrap().contains("load_policy"));
    // Giving it its role again loads it.
    activate(&control, "pack").await;
    assert_eq!(decides(&control, image).await.policy, "pack@1");
}

#[tokio::test(start_paused = true)]
async fn a_canary_decides_about_its_share() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "pack", "scheduler bin-pack").await;
    let canary = PolicyRole::Canary(30);
    control
        .give_policy_role(named("pack"), canary)
        .await
        .unwrap();
    for percent in [0, 100] {
        let role = PolicyRole::Canary(percent);
        let error = control
            .give_policy_role(named("pack"), role)
            .await
            .unwrap_err();
        assert_eq!(error.field(), Some("canary_percent"));
    }
    let mut by_canary = 0;
    for _ in 0..40 {
        by_canary += usize::from(decides(&control, image).await.policy == "pack@1");
    }
    // The ids of these tests are always the same ones.
    assert!((4..=20).contains(&by_canary), "{by_canary} of 40");
    activate(&control, "pack").await;
    let info = control.policy(named("pack")).await.unwrap();
    assert_eq!(info.roles, [PolicyRole::Active], "it is not its own canary");
    for _ in 0..10 {
        assert_eq!(decides(&control, image).await.policy, "pack@1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_is_asked_and_changes_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "no", "scheduler refuse").await;
    let no = control.policy_shadow(named("no")).await.unwrap_err();
    assert_eq!(no.code(), "IncorrectPolicyStatus");
    control
        .give_policy_role(named("no"), PolicyRole::Shadow)
        .await
        .unwrap();
    let decision = decides(&control, image).await;
    assert!(decision.host.is_some());
    until(|| async { control.policy_shadow(named("no")).await.unwrap().compared == 1 }).await;
    let report = control.policy_shadow(named("no")).await.unwrap();
    assert_eq!((report.same, report.failures), (0, 0));
    let difference = PolicyDifference::Placement {
        decision: decision.id,
        instance: decision.instance,
        active: decision.host,
        other: None,
    };
    assert_eq!(report.differences, [difference]);
    install(&control, "fails", "scheduler fail").await;
    control
        .give_policy_role(named("fails"), PolicyRole::Shadow)
        .await
        .unwrap();
    decides(&control, image).await;
    until(|| async {
        control
            .policy_shadow(named("fails"))
            .await
            .unwrap()
            .failures
            == 1
    })
    .await;
    let report = control.policy_shadow(named("fails")).await.unwrap();
    assert_eq!(report.compared, 0);
    assert!(report.last_error.unwrap().contains("it is made to"));
    activate(&control, "fails").await;
    let no_more = control.policy_shadow(named("fails")).await.unwrap_err();
    assert_eq!(
        no_more.code(),
        "IncorrectPolicyStatus",
        "it is not its own shadow"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shadow_of_prices_adds_up_what_it_would_have_charged() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "double", "billing 0.02").await;
    control
        .give_policy_role(named("double"), PolicyRole::Shadow)
        .await
        .unwrap();
    run_one(&control, image).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    control.meter_now().await.unwrap();
    until(|| async {
        control
            .policy_shadow(named("double"))
            .await
            .unwrap()
            .compared
            > 60
    })
    .await;
    let report = control.policy_shadow(named("double")).await.unwrap();
    let (active, other) = report.totals[0];
    let ratio = other.amount.checked_div(active.amount).unwrap();
    assert_eq!(ratio.round_dp(2).to_string(), "2.00");
    // Nothing of it was charged.
    let charged = control.charges(&Default::default()).await.unwrap();
    assert!(charged.iter().all(|charge| charge.policy != "double@1"));
}

#[tokio::test(start_paused = true)]
async fn the_past_is_replayed() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let one = decides(&control, image).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let other = decides(&control, image).await;
    install(&control, "pack", "scheduler bin-pack").await;
    install(&control, "no", "scheduler refuse").await;
    install(&control, "fails", "scheduler fail").await;
    install(&control, "same", "billing 0.01").await;
    install(&control, "triple", "billing 0.03").await;
    let whole = ReplayPeriod::default();
    let pack = control.replay_policy(named("pack"), whole).await.unwrap();
    assert_eq!((pack.compared, pack.same), (2, 2));
    let late = ReplayPeriod {
        from: Some(other.time),
        to: None,
    };
    let no = control.replay_policy(named("no"), late).await.unwrap();
    assert_eq!((no.compared, no.same, no.differences.len()), (1, 0, 1));
    let early = ReplayPeriod {
        from: None,
        to: Some(other.time),
    };
    let fails = control.replay_policy(named("fails"), early).await.unwrap();
    assert_eq!((fails.compared, fails.failures), (0, 1));
    assert!(one.time < other.time);

    run_one(&control, image).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    control.meter_now().await.unwrap();
    let same = control.replay_policy(named("same"), whole).await.unwrap();
    assert!(same.compared > 0);
    assert_eq!(same.same, same.compared, "{same:?}");
    let (active, again) = same.totals[0];
    assert_eq!(active, again, "to the last digit");
    let triple = control.replay_policy(named("triple"), whole).await.unwrap();
    let (charged, would) = triple.totals[0];
    assert_eq!(charged, active);
    assert!(would.amount > charged.amount);
    // Asking changed nothing.
    let charges = control.charges(&Default::default()).await.unwrap();
    assert!(charges.iter().all(|charge| charge.policy != "triple@1"));
}

#[tokio::test(start_paused = true)]
async fn a_decision_comes_out_again_as_long_as_its_policy_is_there() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    let by_first = decides(&control, image).await;
    install(&control, "pack", "scheduler bin-pack").await;
    activate(&control, "pack").await;
    let by_pack = decides(&control, image).await;
    install(&control, "fails", "scheduler fail").await;
    activate(&control, "fails").await;
    let fallen_back = decides(&control, image).await;
    assert!(fallen_back.fallback.is_some());
    for decision in [&by_first, &by_pack, &fallen_back] {
        let rerun = control.rerun_decision(decision.id).await.unwrap();
        assert_eq!(rerun.kept_sha256, rerun.rerun_sha256, "{decision:?}");
    }
    control.remove_policy(named("pack")).await.unwrap();
    let error = control.rerun_decision(by_pack.id).await.unwrap_err();
    assert_eq!(error.code(), "InvalidPolicy.NotFound");
    assert!(error.message().contains("pack@1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn swaps_under_load_lose_no_request() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "one", "scheduler spread").await;
    install(&control, "two", "scheduler bin-pack").await;
    activate(&control, "one").await;
    let swapping = {
        let control = control.clone();
        tokio::spawn(async move {
            for turn in 0..20 {
                activate(&control, if turn % 2 == 0 { "two" } else { "one" }).await;
            }
        })
    };
    let mut deciders = BTreeSet::new();
    while !swapping.is_finished() {
        let mut command = one(image);
        command.start = false;
        let instances = control.run_instances(command).await.unwrap();
        let decision = decision_about(&control, instances[0].id).await;
        assert_eq!(decision.fallback, None);
        deciders.insert(decision.policy);
        control
            .delete_instance(instances[0].id, false)
            .await
            .unwrap();
    }
    swapping.await.unwrap();
    let allowed = ["one@1".to_owned(), "two@1".to_owned()].into();
    assert!(deciders.is_subset(&allowed), "{deciders:?}");
    assert!(!deciders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_admission_policy_refuses_in_its_own_words_or_amends() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "two", "admission two").await;
    install(&control, "label", "admission label").await;
    install(&control, "odd", "admission odd").await;
    activate(&control, "two").await;
    run_one(&control, image).await;
    let mut command = one(image);
    command.amount = 2;
    let refused = control.run_instances(command.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(refused.code(), "OperationDenied.AdmissionPolicy");
    assert_eq!(refused.message(), "Two instances are enough.");
    assert!(refused.next_step().unwrap().contains("two@1"));
    let all = control.instances(&Default::default()).await.unwrap();
    assert_eq!(all.len(), 1, "nothing was made");
    run_one(&control, image).await;

    activate(&control, "label").await;
    let amended = control.run_instances(one(image)).await.unwrap().remove(0);
    assert_eq!(amended.tags["team"], "a");
    assert!(amended.deletion_protection);
    // One that changes what it must not has failed: the request is let in as it is.
    activate(&control, "odd").await;
    let plain = control.run_instances(one(image)).await.unwrap().remove(0);
    assert!(plain.tags.is_empty() && !plain.deletion_protection);

    let canary = control.give_policy_role(named("two"), PolicyRole::Canary(10));
    assert_eq!(canary.await.unwrap_err().field(), Some("canary_percent"));
    control
        .give_policy_role(named("two"), PolicyRole::Shadow)
        .await
        .unwrap();
    // Four vCPUs are taken: it finds no room after it was let in.
    control.run_instances(one(image)).await.unwrap_err();
    until(|| async { control.policy_shadow(named("two")).await.unwrap().compared == 1 }).await;
    let report = control.policy_shadow(named("two")).await.unwrap();
    assert!(matches!(
        &report.differences[0],
        PolicyDifference::Admission { active, other, .. } if active == "admit" && other == "refuse: too-many"
    ));
    let replay = control
        .replay_policy(named("two"), ReplayPeriod::default())
        .await;
    assert_eq!(
        replay.unwrap_err().code(),
        "OperationUnsupported.PolicyReplay"
    );
}

#[tokio::test(start_paused = true)]
async fn prices_of_a_policy_that_was_active_once_are_checked_as_long_as_it_is_installed() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await.id;
    install(&control, "dear", "billing 0.05").await;
    run_one(&control, image).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    control.meter_now().await.unwrap();
    activate(&control, "dear").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    control.meter_now().await.unwrap();
    control.roll_back_policy(PolicyKind::Billing).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let verified = control.verify_bills().await.unwrap();
    assert!(verified.violations.is_empty(), "{:?}", verified.violations);
    assert!(verified.unpriced.is_empty(), "{:?}", verified.unpriced);
    let charges = control.charges(&Default::default()).await.unwrap();
    assert!(charges.iter().any(|charge| charge.policy == "dear@1"));
    control.remove_policy(named("dear")).await.unwrap();
    let verified = control.verify_bills().await.unwrap();
    assert!(verified.violations.is_empty(), "{:?}", verified.violations);
    assert!(
        !verified.unpriced.is_empty(),
        "nobody can say what it would cost"
    );
}
