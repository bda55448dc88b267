//! A throw-away network, and guests that are a small TCP/IP stack on the descriptor of a tap.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use network::{InterfaceFound, InterfaceSpec, NetworkManager, device_name};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use security_group::{
    Group, GroupKind, Interface as PolicyInterface, RuleSpec, VpcPolicy, compile,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use types::{InterfaceId, MacAddress, SecurityGroupId, VpcId};

/// The hardware address of the host on every tap.
pub const GATEWAY_MAC: [u8; 6] = [0xee, 0xff, 0xff, 0xff, 0xff, 0xff];
const DEADLINE: Duration = Duration::from_secs(20);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Networks under a prefix of their own, removed when dropped, also by a panic.
pub struct Net {
    pub prefix: String,
    pub manager: NetworkManager,
}

impl Net {
    pub fn new() -> Self {
        let prefix = format!(
            "nt{:x}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let manager = NetworkManager::new(&prefix).expect("a good prefix");
        Self { prefix, manager }
    }

    /// As after a restart of the daemon.
    pub fn restart(&mut self) {
        self.manager = NetworkManager::new(&self.prefix).expect("a good prefix");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let prefix = self.prefix.clone();
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let manager = NetworkManager::new(&prefix).expect("a good prefix");
                for found in manager.list().await.unwrap_or_default() {
                    if let Some(vpc) = found.vpc {
                        let _ = manager.remove_vpc(vpc).await;
                    }
                }
            });
            for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
                if entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&format!("{prefix}-"))
                {
                    let _ = nix::mount::umount(&entry.path());
                    let _ = fs::remove_file(entry.path());
                }
            }
        };
        let _ = std::thread::spawn(clean).join();
    }
}

pub fn vpc_id(n: u32) -> VpcId {
    VpcId::generate(u128::from(n))
}

pub fn interface_id(n: u8) -> InterfaceId {
    // The device's name is taken from the leading characters.
    InterfaceId::generate((u128::from(n) + 1) << 64)
}

pub fn group_id(n: u8) -> SecurityGroupId {
    SecurityGroupId::generate(u128::from(n))
}

pub fn mac(n: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, n])
}

/// Interface `n` of VPC 1: 10.7.0.n in a /24.
pub fn spec(n: u8) -> InterfaceSpec {
    let subnet: Ipv4Net = "10.7.0.0/24".parse().expect("a subnet");
    InterfaceSpec::new(
        interface_id(n),
        vpc_id(1),
        mac(n),
        Ipv4Addr::new(10, 7, 0, n),
        subnet,
    )
    .expect("a good spec")
}

/// Interfaces `members` with one basic group each of the same number; `rules` go to the given groups.
pub fn policy(members: &[u8], rules: &[(u8, RuleSpec)]) -> VpcPolicy {
    let groups = members.iter().map(|n| {
        let mut group = Group::new(group_id(*n), GroupKind::Basic);
        for (of, rule) in rules {
            if of == n {
                group.authorize(*rule).expect("a sound rule");
            }
        }
        group
    });
    let interfaces = members.iter().map(|n| PolicyInterface {
        id: interface_id(*n),
        device: Some(device_name(interface_id(*n))),
        mac: mac(*n),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 7, 0, *n))],
        groups: vec![group_id(*n)],
        smtp_open: false,
    });
    VpcPolicy {
        groups: groups.collect(),
        interfaces: interfaces.collect(),
    }
}

/// Makes VPC 1 with interfaces and brings them up under a policy; their taps.
pub async fn raise(net: &Net, members: &[u8], policy: &VpcPolicy) -> Vec<OwnedFd> {
    net.manager
        .ensure_vpc(vpc_id(1))
        .await
        .expect("make the VPC");
    let mut taps = Vec::new();
    for n in members {
        match net
            .manager
            .ensure_interface(&spec(*n))
            .await
            .expect("make the interface")
        {
            InterfaceFound::Made(fd) => taps.push(fd),
            InterfaceFound::InUse => panic!("nobody uses it yet"),
        }
    }
    net.manager
        .apply_ruleset(vpc_id(1), &compile(policy).expect("a sound policy"))
        .await
        .expect("apply");
    for n in members {
        net.manager
            .activate(vpc_id(1), interface_id(*n))
            .await
            .expect("activate");
    }
    taps
}

/// A guest.
pub struct Guest {
    pub tap: Tap,
    pub stack: Interface,
    pub sockets: SocketSet<'static>,
    pub dhcp: Option<SocketHandle>,
    begun: Instant,
}

/// Frames with a virtio-net header in front, as the vmm sees them.
pub struct Tap {
    file: Rc<File>,
    /// Every frame received, without the header.
    pub seen: Vec<Vec<u8>>,
}

impl Guest {
    /// With no address yet.
    pub fn new(fd: OwnedFd, mac: MacAddress) -> Self {
        let mut tap = Tap {
            file: Rc::new(File::from(fd)),
            seen: Vec::new(),
        };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.octets())));
        let stack = Interface::new(config, &mut tap, StackInstant::ZERO);
        Self {
            tap,
            stack,
            sockets: SocketSet::new(Vec::new()),
            dhcp: None,
            begun: Instant::now(),
        }
    }

    /// With the address 10.7.0.n/24, and no route but that.
    pub fn with_address(fd: OwnedFd, n: u8) -> Self {
        let mut guest = Self::new(fd, mac(n));
        guest.stack.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(Ipv4Addr::new(10, 7, 0, n).into(), 24))
                .expect("room for an address");
        });
        guest
    }

    pub fn ask_for_address(&mut self) {
        self.dhcp = Some(self.sockets.add(dhcpv4::Socket::new()));
    }

    pub fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.socket();
        self.tcp(handle).listen(port).expect("listen");
        handle
    }

    pub fn connect(&mut self, to: [u8; 4], port: u16, from_port: u16) -> SocketHandle {
        let handle = self.socket();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let remote = (smoltcp::wire::IpAddress::Ipv4(to.into()), port);
        socket
            .connect(self.stack.context(), remote, from_port)
            .expect("connect");
        handle
    }

    /// Sends a frame as it is.
    pub fn inject(&self, frame: &[u8]) {
        self.tap.write(frame);
    }

    pub fn poll(&mut self) {
        let now = StackInstant::from_micros(
            i64::try_from(self.begun.elapsed().as_micros()).expect("a short test"),
        );
        self.stack.poll(now, &mut self.tap, &mut self.sockets);
    }

    /// The payloads of UDP datagrams received so far on the test's port.
    pub fn payloads(&self) -> BTreeSet<String> {
        let payload = |frame: &Vec<u8>| {
            let udp = frame.get(12..14)? == [8, 0]
                && frame.get(23)? == &17
                && frame.get(36..38)? == PORT.to_be_bytes();
            udp.then(|| {
                String::from_utf8_lossy(&frame[42..])
                    .trim_end_matches('\0')
                    .to_owned()
            })
        };
        self.tap.seen.iter().filter_map(payload).collect()
    }
}

impl Tap {
    fn write(&self, frame: &[u8]) {
        let with_header = [&[0; 12][..], frame].concat();
        // A tap that is down or gone refuses frames, as a cut cable would swallow them.
        let _ = (&*self.file).write(&with_header);
    }
}

/// Runs the guests until `done`.
pub fn until(guests: &mut [Guest], what: &str, mut done: impl FnMut(&mut [Guest]) -> bool) {
    tokio::task::block_in_place(|| {
        let deadline = Instant::now() + DEADLINE;
        loop {
            guests.iter_mut().for_each(Guest::poll);
            if done(guests) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
            let mut fds: Vec<_> = guests
                .iter()
                .map(|g| PollFd::new(g.tap.file.as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut fds, PollTimeout::from(10_u8)).expect("poll");
        }
    });
}

/// The port of datagrams made by [`datagram`].
pub const PORT: u16 = 4242;

/// An Ethernet frame to the gateway with a UDP datagram to [`PORT`].
pub fn datagram(from_mac: MacAddress, from: [u8; 4], to: [u8; 4], payload: &str) -> Vec<u8> {
    udp(from_mac, from, to, (1024, PORT), payload)
}

/// An Ethernet frame to the gateway with a UDP datagram.
pub fn udp(
    from_mac: MacAddress,
    from: [u8; 4],
    to: [u8; 4],
    ports: (u16, u16),
    payload: &str,
) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len())
        .expect("short")
        .to_be_bytes();
    let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    let body = [&ports, &length[..], &[0, 0], payload.as_bytes()].concat();
    ip_frame(from_mac, from, to, 17, &body)
}

/// An Ethernet frame to the gateway with the first segment of a TCP connection.
pub fn syn(from_mac: MacAddress, from: [u8; 4], to: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 16, 0, 0, 0, 0, 0]);
    let length = u16::try_from(segment.len()).expect("short").to_be_bytes();
    let pseudo = [&from[..], &to, &[0, 6], &length, &segment].concat();
    segment[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    ip_frame(from_mac, from, to, 6, &segment)
}

/// An Ethernet frame to the gateway with an ICMP echo request.
pub fn echo_request(from_mac: MacAddress, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut message = [8, 0, 0, 0, 0, 7, 0, 1];
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ip_frame(from_mac, from, to, 1, &message)
}

fn ip_frame(
    from_mac: MacAddress,
    from: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    body: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(20 + body.len()).expect("short").to_be_bytes();
    let mut header = [
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ]
    .to_vec();
    header.extend(from);
    header.extend(to);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&GATEWAY_MAC[..], &from_mac.octets(), &[8, 0], &header, body].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(0xffff - sum).expect("16 bits")
}

impl Device for Tap {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending;

    fn receive(&mut self, _: StackInstant) -> Option<(Received, Sending)> {
        let mut buffer = vec![0; 2048];
        let length = (&*self.file)
            .read(&mut buffer)
            .ok()
            .filter(|length| *length >= 12)?;
        let frame = buffer[12..length].to_vec();
        self.seen.push(frame.clone());
        Some((Received(frame), Sending(self.file.clone())))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Sending> {
        Some(Sending(self.file.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

pub struct Sending(Rc<File>);

impl TxToken for Sending {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let mut frame = vec![0; 12 + length];
        let result = work(&mut frame[12..]);
        let _ = (&*self.0).write(&frame);
        result
    }
}
