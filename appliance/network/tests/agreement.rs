//! The kernel under compiled rulesets decides about real packets as the reference evaluator does. Needs root and
//! /dev/net/tun.

// Other tests use the rest of it.
#[allow(dead_code)]
mod common;

use std::collections::BTreeSet;

use common::{
    Guest, Net, echo_request, group_id, interface_id, mac, policy, raise, syn, udp, until, vpc_id,
};
use network::device_name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use security_group::{
    ConnectionState, Decision, Direction, Group, GroupKind, InnerAccessPolicy, Packet, Peer,
    PortRange, Protocol, RulePolicy, RuleSpec, VpcPolicy, compile, evaluate,
};

const POLICIES: usize = 40;
const MEMBERS: [u8; 4] = [1, 2, 3, 4];
const PORTS: [u16; 9] = [19, 20, 21, 22, 24, 25, 26, 29, 30];

fn random_rule(random: &mut StdRng) -> RuleSpec {
    let range = |random: &mut StdRng, low: u16, high: u16| {
        let first = random.random_range(low..high);
        PortRange {
            first,
            last: random.random_range(first..high),
        }
    };
    let nets = [
        "0.0.0.0/0",
        "10.7.0.1/32",
        "10.7.0.2/32",
        "10.7.0.2/31",
        "10.7.0.0/30",
        "10.7.0.4/30",
        "255.0.0.0/8",
    ];
    let peer = match random.random_range(0..4) {
        0 => Peer::Group(group_id(random.random_range(1..5))),
        _ => nets[random.random_range(0..nets.len())]
            .parse()
            .expect("a net"),
    };
    let protocol = [
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Udp,
        Protocol::All,
    ][random.random_range(0..5)];
    let with_sources = protocol.has_ports() && random.random_range(0..4) == 0;
    RuleSpec {
        direction: [Direction::Ingress, Direction::Ingress, Direction::Egress]
            [random.random_range(0..3)],
        priority: random.random_range(1..4),
        policy: [RulePolicy::Accept, RulePolicy::Accept, RulePolicy::Drop]
            [random.random_range(0..3)],
        protocol,
        ports: protocol.has_ports().then(|| range(random, 20, 31)),
        source_ports: with_sources.then(|| range(random, 1000, 60_000)),
        peer,
    }
}

/// Groups 1–3 are basic, 4 is advanced; the interfaces are in some of them.
fn random_policy(random: &mut StdRng) -> VpcPolicy {
    let mut policy = policy(&MEMBERS, &[]);
    policy.groups.clear();
    for n in 1..=4 {
        let mut group = Group::new(
            group_id(n),
            if n == 4 {
                GroupKind::Advanced
            } else {
                GroupKind::Basic
            },
        );
        if random.random_range(0..2) == 0 {
            group.inner_access = InnerAccessPolicy::Drop;
        }
        for _ in 0..random.random_range(0..15) {
            // Rules that an advanced group refuses are left out.
            let _ = group.authorize(random_rule(random));
        }
        policy.groups.push(group);
    }
    for interface in &mut policy.interfaces {
        interface.smtp_open = random.random_range(0..2) == 0;
        let basic: BTreeSet<u8> = (0..random.random_range(1..4))
            .map(|_| random.random_range(1..4))
            .collect();
        let groups = if random.random_range(0..4) == 0 {
            BTreeSet::from([4])
        } else {
            basic
        };
        interface.groups = groups.into_iter().map(group_id).collect();
    }
    policy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_decides_as_the_evaluator_does() {
    let seed: u64 = 0x005e_ed0f_a51a;
    let mut random = StdRng::seed_from_u64(seed);
    let net = Net::new();
    let taps = raise(&net, &MEMBERS, &policy(&MEMBERS, &[])).await;
    // Without addresses: these guests answer nothing, so every packet begins a connection.
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .zip(MEMBERS)
        .map(|(tap, n)| Guest::new(tap, mac(n)))
        .collect();
    let address = |n: u8| [10, 7, 0, n];
    let mut source_port = 1024;
    let mut counts = [0, 0];
    for round in 0..POLICIES {
        let policy = random_policy(&mut random);
        let ruleset = compile(&policy).expect("a sound policy");
        net.manager
            .apply_ruleset(vpc_id(1), &ruleset)
            .await
            .expect("apply");
        let mut expected: Vec<BTreeSet<u16>> = vec![BTreeSet::new(); MEMBERS.len()];
        for from in MEMBERS {
            for to in MEMBERS.into_iter().filter(|to| *to != from) {
                for _ in 0..6 {
                    let protocol = [6, 17][random.random_range(0..2)];
                    let port = PORTS[random.random_range(0..PORTS.len())];
                    // Unique in this network, so that it tells the packet.
                    source_port += 1;
                    let ports = (source_port, port);
                    guests[usize::from(from) - 1].inject(&match protocol {
                        6 => syn(mac(from), address(from), address(to), ports),
                        _ => udp(mac(from), address(from), address(to), ports, "agreed?"),
                    });
                    let device = device_name(interface_id(from));
                    let packet = Packet {
                        device: &device,
                        source_mac: mac(from),
                        source: address(from).into(),
                        destination: address(to).into(),
                        protocol,
                        source_port,
                        destination_port: port,
                        state: ConnectionState::New,
                    };
                    let decision = evaluate(&policy, &packet);
                    counts[usize::from(decision == Decision::Accept)] += 1;
                    if decision == Decision::Accept {
                        expected[usize::from(to) - 1].insert(source_port);
                    }
                }
            }
            // The gateway's answer comes after the packets before it have gone wherever they go.
            guests[usize::from(from) - 1].inject(&echo_request(
                mac(from),
                address(from),
                [10, 7, 0, 253],
            ));
        }
        let echo = |f: &Vec<u8>| f.len() > 34 && f[12..14] == [8, 0] && f[23] == 1;
        until(&mut guests, "the gateway's answers", |g| {
            g.iter().all(|guest| guest.tap.seen.iter().any(echo))
        });
        until(&mut guests, "all that should arrive", |g| {
            g.iter()
                .zip(&expected)
                .all(|(guest, expected)| arrived(guest).is_superset(expected))
        });
        for (guest, expected) in guests.iter_mut().zip(&expected) {
            assert_eq!(
                arrived(guest),
                *expected,
                "seed {seed:#x}, round {round}: {policy:#?}"
            );
            guest.tap.seen.clear();
        }
    }
    // Otherwise the test says little.
    assert!(
        counts.iter().all(|count| *count > 500),
        "{counts:?} dropped and accepted"
    );
}

/// The source ports of the TCP and UDP packets a guest received.
fn arrived(guest: &Guest) -> BTreeSet<u16> {
    let packets = guest
        .tap
        .seen
        .iter()
        .filter(|f| f.len() >= 42 && f[12..14] == [8, 0] && [6, 17].contains(&f[23]));
    packets
        .map(|f| u16::from_be_bytes([f[34], f[35]]))
        .collect()
}
