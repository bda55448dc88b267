//! Labels by account, type and image, and what follows from labels: a name, deletion protection, no preemptible instances.
//!
//! Parameters, all optional; lists are separated by commas:
//! - `tag.<key>`: the value of a label that requests get that are without it;
//! - `account.<account>.tag.<key>`, `type.<type>.tag.<key>`, `image.<image>.tag.<key>`: the same for requests of one account, instance
//!   type or image. A type may end with `*` for all that begin like it, such as `ecs.g6.*`. Where several set a label, the image's counts
//!   before the type's, the longest type's first, then the account's, then what is set for all;
//! - `values.<key>`: the values that a label may have, such as `production, test`;
//! - `required-tags`: keys of labels that a request must have, once the above are added;
//! - `protect-if`: labels such as `env=production`; a request with any of them gets deletion protection, unless it is preemptible;
//! - `no-preemptible-if`: labels likewise; a preemptible request with any of them is refused;
//! - `name`: the name of instances that were asked for without one, such as `{tag.team}-{tag.env}`. In braces there may be `tag.<key>`,
//!   `account` and `type`. A request without one of the labels, or with an empty one, gets no name from this; the instances of a request
//!   all get the same.
//!
//! For example `account.team-a.tag.cost-centre` = `4711`, `image.<id>.tag.env` = `production`, `protect-if` = `env=production`.
//!
//! Labels that were asked for are never changed. Everything else goes by the labels as they are once some were added, and only when
//! instances are asked for: labels that change later are not seen. A request is refused for the first rule it breaks, in the order
//! above, and last where it would get more labels than an instance may have.

use ashlar_policy::{
    Configuration,
    admission::{Admission, Amendment, Holdings, InstancesRequest, Offers, Tag, Verdict},
    export_admission,
};
use std::{cmp::Reverse, collections::BTreeMap};

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRules {
    /// What counts first comes first.
    rules: Vec<Rule>,
    values: BTreeMap<String, Vec<String>>,
    required: Vec<String>,
    protect_if: Vec<(String, String)>,
    no_preemptible_if: Vec<(String, String)>,
    name: Vec<Part>,
}

/// A label to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    of: Of,
    key: String,
    value: String,
}

/// Which requests a rule is for, in the order in which rules count.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Image(String),
    Type(String),
    /// All types that begin like this.
    Types(String),
    Account(String),
    All,
}

/// A part of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
    Account,
    Type,
}

type Labels<'a> = BTreeMap<&'a str, &'a str>;

const NAMES: [&str; 4] = ["required-tags", "protect-if", "no-preemptible-if", "name"];
const TAG: &str = "tag.";
const VALUES: &str = "values.";
const ACCOUNT: &str = "account.";
const TYPE: &str = "type.";
const IMAGE: &str = "image.";
/// What keys of labels must not begin with if a policy adds them.
const RESERVED: [&str; 2] = ["acs:", "aliyun"];
/// The most labels an instance may have.
const MAX_TAGS: usize = 20;
/// The longest key, value and name, in characters.
const MAX_TEXT: usize = 128;
/// The longest sentence of a refusal, in characters.
const MAX_MESSAGE: usize = 256;
/// How much of a text the sentence of a refusal quotes, in characters.
const MAX_QUOTED: usize = 48;

impl Admission for TagRules {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&NAMES, &[TAG, ACCOUNT, TYPE, IMAGE, VALUES])?;
        let values = values(configuration)?;
        let conditions = |name: &str| conditions(name, configuration, &values);
        Ok(Self {
            rules: rules(configuration, &values)?,
            required: list(configuration.get("required-tags").unwrap_or_default()),
            protect_if: conditions("protect-if")?,
            no_preemptible_if: conditions("no-preemptible-if")?,
            name: parts(configuration.get("name").unwrap_or_default())?,
            values,
        })
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        _: &Holdings,
        _: &Offers,
    ) -> Result<Verdict, String> {
        let asked = request.tags.iter();
        let mut labels: Labels<'_> = asked
            .map(|tag| (tag.key.as_str(), tag.value.as_str()))
            .collect();
        let mut added = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.of.covers(request)) {
            if !labels.contains_key(rule.key.as_str()) {
                labels.insert(&rule.key, &rule.value);
                added.push(Tag {
                    key: rule.key.clone(),
                    value: rule.value.clone(),
                });
            }
        }
        if let Some((reason, words)) = self.broken(request, &labels, added.len()) {
            return Ok(Verdict::refused(reason, shown(&words, MAX_MESSAGE)));
        }
        let protect = any(&self.protect_if, &labels).is_some();
        let amendment = Amendment {
            name: self
                .made_name(request, &labels)
                .filter(|_| request.name.is_none()),
            add_tags: added,
            deletion_protection: (protect && !request.spot && !request.deletion_protection)
                .then_some(true),
            ..Amendment::none()
        };
        let changes = amendment.name.is_some()
            || !amendment.add_tags.is_empty()
            || amendment.deletion_protection.is_some();
        Ok(if changes {
            Verdict::Amend(amendment)
        } else {
            Verdict::Admit
        })
    }
}

impl TagRules {
    /// The first rule that is broken: the reason and the sentence.
    fn broken(
        &self,
        request: &InstancesRequest,
        labels: &Labels<'_>,
        added: usize,
    ) -> Option<(&'static str, String)> {
        for (key, values) in &self.values {
            let Some(value) = labels.get(key.as_str()) else {
                continue;
            };
            if !values.iter().any(|allowed| allowed == value) {
                let words = format!(
                    "The label `{}` cannot be `{}`; it may be {}.",
                    shown(key, MAX_QUOTED),
                    shown(value, MAX_QUOTED),
                    shown(&quoted(values), 2 * MAX_QUOTED),
                );
                return Some(("tag-value-not-allowed", words));
            }
        }
        let missing = |key: &&String| !labels.contains_key(key.as_str());
        if let Some(key) = self.required.iter().find(missing) {
            let key_shown = shown(key, MAX_QUOTED);
            let words = match self.values.get(key) {
                None => format!("Each instance needs the label `{key_shown}`."),
                Some(values) => format!(
                    "Each instance needs the label `{key_shown}`: {}.",
                    shown(&quoted(values), 2 * MAX_QUOTED)
                ),
            };
            return Some(("missing-tag", words));
        }
        let holds = any(&self.no_preemptible_if, labels).filter(|_| request.spot);
        if let Some((key, value)) = holds {
            let words = format!(
                "Instances with the label `{}` = `{}` must not be preemptible.",
                shown(key, MAX_QUOTED),
                shown(value, MAX_QUOTED),
            );
            return Some(("preemptible-not-allowed", words));
        }
        // An amendment with more would count as a failure, and the request would be let in without the labels.
        if added > 0 && labels.len() > MAX_TAGS {
            let room = MAX_TAGS.saturating_sub(added);
            let words = format!(
                "An instance may have {MAX_TAGS} labels; {added} are added here, so ask for {room} at most."
            );
            return Some(("too-many-tags", words));
        }
        None
    }

    fn made_name(&self, request: &InstancesRequest, labels: &Labels<'_>) -> Option<String> {
        let mut name = String::new();
        for part in &self.name {
            name += match part {
                Part::Text(text) => text,
                Part::Account => &request.account,
                Part::Type => &request.instance_type,
                Part::Label(key) => labels.get(key.as_str()).filter(|value| !value.is_empty())?,
            };
        }
        (!name.is_empty()).then(|| shown(&name, MAX_TEXT))
    }
}

impl Of {
    fn covers(&self, request: &InstancesRequest) -> bool {
        match self {
            Self::Image(id) => *id == request.image,
            Self::Type(name) => *name == request.instance_type,
            Self::Types(prefix) => request.instance_type.starts_with(prefix),
            Self::Account(id) => *id == request.account,
            Self::All => true,
        }
    }

    /// Rules with less count first.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Image(_) => (0, Reverse(0)),
            Self::Type(_) => (1, Reverse(0)),
            Self::Types(prefix) => (2, Reverse(prefix.len())),
            Self::Account(_) => (3, Reverse(0)),
            Self::All => (4, Reverse(0)),
        }
    }
}

fn rules(
    configuration: &Configuration,
    values: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut add = |of: Of, parameter: &str, key: &str, value: &str| {
        check_key(parameter, key)?;
        check_value(parameter, key, value, values)?;
        let (key, value) = (key.to_owned(), value.to_owned());
        rules.push(Rule { of, key, value });
        Ok::<_, String>(())
    };
    for (key, value) in configuration.with_prefix(TAG) {
        add(Of::All, &format!("{TAG}{key}"), key, value)?;
    }
    for (prefix, what) in [(ACCOUNT, "account"), (TYPE, "type"), (IMAGE, "image")] {
        for (rest, value) in configuration.with_prefix(prefix) {
            let parameter = format!("{prefix}{rest}");
            let parts = rest.split_once(".tag.").filter(|(id, _)| !id.is_empty());
            let (id, key) = parts.ok_or_else(|| {
                format!("unknown parameter `{parameter}`; there is `{prefix}<{what}>.tag.<key>`")
            })?;
            let of = match (prefix, id.strip_suffix('*')) {
                (ACCOUNT, _) => Of::Account(id.to_owned()),
                (IMAGE, _) => Of::Image(id.to_owned()),
                (_, None) => Of::Type(id.to_owned()),
                (_, Some(prefix)) => Of::Types(prefix.to_owned()),
            };
            let odd = match &of {
                Of::Types(id) | Of::Type(id) | Of::Account(id) | Of::Image(id) => id.contains('*'),
                Of::All => false,
            };
            if odd {
                return Err(format!(
                    "unknown parameter `{parameter}`; only a type may have a `*`, and only at its end"
                ));
            }
            add(of, &parameter, key, value)?;
        }
    }
    rules.sort_by_key(|rule: &Rule| rule.of.rank());
    Ok(rules)
}

fn values(configuration: &Configuration) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut all = BTreeMap::new();
    for (key, text) in configuration.with_prefix(VALUES) {
        let values = list(text);
        if key.is_empty() || values.is_empty() {
            return Err(format!(
                "parameter `{VALUES}{key}` is `{text}`: it must be `{VALUES}<key>`, and values separated by commas"
            ));
        }
        all.insert(key.to_owned(), values);
    }
    Ok(all)
}

/// Labels of the form `key=value`.
fn conditions(
    name: &str,
    configuration: &Configuration,
    values: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for item in list(configuration.get(name).unwrap_or_default()) {
        let parts = item.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = parts.ok_or_else(|| {
            format!(
                "parameter `{name}` has `{item}`: it must be labels such as `env=production`, separated by commas"
            )
        })?;
        check_value(name, key, value, values)?;
        all.push((key.to_owned(), value.to_owned()));
    }
    Ok(all)
}

/// The parts of a name: text, and what is in braces.
fn parts(template: &str) -> Result<Vec<Part>, String> {
    let wrong = |what: &str| {
        format!(
            "parameter `name` has `{what}`: it must be text with `{{tag.<key>}}`, `{{account}}` or `{{type}}` in it"
        )
    };
    if template.chars().any(char::is_control) {
        return Err("parameter `name` has control characters in it".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let (text, after) = rest.split_once('{').unwrap_or((rest, ""));
        if text.contains('}') {
            return Err(wrong("}"));
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        if text.len() == rest.len() {
            break;
        }
        let (inside, after) = after.split_once('}').ok_or_else(|| wrong("{"))?;
        let label = inside.strip_prefix(TAG).filter(|key| !key.is_empty());
        parts.push(match (inside, label) {
            ("account", _) => Part::Account,
            ("type", _) => Part::Type,
            (_, Some(key)) => Part::Label(key.to_owned()),
            _ => return Err(wrong(&format!("{{{inside}}}"))),
        });
        rest = after;
    }
    Ok(parts)
}

fn list(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn check_key(parameter: &str, key: &str) -> Result<(), String> {
    let reserved = RESERVED.iter().any(|prefix| key.starts_with(prefix));
    let length = key.chars().count();
    if reserved || !(1..=MAX_TEXT).contains(&length) || key.chars().any(char::is_control) {
        return Err(format!(
            "parameter `{parameter}` adds the label `{key}`: a key must have 1 to {MAX_TEXT} characters and not begin with `{}` or `{}`",
            RESERVED[0], RESERVED[1]
        ));
    }
    Ok(())
}

/// Whether the label may have the value, also by `values.<key>`.
fn check_value(
    parameter: &str,
    key: &str,
    value: &str,
    values: &BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    if value.chars().count() > MAX_TEXT || value.chars().any(char::is_control) {
        return Err(format!(
            "parameter `{parameter}` has the value `{value}`: a label's must have at most {MAX_TEXT} characters, none of them a control character"
        ));
    }
    match values.get(key) {
        Some(values) if !values.iter().any(|allowed| allowed == value) => Err(format!(
            "parameter `{parameter}` has the value `{value}`: by `{VALUES}{key}` it may be {}",
            quoted(values)
        )),
        _ => Ok(()),
    }
}

/// The first of `conditions` that holds.
fn any<'a>(
    conditions: &'a [(String, String)],
    labels: &Labels<'_>,
) -> Option<&'a (String, String)> {
    let holds =
        |(key, value): &&(String, String)| labels.get(key.as_str()) == Some(&value.as_str());
    conditions.iter().find(holds)
}

fn quoted(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    quoted.join(", ")
}

/// `text` as it can be shown: at most so many characters, none of them a control character.
fn shown(text: &str, most: usize) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(most)
        .collect();
    if text.chars().nth(most).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

export_admission!(TagRules);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::check;

    const IMAGE_ID: &str = "m-0123456789abcdefg";

    fn request(tags: &[(&str, &str)]) -> InstancesRequest {
        InstancesRequest {
            account: "team-a".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: 8 << 30,
            disks: Vec::new(),
            count: 2,
            image: IMAGE_ID.to_owned(),
            name: None,
            tags: tags.iter().map(|tag| tag_of(*tag)).collect(),
            zone: None,
            spot: false,
            deletion_protection: false,
        }
    }

    fn tag_of((key, value): (&str, &str)) -> Tag {
        Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    fn configure(parameters: &[(&str, &str)]) -> Result<TagRules, String> {
        TagRules::configure(&parameters.iter().copied().collect())
    }

    fn admit(parameters: &[(&str, &str)], request: &InstancesRequest) -> Verdict {
        let holdings = Holdings {
            instances: 0,
            vcpus: 0,
            memory: 0,
        };
        let offers = Offers {
            zones: Vec::new(),
            disk_categories: Vec::new(),
        };
        let policy = configure(parameters).unwrap();
        policy.admit(request, &holdings, &offers).unwrap()
    }

    fn amended(parameters: &[(&str, &str)], request: &InstancesRequest) -> Amendment {
        match admit(parameters, request) {
            Verdict::Admit => Amendment::none(),
            Verdict::Amend(amendment) => amendment,
            Verdict::Refuse(refusal) => panic!("it is refused: {}", refusal.message),
        }
    }

    fn added(parameters: &[(&str, &str)], request: &InstancesRequest) -> Vec<(String, String)> {
        let tags = amended(parameters, request).add_tags;
        tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
    }

    fn refused(parameters: &[(&str, &str)], request: &InstancesRequest) -> (String, String) {
        match admit(parameters, request) {
            Verdict::Refuse(refusal) => (refusal.reason, refusal.message),
            Verdict::Admit | Verdict::Amend(_) => panic!("it is let in"),
        }
    }

    #[test]
    fn the_most_particular_label_is_added_and_what_was_asked_for_stays() {
        let image = format!("image.{IMAGE_ID}.tag.env");
        // Each is overruled by the next.
        let parameters = [
            ("tag.env", "all"),
            ("account.team-a.tag.env", "account"),
            ("type.*.tag.env", "any type"),
            ("type.ecs.*.tag.env", "short"),
            ("type.ecs.g6.*.tag.env", "long"),
            ("type.ecs.g6.large.tag.env", "type"),
            (image.as_str(), "image"),
        ];
        for number in 1..=parameters.len() {
            let (_, value) = parameters[number - 1];
            let expected = [("env".to_owned(), value.to_owned())];
            assert_eq!(added(&parameters[..number], &request(&[])), expected);
        }
        assert_eq!(added(&parameters, &request(&[("env", "mine")])), []);
        let others = [
            ("account.team.tag.env", "x"),
            ("type.ecs.g6.tag.env", "x"),
            ("type.ecs.c6.*.tag.env", "x"),
            ("image.m-0.tag.env", "x"),
        ];
        assert!(matches!(admit(&others, &request(&[])), Verdict::Admit));
    }

    #[test]
    fn a_label_has_one_of_its_values_and_required_ones_are_there() {
        let parameters = [
            ("values.env", "production, test"),
            ("required-tags", "env, owner"),
            ("account.team-a.tag.owner", "a"),
        ];
        assert_eq!(
            added(&parameters, &request(&[("env", "test")])),
            [("owner".to_owned(), "a".to_owned())]
        );
        assert_eq!(
            refused(&parameters, &request(&[("env", "prod")])),
            (
                "tag-value-not-allowed".to_owned(),
                "The label `env` cannot be `prod`; it may be `production`, `test`.".to_owned()
            )
        );
        assert_eq!(
            refused(&parameters, &request(&[])),
            (
                "missing-tag".to_owned(),
                "Each instance needs the label `env`: `production`, `test`.".to_owned()
            )
        );
        let mut other = request(&[("env", "test")]);
        other.account = "team-b".to_owned();
        let (reason, message) = refused(&parameters, &other);
        assert_eq!(reason, "missing-tag");
        assert_eq!(message, "Each instance needs the label `owner`.");
    }

    #[test]
    fn labels_decide_about_protection_and_preemptible_instances() {
        let parameters = [
            ("account.team-a.tag.env", "production"),
            ("protect-if", "env=production, tier=db"),
            ("no-preemptible-if", "tier=db"),
        ];
        let protection = |request: &InstancesRequest| {
            let amendment = amended(&parameters, request);
            amendment.deletion_protection
        };
        // Also by a label that was added.
        assert_eq!(protection(&request(&[])), Some(true));
        assert_eq!(protection(&request(&[("env", "test")])), None);
        let mut database = request(&[("env", "test"), ("tier", "db")]);
        assert_eq!(protection(&database), Some(true));
        database.deletion_protection = true;
        assert_eq!(protection(&database), None);
        database.deletion_protection = false;
        database.spot = true;
        assert_eq!(
            refused(&parameters, &database),
            (
                "preemptible-not-allowed".to_owned(),
                "Instances with the label `tier` = `db` must not be preemptible.".to_owned()
            )
        );
        let mut spot = request(&[]);
        spot.spot = true;
        assert_eq!(protection(&spot), None);
    }

    #[test]
    fn a_name_is_made_of_labels_where_none_is_given() {
        let name = |template: &str, request: &InstancesRequest| {
            amended(&[("name", template), ("tag.env", "test")], request).name
        };
        let asked = request(&[("team", "a"), ("empty", "")]);
        for (template, expected) in [
            ("{tag.team}-{tag.env}", Some("a-test")),
            ("web", Some("web")),
            ("<{account}/{type}>", Some("<team-a/ecs.g6.large>")),
            ("{tag.team}{tag.owner}", None),
            ("{tag.team}{tag.empty}", None),
            ("", None),
        ] {
            assert_eq!(name(template, &asked).as_deref(), expected, "{template}");
        }
        let mut named = asked.clone();
        named.name = Some("mine".to_owned());
        assert_eq!(name("{tag.team}", &named), None);
        let long = "ä".repeat(MAX_TEXT);
        let made = name("{tag.team}{tag.team}", &request(&[("team", &long)])).unwrap();
        assert_eq!(made.chars().count(), MAX_TEXT);
    }

    #[test]
    fn labels_beyond_the_most_there_may_be_are_refused_not_left_out() {
        let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
        let tags: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        let parameters = [("tag.cost-centre", "42"), ("tag.key-0", "y")];
        assert_eq!(added(&parameters, &request(&tags[..19])).len(), 1);
        let (reason, message) = refused(&parameters, &request(&tags));
        assert_eq!(reason, "too-many-tags");
        assert!(message.contains("ask for 19 at most"), "{message}");
        // What needs none is let in.
        assert_eq!(added(&parameters[1..], &request(&tags)), []);
    }

    #[test]
    fn a_refusal_can_be_shown_whatever_the_labels_are() {
        let long = "k".repeat(MAX_TEXT);
        let odd = "\n".repeat(MAX_TEXT);
        let values = format!("values.{long}");
        let condition = format!("{long}={long}");
        let mut spot = request(&[(&long, &long)]);
        spot.spot = true;
        for (parameters, request) in [
            (
                vec![(values.as_str(), condition.as_str())],
                request(&[(&long, &odd)]),
            ),
            (
                vec![(values.as_str(), long.as_str()), ("required-tags", &long)],
                request(&[]),
            ),
            (vec![("no-preemptible-if", condition.as_str())], spot),
        ] {
            let (_, message) = refused(&parameters, &request);
            assert!(message.chars().count() <= MAX_MESSAGE, "{message}");
            assert!(!message.chars().any(char::is_control), "{message}");
            assert!(message.ends_with('.'), "{message}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        let long = "x".repeat(MAX_TEXT + 1);
        for (name, value, said) in [
            ("tags.env", "test", "unknown parameter `tags.env`"),
            (
                "account.team-a.env",
                "test",
                "unknown parameter `account.team-a.env`; there is `account.<account>.tag.<key>`",
            ),
            ("image..tag.env", "test", "`image.<image>.tag.<key>`"),
            ("type.ecs.*.large.tag.env", "test", "only at its end"),
            ("account.team-*.tag.env", "test", "only a type may have"),
            (
                "tag.acs:env",
                "test",
                "parameter `tag.acs:env` adds the label `acs:env`: a key must have 1 to 128 characters and not begin with",
            ),
            ("account.a.tag.", "test", "`account.a.tag.`"),
            ("tag.env", &long, "at most 128 characters"),
            ("tag.env", "a\nb", "parameter `tag.env` has the value"),
            (
                "values.env",
                " , ",
                "`values.env` is ` , `: it must be `values.<key>`, and values separated by commas",
            ),
            (
                "protect-if",
                "env=production,tier",
                "parameter `protect-if` has `tier`: it must be labels such as `env=production`",
            ),
            ("no-preemptible-if", "=x", "`no-preemptible-if` has `=x`"),
            (
                "name",
                "{team}",
                "parameter `name` has `{team}`: it must be text with `{tag.<key>}`, `{account}` or `{type}` in it",
            ),
            ("name", "{tag.team", "parameter `name` has `{`"),
            ("name", "tag.team}", "parameter `name` has `}`"),
            ("name", "{tag.}", "parameter `name` has `{tag.}`"),
            ("name", "a\tb", "control characters"),
        ] {
            let error = configure(&[(name, value)]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        // Parameters that contradict each other.
        for (name, value) in [
            ("tag.env", "prod"),
            ("account.a.tag.env", "prod"),
            ("protect-if", "env=prod"),
        ] {
            let error = configure(&[("values.env", "production,test"), (name, value)]);
            let error = error.unwrap_err();
            let said = format!(
                "parameter `{name}` has the value `prod`: by `values.env` it may be `production`, `test`"
            );
            assert_eq!(error, said);
        }
    }

    #[test]
    fn it_holds_what_every_admission_policy_must() {
        check::admission::<TagRules>(&[]);
        check::admission::<TagRules>(&[
            ("tag.team", "v0"),
            ("account.default.tag.cost-centre", "42"),
            ("type.ecs.g6.*.tag.family", "g6"),
            ("values.env", "v0, v1, v2"),
            ("required-tags", "owner"),
            ("protect-if", "env=v0, team=v1"),
            ("no-preemptible-if", "env=v0"),
            ("name", "{account}-{tag.team}-{tag.env}"),
        ]);
    }
}
