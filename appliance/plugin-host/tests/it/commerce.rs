//! Commercial answers: good ones count, and those that break the rules are refused in words that say which.

use crate::{
    components::{BillingExports, Host, billing_with, limits, parameters, words},
    questions::{Question, asked, debt, leases, metered, prices},
};
use billing::{ArrearsStep, Commerce};
use plugin_host::FailureKind;

/// The answer in the data segment.
const DATA: &str = "(i32.const 2048)";

/// Texts from 4096 on, and where each begins.
#[derive(Default)]
struct Texts {
    bytes: String,
    next: u32,
}

impl Texts {
    /// Address and length of a text.
    fn put(&mut self, text: &str) -> [u32; 2] {
        let length = u32::try_from(text.len()).unwrap();
        let at = 4096 + self.next;
        self.next += length;
        self.bytes
            .extend(text.bytes().map(|byte| format!("\\{byte:02x}")));
        [at, length]
    }

    /// What comes before a body whose answer is `answer`, which may point to `list`, at 65536.
    fn more(&self, answer: &[u32], list: &[u32]) -> String {
        format!(
            r#"(data (i32.const 2048) "{}") (data (i32.const 65536) "{}") (data (i32.const 4096) "{}")"#,
            words(answer),
            words(list),
            self.bytes
        )
    }
}

/// What is done instead, if it fails, and why.
fn answered(question: Question, more: &str) -> (String, Option<String>) {
    let host = Host::new(limits());
    let policy = asked(&host, question, more, DATA);
    let (answer, failure) = policy.ask();
    assert_eq!(failure.is_some(), answer == policy.built_in, "{answer}");
    assert_eq!(policy.status().failures, u64::from(failure.is_some()));
    if let Some(failure) = &failure {
        assert_eq!(failure.kind, FailureKind::InvalidAnswer, "{failure}");
    }
    (answer, failure.map(|failure| failure.message))
}

fn refused(question: Question, more: &str, said: &str) {
    let why = answered(question, more).1.unwrap();
    assert!(why.contains(said), "{why}");
}

/// A quote of `count` equal lines; per hour is 0, per term 1.
fn quote(item: &str, amount: &str, currency: &str, per: u32, count: usize) -> String {
    let mut texts = Texts::default();
    let parts = [item, amount, currency].map(|text| texts.put(text));
    let line = [parts.concat().as_slice(), &[per, 0, 0, 0]].concat();
    let lines = u32::try_from(count).unwrap();
    texts.more(&[0, 65536, lines], &line.repeat(count.min(100)))
}

#[test]
fn quotes_that_cannot_be_are_refused() {
    let (answer, why) = answered(Question::Quote, &quote("all", "1.5", "CNY", 0, 2));
    assert_eq!(why, None);
    assert!(
        answer.contains("\"all\"") && answer.contains("1.500000"),
        "{answer}"
    );
    for (item, amount, currency, per, count, said) in [
        ("all", "-1", "CNY", 0, 1, "line 1 is negative"),
        ("all", "1", "USD", 0, 1, "is in USD; prices here are in CNY"),
        ("all", "1", "yuan", 0, 1, "is not a currency"),
        ("all", "free", "CNY", 0, 1, "`free` is no price"),
        ("all", "NaN", "CNY", 0, 1, "`NaN` is no price"),
        ("all", &"9".repeat(29), "CNY", 0, 1, "is no price"),
        ("all", &"9".repeat(28), "CNY", 0, 1, "is believed"),
        ("all", "1", "CNY", 1, 1, "for the wrong time"),
        ("all", "1", "CNY", 7, 1, ""),
        ("", "1", "CNY", 0, 1, "item of line 1 has 0 characters"),
        (&"x".repeat(129), "1", "CNY", 0, 1, "has 129 characters"),
        ("a\nb", "1", "CNY", 0, 1, "control characters"),
        ("all", "1", "CNY", 0, 0, "a quote of 0 lines"),
        (
            "all",
            "1",
            "CNY",
            0,
            65,
            "a quote of 65 lines; it must have 1 to 64",
        ),
        ("all", "1", "CNY", 0, 0x0100_0000, ""),
    ] {
        refused(
            Question::Quote,
            &quote(item, amount, currency, per, count),
            said,
        );
    }
}

/// A renewal at that price.
fn renewal(amount: &str, currency: &str, discount: Option<&str>) -> String {
    let mut texts = Texts::default();
    let price = [amount, currency].map(|text| texts.put(text)).concat();
    let discount = match discount.map(|text| texts.put(text)) {
        Some([at, length]) => [1, at, length],
        None => [0, 0, 0],
    };
    texts.more(&[&[0, 0], price.as_slice(), &discount].concat(), &[])
}

#[test]
fn renewals_that_cannot_be_are_refused() {
    let (answer, why) = answered(Question::Renewal, &renewal("80", "CNY", Some("loyal")));
    assert_eq!(why, None);
    assert!(
        answer.contains("80.00") && answer.contains("loyal"),
        "{answer}"
    );
    for (amount, currency, discount, said) in [
        ("-1", "CNY", None, "the renewal is negative"),
        ("1", "EUR", None, "is in EUR"),
        ("", "CNY", None, "`` is no price"),
        ("1", "CNY", Some(""), "discount of the renewal has 0"),
    ] {
        refused(
            Question::Renewal,
            &renewal(amount, currency, discount),
            said,
        );
    }
    let refusal = |message: &str| {
        let mut texts = Texts::default();
        let [at, length] = texts.put(message);
        texts.more(&[0, 1, at, length], &[])
    };
    let (answer, why) = answered(Question::Renewal, &refusal("This plan ends."));
    assert_eq!(why, None);
    assert!(answer.contains("This plan ends."), "{answer}");
    for (message, said) in [("", "0 characters"), (&"x".repeat(257), "257 characters")] {
        refused(Question::Renewal, &refusal(message), said);
    }
}

#[test]
fn a_step_before_its_time_is_refused() {
    let step = |step: u32| Texts::default().more(&[0, step], &[]);
    for (number, name) in [(1, "retry"), (2, "stop"), (3, "release")] {
        let said = format!("`{name}` is harsher than what is due after 0 days");
        refused(Question::Arrears, &step(number), &said);
    }
    refused(Question::Arrears, &step(4), "");
    let host = Host::new(limits());
    let policy = asked(&host, Question::Arrears, &step(0), DATA);
    assert_eq!(policy.ask(), ("Wait".to_owned(), None));
}

#[test]
fn who_must_not_be_preempted_cannot_be_named() {
    let [free, protected] = [0, 1].map(|at| leases()[at].instance.to_string());
    let order = |ids: &[&str]| {
        let mut texts = Texts::default();
        let list: Vec<u32> = ids.iter().flat_map(|id| texts.put(id)).collect();
        texts.more(&[0, 65536, u32::try_from(ids.len()).unwrap()], &list)
    };
    for (ids, said) in [
        (&[protected.as_str()][..], "which is protected until"),
        (&[&free, &protected], "which is protected until"),
        (&[&free, &free], "twice"),
        (&["i-0123456789abcdefg"], "not among those asked about"),
        (&["everybody"], "`everybody` is not an instance id"),
    ] {
        refused(Question::Preempt, &order(ids), said);
    }
    let (answer, why) = answered(Question::Preempt, &order(&[]));
    assert_eq!(why, None);
    assert!(answer.contains("TooLittle"), "{answer}");
}

/// `count` meters of that name and quantity.
fn meters(name: &str, quantity: &str, count: usize) -> String {
    let mut texts = Texts::default();
    let parts = [name, quantity].map(|text| texts.put(text));
    let meter = [parts.concat().as_slice(), &[1]].concat();
    texts.more(
        &[0, 65536, u32::try_from(count).unwrap()],
        &meter.repeat(count),
    )
}

#[test]
fn meters_that_cannot_be_are_refused() {
    let (answer, why) = answered(Question::Meters, &meters("licence.db", "2.5", 1));
    assert_eq!(why, None);
    assert!(
        answer.contains("licence.db") && answer.contains("2.5"),
        "{answer}"
    );
    let (answer, why) = answered(Question::Meters, &meters("", "", 0));
    assert_eq!((answer.as_str(), why), ("Some([])", None));
    for (name, quantity, count, said) in [
        ("", "1", 1, "meter 1: the name of a meter is 1 to 64"),
        ("Licence", "1", 1, "meter 1: the name of a meter is 1 to 64"),
        ("disk-allocated", "1", 1, "counts disk-allocated by itself"),
        ("licence", "0", 1, "a quantity of 0"),
        ("licence", "-1", 1, "a quantity of -1"),
        ("licence", "1000000001", 1, "at most 1000000000"),
        ("licence", "0.0000000001", 1, "at most 9 decimals"),
        ("licence", "some", 1, "`some` is no quantity"),
        ("licence", "1", 2, "meter 2: licence is there already"),
        ("licence", "1", 17, "17 meters of an instance"),
    ] {
        refused(Question::Meters, &meters(name, quantity, count), said);
    }
}

/// A policy that has no answer to what is metered goes on to make every other decision.
#[test]
fn no_meters_are_no_reason_to_ask_for_nothing_else() {
    let host = Host::new(limits());
    let bytes = billing_with(&BillingExports {
        more: &Texts::default().more(&[0, 0], &[]),
        arrears: DATA,
        rate: "unreachable",
        quote: "unreachable",
        renewal: "unreachable",
        preempt: "unreachable",
        meters: "unreachable",
    });
    let policy = host
        .host
        .load_billing("bad", &bytes, &parameters(&[]))
        .unwrap();
    let commerce = Commerce::new(policy.clone(), prices());
    for _ in 0..10 {
        assert_eq!(commerce.meters(&metered()).answer, None);
    }
    let last = commerce.meters(&metered()).fallback.unwrap();
    assert_eq!(last.kind, FailureKind::SetAside);
    assert!(policy.status().set_aside && !policy.is_set_aside());
    let decided = commerce.arrears(&debt());
    assert_eq!(
        (decided.answer, decided.fallback),
        (ArrearsStep::Wait, None)
    );
}
