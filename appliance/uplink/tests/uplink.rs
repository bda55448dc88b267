//! The host's network in throw-away network namespaces. Needs root.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{Kernel, Policy, SERVER, Server, hardware, in_namespace, name, start, until};
use dhcproto::v4::MessageType;
use ipnet::IpNet;
use rtnetlink::LinkUnspec;
use uplink::plan::{Bond, BondMode, Ethernet, Match, Route, Settings, Vlan};
use uplink::{Options, Phase, Plan, State, Status, Uplink};

/// Interface 7 here, with a DHCP server at its other end.
async fn served(policy: Policy) -> (Kernel, Server) {
    let kernel = Kernel::open();
    let mut server = Server::new(policy, "far7");
    kernel.veth("eth7", "far7", 7).await;
    kernel.give("far7", &server.namespace).await;
    server.serve();
    (kernel, server)
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn has(status: &Status, address: &str) -> bool {
    status
        .interfaces
        .iter()
        .any(|i| i.addresses.contains(&net(address)))
}

#[test]
fn without_configuration_an_address_is_leased() {
    in_namespace(|| async {
        let (_kernel, mut server) = served(Policy {
            noise: true,
            ..Policy::default()
        })
        .await;
        let begun = std::time::Instant::now();
        let handle = start(Plan {
            hostname: Some("stone".into()),
            ..Plan::default()
        });
        let status = handle.reachable(common::DEADLINE).await;
        let took = begun.elapsed();
        assert!(status.is_reachable(), "{status:#?}");
        assert!(
            took < Duration::from_secs(3),
            "the first lease took {took:?}"
        );
        let interface = &status.interfaces[0];
        assert_eq!(interface.name, name(7));
        assert_eq!(interface.addresses, [net("10.77.0.9/24")]);
        assert_eq!(interface.gateway, Some(SERVER.into()));
        assert_eq!(interface.mtu, 1400);
        assert_eq!(status.dns, [IpAddr::V4(SERVER)]);
        assert_eq!(status.search, ["lab.example"]);
        assert_eq!(status.ntp, [SERVER]);
        assert_eq!(status.problems, [""; 0]);
        let discover = server.hears(MessageType::Discover).await;
        assert_eq!(discover.chaddr(), hardware(7));
        handle.shutdown().await;
        assert!(
            Kernel::open().links().await.contains_key(&name(7)),
            "shutting down leaves the network"
        );
    });
}

#[test]
fn a_lease_is_renewed_by_unicast_and_lost_when_nobody_extends_it() {
    in_namespace(|| async {
        let (_kernel, mut server) = served(Policy {
            lease_s: 4,
            ..Policy::default()
        })
        .await;
        let handle = start(Plan::default());
        let mut status = handle.status();
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
        server.hears(MessageType::Request).await;
        let renewal = server.hears(MessageType::Request).await;
        assert_eq!(renewal.ciaddr(), Ipv4Addr::new(10, 77, 0, 9), "a renewal");
        server.change(|p| p.silent = true);
        let lost = until(&mut status, "the loss", |s| {
            s.applied && !has(s, "10.77.0.9/24")
        })
        .await;
        assert_eq!(lost.interfaces[0].gateway, None);
        let State::NoAddress {
            lost: Some(why), ..
        } = &lost.interfaces[0].state
        else {
            panic!("{lost:#?}");
        };
        assert!(why.contains("expired"), "{why}");
        server.change(|p| p.silent = false);
        until(&mut status, "another lease", |s| has(s, "10.77.0.9/24")).await;
    });
}

#[test]
fn a_refused_address_is_given_up_for_another() {
    in_namespace(|| async {
        let (_kernel, server) = served(Policy {
            lease_s: 2,
            ..Policy::default()
        })
        .await;
        let handle = start(Plan::default());
        let mut status = handle.status();
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
        server.change(|p| p.address = Ipv4Addr::new(10, 77, 0, 10));
        let other = until(&mut status, "another address", |s| has(s, "10.77.0.10/24")).await;
        assert!(!has(&other, "10.77.0.9/24"));
    });
}

#[test]
fn what_is_missing_is_said() {
    in_namespace(|| async {
        let (_kernel, server) = served(Policy {
            silent: true,
            ..Policy::default()
        })
        .await;
        let handle = start(Plan::default());
        let mut status = handle.status();
        let silent = |s: &Status| {
            matches!(
                s.interfaces.first().map(|i| &i.state),
                Some(State::NoAddress {
                    dhcp: Some(Phase::Selecting),
                    tries: 2..,
                    ..
                })
            )
        };
        let waiting = until(&mut status, "a second request", silent).await;
        let text = waiting.interfaces[0].to_string();
        assert!(text.contains("no answer from a DHCP server"), "{text}");
        assert!(!waiting.is_reachable());
        server.change(|p| p.link = false);
        let state = |s: &Status| s.interfaces.first().map(|i| i.state.clone());
        until(&mut status, "no carrier", |s| {
            state(s) == Some(State::NoCarrier)
        })
        .await;
        server.change(|p| (p.silent, p.link) = (false, true));
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
    });
}

#[test]
fn the_address_is_confirmed_when_the_link_comes_back() {
    in_namespace(|| async {
        let (_kernel, mut server) = served(Policy::default()).await;
        let handle = start(Plan::default());
        let mut status = handle.status();
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
        server.hears(MessageType::Request).await;
        for carrier in [false, true] {
            server.change(|p| p.link = carrier);
            let is = |s: &Status| (s.interfaces[0].state == State::NoCarrier) != carrier;
            let now = until(&mut status, "the carrier", is).await;
            assert!(has(&now, "10.77.0.9/24"), "the address stays meanwhile");
        }
        let confirm = server.hears(MessageType::Request).await;
        assert!(
            confirm.ciaddr().is_unspecified(),
            "INIT-REBOOT, RFC 2131 §4.3.2"
        );
        assert!(
            !confirm
                .opts()
                .contains(dhcproto::v4::OptionCode::ServerIdentifier)
        );
    });
}

fn fixed(matches: Match, name: &str, addresses: &[&str]) -> Ethernet {
    let addresses = addresses.iter().map(|a| net(a)).collect();
    Ethernet {
        matches,
        name: Some(name.to_owned()),
        settings: Settings {
            addresses,
            ..Settings::default()
        },
    }
}

#[test]
fn fixed_addresses_and_routes_are_kept_against_change() {
    in_namespace(|| async {
        let kernel = Kernel::open();
        kernel.veth("eth0", "far0", 1).await;
        kernel
            .set(LinkUnspec::new_with_name("far0").up().build())
            .await;
        let mut lan = fixed(
            Match::Mac(hardware(1)),
            "lan",
            &["192.0.2.5/24", "2001:db8::5/64"],
        );
        lan.settings.mtu = Some(1300);
        lan.settings.gateways = vec![ip("192.0.2.1"), ip("2001:db8::1")];
        lan.settings.routes = vec![
            Route {
                to: net("198.51.100.0/24"),
                via: Some(ip("203.0.113.1")),
                metric: None,
            },
            Route {
                to: net("203.0.113.1/32"),
                via: None,
                metric: Some(7),
            },
        ];
        let plan = Plan {
            ethernets: vec![lan],
            dns: vec![ip("192.0.2.1")],
            ..Plan::default()
        };
        let handle = start(plan.clone());
        let mut status = handle.status();
        let good = |s: &Status| has(s, "192.0.2.5/24") && s.interfaces[0].gateway.is_some();
        let first = until(&mut status, "the addresses", good).await;
        assert_eq!(first.problems, [""; 0]);
        assert_eq!(first.interfaces[0].name, "lan");
        assert_eq!(first.interfaces[0].mtu, 1300);
        assert_eq!(first.interfaces[0].gateway, Some(ip("192.0.2.1")));
        assert!(has(&first, "2001:db8::5/64"));

        let index = kernel.links().await["lan"].header.index;
        kernel
            .handle
            .address()
            .add(index, ip("192.0.2.66"), 24)
            .execute()
            .await
            .expect("a foreign address");
        while kernel
            .addresses(index)
            .await
            .contains(&net("192.0.2.66/24"))
        {
            tokio::task::yield_now().await;
        }
        kernel
            .set(LinkUnspec::new_with_index(index).down().build())
            .await;
        until(&mut status, "the way back up", |s| {
            good(s) && s.interfaces[0].state == State::Ready
        })
        .await;

        let mut other = plan;
        other.ethernets[0].settings.addresses = vec![net("192.0.2.6/24")];
        handle.reapply(other).await.expect("the task runs");
        let changed = until(&mut status, "the new address", |s| has(s, "192.0.2.6/24")).await;
        assert!(!has(&changed, "192.0.2.5/24"));
    });
}

#[test]
fn an_interface_that_is_plugged_in_later_is_set_up_too() {
    in_namespace(|| async {
        let handle = start(Plan::default());
        let mut status = handle.status();
        let none = until(&mut status, "a first look", |s| s.applied).await;
        assert_eq!(none.interfaces, []);
        let (kernel, _server) = served(Policy::default()).await;
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
        let index = kernel.links().await[&name(7)].header.index;
        kernel
            .handle
            .link()
            .del(index)
            .execute()
            .await
            .expect("unplug it");
        until(&mut status, "the end of it", |s| s.interfaces.is_empty()).await;
    });
}

#[test]
fn another_plan_takes_a_lease_away() {
    in_namespace(|| async {
        let (_kernel, _server) = served(Policy::default()).await;
        let handle = start(Plan::default());
        let mut status = handle.status();
        until(&mut status, "the lease", |s| has(s, "10.77.0.9/24")).await;
        let ethernets = vec![fixed(Match::Any, "lan", &["10.77.0.50/24"])];
        handle
            .reapply(Plan {
                ethernets,
                ..Plan::default()
            })
            .await
            .expect("the task runs");
        let now = until(&mut status, "the fixed address", |s| {
            has(s, "10.77.0.50/24")
        })
        .await;
        assert!(!has(&now, "10.77.0.9/24"));
        assert_eq!(now.interfaces[0].name, "lan");
        assert_eq!(now.interfaces[0].lease, None);
    });
}

#[test]
fn the_list_of_name_servers_follows_the_lease() {
    in_namespace(|| async {
        let (_kernel, _server) = served(Policy::default()).await;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("run/resolv.conf");
        let options = Options {
            resolv_conf: Some(file.clone()),
            veth: true,
            ..Options::default()
        };
        let plan = Plan {
            dns: vec![ip("192.0.2.53")],
            ..Plan::default()
        };
        let handle = Uplink::start(plan, options).expect("start");
        handle.reachable(common::DEADLINE).await;
        let text = std::fs::read_to_string(&file).expect("the file");
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "search lab.example",
                "nameserver 192.0.2.53",
                "nameserver 10.77.0.1"
            ]
        );
    });
}

#[test]
fn a_setting_that_the_kernel_refuses_is_said_and_the_rest_works() {
    in_namespace(|| async {
        let kernel = Kernel::open();
        kernel.veth("eth1", "far1", 1).await;
        kernel
            .set(LinkUnspec::new_with_name("far1").up().build())
            .await;
        let mut lan = fixed(Match::Mac(hardware(1)), "lan", &["192.0.2.5/24"]);
        lan.settings.mtu = Some(70_000);
        let plan = Plan {
            ethernets: vec![lan],
            ..Plan::default()
        };
        let handle = start(plan.clone());
        let mut status = handle.status();
        let now = until(&mut status, "the address", |s| has(s, "192.0.2.5/24")).await;
        assert_eq!(now.interfaces[0].state, State::Ready);
        let [problem] = &now.problems[..] else {
            panic!("{now:#?}");
        };
        assert!(
            problem.contains("set its MTU to 70000 (interface lan)"),
            "{problem}"
        );
        let mut sound = plan;
        sound.ethernets[0].settings.mtu = Some(1400);
        handle.reapply(sound).await.expect("the task runs");
        let good = |s: &Status| s.problems.is_empty() && s.interfaces[0].mtu == 1400;
        until(&mut status, "the new MTU", good).await;
    });
}

/// Two interfaces in a bond, and a VLAN on top.
fn bonded() -> Plan {
    let settings = |address: &str| Settings {
        addresses: vec![net(address)],
        ..Settings::default()
    };
    Plan {
        ethernets: vec![Ethernet {
            matches: Match::Any,
            name: None,
            settings: Settings::default(),
        }],
        bonds: vec![Bond {
            name: "bond0".into(),
            mode: BondMode::ActiveBackup,
            members: vec![name(1), name(2)],
            miimon_ms: 100,
            lacp_fast: false,
            settings: settings("192.0.2.5/24"),
        }],
        vlans: vec![Vlan {
            name: "mgmt".into(),
            parent: "bond0".into(),
            id: 40,
            settings: settings("198.51.100.5/24"),
        }],
        ..Plan::default()
    }
}

#[test]
fn bonds_and_vlans_work_or_say_which_module_is_missing() {
    in_namespace(|| async {
        let kernel = Kernel::open();
        for n in [1, 2] {
            kernel.veth(&format!("eth{n}"), &format!("far{n}"), n).await;
        }
        assert!(bonded().modules().eq(["bonding", "8021q"]));
        let handle = start(bonded());
        let mut status = handle.status();
        let first = until(&mut status, "a first look", |s| s.applied).await;
        let missing = |module: &str| {
            first
                .problems
                .iter()
                .any(|p| p.contains(&format!("load its module `{module}`")))
        };
        if missing("bonding") {
            eprintln!("bonds are not tried: this kernel has no module `bonding`");
            return;
        }
        until(&mut status, "the bond", |s| has(s, "192.0.2.5/24")).await;
        if missing("8021q") {
            eprintln!("VLANs are not tried: this kernel has no module `8021q`");
            return;
        }
        until(&mut status, "the VLAN", |s| has(s, "198.51.100.5/24")).await;
    });
}

#[test]
fn a_vlan_on_an_interface_works_or_says_which_module_is_missing() {
    in_namespace(|| async {
        let kernel = Kernel::open();
        kernel.veth("eth1", "far1", 1).await;
        let mut plan = bonded();
        plan.bonds.clear();
        plan.vlans[0].parent = name(1);
        let handle = start(plan);
        let mut status = handle.status();
        let first = until(&mut status, "a first look", |s| {
            s.applied && !s.interfaces.is_empty()
        })
        .await;
        if first
            .problems
            .iter()
            .any(|p| p.contains("load its module `8021q`"))
        {
            eprintln!("VLANs are not tried: this kernel has no module `8021q`");
            return;
        }
        until(&mut status, "the VLAN", |s| has(s, "198.51.100.5/24")).await;
    });
}
