//! A plan from the host's configuration.

use host_config::{HostConfig, Interface, Link};

use crate::plan::{Bond, BondMode, Ethernet, Match, Plan, Settings, Vlan};

impl From<&HostConfig> for Plan {
    /// What a configuration that was found sound asks for. One without interfaces asks for addresses on every one.
    fn from(config: &HostConfig) -> Self {
        let network = &config.network;
        let every = Self::default().ethernets;
        let named = || network.interfaces.iter().filter_map(ethernet).collect();
        Self {
            hostname: config.hostname.clone(),
            ethernets: if network.interfaces.is_empty() {
                every
            } else {
                named()
            },
            bonds: network.bonds.iter().map(bond).collect(),
            vlans: network.vlans.iter().map(vlan).collect(),
            dns: network.dns.clone(),
            search: network.search.clone(),
        }
    }
}

/// Nothing for a rule that does not say which interface it is for; no sound configuration has one.
fn ethernet(interface: &Interface) -> Option<Ethernet> {
    let matches = &interface.matches;
    let mac = matches.mac.map(|mac| Match::Mac(mac.octets()));
    let path = || matches.path.clone().map(Match::Path);
    let driver = || matches.driver.clone().map(Match::Driver);
    Some(Ethernet {
        matches: mac.or_else(path).or_else(driver)?,
        name: interface.name.clone(),
        settings: settings(&interface.link),
    })
}

fn bond(bond: &host_config::Bond) -> Bond {
    Bond {
        name: bond.name.clone(),
        mode: match bond.mode {
            host_config::BondMode::ActiveBackup => BondMode::ActiveBackup,
            host_config::BondMode::Lacp => BondMode::Lacp,
            host_config::BondMode::BalanceRr => BondMode::BalanceRr,
            host_config::BondMode::BalanceXor => BondMode::BalanceXor,
        },
        members: bond.members.clone(),
        miimon_ms: bond.miimon_ms,
        lacp_fast: false,
        settings: settings(&bond.link),
    }
}

fn vlan(vlan: &host_config::Vlan) -> Vlan {
    Vlan {
        name: vlan.name.clone(),
        parent: vlan.parent.clone(),
        id: vlan.id,
        settings: settings(&vlan.link),
    }
}

fn settings(link: &Link) -> Settings {
    Settings {
        mtu: link.mtu,
        addresses: link.addresses.clone(),
        gateways: link.gateways.clone(),
        dhcp4: link.dhcp,
        accept_ra: link.dhcp,
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::from(&host_config::parse(text, "the test").expect("a sound configuration"))
    }

    #[test]
    fn without_interfaces_every_one_asks_for_addresses() {
        let mut expected = Plan::default();
        assert_eq!(plan("version = 1\n"), expected);
        expected.hostname = Some("stone".into());
        expected.dns = vec!["192.0.2.53".parse().expect("an address")];
        expected.search = vec!["lab.example".into()];
        let text = "version = 1\nhostname = \"stone\"\n[network]\ndns = [\"192.0.2.53\"]\nsearch = [\"lab.example\"]\n";
        assert_eq!(plan(text), expected);
    }

    #[test]
    fn every_key_of_the_network_counts() {
        let got = plan(
            r#"
version = 1
[[network.interface]]
name = "mgmt"
match.mac = "52:54:00:12:34:56"
addresses = ["10.0.0.7/24", "2001:db8::7/64"]
gateways = ["10.0.0.1", "2001:db8::1"]
mtu = 1400
[[network.interface]]
name = "one"
match.path = "enp3s0"
[[network.interface]]
match.driver = "ixgbe"
dhcp = true
[[network.bond]]
name = "bond0"
members = ["one"]
mode = "802.3ad"
miimon_ms = 50
dhcp = true
[[network.vlan]]
name = "storage"
parent = "bond0"
id = 20
addresses = ["10.0.20.7/24"]
"#,
        );
        let addresses =
            |list: &[&str]| list.iter().map(|a| a.parse().expect("a network")).collect();
        let gateways = ["10.0.0.1", "2001:db8::1"];
        let ethernet = |matches, name: Option<&str>, settings| Ethernet {
            matches,
            name: name.map(str::to_owned),
            settings,
        };
        let expected = Plan {
            ethernets: vec![
                ethernet(
                    Match::Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
                    Some("mgmt"),
                    Settings {
                        addresses: addresses(&["10.0.0.7/24", "2001:db8::7/64"]),
                        gateways: gateways.map(|g| g.parse().expect("an address")).to_vec(),
                        mtu: Some(1400),
                        ..Settings::default()
                    },
                ),
                ethernet(
                    Match::Path("enp3s0".into()),
                    Some("one"),
                    Settings::default(),
                ),
                ethernet(Match::Driver("ixgbe".into()), None, Settings::dynamic()),
            ],
            bonds: vec![Bond {
                name: "bond0".into(),
                mode: BondMode::Lacp,
                members: vec!["one".into()],
                miimon_ms: 50,
                lacp_fast: false,
                settings: Settings::dynamic(),
            }],
            vlans: vec![Vlan {
                name: "storage".into(),
                parent: "bond0".into(),
                id: 20,
                settings: Settings {
                    addresses: addresses(&["10.0.20.7/24"]),
                    ..Settings::default()
                },
            }],
            ..Plan::default()
        };
        assert_eq!(got, expected);
    }
}
