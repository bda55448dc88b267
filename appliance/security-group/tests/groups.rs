//! What rules and groups accept and refuse, and the defaults of the kinds of groups.

use std::error::Error;

use security_group::{
    ConnectionState, Decision, Direction, Group, GroupError, GroupKind, InnerAccessPolicy,
    Interface, Packet, Peer, PolicyError, PortRange, Protocol, RuleChange, RuleError, RulePolicy,
    RuleSpec, VpcPolicy, compile, evaluate,
};
use types::{InterfaceId, MacAddress, SecurityGroupId};

fn sg(n: u128) -> SecurityGroupId {
    SecurityGroupId::generate(n)
}

fn tcp(port: u16, peer: &str) -> RuleSpec {
    RuleSpec {
        direction: Direction::Ingress,
        priority: 1,
        policy: RulePolicy::Accept,
        protocol: Protocol::Tcp,
        ports: Some(PortRange {
            first: port,
            last: port,
        }),
        source_ports: None,
        peer: peer.parse().expect("a peer"),
    }
}

fn interface(n: u8, groups: &[SecurityGroupId]) -> Interface {
    Interface {
        id: InterfaceId::generate(u128::from(n)),
        device: Some(format!("tap{n}")),
        mac: MacAddress::new([2, 0, 0, 0, 0, n]),
        addresses: vec![[10, 0, 0, n].into()],
        groups: groups.to_vec(),
        smtp_open: false,
    }
}

/// A new TCP connection from interface `from` to interface `to`.
fn connect(policy: &VpcPolicy, from: u8, to: u8, port: u16) -> Decision {
    let device = format!("tap{from}");
    let packet = Packet {
        device: &device,
        source_mac: MacAddress::new([2, 0, 0, 0, 0, from]),
        source: [10, 0, 0, from].into(),
        destination: [10, 0, 0, to].into(),
        protocol: 6,
        source_port: 40_000,
        destination_port: port,
        state: ConnectionState::New,
    };
    evaluate(policy, &packet)
}

#[test]
fn port_ranges_are_read_as_ecs_writes_them() {
    for (text, first, last) in [
        ("22/22", 22, 22),
        ("1/65535", 1, 65_535),
        ("80/443", 80, 443),
    ] {
        let range = PortRange::parse(text).expect(text).expect("a range");
        assert_eq!((range.first, range.last), (first, last));
        assert_eq!(PortRange::text(Some(range)), text);
    }
    assert_eq!(PortRange::parse("-1/-1"), Ok(None));
    assert_eq!(PortRange::text(None), "-1/-1");
    for text in [
        "", "22", "22/", "/22", "0/22", "23/22", "22/65536", "+1/22", "-1/22", "1/-1", " 22/22",
        "22/22/22",
    ] {
        let error = PortRange::parse(text).expect_err(text);
        assert!(
            error.to_string().contains("1 ≤ first ≤ last ≤ 65535"),
            "{error}"
        );
    }
}

#[test]
fn names_are_read_in_any_case_and_errors_list_the_choices() {
    assert_eq!("TCP".parse(), Ok(Protocol::Tcp));
    assert_eq!("ICMPv6".parse(), Ok(Protocol::Icmpv6));
    assert_eq!("Drop".parse(), Ok(RulePolicy::Drop));
    assert!(
        "sctp"
            .parse::<Protocol>()
            .expect_err("unknown")
            .to_string()
            .contains("tcp, udp, icmp, icmpv6, gre, all")
    );
    assert!(
        "reject"
            .parse::<RulePolicy>()
            .expect_err("unknown")
            .to_string()
            .contains("accept nor drop")
    );
    assert_eq!(
        "10.0.0.1".parse(),
        Ok(Peer::Cidr("10.0.0.1/32".parse().expect("a net")))
    );
    assert_eq!(sg(7).to_string().parse(), Ok(Peer::Group(sg(7))));
    assert!("10.0.0.0/33".parse::<Peer>().is_err());
    assert!("sg-short".parse::<Peer>().is_err());
}

#[test]
fn combinations_without_meaning_are_refused() {
    let good = tcp(22, "10.0.0.0/8");
    let check = |rule: RuleSpec| rule.validated().expect_err("refused");
    assert_eq!(
        check(RuleSpec {
            priority: 0,
            ..good
        }),
        RuleError::Priority(0)
    );
    assert_eq!(
        check(RuleSpec {
            priority: 101,
            ..good
        }),
        RuleError::Priority(101)
    );
    assert_eq!(
        check(RuleSpec {
            ports: None,
            ..good
        }),
        RuleError::PortsMissing {
            protocol: Protocol::Tcp
        }
    );
    let gre = RuleSpec {
        protocol: Protocol::Gre,
        ..good
    };
    assert_eq!(
        check(gre),
        RuleError::PortsWithoutMeaning {
            protocol: Protocol::Gre
        }
    );
    let zero = Some(PortRange { first: 0, last: 9 });
    assert!(matches!(
        check(RuleSpec {
            ports: zero,
            ..good
        }),
        RuleError::PortRange { .. }
    ));
    for (protocol, net) in [(Protocol::Icmp, "::/0"), (Protocol::Icmpv6, "0.0.0.0/0")] {
        let rule = RuleSpec {
            protocol,
            ports: None,
            peer: net.parse().expect("a net"),
            ..good
        };
        assert!(matches!(check(rule), RuleError::Family { .. }));
    }
}

#[test]
fn a_duplicate_rule_changes_nothing() {
    let mut group = Group::new(sg(1), GroupKind::Basic);
    assert_eq!(
        group.authorize(tcp(22, "10.1.2.3/8")),
        Ok(RuleChange::Changed)
    );
    // The same addresses, written in another way.
    assert_eq!(
        group.authorize(tcp(22, "10.0.0.0/8")),
        Ok(RuleChange::Unchanged)
    );
    assert_eq!(group.rules().len(), 1);
    assert_eq!(
        group.revoke(tcp(23, "10.0.0.0/8")),
        Ok(RuleChange::Unchanged)
    );
    assert_eq!(group.revoke(tcp(22, "10.9.9.9/8")), Ok(RuleChange::Changed));
    assert!(group.rules().is_empty());
}

#[test]
fn limits_are_named_when_they_are_hit() {
    let mut group = Group::new(sg(1), GroupKind::Basic);
    for port in 1..=200 {
        assert_eq!(
            group.authorize(tcp(port, "10.0.0.0/8")),
            Ok(RuleChange::Changed)
        );
    }
    assert_eq!(
        group.authorize(tcp(200, "10.0.0.0/8")),
        Ok(RuleChange::Unchanged)
    );
    let error = group.authorize(tcp(201, "10.0.0.0/8")).expect_err("full");
    assert!(error.to_string().contains("200 rules"), "{error}");

    let ids: Vec<_> = (1..=6).map(sg).collect();
    let groups = ids
        .iter()
        .map(|id| Group::new(*id, GroupKind::Basic))
        .collect();
    let mut policy = VpcPolicy {
        groups,
        interfaces: vec![interface(1, &ids)],
    };
    assert_eq!(
        policy.check(),
        Err(PolicyError::GroupCount {
            interface: policy.interfaces[0].id,
            count: 6
        })
    );
    policy.interfaces[0].groups.clear();
    assert_eq!(
        policy.check(),
        Err(PolicyError::GroupCount {
            interface: policy.interfaces[0].id,
            count: 0
        })
    );
    policy.interfaces[0].groups = vec![sg(99)];
    assert!(matches!(
        policy.check(),
        Err(PolicyError::UnknownGroup { .. })
    ));
    policy.interfaces[0].groups = vec![sg(1)];
    policy.interfaces[0].addresses = (0..2001_u32)
        .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).into())
        .collect();
    let limit = PolicyError::TooManyAddresses {
        group: sg(1),
        count: 2001,
        limit: 2000,
    };
    assert_eq!(compile(&policy), Err(limit));
}

#[test]
fn interfaces_must_not_collide() {
    let groups = vec![
        Group::new(sg(1), GroupKind::Basic),
        Group::new(sg(2), GroupKind::Advanced),
    ];
    let policy = |edit: &dyn Fn(&mut Interface)| {
        let mut second = interface(2, &[sg(1)]);
        edit(&mut second);
        VpcPolicy {
            groups: groups.clone(),
            interfaces: vec![interface(1, &[sg(1)]), second],
        }
        .check()
    };
    assert_eq!(policy(&|_| ()), Ok(()));
    assert!(matches!(
        policy(&|i| i.id = InterfaceId::generate(1)),
        Err(PolicyError::DuplicateInterface { .. })
    ));
    assert!(matches!(
        policy(&|i| i.device = Some("tap1".into())),
        Err(PolicyError::DuplicateDevice { .. })
    ));
    assert!(matches!(
        policy(&|i| i.addresses = vec![[10, 0, 0, 1].into()]),
        Err(PolicyError::DuplicateAddress { .. })
    ));
    assert!(matches!(
        policy(&|i| i.device = Some("\"; flush ruleset".into())),
        Err(PolicyError::Device { .. })
    ));
    assert!(matches!(
        policy(&|i| i.device = Some("a-name-of-16-char".into())),
        Err(PolicyError::Device { .. })
    ));
    assert!(matches!(
        policy(&|i| i.groups.push(sg(2))),
        Err(PolicyError::MixedKinds { .. })
    ));
}

#[test]
fn basic_groups_let_members_talk_unless_told_otherwise() {
    let mut policy = VpcPolicy {
        groups: vec![
            Group::new(sg(1), GroupKind::Basic),
            Group::new(sg(2), GroupKind::Basic),
        ],
        interfaces: vec![
            interface(1, &[sg(1)]),
            interface(2, &[sg(1)]),
            interface(3, &[sg(2)]),
        ],
    };
    assert_eq!(
        connect(&policy, 1, 2, 80),
        Decision::Accept,
        "members reach each other"
    );
    assert_eq!(
        connect(&policy, 1, 3, 80),
        Decision::Drop,
        "inbound is denied by default"
    );
    let deny = RuleSpec {
        policy: RulePolicy::Drop,
        ..tcp(80, "10.0.0.0/8")
    };
    policy.groups[0].authorize(deny).expect("a sound rule");
    assert_eq!(
        connect(&policy, 1, 2, 80),
        Decision::Accept,
        "whatever the rules say"
    );
    policy.groups[0].inner_access = InnerAccessPolicy::Drop;
    assert_eq!(
        connect(&policy, 1, 2, 80),
        Decision::Drop,
        "isolated members need a rule"
    );
    assert_eq!(connect(&policy, 1, 2, 81), Decision::Drop);
    policy.groups[0]
        .authorize(tcp(81, &sg(1).to_string()))
        .expect("a sound rule");
    assert_eq!(connect(&policy, 1, 2, 81), Decision::Accept);
}

#[test]
fn drop_wins_at_equal_priority_and_priority_wins_over_drop() {
    let mut policy = VpcPolicy {
        groups: vec![
            Group::new(sg(1), GroupKind::Basic),
            Group::new(sg(2), GroupKind::Basic),
        ],
        interfaces: vec![interface(1, &[sg(2)]), interface(2, &[sg(1)])],
    };
    policy.groups[0]
        .authorize(tcp(80, "10.0.0.0/8"))
        .expect("a sound rule");
    assert_eq!(connect(&policy, 1, 2, 80), Decision::Accept);
    policy.groups[0]
        .authorize(RuleSpec {
            policy: RulePolicy::Drop,
            ..tcp(80, "10.0.0.1")
        })
        .expect("a sound rule");
    assert_eq!(connect(&policy, 1, 2, 80), Decision::Drop);
    let first = policy.groups[0].rules()[0];
    policy.groups[0]
        .revoke(RuleSpec {
            policy: RulePolicy::Drop,
            ..tcp(80, "10.0.0.1")
        })
        .expect("a sound rule");
    policy.groups[0]
        .authorize(RuleSpec {
            policy: RulePolicy::Drop,
            priority: 2,
            ..tcp(80, "10.0.0.1")
        })
        .expect("a sound rule");
    assert_eq!(policy.groups[0].rules()[0], first);
    assert_eq!(connect(&policy, 1, 2, 80), Decision::Accept);
}

#[test]
fn advanced_groups_deny_both_ways() {
    let mut policy = VpcPolicy {
        groups: vec![Group::new(sg(1), GroupKind::Advanced)],
        interfaces: vec![interface(1, &[sg(1)]), interface(2, &[sg(1)])],
    };
    let refused = policy.groups[0].authorize(tcp(80, &sg(1).to_string()));
    assert_eq!(
        refused,
        Err(GroupError::GroupPeerInAdvanced { group: sg(1) })
    );
    policy.groups[0]
        .authorize(tcp(80, "0.0.0.0/0"))
        .expect("a sound rule");
    assert_eq!(
        connect(&policy, 1, 2, 80),
        Decision::Drop,
        "outbound is denied"
    );
    policy.groups[0]
        .authorize(RuleSpec {
            direction: Direction::Egress,
            ..tcp(80, "0.0.0.0/0")
        })
        .expect("a sound rule");
    assert_eq!(connect(&policy, 1, 2, 80), Decision::Accept);
    assert_eq!(connect(&policy, 1, 2, 81), Decision::Drop);
}

#[test]
fn the_default_group_opens_ssh_rdp_and_ping_and_port_25_is_closed() {
    let mut policy = VpcPolicy {
        groups: vec![
            Group::default_group(sg(1)),
            Group::new(sg(2), GroupKind::Basic),
        ],
        interfaces: vec![
            interface(1, &[sg(2)]),
            interface(2, &[sg(1)]),
            interface(3, &[sg(2)]),
        ],
    };
    for (port, decision) in [
        (22, Decision::Accept),
        (3389, Decision::Accept),
        (80, Decision::Drop),
    ] {
        assert_eq!(connect(&policy, 1, 2, port), decision);
    }
    assert_eq!(
        connect(&policy, 1, 3, 25),
        Decision::Drop,
        "closed even between members"
    );
    policy.interfaces[0].smtp_open = true;
    assert_eq!(connect(&policy, 1, 3, 25), Decision::Accept);
}

#[test]
fn errors_lead_to_the_rule_that_is_wrong() {
    let mut group = Group::new(sg(1), GroupKind::Basic);
    let error = group
        .authorize(RuleSpec {
            priority: 0,
            ..tcp(1, "::/0")
        })
        .expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!("a rule of security group {} is malformed", sg(1))
    );
    assert_eq!(
        error.source().expect("a source").to_string(),
        "priority 0 is not within 1–100"
    );
}

#[test]
fn rules_of_many_groups_become_few_lookups() {
    let mut policy = VpcPolicy {
        groups: Vec::new(),
        interfaces: Vec::new(),
    };
    for n in 1..=5 {
        let mut group = Group::new(sg(n), GroupKind::Basic);
        group.inner_access = InnerAccessPolicy::Drop;
        for port in 1..=100 {
            let net = format!("10.{n}.{port}.0/24");
            group
                .authorize(tcp(port, "0.0.0.0/0"))
                .expect("a sound rule");
            group
                .authorize(RuleSpec {
                    priority: 2,
                    ..tcp(443, &net)
                })
                .expect("a sound rule");
        }
        policy.groups.push(group);
    }
    let ids: Vec<_> = (1..=5).map(sg).collect();
    policy.interfaces = (1..=50).map(|n| interface(n, &ids)).collect();
    let ruleset = compile(&policy).expect("a sound policy");
    let of_groups = ruleset
        .chains
        .iter()
        .filter(|(_, chain)| chain.base.is_none());
    let lengths: Vec<_> = of_groups.map(|(_, chain)| chain.rules.len()).collect();
    // One chain per direction for fifty interfaces; a thousand rules in two lookups and the default.
    assert_eq!(lengths, [1, 3]);
}
