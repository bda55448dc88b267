//! What is in force and what should be, in one comparable form, and the commands that lead from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use security_group::Ruleset;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::json::{self, FAMILY};

/// A table. All texts are JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
    /// Verdict maps by device name: device → verdict.
    maps: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chain {
    base: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    digest: String,
    /// Known only of rules that should be.
    expressions: Value,
}

/// The digest stands for the rule.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Rule {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    key: String,
    elements: BTreeSet<String>,
}

impl State {
    /// What should be.
    pub(crate) fn of(ruleset: &Ruleset) -> Self {
        let rule = |rule| {
            let expressions = json::rule(rule, &ruleset.sets);
            let digest = Sha256::digest(expressions.to_string().as_bytes());
            Rule {
                digest: hex::encode(&digest[..12]),
                expressions,
            }
        };
        let chains = ruleset.chains.iter().map(|(name, chain)| {
            let base = chain.base.as_ref().map(|b| json::base(b).to_string());
            (
                name.clone(),
                Chain {
                    base,
                    rules: chain.rules.iter().map(rule).collect(),
                },
            )
        });
        let sets = ruleset.sets.iter().map(|(name, set)| {
            let elements = set
                .elements
                .iter()
                .map(|e| json::element(e).to_string())
                .collect();
            (
                name.clone(),
                Set {
                    key: json::set_type(set.key).to_string(),
                    elements,
                },
            )
        });
        let maps = ruleset.maps.iter().map(|(name, map)| {
            let entry = |(device, verdict)| {
                (
                    json!(device).to_string(),
                    json::verdict(verdict).to_string(),
                )
            };
            (name.clone(), map.iter().map(entry).collect())
        });
        Self {
            chains: chains.collect(),
            sets: sets.collect(),
            maps: maps.collect(),
        }
    }

    /// What is, from the tool's list of the table.
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let unreadable = |what: &str| Error::Unreadable {
            what: what.to_owned(),
        };
        let document: Value = serde_json::from_str(text).map_err(|e| unreadable(&e.to_string()))?;
        let items = document["nftables"]
            .as_array()
            .ok_or_else(|| unreadable("no list `nftables`"))?;
        let mut state = Self::default();
        for item in items {
            let name = |object: &Value| {
                object["name"]
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| unreadable("an object without a name"))
            };
            let elements = |object: &Value| object["elem"].as_array().cloned().unwrap_or_default();
            if let Some(chain) = item.get("chain") {
                let field = |key| &chain[key];
                let base = chain.get("hook").map(|hook| {
                    json!({ "type": field("type"), "hook": hook, "prio": field("prio"), "policy": field("policy") })
                        .to_string()
                });
                state.chains.entry(name(chain)?).or_default().base = base;
            } else if let Some(rule) = item.get("rule") {
                let chain = rule["chain"]
                    .as_str()
                    .ok_or_else(|| unreadable("a rule without a chain"))?;
                // A rule that somebody else added has no digest, and so differs from all that should be.
                let digest = rule["comment"].as_str().unwrap_or_default().to_owned();
                let rule = Rule {
                    digest,
                    expressions: Value::Null,
                };
                state
                    .chains
                    .entry(chain.to_owned())
                    .or_default()
                    .rules
                    .push(rule);
            } else if let Some(set) = item.get("set") {
                let elements = elements(set).iter().map(Value::to_string).collect();
                state.sets.insert(
                    name(set)?,
                    Set {
                        key: set["type"].to_string(),
                        elements,
                    },
                );
            } else if let Some(map) = item.get("map") {
                let entries = elements(map);
                let entry =
                    |pair: &Value| Some((pair.get(0)?.to_string(), pair.get(1)?.to_string()));
                let entries = entries.iter().map(entry).collect::<Option<_>>();
                state.maps.insert(
                    name(map)?,
                    entries.ok_or_else(|| unreadable("a map element that is no pair"))?,
                );
            }
        }
        Ok(state)
    }

    /// The commands of the one transaction that turns `held` (`None`: no table) into this.
    pub(crate) fn commands(&self, table: &str, held: Option<&Self>) -> Vec<Value> {
        let add_table = json!({ "add": { "table": { "family": FAMILY, "name": table } } });
        let empty = Self::default();
        let Some(held) = held else {
            return [vec![add_table], self.difference(table, &empty)].concat();
        };
        let rebased = |(name, chain): (&String, &Chain)| {
            held.chains.get(name).is_some_and(|h| h.base != chain.base)
        };
        let retyped =
            |(name, set): (&String, &Set)| held.sets.get(name).is_some_and(|h| h.key != set.key);
        if self.chains.iter().any(rebased) || self.sets.iter().any(retyped) {
            // The kernel cannot change these in place: replace the table, still in one transaction.
            let delete = json!({ "delete": { "table": { "family": FAMILY, "name": table } } });
            return [vec![delete, add_table], self.difference(table, &empty)].concat();
        }
        self.difference(table, held)
    }

    fn difference(&self, table: &str, held: &Self) -> Vec<Value> {
        let mut commands = Vec::new();
        let mut push = |verb: &str, kind: &str, name_key: &str, name: &str, more: Value| {
            let mut object = json!({ "family": FAMILY, "table": table });
            object[name_key] = json!(name);
            if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
                object.extend(more.clone());
            }
            commands.push(json!({ verb: { kind: object } }));
        };
        // 1. Everything that others refer to.
        for (name, chain) in self
            .chains
            .iter()
            .filter(|(name, _)| !held.chains.contains_key(*name))
        {
            push(
                "add",
                "chain",
                "name",
                name,
                chain.base.as_deref().map_or(json!({}), value),
            );
        }
        for (name, set) in self
            .sets
            .iter()
            .filter(|(name, _)| !held.sets.contains_key(*name))
        {
            push(
                "add",
                "set",
                "name",
                name,
                json!({ "type": value(&set.key) }),
            );
        }
        for name in self
            .maps
            .keys()
            .filter(|name| !held.maps.contains_key(*name))
        {
            push(
                "add",
                "map",
                "name",
                name,
                json!({ "type": "ifname", "map": "verdict" }),
            );
        }
        // 2. The contents of sets.
        for (name, set) in &self.sets {
            let before = held.sets.get(name).map(|s| &s.elements);
            let gone = before
                .into_iter()
                .flatten()
                .filter(|e| !set.elements.contains(*e));
            let new = set
                .elements
                .iter()
                .filter(|e| before.is_none_or(|b| !b.contains(*e)));
            for (verb, elements) in [("delete", values(gone)), ("add", values(new))] {
                if !elements.is_empty() {
                    push(verb, "element", "name", name, json!({ "elem": elements }));
                }
            }
        }
        // 3. Rules, whole chains at a time.
        for (name, chain) in &self.chains {
            let before = held.chains.get(name).map_or(&[][..], |c| &c.rules);
            if before == chain.rules {
                continue;
            }
            if !before.is_empty() {
                push("flush", "chain", "name", name, json!({}));
            }
            for rule in &chain.rules {
                push(
                    "add",
                    "rule",
                    "chain",
                    name,
                    json!({ "expr": rule.expressions, "comment": rule.digest }),
                );
            }
        }
        // 4. Where maps lead.
        for (name, map) in &self.maps {
            let before = held.maps.get(name);
            let gone = before
                .into_iter()
                .flatten()
                .filter(|(device, to)| map.get(*device) != Some(*to));
            let new = map
                .iter()
                .filter(|(device, to)| before.and_then(|b| b.get(*device)) != Some(*to));
            let pair = |(device, to): (&String, &String)| json!([value(device), value(to)]);
            for (verb, elements) in [
                ("delete", gone.map(pair).collect::<Vec<_>>()),
                ("add", new.map(pair).collect()),
            ] {
                if !elements.is_empty() {
                    push(verb, "element", "name", name, json!({ "elem": elements }));
                }
            }
        }
        // 5. What nothing refers to any more.
        let gone: Vec<&String> = held
            .chains
            .keys()
            .filter(|name| !self.chains.contains_key(*name))
            .collect();
        for name in &gone {
            push("flush", "chain", "name", name, json!({}));
        }
        for name in held
            .maps
            .keys()
            .filter(|name| !self.maps.contains_key(*name))
        {
            push("delete", "map", "name", name, json!({}));
        }
        for name in gone {
            push("delete", "chain", "name", name, json!({}));
        }
        for name in held
            .sets
            .keys()
            .filter(|name| !self.sets.contains_key(*name))
        {
            push("delete", "set", "name", name, json!({}));
        }
        commands
    }
}

/// Texts of a state are JSON that this module wrote or checked.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn values<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Value> {
    texts.map(|text| value(text)).collect()
}
