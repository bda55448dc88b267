//! What is in force and what should be, in one comparable form.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use security_group::Ruleset;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::expression::{
    DATA_VALUE, DATA_VERDICT, KeyType, device_key, key, key_type, verdict_code,
};
use crate::socket::Socket;
use crate::wire::{Attributes, attributes, find, find_number, find_text};

/// Digests change with this number: raise it when rules are translated differently.
const TRANSLATION: u32 = 1;
/// `NFT_MSG_GETCHAIN`, `…GETRULE`, `…GETSET`, `…GETSETELEM`.
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENTS: u16 = 13;
/// `NFT_SET_ANONYMOUS`, `NFT_SET_MAP`.
const SET_ANONYMOUS: u32 = 1;
const SET_MAP: u32 = 8;
/// Type of a rule's comment in its user data (`NFTNL_UDATA_RULE_COMMENT`).
pub(crate) const COMMENT: u8 = 0;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) chains: BTreeMap<String, Chain>,
    pub(crate) sets: BTreeMap<String, Set>,
    /// Device name as a key → verdict.
    pub(crate) maps: BTreeMap<String, BTreeMap<Vec<u8>, Target>>,
}

/// A verdict's code and the chain it leads to.
pub(crate) type Target = (i32, Option<String>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    pub(crate) drops: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) digest: String,
    /// Known only of rules that should be.
    pub(crate) source: Option<security_group::Rule>,
}

/// The digest stands for the rule.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Rule {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) key: KeyType,
    pub(crate) elements: BTreeSet<Vec<u8>>,
}

impl State {
    /// What should be.
    pub(crate) fn of(ruleset: &Ruleset) -> Self {
        let rule = |rule: &security_group::Rule| {
            let digest = Sha256::digest(format!("{TRANSLATION} {rule:?}").as_bytes());
            Rule {
                digest: hex::encode(&digest[..12]),
                source: Some(rule.clone()),
            }
        };
        let chains = ruleset.chains.iter().map(|(name, chain)| {
            let base = chain.base.as_ref().map(|base| Base {
                hook: match base.hook {
                    security_group::Hook::Prerouting => 0,
                    security_group::Hook::Input => 1,
                    security_group::Hook::Forward => 2,
                    security_group::Hook::Output => 3,
                },
                priority: base.priority,
                drops: base.drops,
            });
            (
                name.clone(),
                Chain {
                    base,
                    rules: chain.rules.iter().map(rule).collect(),
                },
            )
        });
        let sets = ruleset.sets.iter().map(|(name, set)| {
            (
                name.clone(),
                Set {
                    key: key_type(set.key),
                    elements: set.elements.iter().map(key).collect(),
                },
            )
        });
        let maps = ruleset.maps.iter().map(|(name, map)| {
            let entry = |(device, verdict): (&String, &security_group::Verdict)| {
                let (code, chain) = verdict_code(verdict)?;
                Some((device_key(device), (code, chain.map(str::to_owned))))
            };
            (name.clone(), map.iter().filter_map(entry).collect())
        });
        Self {
            chains: chains.collect(),
            sets: sets.collect(),
            maps: maps.collect(),
        }
    }

    /// What is; `None` when there is no such table.
    pub(crate) fn read(socket: &Socket, table: &str) -> Result<Option<Self>, Error> {
        let mut state = Self::default();
        // Table is attribute 1 of chains, rules, sets and elements alike.
        let of_table = Attributes::default().text(1, table);
        let is_ours = |object: &[u8]| find_text(object, 1).as_deref() == Some(table);
        let mut tables = false;
        let listed = socket.list(GET_TABLE, &Attributes::default(), |object| {
            tables |= is_ours(object)
        })?;
        check("list the tables", listed)?;
        if !tables {
            return Ok(None);
        }
        let listed = socket.list(GET_CHAIN, &of_table, |object| {
            if let (true, Some(name)) = (is_ours(object), find_text(object, 3)) {
                state.chains.insert(
                    name,
                    Chain {
                        base: base(object),
                        rules: Vec::new(),
                    },
                );
            }
        })?;
        check("list the chains", listed)?;
        let listed = socket.list(GET_RULE, &of_table, |object| {
            if let (true, Some(chain)) = (is_ours(object), find_text(object, 2)) {
                let rule = Rule {
                    digest: comment(object),
                    source: None,
                };
                state.chains.entry(chain).or_default().rules.push(rule);
            }
        })?;
        check("list the rules", listed)?;
        let listed = socket.list(GET_SET, &of_table, |object| {
            let flags = find_number(object, 3).unwrap_or(0);
            let (true, Some(name)) = (
                is_ours(object) && flags & SET_ANONYMOUS == 0,
                find_text(object, 2),
            ) else {
                return;
            };
            if flags & SET_MAP != 0 {
                state.maps.insert(name, BTreeMap::new());
            } else {
                let (kind, length) = (
                    find_number(object, 4).unwrap_or(0),
                    find_number(object, 5).unwrap_or(0),
                );
                state.sets.insert(
                    name,
                    Set {
                        key: KeyType { kind, length },
                        elements: BTreeSet::new(),
                    },
                );
            }
        })?;
        check("list the sets", listed)?;
        let names: Vec<String> = state
            .sets
            .keys()
            .chain(state.maps.keys())
            .cloned()
            .collect();
        for name in names {
            let listed = socket.list(GET_ELEMENTS, &of_table.clone().text(2, &name), |object| {
                for (_, element) in attributes(find(object, 3).unwrap_or_default()) {
                    state.add_element(&name, element);
                }
            })?;
            check("list the elements of a set", listed)?;
        }
        Ok(Some(state))
    }

    /// `NFTA_SET_ELEM_KEY`, `NFTA_SET_ELEM_DATA`.
    fn add_element(&mut self, name: &str, element: &[u8]) {
        let Some(key) = find(element, 1).and_then(|data| find(data, DATA_VALUE)) else {
            return;
        };
        if let Some(set) = self.sets.get_mut(name) {
            set.elements.insert(key.to_vec());
        } else if let Some(map) = self.maps.get_mut(name) {
            let verdict = find(element, 2)
                .and_then(|data| find(data, DATA_VERDICT))
                .unwrap_or_default();
            let code = find_number(verdict, 1).unwrap_or(0).cast_signed();
            map.insert(key.to_vec(), (code, find_text(verdict, 2)));
        }
    }
}

/// `NFT_MSG_GETTABLE`.
const GET_TABLE: u16 = 1;

/// `NFTA_CHAIN_HOOK` { number, priority }, `NFTA_CHAIN_POLICY`.
fn base(chain: &[u8]) -> Option<Base> {
    let hook = find(chain, 4)?;
    Some(Base {
        hook: find_number(hook, 1)?,
        priority: find_number(hook, 2)?.cast_signed(),
        drops: find_number(chain, 5)? == 0,
    })
}

/// The comment of a rule; a rule that somebody else added has none or another, and so differs from all that should be.
fn comment(rule: &[u8]) -> String {
    match find(rule, 7) {
        Some([COMMENT, length, rest @ ..]) if usize::from(*length) <= rest.len() => {
            let text = &rest[..usize::from(*length)];
            String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).into_owned()
        }
        _ => String::new(),
    }
}

fn check(command: &str, result: Result<(), Errno>) -> Result<(), Error> {
    result.map_err(|errno| refused(command.to_owned(), errno))
}

/// Tells what a kernel lacks from what it does not want.
pub(crate) fn refused(command: String, errno: Errno) -> Error {
    let source = errno.into();
    match errno {
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EINVAL
            if command.contains("list") =>
        {
            Error::KernelLacks {
                missing: "nf_tables with the family inet",
                source,
            }
        }
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => Error::KernelLacks {
            missing: "nf_tables with the family inet, or connection tracking",
            source,
        },
        // No such expression, since chains and sets are made before the rules that name them.
        Errno::ENOENT if command.starts_with("add a rule") => Error::KernelLacks {
            missing: "nft_ct (connection tracking in nf_tables)",
            source,
        },
        _ => Error::Refused { command, source },
    }
}
