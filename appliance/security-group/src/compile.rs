//! From the meaning to a ruleset whose cost per packet does not grow with the number of groups, interfaces or members.
//!
//! ```text
//! prerouting: from a tap? ─▶ device+MAC+address in `sources4/6`? ─▶ else drop           (nobody sends as another)
//! forward:    established? accept · invalid? drop · port 25? drop
//!             ─▶ egress[in device]: jump to the chain of its groups ─▶ ingress[out device]: the same ─▶ drop
//! input:      DHCP and ICMP for the gateway, nothing else (DHCP is not tracked as a connection)
//! ```
//!
//! Interfaces with the same groups share their chains, so a change of a group changes few chains. Within a chain, the
//! rules of one priority and policy are merged into as few lookups as possible: their order cannot matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use types::SecurityGroupId;

use crate::policy::{connects_members, merged};
use crate::{
    BaseChain, Chain, CtState, Direction, Element, Field, GroupKind, Hook, Interface, Match, Peer,
    PolicyError, PortRange, Protocol, Rule, RulePolicy, RuleSpec, Ruleset, Set, SetKey, Verdict,
    VpcPolicy,
};

/// All devices of interfaces.
const TAPS: &str = "taps";
/// Device and MAC of each interface: who may ask for an address.
const MACS: &str = "macs";
/// Who may send what.
const SOURCES: [&str; 2] = ["sources4", "sources6"];
/// Devices whose outbound TCP 25 is closed.
const SMTP_CLOSED: &str = "smtp_closed";
/// The verdict maps, by device.
const EGRESS: &str = "egress";
const INGRESS: &str = "ingress";

/// The ruleset that does what the policy says.
///
/// # Errors
/// As [`VpcPolicy::check`].
pub fn compile(policy: &VpcPolicy) -> Result<Ruleset, PolicyError> {
    policy.check()?;
    let mut compiler = Compiler {
        policy,
        ipv6: policy
            .interfaces
            .iter()
            .flat_map(|i| &i.addresses)
            .any(IpAddr::is_ipv6),
        ruleset: Ruleset::default(),
    };
    compiler.interfaces();
    compiler.base_chains();
    Ok(compiler.ruleset)
}

struct Compiler<'a> {
    policy: &'a VpcPolicy,
    /// Without any IPv6 address no IPv6 packet passes prerouting, so nothing further is made for them.
    ipv6: bool,
    ruleset: Ruleset,
}

impl Compiler<'_> {
    fn interfaces(&mut self) {
        let mut taps = BTreeSet::new();
        let mut macs = BTreeSet::new();
        let mut sources = [BTreeSet::new(), BTreeSet::new()];
        let mut smtp_closed = BTreeSet::new();
        self.ruleset.maps = [EGRESS, INGRESS]
            .map(|name| (name.to_owned(), BTreeMap::new()))
            .into();
        for interface in &self.policy.interfaces {
            let Some(device) = &interface.device else {
                continue;
            };
            taps.insert(Element::Device(device.clone()));
            macs.insert(Element::DeviceMac(device.clone(), interface.mac));
            for address in &interface.addresses {
                let source = Element::Source(device.clone(), interface.mac, *address);
                sources[usize::from(address.is_ipv6())].insert(source);
            }
            if !interface.smtp_open {
                smtp_closed.insert(Element::Device(device.clone()));
            }
            for (map, direction) in [(EGRESS, Direction::Egress), (INGRESS, Direction::Ingress)] {
                let chain = self.group_chain(interface, direction);
                self.ruleset
                    .maps
                    .entry(map.to_owned())
                    .or_default()
                    .insert(device.clone(), Verdict::Jump(chain));
            }
        }
        let [sources4, sources6] = sources;
        for (name, key, elements) in [
            (TAPS, SetKey::Device, taps),
            (MACS, SetKey::DeviceMac, macs),
            (SOURCES[0], SetKey::DeviceMacIpv4, sources4),
            (SOURCES[1], SetKey::DeviceMacIpv6, sources6),
            (SMTP_CLOSED, SetKey::Device, smtp_closed),
        ] {
            self.ruleset
                .sets
                .insert(name.to_owned(), Set { key, elements });
        }
    }

    /// The chain for the groups of an interface, made if it is the first with these groups.
    fn group_chain(&mut self, interface: &Interface, direction: Direction) -> String {
        let ids: BTreeSet<SecurityGroupId> = interface.groups.iter().copied().collect();
        let base = if direction == Direction::Egress {
            EGRESS
        } else {
            INGRESS
        };
        let name = ids
            .iter()
            .fold(base.to_owned(), |name, id| format!("{name}_{}", id.body()));
        if !self.ruleset.chains.contains_key(&name) {
            let rules = self.group_rules(interface, direction);
            self.ruleset
                .chains
                .insert(name.clone(), Chain { base: None, rules });
        }
        name
    }

    fn group_rules(&mut self, interface: &Interface, direction: Direction) -> Vec<Rule> {
        // Leaving is only half the way: an accepted packet goes back to be judged by its receiver's groups.
        let accept = if direction == Direction::Egress {
            Verdict::Return
        } else {
            Verdict::Accept
        };
        let mut rules = Vec::new();
        let connecting: BTreeSet<SecurityGroupId> = self
            .policy
            .groups_of(interface)
            .filter(|g| connects_members(g))
            .map(|g| g.id)
            .collect();
        for id in connecting {
            for member in self.member_matches(id, direction) {
                rules.push(Rule {
                    matches: vec![member],
                    verdict: accept.clone(),
                });
            }
        }
        let specs = merged(self.policy.groups_of(interface), direction);
        for level in specs.chunk_by(|a, b| (a.priority, a.policy) == (b.priority, b.policy)) {
            let verdict = match level[0].policy {
                RulePolicy::Accept => accept.clone(),
                RulePolicy::Drop => Verdict::Drop,
            };
            for matches in self.level(level, direction) {
                rules.push(Rule {
                    matches,
                    verdict: verdict.clone(),
                });
            }
        }
        let advanced = self
            .policy
            .groups_of(interface)
            .any(|g| g.kind == GroupKind::Advanced);
        let verdict = if direction == Direction::Egress && !advanced {
            Verdict::Return
        } else {
            Verdict::Drop
        };
        rules.push(Rule {
            matches: Vec::new(),
            verdict,
        });
        rules
    }

    /// The rules of one priority and policy, as few as simple merging gives.
    fn level(&mut self, level: &[RuleSpec], direction: Direction) -> Vec<Vec<Match>> {
        // First all address ranges with the same ports, then all ports with the same address ranges.
        type Ports = Option<PortRange>;
        let mut by_ports: BTreeMap<(bool, Protocol, Ports, Ports), Vec<IpNet>> = BTreeMap::new();
        let mut by_peer: BTreeMap<(PeerTerm, Protocol, Ports), Vec<PortRange>> = BTreeMap::new();
        for rule in level {
            match rule.peer {
                Peer::Cidr(net) => {
                    let ipv6 = matches!(net, IpNet::V6(_));
                    by_ports
                        .entry((ipv6, rule.protocol, rule.ports, rule.source_ports))
                        .or_default()
                        .push(net);
                }
                Peer::Group(id) => {
                    let key = (PeerTerm::Group(id), rule.protocol, rule.source_ports);
                    by_peer.entry(key).or_default().extend(rule.ports);
                }
            }
        }
        for ((ipv6, protocol, ports, source_ports), nets) in by_ports {
            if ipv6 && !self.ipv6 {
                continue;
            }
            let mut nets = IpNet::aggregate(&nets);
            nets.sort();
            by_peer
                .entry((PeerTerm::Nets(ipv6, nets), protocol, source_ports))
                .or_default()
                .extend(ports);
        }
        let mut lists = Vec::new();
        for ((peer, protocol, source_ports), ports) in by_peer {
            let mut rest: Vec<Match> = protocol.number().map(Match::Protocol).into_iter().collect();
            if !ports.is_empty() {
                rest.push(Match::DestinationPorts(merge_ports(ports)));
            }
            rest.extend(source_ports.map(|range| Match::SourcePorts(vec![range])));
            let peers = match peer {
                PeerTerm::Group(id) => self.member_matches(id, direction),
                // The whole of a family needs no lookup.
                PeerTerm::Nets(ipv6, nets) if nets.iter().any(|net| net.prefix_len() == 0) => {
                    vec![Match::Ipv6(ipv6)]
                }
                PeerTerm::Nets(_, nets) => vec![Match::Address {
                    field: other_side(direction),
                    nets,
                }],
            };
            lists.extend(
                peers
                    .into_iter()
                    .map(|peer| [vec![peer], rest.clone()].concat()),
            );
        }
        lists
    }

    /// "The other side is a member of this group", one match per family; makes the sets.
    fn member_matches(&mut self, id: SecurityGroupId, direction: Direction) -> Vec<Match> {
        let families = if self.ipv6 {
            &[false, true][..]
        } else {
            &[false][..]
        };
        let members = self.policy.members(id);
        families
            .iter()
            .map(|ipv6| {
                let (name, key) = match ipv6 {
                    false => (format!("members4_{}", id.body()), SetKey::Ipv4),
                    true => (format!("members6_{}", id.body()), SetKey::Ipv6),
                };
                let elements = members
                    .iter()
                    .filter(|a| a.is_ipv6() == *ipv6)
                    .copied()
                    .map(Element::Address)
                    .collect();
                self.ruleset
                    .sets
                    .insert(name.clone(), Set { key, elements });
                Match::InSet {
                    field: other_side(direction),
                    set: name,
                    inverted: false,
                }
            })
            .collect()
    }

    fn base_chains(&mut self) {
        let in_set = |field, set: &str, inverted| Match::InSet {
            field,
            set: set.to_owned(),
            inverted,
        };
        let rule = |matches, verdict| Rule { matches, verdict };
        let udp = |from, to| {
            let port = |p| vec![PortRange { first: p, last: p }];
            let ports = [
                Match::SourcePorts(port(from)),
                Match::DestinationPorts(port(to)),
            ];
            [&[Match::Ipv6(false), Match::Protocol(17)], &ports[..]].concat()
        };
        let dhcp = || udp(68, 67);
        let unspecified = IpNet::V4(Ipv4Net::from(std::net::Ipv4Addr::UNSPECIFIED));
        let asks_for_address = [
            dhcp(),
            vec![
                Match::Address {
                    field: Field::Source,
                    nets: vec![unspecified],
                },
                in_set(Field::InDeviceMac, MACS, false),
            ],
        ];
        let by_device = |field, map: &str| {
            rule(
                vec![],
                Verdict::ByDevice {
                    field,
                    map: map.to_owned(),
                },
            )
        };
        let prerouting = vec![
            rule(vec![in_set(Field::InDevice, TAPS, true)], Verdict::Accept),
            rule(
                vec![in_set(Field::InDeviceMacSource, SOURCES[0], false)],
                Verdict::Accept,
            ),
            rule(
                vec![in_set(Field::InDeviceMacSource, SOURCES[1], false)],
                Verdict::Accept,
            ),
            rule(asks_for_address.concat(), Verdict::AcceptUntracked),
            rule(vec![], Verdict::Drop),
        ];
        let smtp = vec![
            Match::Protocol(6),
            Match::DestinationPorts(vec![PortRange {
                first: 25,
                last: 25,
            }]),
            in_set(Field::InDevice, SMTP_CLOSED, false),
        ];
        let forward = vec![
            rule(vec![in_set(Field::InDevice, TAPS, true)], Verdict::Drop),
            rule(
                vec![Match::CtState(vec![CtState::Established, CtState::Related])],
                Verdict::Accept,
            ),
            rule(vec![Match::CtState(vec![CtState::Invalid])], Verdict::Drop),
            rule(smtp, Verdict::Drop),
            by_device(Field::InDevice, EGRESS),
            by_device(Field::OutDevice, INGRESS),
        ];
        let input = vec![
            rule(vec![in_set(Field::InDevice, TAPS, true)], Verdict::Drop),
            rule(
                vec![Match::CtState(vec![CtState::Established, CtState::Related])],
                Verdict::Accept,
            ),
            rule(vec![Match::CtState(vec![CtState::Invalid])], Verdict::Drop),
            rule(dhcp(), Verdict::Accept),
            rule(
                vec![Match::Ipv6(false), Match::Protocol(1)],
                Verdict::Accept,
            ),
        ];
        for (name, hook, priority, drops, rules) in [
            // Before conntrack (−200), so that spoofed packets leave no trace there.
            ("prerouting", Hook::Prerouting, -300, false, prerouting),
            ("input", Hook::Input, 0, true, input),
            (
                "output",
                Hook::Output,
                -300,
                false,
                vec![rule(udp(67, 68), Verdict::AcceptUntracked)],
            ),
            ("forward", Hook::Forward, 0, true, forward),
        ] {
            let base = Some(BaseChain {
                hook,
                priority,
                drops,
            });
            self.ruleset
                .chains
                .insert(name.to_owned(), Chain { base, rules });
        }
    }
}

/// A peer after merging.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PeerTerm {
    Nets(bool, Vec<IpNet>),
    Group(SecurityGroupId),
}

fn other_side(direction: Direction) -> Field {
    match direction {
        Direction::Ingress => Field::Source,
        Direction::Egress => Field::Destination,
    }
}

/// Sorted, disjoint and not adjacent.
fn merge_ports(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last)
            }
            _ => merged.push(range),
        }
    }
    merged
}
