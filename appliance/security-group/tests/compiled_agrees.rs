//! A small interpreter of rulesets, and the property that the compiled ruleset decides as the evaluator does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use security_group::{
    ConnectionState, CtState, Decision, Direction, Element, Field, Group, GroupKind,
    InnerAccessPolicy, Interface, Match, Packet, Peer, PortRange, Protocol, RulePolicy, RuleSpec,
    Ruleset, Verdict, VpcPolicy, compile, evaluate,
};
use types::{InterfaceId, MacAddress, SecurityGroupId};

/// A packet and where routing sends it.
struct Routed<'a> {
    packet: &'a Packet<'a>,
    out_device: Option<&'a str>,
}

/// What a chain came to: a final word, or none (`Return`, or the end).
fn run_chain(ruleset: &Ruleset, name: &str, routed: &Routed<'_>, depth: usize) -> Option<Decision> {
    assert!(depth < 8, "chains call each other too deeply");
    for rule in &ruleset.chains[name].rules {
        if !rule.matches.iter().all(|m| holds(ruleset, m, routed)) {
            continue;
        }
        let mut verdict = Some(&rule.verdict);
        if let Verdict::ByDevice { field, map } = &rule.verdict {
            let device = if *field == Field::InDevice {
                Some(routed.packet.device)
            } else {
                routed.out_device
            };
            verdict = device.and_then(|d| ruleset.maps[map].get(d));
        }
        match verdict {
            None => {}
            Some(Verdict::Accept | Verdict::AcceptUntracked) => return Some(Decision::Accept),
            Some(Verdict::Drop) => return Some(Decision::Drop),
            Some(Verdict::Return) => return None,
            Some(Verdict::Jump(to)) => {
                if let Some(word) = run_chain(ruleset, to, routed, depth + 1) {
                    return Some(word);
                }
            }
            Some(Verdict::ByDevice { .. }) => panic!("a map leads to a map"),
        }
    }
    None
}

fn holds(ruleset: &Ruleset, condition: &Match, routed: &Routed<'_>) -> bool {
    let packet = routed.packet;
    let ports = packet.protocol == 6 || packet.protocol == 17;
    let device = || packet.device.to_owned();
    match condition {
        Match::CtState(states) => states.iter().any(|state| match state {
            CtState::Established => packet.state == ConnectionState::Established,
            CtState::Related => packet.state == ConnectionState::Related,
            CtState::Invalid => packet.state == ConnectionState::Invalid,
        }),
        Match::InSet {
            field,
            set,
            inverted,
        } => {
            let element = match field {
                Field::InDevice => Some(Element::Device(device())),
                Field::OutDevice => routed.out_device.map(|d| Element::Device(d.to_owned())),
                Field::Source => Some(Element::Address(packet.source)),
                Field::Destination => Some(Element::Address(packet.destination)),
                Field::InDeviceMac => Some(Element::DeviceMac(device(), packet.source_mac)),
                Field::InDeviceMacSource => {
                    Some(Element::Source(device(), packet.source_mac, packet.source))
                }
            };
            element.is_some_and(|e| ruleset.sets[set].elements.contains(&e)) != *inverted
        }
        Match::Ipv6(ipv6) => packet.source.is_ipv6() == *ipv6,
        Match::Address { field, nets } => {
            assert!(
                !nets.is_empty()
                    && nets
                        .windows(2)
                        .all(|w| !w[0].contains(&w[1]) && w[0] < w[1]),
                "{nets:?}"
            );
            let address = if *field == Field::Source {
                packet.source
            } else {
                packet.destination
            };
            nets.iter().any(|net| net.contains(&address))
        }
        Match::Protocol(number) => packet.protocol == *number,
        Match::DestinationPorts(ranges) => ports && in_ranges(ranges, packet.destination_port),
        Match::SourcePorts(ranges) => ports && in_ranges(ranges, packet.source_port),
    }
}

fn in_ranges(ranges: &[PortRange], port: u16) -> bool {
    assert!(
        !ranges.is_empty() && ranges.windows(2).all(|w| w[0].last < w[1].first),
        "{ranges:?}"
    );
    ranges.iter().any(|r| (r.first..=r.last).contains(&port))
}

fn interpret(ruleset: &Ruleset, policy: &VpcPolicy, packet: &Packet<'_>) -> Decision {
    let receiver = policy
        .interfaces
        .iter()
        .find(|i| i.addresses.contains(&packet.destination));
    let routed = Routed {
        packet,
        out_device: receiver.and_then(|i| i.device.as_deref()),
    };
    for chain in ["prerouting", "forward"] {
        let base = ruleset.chains[chain].base.as_ref().expect("a base chain");
        let word = run_chain(ruleset, chain, &routed, 0);
        let fallback = if base.drops {
            Decision::Drop
        } else {
            Decision::Accept
        };
        if word.unwrap_or(fallback) == Decision::Drop {
            return Decision::Drop;
        }
    }
    // A packet that is routed nowhere does not pass `forward` at all.
    routed
        .out_device
        .map_or(Decision::Drop, |_| Decision::Accept)
}

// ---- random policies: a small world, so that rules, members and packets meet often ----------------------------------

fn group_id(n: usize) -> SecurityGroupId {
    SecurityGroupId::generate(n as u128 + 1)
}

fn address(n: usize, ipv6: bool) -> IpAddr {
    let last = u8::try_from(n).expect("a small number");
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)).into()
    } else {
        Ipv4Addr::new(10, 0, 0, last).into()
    }
}

fn peers() -> impl Strategy<Value = Peer> {
    prop_oneof![
        (0_u8..=32, 0_usize..8).prop_map(|(len, n)| {
            // Long prefixes around the addresses in use, and the short ones that hold them all.
            let IpAddr::V4(address) = address(n, false) else {
                unreachable!()
            };
            Peer::Cidr(IpNet::V4(
                Ipv4Net::new(address, len.saturating_mul(2).min(32)).expect("a length"),
            ))
        }),
        (prop_oneof![Just(0_u8), 120..=128_u8], 0_usize..8).prop_map(|(len, n)| {
            let IpAddr::V6(address) = address(n, true) else {
                unreachable!()
            };
            Peer::Cidr(IpNet::V6(Ipv6Net::new(address, len).expect("a length")))
        }),
        (0_usize..5).prop_map(|n| Peer::Group(group_id(n))),
    ]
}

fn port_ranges() -> impl Strategy<Value = PortRange> {
    (20_u16..30, 0_u16..6).prop_map(|(first, more)| PortRange {
        first,
        last: first + more,
    })
}

fn rules() -> impl Strategy<Value = RuleSpec> {
    let protocol = prop_oneof![
        3 => Just(Protocol::Tcp),
        2 => Just(Protocol::Udp),
        1 => Just(Protocol::Icmp),
        1 => Just(Protocol::Icmpv6),
        1 => Just(Protocol::Gre),
        1 => Just(Protocol::All)
    ];
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let policy = prop_oneof![Just(RulePolicy::Accept), Just(RulePolicy::Drop)];
    (
        direction,
        1_u8..4,
        policy,
        protocol,
        port_ranges(),
        proptest::option::weighted(0.2, port_ranges()),
        peers(),
    )
        .prop_map(
            |(direction, priority, policy, protocol, ports, source_ports, peer)| RuleSpec {
                direction,
                priority,
                policy,
                protocol,
                ports: protocol.has_ports().then_some(ports),
                source_ports: source_ports.filter(|_| protocol.has_ports()),
                peer,
            },
        )
}

/// Groups 0–2 are basic, 3 and 4 advanced.
fn groups() -> impl Strategy<Value = Vec<Group>> {
    proptest::collection::vec(
        (proptest::collection::vec(rules(), 0..12), any::<bool>()),
        5,
    )
    .prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(n, (rules, inner))| {
                let kind = if n < 3 {
                    GroupKind::Basic
                } else {
                    GroupKind::Advanced
                };
                let mut group = Group::new(group_id(n), kind);
                if inner {
                    group.inner_access = InnerAccessPolicy::Drop;
                }
                for rule in rules {
                    // Rules that do not go with the group or the family are refused; the rest stays.
                    let _ = group.authorize(rule);
                }
                group
            })
            .collect()
    })
}

prop_compose! {
    fn interface(n: usize, ipv6: bool)(
        here in proptest::bool::weighted(0.8), advanced in proptest::bool::weighted(0.3), pick in 1_u8..8, smtp_open: bool,
    ) -> Interface {
        let of_kind = if advanced { 3..5 } else { 0..3 };
        let mut groups: Vec<_> = of_kind.enumerate().filter(|(bit, _)| pick >> bit & 1 == 1).map(|(_, g)| group_id(g)).collect();
        if groups.is_empty() {
            groups.push(group_id(if advanced { 4 } else { 0 }));
        }
        let mut addresses = vec![address(n, false)];
        if ipv6 {
            addresses.push(address(n, true));
        }
        let last = u8::try_from(n).expect("a small number");
        Interface {
            id: InterfaceId::generate(n as u128),
            device: here.then(|| format!("tap{n}")),
            mac: MacAddress::new([2, 0, 0, 0, 0, last]),
            addresses,
            groups,
            smtp_open,
        }
    }
}

fn policies() -> impl Strategy<Value = VpcPolicy> {
    any::<bool>().prop_flat_map(|ipv6| {
        (
            groups(),
            [
                interface(0, ipv6),
                interface(1, ipv6),
                interface(2, ipv6),
                interface(3, ipv6),
            ]
            .prop_map(Vec::from),
        )
            .prop_map(|(groups, interfaces)| VpcPolicy { groups, interfaces })
    })
}

#[derive(Debug, Clone)]
struct Draft {
    from: usize,
    mac: usize,
    source: usize,
    destination: usize,
    ipv6: bool,
    protocol: u8,
    ports: (u16, u16),
    state: ConnectionState,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let mostly_own = |from: usize| prop_oneof![8 => Just(from), 1 => 0_usize..5];
    let state = prop_oneof![
        8 => Just(ConnectionState::New),
        1 => Just(ConnectionState::Established),
        1 => Just(ConnectionState::Related),
        1 => Just(ConnectionState::Invalid)
    ];
    let protocol = prop_oneof![4 => Just(6_u8), 3 => Just(17), 1 => Just(1), 1 => Just(58), 1 => Just(47), 1 => Just(132)];
    (
        0_usize..5,
        state,
        protocol,
        0_usize..5,
        proptest::bool::weighted(0.25),
        (18_u16..38, 18_u16..38),
    )
        .prop_flat_map(move |(from, state, protocol, destination, ipv6, ports)| {
            (mostly_own(from), mostly_own(from)).prop_map(move |(mac, source)| Draft {
                from,
                mac,
                source,
                destination,
                ipv6,
                protocol,
                ports,
                state,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_ruleset_decides_as_the_evaluator_does(
        policy in policies(), drafts in proptest::collection::vec(drafts(), 60),
    ) {
        let ruleset = compile(&policy).expect("the policy is sound");
        for draft in drafts {
            let ports = if draft.protocol == 6 || draft.protocol == 17 { draft.ports } else { (0, 0) };
            let device = format!("tap{}", draft.from);
            let packet = Packet {
                device: &device,
                source_mac: MacAddress::new([2, 0, 0, 0, 0, u8::try_from(draft.mac).expect("small")]),
                source: address(draft.source, draft.ipv6),
                destination: address(draft.destination, draft.ipv6),
                protocol: draft.protocol,
                source_port: ports.0,
                destination_port: ports.1,
                state: draft.state,
            };
            prop_assert_eq!(interpret(&ruleset, &policy, &packet), evaluate(&policy, &packet), "{:?}\n{:#?}", packet, ruleset);
        }
    }

    #[test]
    fn compiling_does_not_depend_on_the_order_of_anything(policy in policies()) {
        let mut shuffled = policy.clone();
        shuffled.groups.reverse();
        shuffled.interfaces.reverse();
        for interface in &mut shuffled.interfaces {
            interface.groups.reverse();
        }
        prop_assert_eq!(compile(&shuffled), compile(&policy));
    }
}
