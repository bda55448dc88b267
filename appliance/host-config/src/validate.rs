//! Reading a text: first its form, then what its values mean together.

use std::{collections::BTreeSet, net::IpAddr};

use toml::de::{DeTable, DeValue};

use crate::{Bond, ConfigError, DataDisk, HostConfig, Link, MAX_BYTES, Problem, VERSION};

/// The longest name of an interface (linux/if.h, IFNAMSIZ less its end).
const MAX_INTERFACE_NAME: usize = 15;

/// Reads and checks a configuration; `origin` says in messages where it came from.
///
/// # Errors
/// All that is wrong with it, each with its line.
pub fn parse(text: &str, origin: &str) -> Result<HostConfig, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::whole(
            origin,
            format!("the configuration has more than {} KiB", MAX_BYTES >> 10),
        ));
    }
    let fail = |problem: Problem| ConfigError {
        origin: origin.to_owned(),
        problems: vec![problem],
    };
    let malformed = |error: &toml::de::Error| {
        let message = error.message().replace('\n', " ");
        match error.span() {
            Some(span) => fail(Problem::at(text, span.start, message)),
            None => ConfigError::whole(origin, message),
        }
    };
    let tree = DeTable::parse(text).map_err(|error| malformed(&error))?;
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
        Some((_, DeValue::Integer(number))) if number.as_str() == VERSION.to_string() => {}
        Some((at, _)) => {
            return Err(fail(Problem::at(
                text,
                at,
                format!("this version of the host knows `version = {VERSION}` only"),
            )));
        }
    }
    let config: HostConfig = toml::from_str(text).map_err(|error| malformed(&error))?;
    let mut check = Check {
        text,
        tree,
        problems: Vec::new(),
    };
    check.config(&config);
    if check.problems.is_empty() {
        return Ok(config);
    }
    Err(ConfigError {
        origin: origin.to_owned(),
        problems: check.problems,
    })
}

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
        use Step::{Index, Key};
        if let Some(name) = &config.hostname
            && !is_host_name(name)
        {
            self.problem(&[Key("hostname")], format!("`{name}` is no host name: 1 to 63 letters, digits and dashes, such as \"host-7\""));
        }
        self.network(config);
        self.count(&[Key("time"), Key("servers")], config.time.servers.len(), 8);
        self.count(&[Key("api"), Key("names")], config.api.names.len(), 16);
        self.count(
            &[Key("kernel"), Key("modules")],
            config.kernel.modules.len(),
            64,
        );
        self.count(
            &[Key("kernel"), Key("sysctl")],
            config.kernel.sysctl.len(),
            256,
        );
        for (index, module) in config.kernel.modules.iter().enumerate() {
            if !is_plain(module, "_-") {
                self.problem(
                    &[Key("kernel"), Key("modules"), Index(index)],
                    format!("`{module}` is no name of a kernel module"),
                );
            }
        }
        for name in config.kernel.sysctl.keys() {
            if !is_plain(name, "_-./") || name.contains("..") {
                self.problem(
                    &[Key("kernel"), Key("sysctl")],
                    format!(
                        "`{name}` is no name of a kernel setting, such as net.ipv4.tcp_syncookies"
                    ),
                );
            }
        }
        let storage = &config.storage;
        match &storage.data {
            DataDisk::Auto if storage.erase => self.problem(
                &[Key("storage"), Key("erase")],
                "only a disk that is named may be erased: set `data` to its device file or `serial:…`",
            ),
            DataDisk::Named(name) if !(name.starts_with("/dev/") || name.starts_with("serial:")) => self.problem(
                &[Key("storage"), Key("data")],
                format!("`{name}` names no disk: expected \"auto\", \"/dev/disk/by-id/…\" or \"serial:…\""),
            ),
            _ => {}
        }
        self.range(
            &[Key("update"), Key("health_deadline_s")],
            config.update.health_deadline_s,
            10,
            3600,
        );
        self.range(
            &[Key("shutdown"), Key("grace_s")],
            config.shutdown.grace_s,
            0,
            3600,
        );
    }

    fn network(&mut self, config: &HostConfig) {
        use Step::{Index, Key};
        let network = &config.network;
        const N: Step = Key("network");
        let mut names = BTreeSet::new();
        let mut members = BTreeSet::new();
        for (index, interface) in network.interfaces.iter().enumerate() {
            let at = [N, Key("interface"), Index(index)];
            if let Some(name) = &interface.name {
                self.interface_name(&[at[0], at[1], at[2], Key("name")], name, &mut names);
            }
            let matches = &interface.matches;
            let given = [
                matches.mac.is_some(),
                matches.path.is_some(),
                matches.driver.is_some(),
            ];
            if given.iter().filter(|given| **given).count() != 1 {
                self.problem(
                    &[at[0], at[1], at[2], Key("match")],
                    "exactly one of `mac`, `path` and `driver` says which interface is meant",
                );
            }
            self.link(&at, &interface.link);
        }
        for (index, bond) in network.bonds.iter().enumerate() {
            let at = [N, Key("bond"), Index(index)];
            self.interface_name(&[at[0], at[1], at[2], Key("name")], &bond.name, &mut names);
            self.bond(&at, bond, config, &mut members);
            self.range(
                &[at[0], at[1], at[2], Key("miimon_ms")],
                bond.miimon_ms,
                10,
                10_000,
            );
            self.link(&at, &bond.link);
        }
        for (index, vlan) in network.vlans.iter().enumerate() {
            let at = [N, Key("vlan"), Index(index)];
            self.interface_name(&[at[0], at[1], at[2], Key("name")], &vlan.name, &mut names);
            self.range(&[at[0], at[1], at[2], Key("id")], vlan.id.into(), 1, 4094);
            let carriers = network
                .interfaces
                .iter()
                .filter_map(|interface| interface.name.as_ref());
            let mut carriers = carriers.chain(network.bonds.iter().map(|bond| &bond.name));
            if !carriers.any(|name| *name == vlan.parent) {
                self.problem(
                    &[at[0], at[1], at[2], Key("parent")],
                    format!(
                        "no interface or bond of this configuration is called `{}`",
                        vlan.parent
                    ),
                );
            }
            self.link(&at, &vlan.link);
        }
    }

    fn bond<'b>(
        &mut self,
        at: &[Step; 3],
        bond: &'b Bond,
        config: &HostConfig,
        members: &mut BTreeSet<&'b str>,
    ) {
        let place = [at[0], at[1], at[2], Step::Key("members")];
        if bond.members.is_empty() {
            self.problem(&place, "a bond needs at least one member");
        }
        for member in &bond.members {
            let interface = config
                .network
                .interfaces
                .iter()
                .find(|interface| interface.name.as_ref() == Some(member));
            match interface {
                None => self.problem(&place, format!("no interface of this configuration is called `{member}`: give it its `name`")),
                Some(interface) if interface.link != Link::default() => {
                    self.problem(&place, format!("`{member}` is a member of a bond and cannot have addresses of its own: the bond has them"));
                }
                Some(_) if !members.insert(member) => {
                    self.problem(&place, format!("`{member}` is a member of two bonds"));
                }
                Some(_) => {}
            }
        }
    }

    fn link(&mut self, at: &[Step; 3], link: &Link) {
        let place = |key| [at[0], at[1], at[2], Step::Key(key)];
        if let Some(mtu) = link.mtu {
            self.range(&place("mtu"), mtu, 1280, 9216);
        }
        self.count(&place("addresses"), link.addresses.len(), 32);
        for gateway in &link.gateways {
            let reachable = link
                .addresses
                .iter()
                .any(|address| address.contains(gateway));
            let link_local =
                matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            if !reachable && !link_local {
                self.problem(&place("gateways"), format!("{gateway} is in none of the subnets of `addresses`, so it cannot be reached"));
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
                &place("gateways"),
                "there can be one gateway for IPv4 and one for IPv6",
            );
        }
    }

    fn interface_name<'n>(&mut self, at: &[Step], name: &'n str, names: &mut BTreeSet<&'n str>) {
        let possible = (1..=MAX_INTERFACE_NAME).contains(&name.len())
            && is_plain(name, "_-.")
            && name != "lo"
            && !name.starts_with('.');
        if !possible {
            self.problem(at, format!("`{name}` is no name for an interface: 1 to {MAX_INTERFACE_NAME} letters, digits, `.`, `-` and `_`"));
        } else if !names.insert(name) {
            self.problem(at, format!("two interfaces would be called `{name}`"));
        }
    }

    fn count(&mut self, at: &[Step], count: usize, most: usize) {
        if count > most {
            self.problem(
                at,
                format!("there are {count}, and at most {most} are possible"),
            );
        }
    }

    fn range(&mut self, at: &[Step], value: u32, least: u32, most: u32) {
        if !(least..=most).contains(&value) {
            self.problem(
                at,
                format!("{value} is not possible: from {least} to {most}"),
            );
        }
    }

    /// Notes a problem at the nearest part of the path that is in the text.
    fn problem(&mut self, path: &[Step], message: impl Into<String>) {
        let mut offset = 0;
        let mut table = Some(self.tree);
        let mut list = None;
        for step in path {
            let next = match (step, table, list) {
                (Step::Key(key), Some(inside), _) => inside.get(*key),
                (Step::Index(index), _, Some(inside)) => {
                    let inside: &toml::de::DeArray<'_> = inside;
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
        self.problems.push(Problem::at(self.text, offset, message));
    }
}

fn is_host_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && is_plain(text, "-")
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_plain(text: &str, also: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, line: usize, said: &str) {
        let error = parse(text, "host.toml").unwrap_err();
        let problem = &error.problems[0];
        assert_eq!(problem.line, Some(line), "{error}");
        assert!(problem.message.contains(said), "{error}");
        assert!(
            error.to_string().contains(&format!("host.toml:{line}:")),
            "{error}"
        );
    }

    #[test]
    fn the_example_has_every_default() {
        assert_eq!(
            parse(crate::EXAMPLE, "example").unwrap(),
            HostConfig::default()
        );
        assert_eq!(parse("version = 1", "x").unwrap(), HostConfig::default());
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let interface =
            "[[network.interface]]\nname = \"mgmt\"\nmatch.mac = \"52:54:00:12:34:56\"\n";
        for (text, line, said) in [
            ("version = 2\n", 1, "`version = 1` only"),
            (
                "version = 1\nhostnam = \"a\"\n",
                2,
                "unknown field `hostnam`",
            ),
            ("version = 1\nhostname = 7\n", 2, "expected a string"),
            ("version = 1\nhostname = \"a b\"\n", 2, "no host name"),
            (
                "version = 1\n[api]\nlisten = \"here\"\n",
                3,
                "socket address",
            ),
            (
                "version = 1\n[storage]\nerase = true\n",
                3,
                "only a disk that is named",
            ),
            (
                "version = 1\n[storage]\ndata = \"sda\"\n",
                3,
                "names no disk",
            ),
            (
                "version = 1\n[update]\nhealth_deadline_s = 1\n",
                3,
                "from 10 to 3600",
            ),
            (
                "version = 1\n[[network.interface]]\nname = \"averyverylongname\"\nmatch.mac = \"52:54:00:12:34:56\"\n",
                3,
                "no name for an interface",
            ),
            (
                "version = 1\n[[network.interface]]\nmatch = {}\n",
                3,
                "exactly one of",
            ),
            (
                &format!(
                    "version = 1\n{interface}addresses = [\"10.0.0.7/24\"]\ngateways = [\"10.0.1.1\"]\n"
                ),
                6,
                "10.0.1.1 is in none",
            ),
            (
                &format!("version = 1\n{interface}{interface}"),
                6,
                "two interfaces",
            ),
            (
                &format!(
                    "version = 1\n{interface}[[network.bond]]\nname = \"bond0\"\nmembers = [\"other\"]\n"
                ),
                7,
                "called `other`",
            ),
            (
                &format!(
                    "version = 1\n{interface}dhcp = true\n[[network.bond]]\nname = \"bond0\"\nmembers = [\"mgmt\"]\n"
                ),
                8,
                "addresses of its own",
            ),
            (
                &format!(
                    "version = 1\n{interface}[[network.vlan]]\nname = \"v\"\nparent = \"mgmt\"\nid = 4095\n"
                ),
                8,
                "from 1 to 4094",
            ),
            (
                "version = 1\n[kernel]\nsysctl = { \"../x\" = \"1\" }\n",
                3,
                "no name of a kernel setting",
            ),
            ("version = 1\n]", 2, ""),
        ] {
            check(text, line, said);
        }
        assert!(
            parse("hostname = \"a\"", "x")
                .unwrap_err()
                .to_string()
                .contains("version = 1")
        );
    }

    #[test]
    fn several_problems_are_told_at_once() {
        let error = parse(
            "version = 1\nhostname = \"-\"\n[shutdown]\ngrace_s = 9999\n",
            "x",
        )
        .unwrap_err();
        assert_eq!(error.problems.len(), 2);
        assert!(error.short().contains("and 1 more"), "{}", error.short());
    }

    #[test]
    fn a_network_of_bonds_and_vlans_is_read() {
        let text = "version = 1
[[network.interface]]
name = \"one\"
match.path = \"enp3s0\"
[[network.interface]]
name = \"two\"
match.path = \"enp4s0\"
[[network.bond]]
name = \"bond0\"
members = [\"one\", \"two\"]
mode = \"802.3ad\"
[[network.vlan]]
name = \"mgmt\"
parent = \"bond0\"
id = 10
addresses = [\"10.0.0.7/24\", \"2001:db8::7/64\"]
gateways = [\"10.0.0.1\", \"fe80::1\"]
";
        let config = parse(text, "x").unwrap();
        assert_eq!(config.network.bonds[0].mode, crate::BondMode::Lacp);
        assert_eq!(config.network.vlans[0].link.addresses.len(), 2);
        let again = toml::to_string(&config).unwrap();
        assert_eq!(parse(&again, "x").unwrap(), config);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(version = 1\n)?[ -~\n]{0,200}") {
            if let Err(error) = parse(&text, "x") {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
