//! Rulesets in real, throw-away network namespaces. Needs root, and the nft tool as a witness.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;

use nft::{Change, Error, Table};
use nix::sched::{CloneFlags, setns, unshare};
use security_group::{
    Direction, Group, GroupKind, InnerAccessPolicy, Interface, Peer, PortRange, Protocol,
    RulePolicy, RuleSpec, Ruleset, VpcPolicy, compile,
};
use types::{InterfaceId, MacAddress, SecurityGroupId};

/// A namespace that vanishes with its descriptor.
fn namespace() -> OwnedFd {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace: these tests need root");
        File::open("/proc/thread-self/ns/net")
            .expect("open the namespace")
            .into()
    };
    thread::spawn(make).join().expect("the thread ends well")
}

/// Runs nft in the namespace as an administrator would.
fn by_hand(namespace: &OwnedFd, command: &str) -> String {
    thread::scope(|scope| {
        let run = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter");
            let output = Command::new("/usr/sbin/nft")
                .args(command.split(' '))
                .output()
                .expect("run nft");
            assert!(
                output.status.success(),
                "{command}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).expect("text")
        };
        scope.spawn(run).join().expect("the thread ends well")
    })
}

fn sg(n: u128) -> SecurityGroupId {
    SecurityGroupId::generate(n)
}

fn rule(
    direction: Direction,
    protocol: Protocol,
    ports: Option<(u16, u16)>,
    peer: Peer,
) -> RuleSpec {
    let ports = ports.map(|(first, last)| PortRange { first, last });
    RuleSpec {
        direction,
        priority: 7,
        policy: RulePolicy::Accept,
        protocol,
        ports,
        source_ports: None,
        peer,
    }
}

fn net(text: &str) -> Peer {
    text.parse().expect("a peer")
}

/// Uses everything that a ruleset can say.
fn policy() -> VpcPolicy {
    let mut web = Group::new(sg(1), GroupKind::Basic);
    let mut isolated = Group::new(sg(2), GroupKind::Basic);
    isolated.inner_access = InnerAccessPolicy::Drop;
    let mut advanced = Group::new(sg(3), GroupKind::Advanced);
    for rule in [
        rule(
            Direction::Ingress,
            Protocol::Tcp,
            Some((80, 80)),
            net("0.0.0.0/0"),
        ),
        rule(
            Direction::Ingress,
            Protocol::Tcp,
            Some((8000, 8100)),
            net("10.0.0.0/8"),
        ),
        rule(
            Direction::Ingress,
            Protocol::Tcp,
            Some((443, 443)),
            net("fd00::/16"),
        ),
        rule(
            Direction::Ingress,
            Protocol::Udp,
            Some((53, 53)),
            Peer::Group(sg(2)),
        ),
        rule(Direction::Ingress, Protocol::Icmpv6, None, net("::/0")),
        RuleSpec {
            policy: RulePolicy::Drop,
            source_ports: Some(PortRange {
                first: 1,
                last: 1023,
            }),
            ..rule(
                Direction::Egress,
                Protocol::Udp,
                Some((1, 65_535)),
                net("192.168.0.0/16"),
            )
        },
    ] {
        web.authorize(rule).expect("a sound rule");
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        advanced
            .authorize(rule(direction, Protocol::Gre, None, net("10.0.0.7")))
            .expect("a sound rule");
        advanced
            .authorize(rule(direction, Protocol::All, None, net("10.9.0.0/16")))
            .expect("a sound rule");
    }
    let interface = |n: u8, groups: &[u128]| Interface {
        id: InterfaceId::generate(u128::from(n)),
        device: (n != 4).then(|| format!("tap{n}")),
        mac: MacAddress::new([2, 0, 0, 0, 0, n]),
        addresses: vec![
            [10, 0, 0, n].into(),
            format!("fd00::{n}").parse().expect("an address"),
        ],
        groups: groups.iter().map(|n| sg(*n)).collect(),
        smtp_open: n == 1,
    };
    VpcPolicy {
        groups: vec![web, isolated, advanced],
        interfaces: vec![
            interface(1, &[1]),
            interface(2, &[1, 2]),
            interface(3, &[3]),
            interface(4, &[2]),
        ],
    }
}

fn ruleset(policy: &VpcPolicy) -> Ruleset {
    compile(policy).expect("a sound policy")
}

fn table() -> Table {
    Table::new("ashlar").expect("a good name")
}

fn commands(change: Change) -> usize {
    match change {
        Change::Unchanged => 0,
        Change::Updated { commands } => commands,
    }
}

#[test]
fn applying_twice_changes_nothing_and_removing_leaves_nothing() {
    let (ns, table, rules) = (namespace(), table(), ruleset(&policy()));
    assert!(!table.is_in_force(&ns, &rules).expect("look"));
    assert!(!table.remove(&ns).expect("nothing to remove"));
    assert!(commands(table.apply(&ns, &rules).expect("apply")) > 10);
    assert!(table.is_in_force(&ns, &rules).expect("look"));
    assert_eq!(
        table.apply(&ns, &rules).expect("apply again"),
        Change::Unchanged
    );
    assert!(
        by_hand(&ns, "list ruleset")
            .contains("type filter hook forward priority filter; policy drop;")
    );
    assert!(table.remove(&ns).expect("remove"));
    assert_eq!(by_hand(&ns, "list ruleset"), "");
}

#[test]
fn a_change_of_one_group_is_a_small_transaction() {
    let (ns, table, mut policy) = (namespace(), table(), policy());
    let before = ruleset(&policy);
    table.apply(&ns, &before).expect("apply");

    // A rule of a group: only the chains of that group.
    policy.groups[0]
        .authorize(rule(
            Direction::Ingress,
            Protocol::Tcp,
            Some((22, 22)),
            net("10.0.0.0/8"),
        ))
        .expect("ok");
    let with_rule = ruleset(&policy);
    let all = commands(
        Table::new("other")
            .and_then(|t| t.apply(&ns, &with_rule))
            .expect("apply in full"),
    );
    let few = commands(
        table
            .apply_over(&ns, &before, &with_rule)
            .expect("apply the difference"),
    );
    assert!(few * 2 < all, "{few} of {all} commands");
    assert!(table.is_in_force(&ns, &with_rule).expect("look"));

    // A member more: elements only.
    policy.interfaces[3].addresses.push([10, 0, 0, 44].into());
    let with_member = ruleset(&policy);
    assert_eq!(
        table.apply(&ns, &with_member).expect("apply"),
        Change::Updated { commands: 1 }
    );

    // An interface less, the only one of its group: its chains and sets go.
    policy.interfaces.remove(2);
    let without = ruleset(&policy);
    table
        .apply_over(&ns, &with_member, &without)
        .expect("apply the difference");
    assert!(table.is_in_force(&ns, &without).expect("look"));
    assert!(!by_hand(&ns, "list table inet ashlar").contains("tap3"));

    // And back to nothing at all.
    table
        .apply(&ns, &Ruleset::default())
        .expect("apply nothing");
    assert!(table.is_in_force(&ns, &Ruleset::default()).expect("look"));
}

#[test]
fn what_somebody_else_changed_is_seen_and_put_right() {
    let (ns, table, rules) = (namespace(), table(), ruleset(&policy()));
    table.apply(&ns, &rules).expect("apply");
    for meddling in [
        "insert rule inet ashlar forward accept",
        "add rule inet ashlar forward accept",
        "flush chain inet ashlar input",
        "delete element inet ashlar taps { tap1 }",
        "delete element inet ashlar ingress { tap1 }",
        "add element inet ashlar sources4 { tap1 . 02:00:00:00:00:01 . 10.0.0.99 }",
        "add chain inet ashlar extra",
        "add set inet ashlar more { type ipv4_addr; }",
        "add chain inet ashlar forward { type filter hook forward priority 0; policy accept; }",
        "delete table inet ashlar",
    ] {
        by_hand(&ns, meddling);
        assert!(
            !table.is_in_force(&ns, &rules).expect(meddling),
            "{meddling} went unseen"
        );
        table.apply(&ns, &rules).expect(meddling);
        assert!(
            table.is_in_force(&ns, &rules).expect(meddling),
            "{meddling} was not put right"
        );
    }
}

#[test]
fn a_base_chain_that_hangs_elsewhere_is_replaced() {
    let (ns, table, rules) = (namespace(), table(), ruleset(&policy()));
    by_hand(&ns, "add table inet ashlar");
    by_hand(
        &ns,
        "add chain inet ashlar forward { type filter hook forward priority 50; policy accept; }",
    );
    table.apply(&ns, &rules).expect("apply");
    assert!(table.is_in_force(&ns, &rules).expect("look"));
}

#[test]
fn other_tables_and_namespaces_are_left_alone() {
    let (ns, other, table, rules) = (namespace(), namespace(), table(), ruleset(&policy()));
    by_hand(&ns, "add table inet theirs");
    table.apply(&ns, &rules).expect("apply");
    table.remove(&ns).expect("remove");
    assert_eq!(
        by_hand(&ns, "list ruleset")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        "table inet theirs { }"
    );
    assert_eq!(by_hand(&other, "list ruleset"), "");
}

#[test]
fn a_stale_idea_of_what_is_in_force_is_refused_as_a_whole() {
    let (ns, table, policy) = (namespace(), table(), policy());
    let rules = ruleset(&policy);
    // `held` claims that everything is there already; only one chain differs, and its table is not there.
    let mut next = rules.clone();
    next.chains.get_mut("input").expect("a chain").rules.pop();
    let error = table
        .apply_over(&ns, &rules, &next)
        .expect_err("no such table");
    assert!(
        matches!(error, Error::Refused { .. } | Error::KernelLacks { .. }),
        "{error}"
    );
    assert_eq!(by_hand(&ns, "list ruleset"), "");
    table.apply(&ns, &next).expect("applying in full helps");
}

#[test]
fn names_that_would_need_quoting_are_refused() {
    for name in ["", "a b", "1a", "x;y", &"n".repeat(33)] {
        assert!(Table::new(name).is_err(), "{name:?}");
    }
}
