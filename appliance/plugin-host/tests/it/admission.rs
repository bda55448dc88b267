//! Admission answers: good ones count, and those that change what they must not are refused, and the request is let in.

use crate::{
    components::{Host, limits, words},
    questions::{Question, asked},
};
use plugin_host::FailureKind;

/// An answer of `admit` at 2048, with texts from 4096 on. `None` where a text is not set.
struct Amends<'a> {
    name: Option<&'a str>,
    /// Key and value.
    tags: &'a [(&'a str, &'a str)],
    /// 0 for none, 1 for off, 0x101 for on.
    protection: u32,
    category: Option<&'a str>,
    zone: Option<&'a str>,
}

const NOTHING: Amends<'static> = Amends {
    name: None,
    tags: &[],
    protection: 0,
    category: None,
    zone: None,
};
const OFF: u32 = 1;
const ON: u32 = 0x101;

/// Puts texts one after another.
struct Texts(String);

impl Texts {
    fn put(&mut self, text: &str) -> [u32; 2] {
        // Three characters stand for a byte.
        let at = 4096 + u32::try_from(self.0.len() / 3).unwrap();
        self.0
            .extend(text.bytes().map(|byte| format!("\\{byte:02x}")));
        [at, u32::try_from(text.len()).unwrap()]
    }

    fn option(&mut self, text: Option<&str>) -> [u32; 3] {
        text.map_or([0; 3], |text| {
            let [at, length] = self.put(text);
            [1, at, length]
        })
    }

    fn more(&self, answer: &[u32], list: &[u32]) -> String {
        format!(
            r#"(data (i32.const 2048) "{}") (data (i32.const 2560) "{}") (data (i32.const 4096) "{}")"#,
            words(answer),
            words(list),
            self.0
        )
    }
}

impl Amends<'_> {
    fn more(&self) -> String {
        let mut texts = Texts(String::new());
        let tags: Vec<u32> = self
            .tags
            .iter()
            .flat_map(|(key, value)| [texts.put(key), texts.put(value)].concat())
            .collect();
        let count = u32::try_from(self.tags.len()).unwrap();
        let answer = [
            &[0, 2][..],
            &texts.option(self.name),
            &[2560, count, self.protection],
            &texts.option(self.category),
            &texts.option(self.zone),
        ];
        texts.more(&answer.concat(), &tags)
    }
}

fn refusal(reason: &str, message: &str) -> String {
    let mut texts = Texts(String::new());
    let words = [reason, message].map(|text| texts.put(text)).concat();
    texts.more(&[&[0, 1], words.as_slice()].concat(), &[])
}

/// What becomes of the request, and why that is not what the policy said.
fn admitted(more: &str) -> (String, Option<String>) {
    let host = Host::new(limits());
    let policy = asked(&host, Question::Admit, more, "(i32.const 2048)");
    let (answer, failure) = policy.ask();
    if let Some(failure) = &failure {
        assert_eq!(failure.kind, FailureKind::InvalidAnswer, "{failure}");
        assert_eq!(answer, policy.built_in);
    }
    assert_eq!(policy.status().failures, u64::from(failure.is_some()));
    (answer, failure.map(|failure| failure.message))
}

#[test]
fn what_may_be_changed_is_changed() {
    let amends = Amends {
        name: Some("web"),
        tags: &[("cost-centre", "42")],
        protection: ON,
        category: Some("cloud_essd"),
        zone: Some("zone-a"),
    };
    let (answer, why) = admitted(&amends.more());
    assert_eq!(why, None);
    for part in [
        "\"web\"",
        "\"cost-centre\", \"42\"",
        "Some(true)",
        "cloud_essd",
        "zone-a",
    ] {
        assert!(answer.contains(part), "{answer}");
    }
    let (answer, why) = admitted(&refusal("too-large", "Nobody needs that much."));
    assert_eq!(why, None);
    assert!(answer.contains("Nobody needs that much."), "{answer}");
    let (answer, why) = admitted(&Texts(String::new()).more(&[0, 0], &[]));
    assert_eq!((answer.as_str(), why), ("Admit", None));
}

#[test]
fn what_must_not_be_changed_is_not() {
    let long = "x".repeat(129);
    let many: Vec<(String, String)> = (0..20).map(|n| (format!("k{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let name = |name| Amends {
        name: Some(name),
        ..NOTHING
    };
    let zone = Amends {
        zone: Some("zone-z"),
        ..NOTHING
    };
    let category = Amends {
        category: Some("floppy"),
        ..NOTHING
    };
    let protection = Amends {
        protection: OFF,
        ..NOTHING
    };
    let tags = |tags| Amends { tags, ..NOTHING };
    for (amends, said) in [
        (name(&long), "129 characters"),
        (name("a\nb"), "control characters"),
        (zone, "zone `zone-z`, which there is not"),
        (category, "category `floppy`, which there is not"),
        (protection, "switches deletion protection off"),
        (tags(&[("team", "b")]), "`team`, which is there already"),
        (
            tags(&[("x", "1"), ("x", "2")]),
            "`x`, which is there already",
        ),
        (tags(&[("acs:x", "1")]), "whose key is reserved"),
        (tags(&[("", "1")]), "0 characters"),
        (tags(&many), "21 labels"),
    ] {
        let why = admitted(&amends.more()).1.unwrap();
        assert!(why.contains(said), "{why}");
    }
    for (reason, message, said) in [
        ("Too large!", "No.", "must be of `a-z`"),
        ("", "No.", "0 characters"),
        ("large", "", "0 characters"),
        ("large", &"x".repeat(257), "257 characters"),
    ] {
        let why = admitted(&refusal(reason, message)).1.unwrap();
        assert!(why.contains(said), "{why}");
    }
}
