//! What can go wrong whatever is asked: each question of each kind of policy is asked of components that misbehave in each way. Every
//! one is cut off in time, told apart, counted and set aside, and each time the built-in answer counts.

use crate::{
    components::{Host, limits, words},
    questions::{QUESTIONS, Question, asked},
};
use plugin_host::{FailureKind, Limits};
use std::time::{Duration, Instant};

const LOOP: &str = "(loop $l (br $l)) unreachable";
/// The answer in the data segment.
const DATA: &str = "(i32.const 2048)";
const LOG: &str = r#"(import "ashlar:policy/log@0.4.0" "write" (func $log (param i32 i32 i32)))"#;

/// Asks each question until the policy is set aside: it must fail in that way and say that.
fn check(limits: &Limits, more: &str, body: &str, kind: FailureKind, said: &str) {
    let limits = Limits {
        failures: 2,
        ..limits.clone()
    };
    for question in QUESTIONS {
        let host = Host::new(limits.clone());
        let policy = asked(&host, question, more, body);
        for expected in [kind, kind, FailureKind::SetAside] {
            let start = Instant::now();
            let (answer, failure) = policy.ask();
            let took = start.elapsed();
            assert!(
                took < 2 * limits.deadline + Duration::from_secs(1),
                "{took:?}"
            );
            assert_eq!(answer, policy.built_in, "{question:?}");
            let failure = failure.unwrap();
            assert_eq!(failure.kind, expected, "{question:?}: {failure}");
            assert!(failure.message.contains(said), "{question:?}: {failure}");
            assert_eq!(failure.policy.name, "bad");
        }
        let status = policy.status();
        assert_eq!((status.calls, status.failures), (2, 2));
        assert!(status.set_aside);
        assert_eq!(status.last_failure.unwrap().kind, kind);
    }
}

fn data(answer: &str) -> String {
    format!(r#"(data (i32.const 2048) "{answer}")"#)
}

#[test]
fn loops_end_by_deadline_or_fuel() {
    let in_time = Limits {
        deadline: Duration::from_millis(50),
        fuel: u64::MAX / 2,
        ..limits()
    };
    check(&in_time, "", LOOP, FailureKind::Deadline, "within 50 ms");
    let frugal = Limits {
        fuel: 100_000,
        ..limits()
    };
    check(&frugal, "", LOOP, FailureKind::Fuel, "100000 instructions");
}

#[test]
fn memory_and_tables_end_at_their_limits() {
    let body =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    check(&limits(), "", body, FailureKind::Memory, "32 MiB and");
    let body = "(loop $l (br_if $l (i32.ne (table.grow (ref.null func) (i32.const 999)) (i32.const -1)))) unreachable";
    let table = "(table 1 funcref)";
    check(
        &limits(),
        table,
        body,
        FailureKind::Memory,
        "a table of 10990",
    );
}

#[test]
fn traps_and_endless_recursion_are_told() {
    let recursion = "(func $deeper (call $deeper) (call $deeper))";
    for (more, body, said) in [
        ("", "unreachable", "unreachable"),
        (
            "",
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "divide by zero",
        ),
        (
            "",
            "(i32.load (i32.const 0x7fffffff))",
            "out of bounds memory",
        ),
        (recursion, "(call $deeper) unreachable", "stack exhausted"),
    ] {
        check(&limits(), more, body, FailureKind::Trap, said);
    }
}

#[test]
fn its_own_words_are_told_and_cut() {
    let words_at = |length: u32, text: &str| {
        let answer = words(&[1, 3000, length]);
        format!(r#"{} (data (i32.const 3000) "{text}")"#, data(&answer))
    };
    let refused = FailureKind::Refused;
    check(
        &limits(),
        &words_at(9, "I refuse."),
        DATA,
        refused,
        "I refuse.",
    );
    let (invalid, cut) = (FailureKind::InvalidAnswer, "zzz…");
    check(&limits(), &words_at(3, "no\\ff"), DATA, invalid, "");
    check(
        &limits(),
        &words_at(4_000, &"z".repeat(4_000)),
        DATA,
        refused,
        cut,
    );
    // Nine MiB of zeros: more than may be handed over.
    let body = "(drop (memory.grow (i32.const 160))) (i32.const 2048)";
    check(&limits(), &words_at(9 << 20, ""), body, invalid, "");
}

#[test]
fn last_words_before_a_trap_are_told() {
    let more = format!(r#"{LOG} (data (i32.const 2048) "no idea\0aat all")"#);
    let body = "(call $log (i32.const 3) (i32.const 2048) (i32.const 14)) unreachable";
    check(&limits(), &more, body, FailureKind::Trap, "no idea at all");
}

#[test]
fn a_million_log_lines_do_not_keep_it_from_being_cut() {
    let body = "(local $n i32)
        (loop $l (call $log (i32.const 1) (i32.const 2048) (i32.const 4))
          (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))
        unreachable";
    let limits = Limits {
        fuel: 2_000_000,
        deadline: Duration::from_secs(5),
        ..limits()
    };
    check(
        &limits,
        LOG,
        body,
        FailureKind::Fuel,
        "2000000 instructions",
    );
}

#[test]
fn answers_that_point_nowhere_or_are_of_no_kind_are_refused() {
    let invalid = FailureKind::InvalidAnswer;
    check(&limits(), "", "(i32.const 0x7ffffff0)", invalid, "");
    check(&limits(), "", "(i32.const 2049)", invalid, "");
    check(
        &limits(),
        &data(&words(&[7, 0, 0, 0, 0])),
        DATA,
        invalid,
        "",
    );
    check(
        &limits(),
        &data(&words(&[1, 0x7fff_0000, 9])),
        DATA,
        invalid,
        "",
    );
}

/// Billing and admission policies are asked in a new instance each time; a scheduler is in `sessions.rs`.
#[test]
fn nothing_is_remembered_between_calls() {
    let more = format!(
        "(global $asked (mut i32) (i32.const 0)) {}",
        data(&words(&[1, 3000, 6]))
    );
    let more = format!(r#"{more} (data (i32.const 3000) "first.")"#);
    let body = "(if (global.get $asked) (then unreachable))
        (global.set $asked (i32.const 1)) (i32.const 2048)";
    for question in QUESTIONS {
        if question == Question::Evaluate {
            continue;
        }
        let host = Host::new(limits());
        let policy = asked(&host, question, &more, body);
        for _ in 0..3 {
            let failure = policy.ask().1.unwrap();
            assert_eq!(
                failure.kind,
                FailureKind::Refused,
                "{question:?}: {failure}"
            );
            assert_eq!(failure.message, "first.");
        }
    }
}
