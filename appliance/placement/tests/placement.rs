//! Placement decides the same every time, keeps its books, and says why.

use placement::{
    Affinity, BuiltIn, CapacityError, Constraint, Decision, DeploymentSet, FailureKind, HostRow,
    HostTable, ModuleDigest, Outcome, PlacementRequest, PolicyFailure, PolicyIdentity, Scheduler,
    SchedulingPolicy, Strategy as Built, TableError, Verdict,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use std::{collections::BTreeSet, sync::Arc};
use types::{ByteCount, DecisionId, HostId, InstanceId, Sha256Digest, Timestamp};

fn host(id: u128, zone: &str) -> HostRow {
    HostRow::new(HostId::generate(id), zone, 16, ByteCount::from_gib(64))
}

fn request() -> PlacementRequest {
    PlacementRequest {
        instance: InstanceId::generate(1),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus: 2,
        memory: ByteCount::from_gib(8),
        local_disk: ByteCount::ZERO,
        zone: None,
        deployment_set: None,
        spot: false,
        affinity: Affinity::default(),
    }
}

fn decide(policy: Built, request: &PlacementRequest, hosts: &HostTable) -> Decision {
    let scheduler = Scheduler::built_in(BuiltIn::new(policy));
    let id = DecisionId::generate(1);
    match scheduler.decide(id, Timestamp::UNIX_EPOCH, request, hosts) {
        Ok(decision) => decision,
        Err(no_stock) => *no_stock.decision,
    }
}

#[test]
fn spreading_alternates_and_packing_fills() {
    for (strategy, expected) in [(Built::Spread, [1, 1, 1]), (Built::BinPack, [3, 0, 0])] {
        let mut hosts = HostTable::new((0..3).map(|id| host(id, "a")).collect()).unwrap();
        for _ in 0..3 {
            let chosen = decide(strategy, &request(), &hosts).host.unwrap();
            hosts.reserve(chosen, &request().footprint()).unwrap();
        }
        assert_eq!(hosts.columns().instances, expected, "{strategy}");
    }
}

#[test]
fn no_stock_names_the_constraint_that_rules_out_most_hosts() {
    let mut rows: Vec<HostRow> = (0..5).map(|id| host(id, "a")).collect();
    rows[0].accepting = false;
    rows[1].zone = "b".to_owned();
    for row in &mut rows[2..] {
        row.memory_used = ByteCount::from_gib(60);
    }
    let hosts = HostTable::new(rows).unwrap();
    let request = PlacementRequest {
        zone: Some("a".to_owned()),
        ..request()
    };
    let error = Scheduler::built_in(BuiltIn::default())
        .decide(
            DecisionId::generate(1),
            Timestamp::UNIX_EPOCH,
            &request,
            &hosts,
        )
        .unwrap_err();
    assert_eq!(error.constraint, Some(Constraint::Memory));
    assert_eq!((error.refused, error.hosts), (3, 5));
    let text = error.to_string();
    assert!(
        text.contains("i-")
            && text.contains("`memory` rules out 3 of 5 hosts, other conditions the rest"),
        "{text}"
    );
    let refused = |constraint| Outcome::Refused(constraint);
    let outcomes: Vec<Outcome> = error
        .decision
        .outcomes
        .iter()
        .map(|o| o.outcome.clone())
        .collect();
    assert_eq!(
        outcomes[..2],
        [refused(Constraint::NotAccepting), refused(Constraint::Zone)]
    );

    let none = decide(Built::Spread, &request, &HostTable::default());
    assert_eq!(
        (none.host, none.reason.as_str()),
        (None, "there is no host")
    );
}

#[test]
fn members_of_a_deployment_set_are_kept_apart() {
    let mut hosts = HostTable::new(vec![host(1, "a"), host(2, "a")]).unwrap();
    let set = DeploymentSet {
        id: "ds-1".to_owned(),
        max_per_host: 1,
    };
    let request = PlacementRequest {
        deployment_set: Some(set),
        ..request()
    };
    for _ in 0..2 {
        let chosen = decide(Built::BinPack, &request, &hosts).host.unwrap();
        hosts.reserve(chosen, &request.footprint()).unwrap();
    }
    assert_eq!(hosts.members_of("ds-1"), [1, 1]);
    let third = decide(Built::BinPack, &request, &hosts);
    assert!(
        third
            .reason
            .contains("`deployment-set` rules out 2 of 2 hosts"),
        "{}",
        third.reason
    );
}

#[test]
fn requests_without_affinity_are_what_they_always_were() {
    // As of a version that knew no affinity.
    let digest = "f0810b24152765c32c68a644848b3c667d91fc4cbcbff176e532c83a42ace1dc";
    assert_eq!(request().digest().to_string(), digest);
    let text = serde_json::to_string(&request()).unwrap();
    assert!(!text.contains("affinity"), "{text}");
    assert_eq!(
        serde_json::from_str::<PlacementRequest>(&text).unwrap(),
        request()
    );
    let [one, two] = [1, 2].map(|id| BTreeSet::from([HostId::generate(id)]));
    let affinities = [
        (None, BTreeSet::new()),
        (Some(BTreeSet::new()), BTreeSet::new()),
        (Some(one.clone()), BTreeSet::new()),
        (None, one.clone()),
        (None, two.clone()),
        (Some(one), two),
    ];
    let digests = affinities.clone().map(|(only, never)| {
        let affinity = Affinity { only, never };
        let request = PlacementRequest {
            affinity,
            ..request()
        };
        let text = serde_json::to_string(&request).unwrap();
        let read: PlacementRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(read, request);
        request.digest()
    });
    assert_eq!(BTreeSet::from(digests).len(), affinities.len());
}

#[test]
fn affinity_rules_out_what_a_policy_would_take() {
    let hosts = HostTable::new((0..3).map(|id| host(id, "a")).collect()).unwrap();
    let ids = hosts.ids();
    let answer = Ok(vec![
        Verdict::Score(3.0),
        Verdict::Refused(Constraint::from_name("own")),
        Verdict::Score(1.0),
    ]);
    let scheduler = Scheduler::new(Arc::new(Canned(answer)), BuiltIn::default());
    let id = DecisionId::generate(1);
    let decide = |affinity| {
        let request = PlacementRequest {
            affinity,
            ..request()
        };
        scheduler.decide(id, Timestamp::UNIX_EPOCH, &request, &hosts)
    };
    let apart = Affinity {
        never: BTreeSet::from([ids[0]]),
        ..Affinity::default()
    };
    let decision = decide(apart).unwrap();
    assert_eq!((decision.host, decision.fallback), (Some(ids[2]), None));
    assert_eq!(
        decision.outcomes[0].outcome,
        Outcome::Refused(Constraint::Affinity)
    );
    let nowhere = Affinity {
        only: Some(BTreeSet::new()),
        ..Affinity::default()
    };
    let refusal = decide(nowhere).unwrap_err();
    assert_eq!(refusal.constraint, Some(Constraint::Affinity));
    assert_eq!((refusal.refused, refusal.hosts), (2, 3));
    assert!(
        refusal.decision.reason.contains("`affinity` rules out 2"),
        "{}",
        refusal.decision.reason
    );
}

/// Answers with what it was given.
struct Canned(Result<Vec<Verdict>, FailureKind>);

impl SchedulingPolicy for Canned {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "canned".to_owned(),
            module_sha256: ModuleDigest::Sha256(Sha256Digest::of(b"canned")),
            configuration_sha256: Sha256Digest::of(b""),
        }
    }

    fn evaluate(&self, _: &PlacementRequest, _: &HostTable) -> Result<Vec<Verdict>, PolicyFailure> {
        self.0.clone().map_err(|kind| PolicyFailure {
            policy: Box::new(self.identity()),
            kind,
            message: "canned".to_owned(),
        })
    }
}

#[test]
fn a_useless_answer_falls_back_and_a_useful_one_counts() {
    let hosts = HostTable::new(vec![host(1, "a"), host(2, "a")]).unwrap();
    let ids = hosts.ids();
    let score = Verdict::Score;
    let refused = |name| Verdict::Refused(Constraint::from_name(name));
    let invalid = Some(FailureKind::InvalidAnswer);
    for (answer, host, failed) in [
        (Ok(vec![score(1.0), score(2.0)]), ids[1], None),
        (Ok(vec![score(2.0), score(2.0)]), ids[0], None),
        (Ok(vec![refused("own"), score(-5.0)]), ids[1], None),
        (Ok(vec![score(1.0), score(f64::NAN)]), ids[0], invalid),
        (Ok(vec![score(1.0), score(f64::INFINITY)]), ids[0], invalid),
        (Ok(vec![score(1.0)]), ids[0], invalid),
        (Err(FailureKind::Trap), ids[0], Some(FailureKind::Trap)),
    ] {
        let scheduler = Scheduler::new(Arc::new(Canned(answer)), BuiltIn::default());
        let id = DecisionId::generate(1);
        let decision = scheduler
            .decide(id, Timestamp::UNIX_EPOCH, &request(), &hosts)
            .unwrap();
        assert_eq!(decision.host, Some(host));
        let kind = decision.fallback.map(|failure| failure.kind);
        assert_eq!(kind, failed);
        let built_in = decision.module_sha256 == ModuleDigest::BuiltIn;
        assert_eq!(built_in, failed.is_some());
    }
}

#[test]
fn tables_are_checked() {
    let id = HostId::generate(1);
    let twice = HostTable::new(vec![host(1, "a"), host(1, "b")]);
    assert_eq!(twice, Err(TableError::Twice(id)));
    let mut hosts = HostTable::new(vec![host(1, "a")]).unwrap();
    let unknown = HostId::generate(2);
    assert_eq!(
        hosts.reserve(unknown, &request().footprint()),
        Err(CapacityError::UnknownHost(unknown))
    );
    let mut large = request().footprint();
    large.vcpus = 17;
    let error = hosts.reserve(id, &large).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("lacks vcpus: 17 needed, 16 free"),
        "{error}"
    );
    let error = hosts.release(id, &request().footprint()).unwrap_err();
    assert!(matches!(error, CapacityError::NotTaken { .. }), "{error}");
}

fn a_host() -> impl Strategy<Value = HostRow> {
    let size = (0_u32..64, 0_u32..64, 0_u64..256, 0_u64..256);
    let sets = btree_map("set-[ab]", 1_u32..4, 0..3);
    let rest = ("zone-[ab]", any::<bool>(), sets);
    (any::<u128>(), size, rest).prop_map(|(id, size, (zone, accepting, deployment_sets))| HostRow {
        accepting,
        deployment_sets,
        vcpus_used: size.1,
        memory_used: ByteCount::from_gib(size.3),
        ..HostRow::new(
            HostId::generate(id),
            &zone,
            size.0,
            ByteCount::from_gib(size.2),
        )
    })
}

fn a_request() -> impl Strategy<Value = PlacementRequest> {
    let set = option::of(("set-[abc]", 1_u32..4));
    (1_u32..16, 1_u64..64, option::of("zone-[abc]"), set).prop_map(|(vcpus, gib, zone, set)| {
        PlacementRequest {
            vcpus,
            memory: ByteCount::from_gib(gib),
            zone,
            deployment_set: set.map(|(id, max_per_host)| DeploymentSet { id, max_per_host }),
            ..request()
        }
    })
}

/// The host a plain reading of the rules chooses.
fn naive(strategy: Built, request: &PlacementRequest, hosts: &HostTable) -> Option<HostId> {
    let left = |row: &HostRow| {
        let vcpus = f64::from(row.vcpus_free() - request.vcpus) / f64::from(row.vcpus_total);
        let memory = (row.memory_free().bytes() - request.memory.bytes()) as f64
            / row.memory_total.bytes() as f64;
        1000.0
            * if strategy == Built::Spread {
                vcpus.min(memory)
            } else {
                1.0 - vcpus.min(memory)
            }
    };
    let mut possible: Vec<HostRow> = hosts
        .rows()
        .filter(|row| row.obstacle(request).is_none() && request.affinity.allows(row.id))
        .collect();
    possible.sort_by(|a, b| left(b).total_cmp(&left(a)).then(a.id.cmp(&b.id)));
    possible.first().map(|row| row.id)
}

/// Affinity to hosts of the table, each picked by a bit.
fn affinity(hosts: &HostTable, (only, never): (Option<u32>, u32)) -> Affinity {
    let picked = |bits: u32| -> BTreeSet<HostId> {
        let ids = hosts.ids().iter().enumerate();
        let picked = ids.filter(|(position, _)| (bits >> (position % 32)) & 1 == 1);
        picked.map(|(_, id)| *id).collect()
    };
    Affinity {
        only: only.map(picked),
        never: picked(never),
    }
}

/// Bits for [`affinity`]: none at all, or few hosts ruled out and some left.
fn affinity_bits() -> impl Strategy<Value = (Option<u32>, u32)> {
    let few = (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a & b);
    (option::of(any::<u32>()), prop_oneof![Just(0), few])
}

proptest! {
    #[test]
    fn with_affinity_the_best_of_the_hosts_it_leaves_wins(
        request in a_request(),
        bits in affinity_bits(),
        rows in vec(a_host(), 0..30),
        packing: bool,
    ) {
        let strategy = if packing { Built::BinPack } else { Built::Spread };
        let Ok(hosts) = HostTable::new(rows) else {
            return Err(TestCaseError::reject("an id twice"));
        };
        let without = decide(strategy, &request, &hosts);
        let request = PlacementRequest { affinity: affinity(&hosts, bits), ..request };
        let decision = decide(strategy, &request, &hosts);
        prop_assert_eq!(decision.host, naive(strategy, &request, &hosts));
        // Those it leaves are judged as if there was none.
        for (with, without) in decision.outcomes.iter().zip(&without.outcomes) {
            match without.outcome {
                Outcome::Score(_) if !request.affinity.allows(with.host) => {
                    prop_assert_eq!(&with.outcome, &Outcome::Refused(Constraint::Affinity));
                }
                _ => prop_assert_eq!(with, without),
            }
        }
        let same = decision.request_sha256 == without.request_sha256;
        prop_assert_eq!(same, request.affinity.is_empty());
    }

    #[test]
    fn a_batch_goes_where_its_requests_would_go_one_by_one(
        requests in vec((a_request(), affinity_bits()), 0..20),
        rows in vec(a_host(), 0..30),
        packing: bool,
    ) {
        let strategy = if packing { Built::BinPack } else { Built::Spread };
        let Ok(mut hosts) = HostTable::new(rows) else {
            return Err(TestCaseError::reject("an id twice"));
        };
        let requests: Vec<PlacementRequest> = requests
            .into_iter()
            .map(|(request, bits)| PlacementRequest { affinity: affinity(&hosts, bits), ..request })
            .collect();
        let mut alone = hosts.clone();
        let mut expected = Vec::new();
        for request in &requests {
            let chosen = decide(strategy, request, &alone).host;
            prop_assert_eq!(chosen, naive(strategy, request, &alone));
            if let Some(chosen) = chosen {
                alone.reserve(chosen, &request.footprint()).unwrap();
            }
            expected.push(chosen);
        }
        let placements = Scheduler::built_in(BuiltIn::new(strategy)).place(&requests, &mut hosts);
        prop_assert_eq!(placements.hosts, expected);
        prop_assert_eq!(placements.fallback, None);
        prop_assert_eq!(&hosts, &alone);

        // The same from a policy that fails, in whole.
        let broken = Arc::new(Canned(Err(FailureKind::Trap)));
        let mut hosts = alone.clone();
        let mut same = alone;
        let placements = Scheduler::new(broken, BuiltIn::new(strategy)).place(&requests, &mut hosts);
        let expected = Scheduler::built_in(BuiltIn::new(strategy)).place(&requests, &mut same);
        prop_assert_eq!(placements.hosts, expected.hosts);
        prop_assert_eq!(placements.fallback.is_some(), !requests.is_empty());
        prop_assert_eq!(hosts, same);
    }

    #[test]
    fn decisions_repeat_whatever_the_order_of_the_rows_and_survive_being_stored(
        request in a_request(),
        rows in vec(a_host(), 0..30),
        packing: bool,
    ) {
        let strategy = if packing { Built::BinPack } else { Built::Spread };
        let mut turned = rows.clone();
        turned.reverse();
        let Ok(hosts) = HostTable::new(rows) else {
            return Err(TestCaseError::reject("an id twice"));
        };
        let mut first = decide(strategy, &request, &hosts);
        let mut second = decide(strategy, &request, &HostTable::new(turned).unwrap());
        first.duration_ns = 0;
        second.duration_ns = 0;
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.host, naive(strategy, &request, &hosts));

        let stored = serde_json::to_vec(&first).unwrap();
        let read: Decision = serde_json::from_slice(&stored).unwrap();
        prop_assert_eq!(serde_json::to_vec(&read).unwrap(), stored);
        let table: HostTable = serde_json::from_slice(&serde_json::to_vec(&hosts).unwrap()).unwrap();
        prop_assert_eq!(table.digest(), hosts.digest());
        prop_assert_eq!(table, hosts);
    }

    #[test]
    fn the_digest_of_the_inputs_changes_with_them(request in a_request(), rows in vec(a_host(), 1..5)) {
        let Ok(hosts) = HostTable::new(rows) else {
            return Err(TestCaseError::reject("an id twice"));
        };
        let before = decide(Built::Spread, &request, &hosts).inputs_sha256;
        let mut other = request.clone();
        other.spot = !request.spot;
        prop_assert_ne!(decide(Built::Spread, &other, &hosts).inputs_sha256, before);
        let mut changed = hosts.clone();
        let id = hosts.ids()[0];
        changed.set_accepting(id, !hosts.row(0).unwrap().accepting).unwrap();
        prop_assert_ne!(decide(Built::Spread, &request, &changed).inputs_sha256, before);
    }

    #[test]
    fn what_is_reserved_is_released_and_nothing_is_sold_twice(requests in vec(a_request(), 1..60)) {
        let empty = HostTable::new((0..4).map(|id| host(id, "zone-a")).collect()).unwrap();
        let mut hosts = empty.clone();
        let mut placed = Vec::new();
        for request in requests {
            if let Some(chosen) = decide(Built::Spread, &request, &hosts).host {
                hosts.reserve(chosen, &request.footprint()).unwrap();
                placed.push((chosen, request.footprint()));
            }
            for row in hosts.rows() {
                prop_assert!(row.vcpus_used <= row.vcpus_total && row.memory_used <= row.memory_total);
            }
        }
        for (host, footprint) in placed {
            hosts.release(host, &footprint).unwrap();
        }
        prop_assert_eq!(hosts, empty);
    }
}
