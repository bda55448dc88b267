//! What fails is counted, replaced and, in the end, set aside.

use crate::components::{Host, hosts, limits, parameters, request, scheduler, verdicts};
use placement::{BuiltIn, Scheduler, SchedulingPolicy, Strategy};
use plugin_host::{FailureKind, Limits};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use types::{DecisionId, ModuleDigest, Sha256Digest, Timestamp};

#[test]
fn the_built_in_policy_decides_when_the_component_traps_and_the_decision_says_so() {
    let host = Host::new(Limits {
        failures: 3,
        ..limits()
    });
    let bytes = scheduler("", "unreachable");
    let policy = host
        .host
        .load_scheduler("broken", &bytes, &parameters(&[]))
        .unwrap();
    let built_in = BuiltIn::new(Strategy::BinPack);
    let decider = Scheduler::new(policy.clone(), built_in);
    let (request, hosts) = (request(), hosts(3));
    let time = Timestamp::UNIX_EPOCH;
    let expected = Scheduler::built_in(built_in)
        .decide(DecisionId::generate(1), time, &request, &hosts)
        .unwrap();

    for (round, kind) in [
        FailureKind::Trap,
        FailureKind::Trap,
        FailureKind::Trap,
        FailureKind::SetAside,
    ]
    .into_iter()
    .enumerate()
    {
        let decision = decider
            .decide(DecisionId::generate(1), time, &request, &hosts)
            .unwrap();
        assert_eq!(decision.host, expected.host);
        assert_eq!(decision.outcomes, expected.outcomes);
        assert_eq!(decision.module_sha256, ModuleDigest::BuiltIn);
        let failure = decision.fallback.unwrap();
        assert_eq!(failure.kind, kind, "round {round}: {failure}");
        let digest = ModuleDigest::Sha256(Sha256Digest::of(&bytes));
        assert_eq!(failure.policy.module_sha256, digest);
    }
    let status = policy.status();
    assert!(status.set_aside);
    assert_eq!((status.calls, status.failures), (3, 3));
    let last = policy.evaluate(&request, &hosts).unwrap_err().message;
    assert!(
        last.contains("3 times in a row; the last time it trapped"),
        "{last}"
    );

    policy.reinstate();
    let failure = policy.evaluate(&request, &hosts).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trap);
}

#[test]
fn more_calls_than_slots_fail_as_busy_and_are_not_held_against_the_policy() {
    let limits = Limits {
        deadline: Duration::from_secs(2),
        fuel: u64::MAX / 2,
        calls: 1,
        failures: 1,
        ..limits()
    };
    let host = Host::new(limits);
    let spin = scheduler("", "(loop $l (br $l)) unreachable");
    let spin = host
        .host
        .load_scheduler("spin", &spin, &parameters(&[]))
        .unwrap();
    let good = scheduler(&verdicts(1, 0, 1.0), "(i32.const 2048)");
    let good = host
        .host
        .load_scheduler("good", &good, &parameters(&[]))
        .unwrap();
    let spinning = thread::spawn({
        let spin = Arc::clone(&spin);
        // The one slot may just be taken by the other policy.
        move || loop {
            let kind = spin.evaluate(&request(), &hosts(1)).unwrap_err().kind;
            if kind != FailureKind::Busy {
                break kind;
            }
        }
    });
    let give_up = Instant::now() + Duration::from_secs(30);
    let busy = loop {
        assert!(Instant::now() < give_up, "never busy");
        match good.evaluate(&request(), &hosts(1)) {
            Err(failure) => break failure,
            Ok(_) => thread::yield_now(),
        }
    };
    assert_eq!(busy.kind, FailureKind::Busy, "{busy}");
    assert_eq!(spinning.join().unwrap(), FailureKind::Deadline);
    assert!(good.evaluate(&request(), &hosts(1)).is_ok());
    assert!(!good.is_set_aside() && spin.is_set_aside());
}

#[test]
fn many_threads_get_the_same_answer_as_one() {
    let host = Host::new(Limits {
        calls: 8,
        ..limits()
    });
    let bytes = scheduler(&verdicts(2, 0, 2.5), "(i32.const 2048)");
    let policy = host
        .host
        .load_scheduler("good", &bytes, &parameters(&[]))
        .unwrap();
    let expected = policy.evaluate(&request(), &hosts(2)).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(policy.evaluate(&request(), &hosts(2)).unwrap(), expected);
                }
            });
        }
    });
    assert_eq!(policy.status().calls, 1601);
    assert_eq!(policy.status().failures, 0);
}
