//! Policies that misbehave: each is cut off, told apart and reported in its own words.

use crate::components::{
    Host, billing, hosts, limits, parameters, request, scheduler, verdicts, words,
};
use ledger::{RatingInput, RatingPolicy, Usage};
use placement::{SchedulingPolicy, Verdict};
use plugin_host::{FailureKind, Limits};
use std::time::{Duration, Instant};
use types::{ByteCount, Currency, InstanceId, Timestamp, UsageId};

/// Asks about one host; the policy must fail in that way and say that.
fn check(limits: Limits, more: &str, body: &str, kind: FailureKind, said: &str) {
    let host = Host::new(limits.clone());
    let bytes = scheduler(more, body);
    let policy = host
        .host
        .load_scheduler("bad", &bytes, &parameters(&[]))
        .unwrap();
    // A failed call leaves nothing behind that the next one could notice.
    for _ in 0..3 {
        let start = Instant::now();
        let failure = policy.evaluate(&request(), &hosts(1)).unwrap_err();
        assert!(
            start.elapsed() < 4 * limits.deadline + Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(said), "{failure}");
        assert!(failure.message.chars().count() <= 513);
        assert_eq!(failure.policy.name, "bad");
    }
    let status = policy.status();
    assert_eq!((status.calls, status.failures), (3, 3));
    assert_eq!(status.last_failure.unwrap().kind, kind);
}

const LOOP: &str = "(loop $l (br $l)) unreachable";
const LOG: &str = r#"(import "ashlar:policy/log@0.4.0" "write" (func $log (param i32 i32 i32)))"#;

#[test]
fn an_endless_loop_is_cut_by_the_deadline() {
    let limits = Limits {
        deadline: Duration::from_millis(50),
        fuel: u64::MAX / 2,
        ..limits()
    };
    check(limits, "", LOOP, FailureKind::Deadline, "within 50 ms");
}

#[test]
fn an_endless_loop_is_cut_by_its_fuel() {
    let limits = Limits {
        fuel: 100_000,
        ..limits()
    };
    check(limits, "", LOOP, FailureKind::Fuel, "100000 instructions");
}

#[test]
fn memory_ends_at_the_limit() {
    let body =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    check(limits(), "", body, FailureKind::Memory, "32 MiB and");
}

#[test]
fn tables_end_at_the_limit() {
    let body = "(loop $l (br_if $l (i32.ne (table.grow (ref.null func) (i32.const 999)) (i32.const -1)))) unreachable";
    let kind = FailureKind::Memory;
    check(
        limits(),
        "(table 1 funcref)",
        body,
        kind,
        "a table of 10990",
    );
}

#[test]
fn traps_are_named() {
    for (body, said) in [
        ("unreachable", "unreachable"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.load (i32.const 0x7fffffff))", "out of bounds memory"),
    ] {
        check(limits(), "", body, FailureKind::Trap, said);
    }
    let recursion = "(func $deeper (call $deeper) (call $deeper))";
    let body = "(call $deeper) unreachable";
    check(
        limits(),
        recursion,
        body,
        FailureKind::Trap,
        "stack exhausted",
    );
}

#[test]
fn the_last_words_before_a_trap_are_told() {
    let more = format!(r#"{LOG} (data (i32.const 2048) "no idea\0aat all")"#);
    let body = "(call $log (i32.const 3) (i32.const 2048) (i32.const 14)) unreachable";
    check(limits(), &more, body, FailureKind::Trap, "no idea at all");
}

#[test]
fn its_own_error_is_told() {
    let answer = words(&[1, 3000, 9]);
    let more = format!(r#"(data (i32.const 2048) "{answer}") (data (i32.const 3000) "I refuse.")"#);
    let body = "(i32.const 2048)";
    check(limits(), &more, body, FailureKind::Refused, "I refuse.");
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let body =
        "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 4000)) (br $l)) unreachable";
    let limits = Limits {
        deadline: Duration::from_millis(50),
        ..limits()
    };
    check(limits, LOG, body, FailureKind::Deadline, "within 50 ms");
}

#[test]
fn a_line_longer_than_may_be_handed_over_is_refused() {
    let body = "(drop (memory.grow (i32.const 400)))
        (call $log (i32.const 3) (i32.const 0) (i32.const 20000000)) unreachable";
    check(limits(), LOG, body, FailureKind::InvalidAnswer, "");
}

#[test]
fn answers_that_cannot_be_used_are_refused() {
    let full = request().vcpus;
    assert!(full > 0);
    let dangling = words(&[0, 0, 0, 0x7fff_0000, 1, 0x7fff_0000, 1]);
    let many_names = words(&[0, 0, 0x1000_0000, 3000, 1, 4096, 1]);
    let tag = words(&[7, 0, 0, 0, 0, 0, 0]);
    let data = |answer: &str| format!(r#"(data (i32.const 2048) "{answer}")"#);
    for (more, said) in [
        (verdicts(1, 0, f64::NAN), "the score of host h-"),
        (verdicts(1, 0, f64::INFINITY), "is inf"),
        (verdicts(1, 0, -1e16), "within ±1e15"),
        (verdicts(2, 0, 1.0), "about 2 hosts; the table has 1"),
        (verdicts(0, 0, 1.0), "about 0 hosts; the table has 1"),
        (verdicts(1, 9, 1.0), "refused for constraint 9; 0 are named"),
        (data(&dangling), ""),
        (data(&many_names), ""),
        (data(&tag), ""),
    ] {
        let body = "(i32.const 2048)";
        check(limits(), &more, body, FailureKind::InvalidAnswer, said);
    }
    let body = "(i32.const 0x7ffffff0)";
    check(limits(), "", body, FailureKind::InvalidAnswer, "");
}

#[test]
fn a_full_host_cannot_be_recommended() {
    let host = Host::new(limits());
    let bytes = scheduler(&verdicts(1, 0, 1.0), "(i32.const 2048)");
    let policy = host
        .host
        .load_scheduler("greedy", &bytes, &parameters(&[]))
        .unwrap();
    let mut table = hosts(1);
    assert_eq!(
        policy.evaluate(&request(), &table).unwrap(),
        [Verdict::Score(1.0)]
    );
    let mut footprint = request().footprint();
    footprint.vcpus = 15;
    table.reserve(table.ids()[0], &footprint).unwrap();
    let failure = policy.evaluate(&request(), &table).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidAnswer);
    assert!(
        failure.message.contains("does not meet `vcpus`"),
        "{failure}"
    );
}

#[test]
fn random_numbers_are_the_same_for_the_same_question() {
    let more = format!(
        r#"(import "ashlar:policy/random@0.4.0" "next" (func $next (result i64))) {}"#,
        verdicts(1, 0, 0.0)
    );
    let body = "(drop (call $next))
        (f64.store (i32.const 4096) (f64.convert_i64_u (i64.shr_u (call $next) (i64.const 16)))) (i32.const 2048)";
    let host = Host::new(limits());
    let policy = host
        .host
        .load_scheduler("dice", &scheduler(&more, body), &parameters(&[]))
        .unwrap();
    let first = policy.evaluate(&request(), &hosts(1)).unwrap();
    assert_eq!(policy.evaluate(&request(), &hosts(1)).unwrap(), first);
    let mut other = request();
    other.instance = InstanceId::generate(8);
    assert_ne!(policy.evaluate(&other, &hosts(1)).unwrap(), first);
}

#[test]
fn prices_that_cannot_be_used_are_refused() {
    let usage = RatingInput {
        interval: UsageId::generate(1),
        usage: Usage::InstanceRunning {
            instance: InstanceId::generate(1),
            instance_type: "probe".to_owned(),
            vcpus: 1,
            memory: ByteCount::from_mib(128),
        },
        from: Timestamp::UNIX_EPOCH,
        seconds: 60,
    };
    let host = Host::new(limits());
    let huge = "9".repeat(28);
    for (amount, currency, count, said) in [
        ("-0.01", "CNY", 1, "is negative"),
        ("0.01", "USD", 1, "is in USD; prices here are in CNY"),
        ("0.01", "yuan", 1, "is not a currency"),
        ("free", "CNY", 1, "`free` is no price"),
        ("NaN", "CNY", 1, "`NaN` is no price"),
        ("1e3", "CNY", 1, "`1e3` is no price"),
        (&huge, "CNY", 1, "is believed"),
        ("0.01", "CNY", 2, "2 prices for 1 intervals"),
        ("0.01", "CNY", 0, "0 prices for 1 intervals"),
        ("0.01", "CNY", 0x0100_0000, ""),
    ] {
        let length = |text: &str| u32::try_from(text.len()).unwrap();
        let price = [3000, length(amount), 3100, length(currency)];
        let more = format!(
            r#"(data (i32.const 2048) "{}") (data (i32.const 2560) "{}")
               (data (i32.const 3000) "{amount}") (data (i32.const 3100) "{currency}")"#,
            words(&[0, 2560, count]),
            words(&[price, price].concat()),
        );
        let bytes = billing(&more, "(i32.const 2048)");
        let policy = host
            .host
            .load_billing("bad", &bytes, &parameters(&[]))
            .unwrap();
        let failure = policy
            .rate(Currency::CNY, std::slice::from_ref(&usage))
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidAnswer, "{failure}");
        assert!(failure.message.contains(said), "{failure}");
    }
}
