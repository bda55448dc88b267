//! Schedulers that misbehave in what they keep and in the winners they name: each is cut off and reported in its own words, the
//! built-in policy decides, and nothing else changes.

use crate::{
    components::{Host, hosts, limits, parameters, request, verdicts, words},
    text::{Exports, scheduler_with},
};
use placement::{BuiltIn, Scheduler, SchedulingPolicy};
use plugin_host::{FailureKind, Limits};
use types::ByteCount;

const LOOP: &str = "(loop $l (br $l)) unreachable";
/// An `ok` without a value.
const WELL: &str = "(i32.const 1024)";
/// The answer in the data segment.
const DATA: &str = "(i32.const 2048)";
const LOG: &str = r#"(import "ashlar:policy/log@0.4.0" "write" (func $log (param i32 i32 i32)))"#;

/// A scheduler that finds everything well and scores one host.
fn tame(more: &str) -> Exports<'_> {
    Exports {
        more,
        check_configuration: WELL,
        load: WELL,
        update: WELL,
        filter_and_score: DATA,
        place: DATA,
    }
}

/// Instructions, not time, decide when a call ends.
fn frugal() -> Limits {
    Limits {
        fuel: 200_000,
        deadline: std::time::Duration::from_secs(2),
        failures: 3,
        ..limits()
    }
}

/// Asks for places on one host until the policy is set aside: it must fail in that way and say that, and each time the built-in
/// policy's winner is booked and nothing else.
fn check(exports: &Exports<'_>, kind: FailureKind, said: &str) {
    let host = Host::new(frugal());
    let bytes = scheduler_with(exports);
    let policy = host
        .host
        .load_scheduler("bad", &bytes, &parameters(&[]))
        .unwrap();
    let decider = Scheduler::new(policy.clone(), BuiltIn::default());
    let requests = [request()];
    for round in 0..5 {
        let (mut booked, mut expected) = (hosts(1), hosts(1));
        let built_in = Scheduler::built_in(BuiltIn::default()).place(&requests, &mut expected);
        let placements = decider.place(&requests, &mut booked);
        assert_eq!(placements.hosts, built_in.hosts);
        assert_eq!(booked, expected);
        let failure = placements.fallback.unwrap();
        let kind = if round < 3 {
            kind
        } else {
            FailureKind::SetAside
        };
        assert_eq!(failure.kind, kind, "round {round}: {failure}");
        assert!(failure.message.contains(said), "{failure}");
    }
    let status = policy.status();
    assert!(status.set_aside);
    assert_eq!((status.calls, status.failures), (3, 3));
}

#[test]
fn a_loop_in_load_or_place_is_cut_by_its_fuel() {
    let said = "200000 instructions";
    let load = Exports {
        load: LOOP,
        ..tame("")
    };
    check(&load, FailureKind::Fuel, said);
    let place = Exports {
        place: LOOP,
        ..tame("")
    };
    check(&place, FailureKind::Fuel, said);
}

#[test]
fn a_loop_in_check_configuration_is_cut_when_it_is_loaded() {
    let bytes = scheduler_with(&Exports {
        check_configuration: LOOP,
        ..tame("")
    });
    let host = Host::new(frugal());
    let error = host
        .host
        .load_scheduler("bad", &bytes, &parameters(&[]))
        .err()
        .unwrap();
    assert!(error.to_string().contains("200000 instructions"), "{error}");
}

#[test]
fn a_loop_in_update_is_cut_and_the_next_call_takes_a_new_instance() {
    let more = verdicts(1, 0, 4.0);
    let bytes = scheduler_with(&Exports {
        update: LOOP,
        ..tame(&more)
    });
    let host = Host::new(frugal());
    let policy = host
        .host
        .load_scheduler("bad", &bytes, &parameters(&[]))
        .unwrap();
    let mut table = hosts(1);
    for _ in 0..3 {
        // A new instance is loaded and needs no update; the kept one does.
        policy.evaluate(&request(), &table).unwrap();
        table
            .reserve(table.ids()[0], &request().footprint())
            .unwrap();
        let failure = policy.evaluate(&request(), &table).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Fuel, "{failure}");
    }
    // Failures in a row are what sets aside.
    assert!(!policy.is_set_aside());
}

#[test]
fn traps_in_load_and_place_are_told_in_the_policy_s_own_words() {
    let more = format!(r#"{LOG} (data (i32.const 2048) "panicked: no idea")"#);
    let panic = "(call $log (i32.const 3) (i32.const 2048) (i32.const 17)) unreachable";
    let load = Exports {
        load: panic,
        ..tame(&more)
    };
    check(&load, FailureKind::Trap, "panicked: no idea");
    let place = Exports {
        place: panic,
        ..tame(&more)
    };
    check(&place, FailureKind::Trap, "panicked: no idea");
    let zero = Exports {
        place: "(i32.div_u (i32.const 1) (i32.const 0))",
        ..tame("")
    };
    check(&zero, FailureKind::Trap, "divide by zero");
    let deeper = Exports {
        place: "(call $deeper) unreachable",
        ..tame("(func $deeper (call $deeper) (call $deeper))")
    };
    check(&deeper, FailureKind::Trap, "stack exhausted");
}

#[test]
fn memory_and_tables_end_at_the_limit_in_place_too() {
    let memory = Exports {
        place: "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        ..tame("")
    };
    check(&memory, FailureKind::Memory, "32 MiB and");
    let table = Exports {
        place: "(loop $l (br_if $l (i32.ne (table.grow (ref.null func) (i32.const 999)) (i32.const -1)))) unreachable",
        ..tame("(table 1 funcref)")
    };
    check(&table, FailureKind::Memory, "a table of 10990");
}

#[test]
fn a_million_log_lines_are_cut() {
    let place = Exports {
        place: "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 8)) (br $l)) unreachable",
        ..tame(LOG)
    };
    check(&place, FailureKind::Fuel, "200000 instructions");
}

#[test]
fn its_own_error_is_told() {
    let more = format!(
        r#"(data (i32.const 2048) "{}") (data (i32.const 3000) "I refuse.")"#,
        words(&[1, 3000, 9])
    );
    check(&tame(&more), FailureKind::Refused, "I refuse.");
    let load = Exports {
        load: DATA,
        place: WELL,
        ..tame(&more)
    };
    check(&load, FailureKind::Refused, "I refuse.");
}

/// An answer of `place`: these options.
fn places(answer: &[u32]) -> String {
    let count = u32::try_from(answer.len() / 2).unwrap();
    format!(
        r#"(data (i32.const 2048) "{}") (data (i32.const 2560) "{}")"#,
        words(&[0, 2560, count]),
        words(answer),
    )
}

#[test]
fn winners_that_cannot_be_are_refused() {
    for (answer, said) in [
        (&[1, 7][..], "a place is host 7; the table has 1"),
        (&[1, u32::MAX], "the table has 1"),
        (&[], "0 places for 1 requests"),
        (&[1, 0, 1, 0], "2 places for 1 requests"),
        (&[9, 0], ""),
    ] {
        let more = places(answer);
        check(&tame(&more), FailureKind::InvalidAnswer, said);
    }
    let gigantic = format!(
        r#"(data (i32.const 2048) "{}")"#,
        words(&[0, 2560, 0x0fff_ffff])
    );
    check(&tame(&gigantic), FailureKind::InvalidAnswer, "");
}

#[test]
fn a_host_that_is_full_after_the_first_cannot_be_named_twice() {
    let host = Host::new(frugal());
    let more = places(&[1, 0, 1, 0]);
    let policy = host
        .host
        .load_scheduler("greedy", &scheduler_with(&tame(&more)), &parameters(&[]))
        .unwrap();
    let mut large = request();
    large.vcpus = 9;
    let failure = policy
        .place(&[large.clone(), large], &hosts(1))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidAnswer);
    assert!(
        failure.message.contains("does not meet `vcpus`"),
        "{failure}"
    );
}

/// Counts its calls and answers with the number: the first comparison with a new instance finds it out.
#[test]
fn an_answer_that_depends_on_earlier_calls_is_found_out() {
    let more = format!(
        "{} (global $n (mut f64) (f64.const 0))",
        verdicts(1, 0, 0.0)
    );
    let count = "(global.set $n (f64.add (global.get $n) (f64.const 1)))
        (f64.store (i32.const 4096) (global.get $n)) (i32.const 2048)";
    let bytes = scheduler_with(&Exports {
        filter_and_score: count,
        ..tame(&more)
    });
    let host = Host::new(Limits {
        compare: 2,
        ..limits()
    });
    let policy = host
        .host
        .load_scheduler("counts", &bytes, &parameters(&[]))
        .unwrap();
    let table = hosts(1);
    // The first makes the instance, the second is the first of a kept one, the third is compared.
    policy.evaluate(&request(), &table).unwrap();
    policy.evaluate(&request(), &table).unwrap();
    let failure = policy.evaluate(&request(), &table).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidAnswer);
    assert!(failure.message.contains("remembers more"), "{failure}");
}

/// `place` names the second host, `filter-and-score` prefers the first.
#[test]
fn a_winner_the_scan_does_not_name_is_found_out() {
    let more = format!(
        r#"{} (data (i32.const 5000) "{}") (data (i32.const 5100) "{}")"#,
        verdicts(2, 0, 4.0),
        words(&[0, 5100, 1]),
        words(&[1, 1]),
    );
    let bytes = scheduler_with(&Exports {
        place: "(i32.const 5000)",
        ..tame(&more)
    });
    let host = Host::new(Limits {
        compare: 1,
        ..limits()
    });
    let policy = host
        .host
        .load_scheduler("two-faced", &bytes, &parameters(&[]))
        .unwrap();
    assert_eq!(policy.place(&[request()], &hosts(2)), Ok(vec![Some(1)]));
    let failure = policy.place(&[request()], &hosts(2)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidAnswer, "{failure}");
}

/// Each call takes a page and keeps it: instances are replaced before that ends in a failure.
#[test]
fn what_an_instance_leaks_goes_with_it() {
    let more = verdicts(1, 0, 4.0);
    let leak = "(drop (memory.grow (i32.const 1))) (i32.const 2048)";
    let bytes = scheduler_with(&Exports {
        filter_and_score: leak,
        ..tame(&more)
    });
    let host = Host::new(Limits {
        memory: ByteCount::from_mib(2),
        reuse: 8,
        ..limits()
    });
    let policy = host
        .host
        .load_scheduler("leaks", &bytes, &parameters(&[]))
        .unwrap();
    for _ in 0..100 {
        policy.evaluate(&request(), &hosts(1)).unwrap();
    }
    assert_eq!(policy.status().failures, 0);
}
