use super::*;
use crate::found::{Address, Route};
use crate::names::tests::{link, rule};
use crate::plan::{Ethernet, Match, Route as PlannedRoute, Vlan};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

const NOW: Duration = Duration::from_secs(50);

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn hardware(index: u32, name: &str) -> Link {
    let mut link = link(index, name, Kind::Hardware);
    link.accept_ra = Some(0);
    link
}

fn name(index: u32) -> String {
    format!("enx0200000000{index:02x}")
}

fn found(links: Vec<Link>) -> Found {
    Found {
        links,
        ..Found::default()
    }
}

fn plan(ethernets: Vec<Ethernet>) -> Plan {
    Plan {
        ethernets,
        ..Plan::default()
    }
}

fn any(settings: Settings) -> Plan {
    plan(vec![Ethernet {
        matches: Match::Any,
        name: None,
        settings,
    }])
}

fn held(seconds: u32) -> Held {
    let second = |n: u32| Duration::from_secs(u64::from(n));
    let lease = Lease {
        address: "10.0.0.9/24".parse().expect("a network"),
        server: Ipv4Addr::new(10, 0, 0, 1),
        routes: vec![(
            "0.0.0.0/0".parse().expect("a network"),
            Ipv4Addr::new(10, 0, 0, 1),
        )],
        dns: vec![],
        ntp: vec![],
        domain: None,
        hostname: None,
        mtu: Some(1400),
        duration: (seconds > 0).then(|| second(seconds)),
        renew_after: second(seconds) / 2,
        rebind_after: second(seconds) / 8 * 7,
    };
    Held { lease, since: NOW }
}

/// Carries steps out on the data, as the kernel would.
fn carry_out(found: &mut Found, actions: &[Action]) {
    for action in actions {
        let of = |index: u32, found: &mut Found, change: &dyn Fn(&mut Link)| {
            let link = found
                .links
                .iter_mut()
                .find(|l| l.index == index)
                .expect("the link is there");
            change(link);
        };
        let fresh = found.links.iter().map(|l| l.index).max().unwrap_or(0) + 1;
        match action {
            Action::Rename { index, to, .. } => {
                assert!(found.named(to).is_none(), "{to} is taken");
                of(*index, found, &|l| (l.name, l.up) = (to.clone(), false));
            }
            Action::Remove { index, .. } => {
                found
                    .links
                    .retain(|l| l.index != *index && l.parent != Some(*index));
            }
            Action::AddBond { bond, alias } => {
                let mut new = link(fresh, &bond.name, Kind::Bond);
                (new.up, new.accept_ra, new.alias) = (false, Some(1), Some(alias.clone()));
                found.links.push(new);
            }
            Action::AddVlan {
                name,
                parent,
                alias,
                ..
            } => {
                let mut new = link(fresh, name, Kind::Vlan);
                (new.up, new.accept_ra, new.alias) = (false, Some(1), Some(alias.clone()));
                new.parent = Some(*parent);
                found.links.push(new);
            }
            Action::Join { index, bond, .. } => of(*index, found, &|l| {
                (l.controller, l.up) = (Some(*bond), false)
            }),
            Action::Leave { index, .. } => of(*index, found, &|l| l.controller = None),
            Action::Mtu { index, mtu, .. } => of(*index, found, &|l| l.mtu = *mtu),
            Action::Up { index, .. } => of(*index, found, &|l| l.up = true),
            Action::AcceptRa { name, accept } => {
                let index = found.named(name).expect("the link is there").index;
                of(index, found, &|l| {
                    l.accept_ra = Some(if *accept { 2 } else { 0 })
                });
            }
            Action::AddAddress {
                index, net, valid, ..
            } => {
                found.addresses.retain(|a| a.net != *net);
                found.addresses.push(Address {
                    index: *index,
                    net: *net,
                    valid: *valid,
                    automatic: false,
                });
            }
            Action::RemoveAddress { index, net, .. } => {
                found
                    .addresses
                    .retain(|a| (a.index, a.net) != (*index, *net));
                found.routes.retain(|r| r.source != Some(net.addr()));
            }
            Action::AddRoute { route, .. } => {
                let same = |r: &Route| (r.to, r.metric) == (route.to, route.metric);
                assert!(
                    !found.routes.iter().any(same),
                    "the kernel would answer EEXIST: {route:?}"
                );
                found.routes.push(route.clone());
            }
            Action::RemoveRoute { route, .. } => found.routes.retain(|r| r != route),
        }
    }
}

/// Repeats rounds until nothing is left to do; all steps as text.
fn settle(plan: &Plan, found: &mut Found, leases: &BTreeMap<u32, Held>) -> (Vec<String>, Round) {
    let mut steps = Vec::new();
    for _ in 0..24 {
        let round = next(plan, found, leases, false, &[], NOW);
        if round.actions.is_empty() {
            return (steps, round);
        }
        carry_out(found, &round.actions);
        steps.extend(
            round
                .actions
                .iter()
                .map(|a| format!("{}: {a}", a.interface())),
        );
    }
    panic!("it goes in circles: {steps:#?}");
}

fn check(
    what: &str,
    plan: &Plan,
    found: &mut Found,
    leases: &BTreeMap<u32, Held>,
    expected: &[&str],
) {
    let (steps, round) = settle(plan, found, leases);
    assert_eq!(steps, expected, "{what}");
    assert_eq!(round.problems, [], "{what}");
}

#[test]
fn a_new_interface_is_named_and_brought_up() {
    let mut lo = link(1, "lo", Kind::Loopback);
    lo.up = false;
    let mut eth = hardware(2, "eth0");
    eth.up = false;
    let mut is = found(vec![lo, eth]);
    check(
        "a first start",
        &Plan::default(),
        &mut is,
        &BTreeMap::new(),
        &[
            "eth0: rename it to enx020000000002",
            "lo: bring it up",
            "enx020000000002: accept router advertisements",
            "enx020000000002: bring it up",
        ],
    );
    check("again", &Plan::default(), &mut is, &BTreeMap::new(), &[]);
}

#[test]
fn names_are_exchanged_without_a_clash() {
    let mac = |n: u8| Match::Mac([2, 0, 0, 0, 0, n]);
    let wanted = plan(vec![rule(mac(2), Some("b")), rule(mac(3), Some("a"))]);
    let mut is = found(vec![hardware(2, "a"), hardware(3, "b")]);
    settle(&wanted, &mut is, &BTreeMap::new());
    let names: Vec<_> = is
        .links
        .iter()
        .map(|l| (l.index, l.name.as_str()))
        .collect();
    assert_eq!(names, [(2, "b"), (3, "a")]);
}

#[test]
fn a_name_that_a_foreign_device_has_is_a_problem_and_no_more() {
    let wanted = plan(vec![rule(Match::Any, Some("br0"))]);
    let mut is = found(vec![hardware(2, "eth0"), link(3, "br0", Kind::Other)]);
    let (_, round) = settle(&wanted, &mut is, &BTreeMap::new());
    assert_eq!(round.problems.len(), 1, "{:?}", round.problems);
    assert_eq!(
        round.targets[0].name, "eth0",
        "it works under the name it has"
    );
}

#[test]
fn interfaces_without_a_rule_are_left_alone() {
    let mut down = hardware(3, &name(3));
    down.up = false;
    let mut is = found(vec![
        hardware(2, "eth0"),
        down,
        link(4, "tap0", Kind::Other),
    ]);
    is.addresses.push(Address {
        index: 2,
        net: net("192.0.2.9/24"),
        valid: None,
        automatic: false,
    });
    check(
        "nothing is wanted",
        &plan(vec![]),
        &mut is,
        &BTreeMap::new(),
        &[],
    );
}

#[test]
fn a_lease_brings_its_address_routes_and_mtu_and_takes_them_along() {
    let mut is = found(vec![hardware(2, &name(2))]);
    let settings = Settings {
        dhcp4: true,
        ..Settings::default()
    };
    let wanted = any(settings);
    let mut leases = BTreeMap::from([(2, held(600))]);
    let e = name(2);
    check(
        "bound",
        &wanted,
        &mut is,
        &leases,
        &[
            &format!("{e}: set its MTU to 1400"),
            &format!("{e}: give it the address 10.0.0.9/24"),
            &format!("{e}: add the route to 0.0.0.0/0 by 10.0.0.1"),
        ],
    );
    assert_eq!(is.addresses[0].valid, Some(600));
    assert_eq!(is.routes[0].source, Some(ip("10.0.0.9")));
    check("again", &wanted, &mut is, &leases, &[]);
    is.addresses[0].valid = Some(598);
    check("a little later", &wanted, &mut is, &leases, &[]);
    is.addresses[0].valid = Some(300);
    check(
        "renewed",
        &wanted,
        &mut is,
        &leases,
        &[&format!("{e}: give it the address 10.0.0.9/24")],
    );
    leases.insert(2, held(0));
    check(
        "for ever",
        &wanted,
        &mut is,
        &leases,
        &[&format!("{e}: give it the address 10.0.0.9/24")],
    );
    assert_eq!(is.addresses[0].valid, None);
    check(
        "lost",
        &wanted,
        &mut is,
        &BTreeMap::new(),
        &[&format!("{e}: take the address 10.0.0.9/24 away")],
    );
    assert_eq!(is.routes, []);
}

#[test]
fn what_was_changed_is_changed_back_and_what_the_kernel_made_stays() {
    let mut is = found(vec![hardware(2, &name(2))]);
    let wanted = any(Settings {
        addresses: vec![net("192.0.2.5/24")],
        ..Settings::default()
    });
    settle(&wanted, &mut is, &BTreeMap::new());
    let mut address = |text: &str, automatic| {
        is.addresses.push(Address {
            index: 2,
            net: net(text),
            valid: None,
            automatic,
        });
    };
    address("192.0.2.66/24", false);
    address("fe80::1/64", true);
    let foreign = Route {
        index: 2,
        to: net("203.0.113.0/24"),
        via: None,
        metric: 3,
        source: None,
        dhcp: false,
    };
    is.routes.push(foreign);
    let e = name(2);
    check(
        "foreign changes",
        &wanted,
        &mut is,
        &BTreeMap::new(),
        &[
            &format!("{e}: take the address 192.0.2.66/24 away"),
            &format!("{e}: remove the route to 203.0.113.0/24"),
        ],
    );
}

#[test]
fn gateways_beyond_the_subnet_are_reached_all_the_same() {
    let settings = Settings {
        addresses: vec![net("192.0.2.5/32"), net("2001:db8::5/64")],
        gateways: vec![ip("198.51.100.1"), ip("fe80::1")],
        routes: vec![PlannedRoute {
            to: net("203.0.113.77/24"),
            via: Some(ip("2001:db8::9")),
            metric: Some(5),
        }],
        ..Settings::default()
    };
    let mut is = found(vec![hardware(2, &name(2))]);
    is.links[0].mtu = 1500;
    let wanted = any(settings);
    let mut onlink = Vec::new();
    for _ in 0..8 {
        let round = next(&wanted, &is, &BTreeMap::new(), false, &[], NOW);
        onlink.extend(round.actions.iter().filter_map(|a| match a {
            Action::AddRoute { route, onlink, .. } => Some((route.to.to_string(), *onlink)),
            _ => None,
        }));
        carry_out(&mut is, &round.actions);
    }
    let expected = [
        ("0.0.0.0/0", true),
        ("::/0", false),
        ("203.0.113.0/24", false),
    ];
    assert_eq!(onlink, expected.map(|(to, onlink)| (to.to_owned(), onlink)));
}

#[test]
fn default_routes_of_several_interfaces_cost_in_the_order_of_names() {
    let settings = Settings {
        dhcp4: true,
        ..Settings::default()
    };
    let wanted = any(settings);
    let mut is = found(vec![hardware(5, &name(5)), hardware(7, &name(7))]);
    let mut leases = BTreeMap::from([(5, held(600)), (7, held(600))]);
    leases.get_mut(&7).expect("there").lease.address = "10.0.0.10/24".parse().expect("a network");
    settle(&wanted, &mut is, &leases);
    let cost = |is: &Found| {
        let mut costs: Vec<_> = is.routes.iter().map(|r| (r.index, r.metric)).collect();
        costs.sort_unstable();
        costs
    };
    assert_eq!(cost(&is), [(5, 100), (7, 101)]);
    is.links.push(hardware(3, &name(3)));
    settle(&wanted, &mut is, &leases);
    assert_eq!(
        cost(&is),
        [(5, 101), (7, 102)],
        "one that comes before them moves them on"
    );
}

fn bonded() -> Plan {
    let mut wanted = any(Settings::dynamic());
    wanted.bonds.push(Bond {
        name: "bond0".into(),
        mode: BondMode::Lacp,
        members: vec![name(2), name(3)],
        miimon_ms: 100,
        lacp_fast: true,
        settings: Settings::default(),
    });
    wanted.vlans.push(Vlan {
        name: "mgmt".into(),
        parent: "bond0".into(),
        id: 40,
        settings: Settings {
            addresses: vec![net("192.0.2.5/24")],
            ..Settings::default()
        },
    });
    wanted
}

#[test]
fn a_vlan_on_a_bond_is_built_from_below() {
    let mut is = found(vec![
        hardware(2, &name(2)),
        hardware(3, &name(3)),
        hardware(4, &name(4)),
    ]);
    is.links.iter_mut().for_each(|l| l.accept_ra = Some(2));
    // The kernel module makes this one by itself when it is loaded.
    is.links.push(link(9, "bond0", Kind::Bond));
    let (steps, round) = settle(&bonded(), &mut is, &BTreeMap::new());
    let of = |step: &str| {
        steps
            .iter()
            .position(|s| s == step)
            .unwrap_or_else(|| panic!("{step}: {steps:#?}"))
    };
    let order = [
        of("bond0: remove it"),
        of("bond0: make the bond"),
        of("mgmt: make the VLAN 40"),
        of(&format!("{}: put it into its bond", name(2))),
        of("bond0: bring it up"),
        of("mgmt: bring it up"),
        of("mgmt: give it the address 192.0.2.5/24"),
    ];
    assert!(order.is_sorted(), "{steps:#?}");
    assert_eq!(round.problems, []);
    let dynamic: Vec<_> = round
        .targets
        .iter()
        .filter(|t| t.settings.dhcp4)
        .map(|t| t.index)
        .collect();
    assert_eq!(dynamic, [4], "members of a bond ask for no address");
    check("again", &bonded(), &mut is, &BTreeMap::new(), &[]);

    let mut slower = bonded();
    slower.bonds[0].lacp_fast = false;
    let (steps, _) = settle(&slower, &mut is, &BTreeMap::new());
    assert!(
        steps.contains(&"bond0: remove it".to_owned()),
        "a bond of another make is made anew: {steps:#?}"
    );

    let (steps, round) = settle(&any(Settings::dynamic()), &mut is, &BTreeMap::new());
    assert!(steps.contains(&"mgmt: remove it".to_owned()), "{steps:#?}");
    assert_eq!(round.targets.iter().filter(|t| t.settings.dhcp4).count(), 3);
}

#[test]
fn what_a_plan_names_and_is_not_there_is_a_problem() {
    let mut is = found(vec![hardware(2, &name(2))]);
    let mut wanted = bonded();
    wanted.vlans.push(Vlan {
        name: "v9".into(),
        parent: "ghost".into(),
        id: 9,
        settings: Settings::default(),
    });
    let (_, round) = settle(&wanted, &mut is, &BTreeMap::new());
    let names: Vec<_> = round
        .problems
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["v9", "bond0"]);
}

#[test]
fn a_step_that_failed_holds_up_nothing_else() {
    let mut is = found(vec![hardware(2, &name(2))]);
    is.links[0].up = false;
    let mut wanted = any(Settings {
        addresses: vec![net("192.0.2.5/24")],
        ..Settings::default()
    });
    wanted.bonds = bonded().bonds;
    wanted.bonds[0].members.clear();
    let first = next(&wanted, &is, &BTreeMap::new(), false, &[], NOW);
    assert!(matches!(&first.actions[..], [Action::AddBond { .. }]));
    let second = next(&wanted, &is, &BTreeMap::new(), false, &first.actions, NOW);
    assert_eq!(second.held_back, first.actions);
    assert!(
        matches!(&second.actions[..], [Action::Up { .. }]),
        "{second:?}"
    );
}
