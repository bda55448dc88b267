//! Reading a text: first its form, then what its values mean together.

use std::{collections::BTreeSet, net::IpAddr};

use toml::de::{DeTable, DeValue};

use crate::{
    Bond, ConfigError, DataDisk, HostConfig, Interface, Link, MAX_BYTES, Match, Problem, VERSION,
    form,
};

/// Reads and checks a configuration; `origin` says in messages where it came from.
///
/// # Errors
/// What is wrong with it, each with its line: first all that is no TOML, then all of the wrong form, then all that does not go together.
pub fn parse(text: &str, origin: &str) -> Result<HostConfig, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::whole(
            origin,
            format!("the configuration has more than {} KiB", MAX_BYTES >> 10),
        ));
    }
    let fail = |problems| ConfigError {
        origin: origin.to_owned(),
        problems,
    };
    let malformed = |error: &toml::de::Error| {
        let message = error.message().replace('\n', " ");
        let at = error.span().map_or(text.len(), |span| span.start);
        Problem::at(text, at, "", message)
    };
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(fail(
            errors.iter().take(MAX_SYNTAX).map(malformed).collect(),
        ));
    }
    let tree = tree.get_ref();
    // Before anything else: other versions may have other keys.
    match tree
        .get("version")
        .map(|value| (value.span().start, value.get_ref()))
    {
        None => {
            return Err(ConfigError::whole(
                origin,
                format!("the first line must be `version = {VERSION}`"),
            ));
        }
        Some((_, DeValue::Integer(number))) if number.to_string() == VERSION.to_string() => {}
        Some((at, _)) => {
            let message = format!("this version of the host knows `version = {VERSION}` only");
            return Err(fail(vec![Problem::at(text, at, "version", message)]));
        }
    }
    let problems = form::check(text, tree);
    if !problems.is_empty() {
        return Err(fail(problems));
    }
    let config: HostConfig = toml::from_str(text).map_err(|error| fail(vec![malformed(&error)]))?;
    let mut check = Check {
        text,
        tree,
        problems: Vec::new(),
    };
    check.config(&config);
    if check.problems.is_empty() {
        return Ok(config);
    }
    Err(fail(check.problems))
}

/// The most mistakes of syntax that are told: what follows one is often its consequence.
const MAX_SYNTAX: usize = 5;

/// One step into a configuration.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    Index(usize),
}

struct Check<'a> {
    text: &'a str,
    tree: &'a DeTable<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn config(&mut self, config: &HostConfig) {
        if config.storage.data == DataDisk::Auto && config.storage.erase {
            self.problem(
                &[Step::Key("storage"), Step::Key("erase")],
                "only a disk that is named may be erased: set `data` to its device file or `serial:…`",
            );
        }
        self.network(config);
    }

    fn network(&mut self, config: &HostConfig) {
        let network = &config.network;
        let mut names = BTreeSet::new();
        for (index, interface) in network.interfaces.iter().enumerate() {
            let at = Place("interface", index);
            if let Some(name) = &interface.name {
                self.name(at, name, &mut names);
            }
            self.matches(at, &interface.matches, &network.interfaces[..index]);
            self.link(at, &interface.link);
        }
        let mut members = BTreeSet::new();
        for (index, bond) in network.bonds.iter().enumerate() {
            let at = Place("bond", index);
            self.name(at, &bond.name, &mut names);
            self.bond(at, bond, &network.interfaces, &mut members);
            self.link(at, &bond.link);
        }
        let mut tags = BTreeSet::new();
        for (index, vlan) in network.vlans.iter().enumerate() {
            let at = Place("vlan", index);
            self.name(at, &vlan.name, &mut names);
            let carriers = network
                .interfaces
                .iter()
                .filter_map(|interface| interface.name.as_ref());
            let mut carriers = carriers.chain(network.bonds.iter().map(|bond| &bond.name));
            if !carriers.any(|name| *name == vlan.parent) {
                self.problem(
                    &at.key("parent"),
                    format!(
                        "no interface or bond of this configuration is called `{}`",
                        vlan.parent
                    ),
                );
            } else if members.contains(vlan.parent.as_str()) {
                self.problem(
                    &at.key("parent"),
                    format!(
                        "`{}` is a member of a bond: the bond carries the VLAN",
                        vlan.parent
                    ),
                );
            } else if !tags.insert((vlan.parent.as_str(), vlan.id)) {
                self.problem(
                    &at.key("id"),
                    format!(
                        "`{}` carries two VLANs with the number {}",
                        vlan.parent, vlan.id
                    ),
                );
            }
            self.link(at, &vlan.link);
        }
    }

    fn matches(&mut self, at: Place, matches: &Match, before: &[Interface]) {
        let given = [
            matches.mac.is_some(),
            matches.path.is_some(),
            matches.driver.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            self.problem(
                &at.key("match"),
                "exactly one of `mac`, `path` and `driver` says which interface is meant",
            );
        } else if before.iter().any(|other| other.matches == *matches) {
            self.problem(
                &at.key("match"),
                "another interface above already matches this",
            );
        }
    }

    fn bond<'b>(
        &mut self,
        at: Place,
        bond: &'b Bond,
        interfaces: &[Interface],
        members: &mut BTreeSet<&'b str>,
    ) {
        let place = at.key("members");
        if bond.members.is_empty() {
            self.problem(&place, "a bond needs at least one member");
        }
        for member in &bond.members {
            let interface = interfaces
                .iter()
                .find(|interface| interface.name.as_ref() == Some(member));
            match interface {
                None => self.problem(&place, format!("no interface of this configuration is called `{member}`: give it its `name`")),
                Some(interface) if interface.link != Link::default() => {
                    self.problem(&place, format!("`{member}` is a member of a bond and cannot have addresses of its own: the bond has them"));
                }
                Some(_) if !members.insert(member) => {
                    self.problem(&place, format!("`{member}` is a member of a bond twice"));
                }
                Some(_) => {}
            }
        }
    }

    fn link(&mut self, at: Place, link: &Link) {
        for gateway in &link.gateways {
            let reachable = link
                .addresses
                .iter()
                .any(|address| address.contains(gateway) && address.addr() != *gateway);
            let link_local =
                matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            if !reachable && !link_local {
                self.problem(&at.key("gateways"), format!("{gateway} is in none of the subnets of `addresses`, so it cannot be reached"));
            }
        }
        let of_family = |v4: bool| {
            link.gateways
                .iter()
                .filter(|gateway| gateway.is_ipv4() == v4)
                .count()
        };
        if of_family(true) > 1 || of_family(false) > 1 {
            self.problem(
                &at.key("gateways"),
                "there can be one gateway for IPv4 and one for IPv6",
            );
        }
        let distinct: BTreeSet<IpAddr> = link.addresses.iter().map(|net| net.addr()).collect();
        if distinct.len() < link.addresses.len() {
            self.problem(&at.key("addresses"), "an address is there twice");
        }
    }

    fn name<'n>(&mut self, at: Place, name: &'n str, names: &mut BTreeSet<&'n str>) {
        if !names.insert(name) {
            self.problem(
                &at.key("name"),
                format!("two interfaces would be called `{name}`"),
            );
        }
    }

    /// Notes a problem at the nearest part of the path that is in the text.
    fn problem(&mut self, path: &[Step], message: impl Into<String>) {
        let mut offset = 0;
        let mut key = String::new();
        let mut table = Some(self.tree);
        let mut list = None;
        for step in path {
            let next = match (step, table, list) {
                (Step::Key(name), Some(inside), _) => {
                    let dot = if key.is_empty() { "" } else { "." };
                    key.push_str(&format!("{dot}{name}"));
                    inside.get(*name)
                }
                (Step::Index(index), _, Some(inside)) => {
                    let inside: &toml::de::DeArray<'_> = inside;
                    key.push_str(&format!("[{index}]"));
                    inside.get(*index)
                }
                _ => None,
            };
            let Some(next) = next else { break };
            offset = next.span().start;
            (table, list) = match next.get_ref() {
                DeValue::Table(inside) => (Some(inside), None),
                DeValue::Array(inside) => (None, Some(inside)),
                _ => (None, None),
            };
        }
        self.problems
            .push(Problem::at(self.text, offset, &key, message));
    }
}

/// One of the network's interfaces, bonds or VLANs.
#[derive(Clone, Copy)]
struct Place(&'static str, usize);

impl Place {
    fn key(self, key: &'static str) -> [Step; 4] {
        [
            Step::Key("network"),
            Step::Key(self.0),
            Step::Index(self.1),
            Step::Key(key),
        ]
    }
}
