//! Real packets through real taps in throw-away network namespaces. Needs root and /dev/net/tun;
//! the ip and nft tools meddle as an administrator would.

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use common::{
    GATEWAY_MAC, Guest, Net, datagram, group_id, interface_id, mac, policy, raise, spec, syn,
    until, vpc_id,
};
use network::{
    Error, Found, InterfaceFound, InterfaceSpec, NetworkManager, device_name, gateway_of,
};
use security_group::{
    Direction, Peer, PortRange, Protocol, RulePolicy, RuleSpec, VpcPolicy, compile,
};
use smoltcp::socket::{dhcpv4, tcp};
use types::{InterfaceId, VpcId};

const A: [u8; 4] = [10, 7, 0, 1];
const B: [u8; 4] = [10, 7, 0, 2];

fn allow(protocol: Protocol, port: u16, peer: &str) -> RuleSpec {
    RuleSpec {
        direction: Direction::Ingress,
        priority: 1,
        policy: RulePolicy::Accept,
        protocol,
        ports: protocol.has_ports().then_some(PortRange {
            first: port,
            last: port,
        }),
        source_ports: None,
        peer: peer.parse().expect("a peer"),
    }
}

/// Runs a command inside the namespace of VPC 1 as an administrator would.
fn by_hand(net: &Net, command: &str) -> String {
    let namespace = net.manager.namespace_name(vpc_id(1));
    let arguments = ["netns", "exec", &namespace]
        .into_iter()
        .chain(command.split(' '));
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_gets_its_lease() {
    let net = Net::new();
    net.manager
        .ensure_vpc(vpc_id(1))
        .await
        .expect("make the VPC");
    let dns = vec![Ipv4Addr::new(100, 100, 2, 136)];
    let spec = InterfaceSpec {
        dns: dns.clone(),
        hostname: Some("i-test".into()),
        mtu: 1400,
        ..spec(5)
    };
    let InterfaceFound::Made(tap) = net.manager.ensure_interface(&spec).await.expect("make") else {
        panic!("in use")
    };
    net.manager
        .apply_ruleset(vpc_id(1), &compile(&policy(&[5], &[])).expect("sound"))
        .await
        .expect("apply");
    net.manager
        .activate(vpc_id(1), spec.id)
        .await
        .expect("activate");
    let mut guests = [Guest::new(tap, spec.mac)];
    guests[0].ask_for_address();
    let mut lease = None;
    until(&mut guests, "a lease", |guests| {
        let socket = guests[0].dhcp.expect("it asked");
        let event = guests[0].sockets.get_mut::<dhcpv4::Socket>(socket).poll();
        if let Some(dhcpv4::Event::Configured(config)) = event {
            lease = Some((
                config.address.to_string(),
                config.router,
                config.dns_servers.to_vec(),
            ));
        }
        lease.is_some()
    });
    assert_eq!(
        lease,
        Some((
            "10.7.0.5/24".into(),
            Some(Ipv4Addr::new(10, 7, 0, 253)),
            dns
        ))
    );
    let count = by_hand(&net, "cat /proc/sys/net/netfilter/nf_conntrack_count");
    assert_eq!(
        count.trim(),
        "0",
        "asking for an address is followed as a connection"
    );
    assert!(
        guests[0]
            .tap
            .seen
            .iter()
            .all(|frame| frame[6..12] == GATEWAY_MAC),
        "only the host speaks to a guest"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_decide_what_reaches_a_neighbour_and_established_connections_outlive_them() {
    let net = Net::new();
    let rules = |list: &[(u8, RuleSpec)]| compile(&policy(&[1, 2], list)).expect("a sound policy");
    let marker = (2, allow(Protocol::Udp, common::PORT, "10.7.0.1"));
    let web = (2, allow(Protocol::Tcp, 80, "10.7.0.0/24"));
    let taps = raise(&net, &[1, 2], &policy(&[1, 2], &[marker, web])).await;
    let [a, b] = <[_; 2]>::try_from(taps).expect("two taps");
    let mut guests = [Guest::with_address(a, 1), Guest::with_address(b, 2)];

    // The guests believe to share a /24: the host answers ARP for the neighbour.
    let server = guests[1].listen(80);
    let client = guests[0].connect(B, 80, 50_001);
    until(&mut guests, "a connection to the open port", |g| {
        g[0].tcp(client).may_send() && g[1].tcp(server).may_send()
    });

    // A closed port: the packet vanishes. The datagram behind it comes through, so the packet would have, too.
    guests[0].inject(&syn(mac(1), A, B, (50_002, 81)));
    guests[0].inject(&datagram(mac(1), A, B, "after the closed port"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("after the closed port")
    });
    assert!(!saw_syn(&guests[1], 81), "port 81 is closed");

    // The port opens.
    let opened = rules(&[marker, web, (2, allow(Protocol::Tcp, 81, "10.7.0.1"))]);
    net.manager
        .apply_ruleset(vpc_id(1), &opened)
        .await
        .expect("apply");
    guests[0].inject(&syn(mac(1), A, B, (50_003, 81)));
    until(&mut guests, "port 81 to be open", |g| saw_syn(&g[1], 81));

    // All TCP rules go: the connection goes on, no new one begins.
    net.manager
        .apply_ruleset(vpc_id(1), &rules(&[marker]))
        .await
        .expect("apply");
    guests[0]
        .tcp(client)
        .send_slice(b"still there?")
        .expect("send");
    let mut received = Vec::new();
    until(&mut guests, "data on the old connection", |g| {
        let socket = g[1].tcp(server);
        let _ = socket.recv(|data| (data.len(), received.extend_from_slice(data)));
        received == b"still there?"
    });
    guests[1].tcp(server).send_slice(b"yes").expect("send");
    until(&mut guests, "the answer", |g| {
        g[0].tcp(client).recv_queue() == 3
    });
    guests[1].tap.seen.clear();
    guests[0].inject(&syn(mac(1), A, B, (50_004, 80)));
    guests[0].inject(&datagram(mac(1), A, B, "after the change"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("after the change")
    });
    assert!(!saw_syn(&guests[1], 80), "no new connection");
    assert_eq!(guests[0].tcp(client).state(), tcp::State::Established);
}

fn saw_syn(guest: &Guest, port: u16) -> bool {
    let is_syn = |f: &Vec<u8>| {
        f.len() >= 54
            && f[12..14] == [8, 0]
            && f[23] == 6
            && f[36..38] == port.to_be_bytes()
            && f[47] & 0x12 == 2
    };
    guest.tap.seen.iter().any(is_syn)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sends_as_another() {
    let net = Net::new();
    let open = (2, allow(Protocol::Udp, common::PORT, "0.0.0.0/0"));
    let taps = raise(&net, &[1, 2, 3], &policy(&[1, 2, 3], &[open])).await;
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .zip(1..)
        .map(|(tap, n)| Guest::with_address(tap, n))
        .collect();
    guests[0].inject(&datagram(mac(1), [10, 7, 0, 3], B, "address of guest 3"));
    guests[0].inject(&datagram(mac(1), [10, 7, 0, 99], B, "address of nobody"));
    guests[0].inject(&datagram(
        mac(1),
        [192, 0, 2, 1],
        B,
        "address from elsewhere",
    ));
    guests[0].inject(&datagram(
        mac(1),
        [10, 7, 0, 253],
        B,
        "address of the gateway",
    ));
    guests[0].inject(&datagram(mac(1), [0, 0, 0, 0], B, "no address"));
    guests[0].inject(&datagram(mac(3), A, B, "hardware address of guest 3"));
    guests[0].inject(&datagram(mac(77), A, B, "hardware address of nobody"));
    guests[0].inject(&datagram(mac(1), A, B, "itself"));
    until(&mut guests, "the honest datagram", |g| {
        g[1].payloads().contains("itself")
    });
    assert_eq!(
        guests[1].payloads().into_iter().collect::<Vec<_>>(),
        ["itself"]
    );
}

/// Guest 2 answers guest 1 once; then its interface goes, and the next one has its address but lets nobody in.
async fn an_address_is_used_again(restart: bool) {
    let mut net = Net::new();
    let open = (2, allow(Protocol::Udp, common::PORT, "10.7.0.1"));
    let also_open = (2, allow(Protocol::Udp, 9, "10.7.0.1"));
    let taps = raise(&net, &[1, 2], &policy(&[1, 2], &[open])).await;
    let [a, b] = <[_; 2]>::try_from(taps).expect("two taps");
    let mut guests = [Guest::new(a, mac(1)), Guest::new(b, mac(2))];
    guests[0].inject(&datagram(mac(1), A, B, "to the first owner"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("to the first owner")
    });
    guests[1].inject(&common::udp(mac(2), B, A, (common::PORT, 1024), "answer"));
    let answered =
        |f: &Vec<u8>| f[12..14] == [8, 0] && f[23] == 17 && f[36..38] == 1024_u16.to_be_bytes();
    until(&mut guests, "the answer", |g| {
        g[0].tap.seen.iter().any(answered)
    });
    if restart {
        net.restart();
    }
    assert!(
        net.manager
            .remove_interface(vpc_id(1), interface_id(2))
            .await
            .expect("remove")
    );
    let [first, _] = guests;
    let again = raise_one(&net, 2, &policy(&[1, 2], &[also_open])).await;
    let mut guests = [first, Guest::new(again, mac(2))];
    guests[0].inject(&datagram(mac(1), A, B, "to the next owner"));
    guests[0].inject(&common::udp(mac(1), A, B, (1025, 9), "marker"));
    let marker = |f: &Vec<u8>| f[12..14] == [8, 0] && f[36..38] == 9_u16.to_be_bytes();
    until(&mut guests, "the marker", |g| {
        g[1].tap.seen.iter().any(marker)
    });
    assert!(
        guests[1].payloads().is_empty(),
        "the next owner inherited a connection"
    );
}

async fn raise_one(net: &Net, n: u8, policy: &VpcPolicy) -> OwnedFd {
    let InterfaceFound::Made(tap) = net.manager.ensure_interface(&spec(n)).await.expect("make")
    else {
        panic!("nobody uses it yet")
    };
    net.manager
        .apply_ruleset(vpc_id(1), &compile(policy).expect("sound"))
        .await
        .expect("apply");
    net.manager
        .activate(vpc_id(1), interface_id(n))
        .await
        .expect("activate");
    tap
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_do_not_pass_to_the_next_owner_of_an_address() {
    an_address_is_used_again(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_do_not_pass_on_across_a_restart_either() {
    an_address_is_used_again(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_answers_ping_and_nothing_else() {
    let net = Net::new();
    let taps = raise(&net, &[1], &policy(&[1], &[])).await;
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .map(|tap| Guest::with_address(tap, 1))
        .collect();
    let gateway = [10, 7, 0, 253];
    let is_ipv4 = |frame: &&Vec<u8>, protocol: u8| frame[12..14] == [8, 0] && frame[23] == protocol;
    // The host would refuse a connection with a reset and a datagram with an ICMP error, if they reached it.
    guests[0].inject(&syn(mac(1), A, gateway, (50_000, 22)));
    guests[0].inject(&datagram(mac(1), A, gateway, "hello?"));
    guests[0].inject(&common::echo_request(mac(1), A, gateway));
    until(&mut guests, "an echo reply", |g| {
        g[0].tap.seen.iter().any(|f| is_ipv4(&f, 1) && f[34] == 0)
    });
    let others = guests[0]
        .tap
        .seen
        .iter()
        .filter(|f| is_ipv4(f, 6) || (is_ipv4(f, 1) && f[34] != 0))
        .count();
    assert_eq!(others, 0);
}

/// Prints what a network costs an instance, and bounds it where only a broken design would end up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_is_cheap() {
    const ROUNDS: u32 = 10;
    let net = Net::new();
    let _first = raise(&net, &[1], &policy(&[1], &[])).await;
    let rules = |members: &[u8]| compile(&policy(members, &[])).expect("a sound policy");
    let (with, without) = (rules(&[1, 2]), rules(&[1]));
    let cpu = || {
        let clock = |who| nix::sys::resource::getrusage(who).expect("read the usage");
        let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
        [
            nix::sys::resource::UsageWho::RUSAGE_SELF,
            nix::sys::resource::UsageWho::RUSAGE_CHILDREN,
        ]
        .map(clock)
        .iter()
        .map(|usage| micros(usage.user_time()) + micros(usage.system_time()))
        .sum::<i64>()
    };
    let (before, begun) = (cpu(), std::time::Instant::now());
    for _ in 0..ROUNDS {
        let tap = net.manager.ensure_interface(&spec(2)).await.expect("make");
        net.manager
            .apply_ruleset(vpc_id(1), &with)
            .await
            .expect("apply");
        net.manager
            .activate(vpc_id(1), interface_id(2))
            .await
            .expect("activate");
        net.manager
            .remove_interface(vpc_id(1), interface_id(2))
            .await
            .expect("remove");
        net.manager
            .apply_ruleset(vpc_id(1), &without)
            .await
            .expect("apply");
        drop(tap);
    }
    let wall = begun.elapsed() / ROUNDS;
    println!(
        "an interface made and removed: {} µs CPU (other tests included), {wall:?}",
        (cpu() - before) / i64::from(ROUNDS)
    );
    assert!(wall < std::time::Duration::from_secs(1), "{wall:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arp_cannot_redirect_a_neighbour() {
    let net = Net::new();
    let open = (2, allow(Protocol::Udp, common::PORT, "0.0.0.0/0"));
    let taps = raise(&net, &[1, 2, 3], &policy(&[1, 2, 3], &[open])).await;
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .zip(1..)
        .map(|(tap, n)| Guest::with_address(tap, n))
        .collect();
    // Guest 3 claims guest 2's address, as an answer and as an announcement.
    for operation in [1_u8, 2] {
        let mut frame = [
            &[0xff; 6][..],
            &mac(3).octets(),
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        ]
        .concat();
        frame.extend(mac(3).octets());
        frame.extend(B);
        frame.extend(GATEWAY_MAC);
        frame.extend(B);
        guests[2].inject(&frame);
    }
    guests[0].inject(&datagram(mac(1), A, B, "for guest 2"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("for guest 2")
    });
    assert!(guests[2].payloads().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_daemon_finds_everything_and_interrupts_nothing() {
    let mut net = Net::new();
    let web = (2, allow(Protocol::Tcp, 80, "10.7.0.0/24"));
    let rules = policy(&[1, 2], &[web]);
    let taps = raise(&net, &[1, 2], &rules).await;
    let [a, b] = <[_; 2]>::try_from(taps).expect("two taps");
    let mut guests = [Guest::with_address(a, 1), Guest::with_address(b, 2)];
    let server = guests[1].listen(80);
    let client = guests[0].connect(B, 80, 50_001);
    until(&mut guests, "a connection", |g| {
        g[0].tcp(client).may_send() && g[1].tcp(server).may_send()
    });

    net.restart();
    guests[0]
        .tcp(client)
        .send_slice(b"nobody home")
        .expect("send");
    until(&mut guests, "data while no daemon is there", |g| {
        g[1].tcp(server).recv_queue() == 11
    });
    let list = net.manager.list().await.expect("list");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].vpc, Some(vpc_id(1)));
    assert_eq!(list[0].interfaces, [interface_id(1), interface_id(2)]);
    assert!(list[0].strangers.is_empty());

    assert_eq!(
        net.manager
            .ensure_vpc(vpc_id(1))
            .await
            .expect("find the VPC"),
        Found::Present
    );
    for n in [1, 2] {
        let found = net
            .manager
            .ensure_interface(&spec(n))
            .await
            .expect("find the interface");
        assert!(
            matches!(found, InterfaceFound::InUse),
            "the tap of a living vmm was made anew"
        );
    }
    let change = net
        .manager
        .apply_ruleset(vpc_id(1), &compile(&rules).expect("sound"))
        .await
        .expect("apply");
    assert_eq!(change, nft::Change::Unchanged);
    for n in [1, 2] {
        net.manager
            .activate(vpc_id(1), interface_id(n))
            .await
            .expect("activate");
    }
    guests[0].tcp(client).send_slice(b"!").expect("send");
    until(&mut guests, "data after the restart", |g| {
        g[1].tcp(server).recv_queue() == 12
    });
    guests[0].ask_for_address();
    until(&mut guests, "DHCP after the restart", |g| {
        let socket = g[0].dhcp.expect("it asked");
        matches!(
            g[0].sockets.get_mut::<dhcpv4::Socket>(socket).poll(),
            Some(dhcpv4::Event::Configured(_))
        )
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_comes_up_only_under_a_ruleset() {
    let net = Net::new();
    net.manager
        .ensure_vpc(vpc_id(1))
        .await
        .expect("make the VPC");
    let tap = net
        .manager
        .ensure_interface(&spec(1))
        .await
        .expect("make the interface");
    let refused = net.manager.activate(vpc_id(1), interface_id(1)).await;
    assert!(
        matches!(refused, Err(Error::NoRuleset { .. })),
        "{refused:?}"
    );
    let device = device_name(interface_id(1));
    assert!(by_hand(&net, &format!("ip link show {device}")).contains("state DOWN"));
    let rules = compile(&policy(&[1, 2], &[])).expect("sound");
    net.manager
        .apply_ruleset(vpc_id(1), &rules)
        .await
        .expect("apply");
    let refused = net.manager.activate(vpc_id(1), interface_id(2)).await;
    assert!(
        matches!(refused, Err(Error::NotPrepared { .. })),
        "{refused:?}"
    );
    net.manager
        .activate(vpc_id(1), interface_id(1))
        .await
        .expect("activate");
    assert!(by_hand(&net, &format!("ip link show {device}")).contains(",UP,"));
    // Nobody removes the rules unseen.
    by_hand(&net, "nft flush ruleset");
    assert!(net.manager.verify_ruleset(vpc_id(1)).await.expect("verify") != nft::Change::Unchanged);
    assert_eq!(
        net.manager.verify_ruleset(vpc_id(1)).await.expect("verify"),
        nft::Change::Unchanged
    );
    // A tap that nobody holds is no more.
    drop(tap);
    let refused = net.manager.activate(vpc_id(1), interface_id(1)).await;
    assert!(
        matches!(refused, Err(Error::NotPrepared { .. })),
        "{refused:?}"
    );
    let made = net
        .manager
        .ensure_interface(&spec(1))
        .await
        .expect("make it again");
    assert!(matches!(made, InterfaceFound::Made(_)));
    net.manager
        .activate(vpc_id(1), interface_id(1))
        .await
        .expect("activate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vpcs_with_the_same_addresses_do_not_meet() {
    let net = Net::new();
    let open = |n| (n, allow(Protocol::Udp, common::PORT, "0.0.0.0/0"));
    let taps = raise(&net, &[1, 2], &policy(&[1, 2], &[open(1), open(2)])).await;
    let other = InterfaceSpec {
        vpc: vpc_id(2),
        ..spec(2)
    };
    net.manager
        .ensure_vpc(vpc_id(2))
        .await
        .expect("make the VPC");
    let InterfaceFound::Made(tap) = net.manager.ensure_interface(&other).await.expect("make")
    else {
        panic!("in use")
    };
    net.manager
        .apply_ruleset(
            vpc_id(2),
            &compile(&policy(&[2], &[open(2)])).expect("sound"),
        )
        .await
        .expect("apply");
    net.manager
        .activate(vpc_id(2), other.id)
        .await
        .expect("activate");
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .chain([tap])
        .zip([1, 2, 2])
        .map(|(t, n)| Guest::with_address(t, n))
        .collect();
    guests[0].inject(&datagram(mac(1), A, B, "in VPC 1"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("in VPC 1")
    });
    assert!(guests[2].payloads().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_leaves_nothing_also_under_a_running_vmm() {
    let mut net = Net::new();
    let taps = raise(&net, &[1, 2], &policy(&[1, 2], &[])).await;
    assert!(
        net.manager
            .remove_interface(vpc_id(1), interface_id(1))
            .await
            .expect("remove")
    );
    assert!(
        !net.manager
            .remove_interface(vpc_id(1), interface_id(1))
            .await
            .expect("remove again")
    );
    assert_eq!(
        net.manager.list().await.expect("list")[0].interfaces,
        [interface_id(2)]
    );
    net.restart();
    assert!(net.manager.remove_vpc(vpc_id(1)).await.expect("remove"));
    assert!(
        !net.manager
            .remove_vpc(vpc_id(1))
            .await
            .expect("remove again")
    );
    assert!(
        !net.manager
            .remove_interface(vpc_id(1), interface_id(2))
            .await
            .expect("gone with its VPC")
    );
    assert_eq!(net.manager.list().await.expect("list"), []);
    assert!(
        !Path::new("/run/netns")
            .join(net.manager.namespace_name(vpc_id(1)))
            .exists()
    );
    drop(taps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_somebody_deleted_comes_back() {
    let mut net = Net::new();
    let web = (2, allow(Protocol::Udp, common::PORT, "0.0.0.0/0"));
    let taps = raise(&net, &[1, 2], &policy(&[1, 2], &[web])).await;
    let name = net.manager.namespace_name(vpc_id(1));
    let delete = || {
        assert!(
            Command::new("ip")
                .args(["netns", "del", &name])
                .status()
                .expect("run ip")
                .success()
        )
    };
    delete();
    // The daemon still has it open: its file comes back, and the guests never noticed.
    assert_eq!(
        net.manager.ensure_vpc(vpc_id(1)).await.expect("repair"),
        Found::Made
    );
    assert_eq!(
        net.manager.ensure_vpc(vpc_id(1)).await.expect("find"),
        Found::Present
    );
    let mut guests: Vec<Guest> = taps
        .into_iter()
        .zip(1..)
        .map(|(tap, n)| Guest::with_address(tap, n))
        .collect();
    guests[0].inject(&datagram(mac(1), A, B, "through"));
    until(&mut guests, "the datagram", |g| {
        g[1].payloads().contains("through")
    });
    // A new daemon cannot know it: the VPC is made anew.
    delete();
    net.restart();
    let gone = net
        .manager
        .ensure_interface(&spec(1))
        .await
        .expect_err("gone");
    assert!(
        matches!(gone, Error::NamespaceGone { .. }) && gone.to_string().contains(&name),
        "{gone}"
    );
    assert_eq!(
        net.manager.ensure_vpc(vpc_id(1)).await.expect("make"),
        Found::Made
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_taken_are_named_and_left_alone() {
    let net = Net::new();
    let file = Path::new("/run/netns").join(net.manager.namespace_name(vpc_id(1)));
    fs::create_dir_all("/run/netns").expect("make the folder");
    fs::write(&file, "precious").expect("write");
    let taken = net.manager.ensure_vpc(vpc_id(1)).await.expect_err("taken");
    assert!(matches!(taken, Error::NameTaken { .. }), "{taken}");
    assert_eq!(fs::read(&file).expect("read"), b"precious");
    // An empty file is what a maker leaves that dies half-way.
    fs::write(&file, "").expect("write");
    assert_eq!(
        net.manager.ensure_vpc(vpc_id(1)).await.expect("make"),
        Found::Made
    );

    let device = device_name(interface_id(1));
    by_hand(&net, &format!("ip tuntap add mode tun name {device}"));
    let taken = net
        .manager
        .ensure_interface(&spec(1))
        .await
        .expect_err("taken");
    assert!(
        matches!(taken, Error::DeviceTaken { .. }) && taken.to_string().contains(&device),
        "{taken}"
    );
    by_hand(&net, &format!("ip link del {device}"));
    by_hand(&net, "ip tuntap add mode tap name stranger");
    assert_eq!(
        net.manager.list().await.expect("list")[0].strangers,
        ["stranger"]
    );
}

#[tokio::test]
async fn addresses_that_cannot_be_are_refused() {
    let net = Net::new();
    assert_eq!(
        gateway_of("10.0.0.0/24".parse().expect("a net")).ok(),
        Some(Ipv4Addr::new(10, 0, 0, 253))
    );
    assert_eq!(
        gateway_of("10.0.0.8/29".parse().expect("a net")).ok(),
        Some(Ipv4Addr::new(10, 0, 0, 13))
    );
    for small in ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32"] {
        let error = gateway_of(small.parse().expect("a net")).expect_err(small);
        assert!(matches!(error, Error::SubnetTooSmall { .. }), "{error}");
    }
    for address in [
        [10, 7, 0, 0],
        [10, 7, 0, 255],
        [10, 7, 0, 253],
        [10, 7, 1, 1],
    ] {
        let bad = InterfaceSpec {
            address: address.into(),
            ..spec(1)
        };
        let error = net
            .manager
            .ensure_interface(&bad)
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::Address { .. }), "{error}");
    }
    let bad = InterfaceSpec {
        mtu: 100,
        ..spec(1)
    };
    assert!(matches!(
        net.manager.ensure_interface(&bad).await,
        Err(Error::Mtu { mtu: 100 })
    ));
    for prefix in ["", "Ash", "a/b", "seventeen-letters"] {
        assert!(
            matches!(NetworkManager::new(prefix), Err(Error::Prefix { .. })),
            "{prefix:?}"
        );
    }
    let names: Vec<_> = (0..100_u8)
        .map(|n| device_name(InterfaceId::generate(u128::from(n) << 80)))
        .collect();
    assert!(names.iter().all(|name| name.len() == 15));
    assert_eq!(VpcId::generate(1).body().len() + "ash-".len(), 21);
}

/// In a mount namespace of its own, where /dev/net is empty.
#[test]
fn a_host_without_taps_is_told_what_to_load() {
    let net = Net::new();
    let work = || {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).expect("detach");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            net.manager
                .ensure_vpc(vpc_id(1))
                .await
                .expect("make the VPC");
            mount(
                Some("none"),
                "/dev/net",
                Some("tmpfs"),
                MsFlags::empty(),
                none,
            )
            .expect("hide /dev/net/tun");
            let error = net
                .manager
                .ensure_interface(&spec(1))
                .await
                .expect_err("no taps");
            assert!(
                matches!(error, Error::NoTun { .. }) && error.to_string().contains("module `tun`"),
                "{error}"
            );
        });
    };
    std::thread::scope(|scope| scope.spawn(work).join()).expect("the thread ends well");
}

#[test]
fn groups_and_peers_of_the_tests_are_what_they_seem() {
    assert_eq!(
        group_id(2).to_string().parse(),
        Ok(Peer::Group(group_id(2)))
    );
    assert_ne!(device_name(interface_id(1)), device_name(interface_id(2)));
}
