//! Which interface gets which rule and which name.

use std::collections::BTreeSet;

use crate::found::{Kind, Link};
use crate::place::name_by_mac;
use crate::plan::{Match, Plan};

/// An interface with the name it shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The number of its rule in the plan; `None` leaves it alone but for the name.
    pub(crate) rule: Option<usize>,
}

/// Names for all Ethernet interfaces, the same whatever the order they came up in. `veth` counts veth pairs as Ethernet.
pub(crate) fn assign(plan: &Plan, links: &[Link], veth: bool) -> Vec<Named> {
    let hardware = |l: &Link| l.kind == Kind::Hardware || veth && l.kind == Kind::Veth;
    let eligible = |l: &&Link| hardware(l) || rule_of(plan, l, false).is_some();
    let mut links: Vec<&Link> = links.iter().filter(eligible).collect();
    links.sort_by_key(|l| {
        (
            l.place.pci.is_none(),
            l.place.pci.clone(),
            l.permanent_mac,
            l.index,
        )
    });

    let software = plan
        .bonds
        .iter()
        .map(|b| &b.name)
        .chain(plan.vlans.iter().map(|v| &v.name));
    let mut taken: BTreeSet<String> = software.cloned().collect();
    let mut given = BTreeSet::new();
    let mut named = Vec::new();
    // Names that a rule gives come first, so that no name from a place can be in their way.
    for explicit in [true, false] {
        for link in &links {
            let rule = rule_of(plan, link, hardware(link));
            let name = rule.and_then(|r| plan.ethernets[r].name.as_ref());
            let name = match (name, rule) {
                (Some(name), Some(rule)) if explicit => {
                    if !given.insert(rule) {
                        continue;
                    }
                    name.clone()
                }
                _ if explicit => continue,
                _ if named.iter().any(|n: &Named| n.index == link.index) => continue,
                _ => link.place.name(link.permanent_mac),
            };
            let choices = [name, name_by_mac(link.permanent_mac), link.name.clone()];
            let free = choices.into_iter().find(|n| !taken.contains(n));
            let name = free.unwrap_or_else(|| format!("eth-{}", link.index));
            taken.insert(name.clone());
            named.push(Named {
                index: link.index,
                name,
                rule,
            });
        }
    }
    named.sort_by(|a, b| a.name.cmp(&b.name));
    named
}

/// The first rule for an interface. Software devices, whose place says nothing, are meant by their hardware address only.
fn rule_of(plan: &Plan, link: &Link, hardware: bool) -> Option<usize> {
    if matches!(link.kind, Kind::Loopback | Kind::Bond | Kind::Vlan) {
        return None;
    }
    plan.ethernets.iter().position(|rule| match &rule.matches {
        Match::Mac(mac) => *mac == link.permanent_mac,
        Match::Path(path) => hardware && link.place.is(path, link.permanent_mac),
        Match::Driver(driver) => hardware && link.place.driver.as_ref() == Some(driver),
        Match::Any => hardware,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::place::Place;
    use crate::plan::{Ethernet, Settings};

    /// A link that is up and has carrier.
    pub(crate) fn link(index: u32, name: &str, kind: Kind) -> Link {
        let mac = [2, 0, 0, 0, 0, u8::try_from(index).expect("small")];
        Link {
            index,
            name: name.to_owned(),
            kind,
            mac,
            permanent_mac: mac,
            mtu: 1500,
            up: true,
            carrier: true,
            controller: None,
            parent: None,
            alias: None,
            accept_ra: Some(2),
            place: Place::default(),
        }
    }

    pub(crate) fn rule(matches: Match, name: Option<&str>) -> Ethernet {
        Ethernet {
            matches,
            name: name.map(str::to_owned),
            settings: Settings::default(),
        }
    }

    fn check(
        what: &str,
        rules: Vec<Ethernet>,
        links: &[Link],
        expected: &[(u32, &str, Option<usize>)],
    ) {
        let plan = Plan {
            ethernets: rules,
            ..Plan::default()
        };
        let mut backwards = links.to_vec();
        backwards.reverse();
        for links in [links, &backwards] {
            let named = assign(&plan, links, false);
            let got: Vec<_> = named
                .iter()
                .map(|n| (n.index, n.name.as_str(), n.rule))
                .collect();
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn every_interface_gets_one_rule_and_one_name() {
        let hardware = |n| link(n, &format!("eth{n}"), Kind::Hardware);
        let mac = |n: u8| Match::Mac([2, 0, 0, 0, 0, n]);
        check("nothing", vec![], &[], &[]);
        check(
            "no rule",
            vec![],
            &[hardware(2)],
            &[(2, "enx020000000002", None)],
        );
        check(
            "the first rule counts",
            vec![rule(mac(3), Some("lan")), rule(Match::Any, None)],
            &[hardware(2), hardware(3)],
            &[(2, "enx020000000002", Some(1)), (3, "lan", Some(0))],
        );
        check(
            "one name for two interfaces",
            vec![rule(Match::Any, Some("lan"))],
            &[hardware(2), hardware(3)],
            &[(3, "enx020000000003", Some(0)), (2, "lan", Some(0))],
        );
        check(
            "a given name is that of another's place",
            vec![rule(mac(3), Some("enx020000000002"))],
            &[hardware(2), hardware(3)],
            &[(3, "enx020000000002", Some(0)), (2, "eth2", None)],
        );
    }

    #[test]
    fn software_devices_are_left_alone_unless_named() {
        let software = [
            link(1, "lo", Kind::Loopback),
            link(2, "bond0", Kind::Bond),
            link(3, "v", Kind::Vlan),
            link(4, "tap", Kind::Other),
            link(5, "veth", Kind::Veth),
        ];
        check("any", vec![rule(Match::Any, None)], &software, &[]);
        let by_mac = vec![rule(Match::Mac([2, 0, 0, 0, 0, 5]), Some("lan"))];
        check("by address", by_mac, &software, &[(5, "lan", Some(0))]);
        let plan = Plan::default();
        let named = assign(&plan, &software, true);
        assert_eq!(named.len(), 1, "veth pairs count when asked for");
    }

    #[test]
    fn two_ports_with_one_hardware_address_get_two_names() {
        let mut twins = [
            link(2, "eth0", Kind::Hardware),
            link(3, "eth1", Kind::Hardware),
        ];
        twins[1].permanent_mac = twins[0].permanent_mac;
        check(
            "twins",
            vec![],
            &twins,
            &[(2, "enx020000000002", None), (3, "eth1", None)],
        );
    }
}
