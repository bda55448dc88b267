//! Throw-away network namespaces joined by veth pairs, and a DHCP server in one of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{LinkUnspec, LinkVeth};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};
use uplink::{Options, Plan, Status, Uplink};

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Runs a test on a thread in a network namespace of its own, on a runtime of one thread.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE * 2, test())
                .await
                .expect("the test is hung")
        });
    };
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Speaks rtnetlink in the namespace of its thread.
pub struct Kernel {
    pub handle: rtnetlink::Handle,
}

impl Kernel {
    pub fn open() -> Self {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        Self { handle }
    }

    pub async fn links(&self) -> BTreeMap<String, LinkMessage> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .expect("list links");
        let name = |l: &LinkMessage| {
            l.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })
        };
        links
            .into_iter()
            .filter_map(|l| Some((name(&l)?, l)))
            .collect()
    }

    pub async fn addresses(&self, index: u32) -> Vec<IpNet> {
        let get = self.handle.address().get().set_link_index_filter(index);
        let all: Vec<AddressMessage> = get.execute().try_collect().await.expect("list addresses");
        let net = |m: &AddressMessage| {
            m.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => IpNet::new(*ip, m.header.prefix_len).ok(),
                _ => None,
            })
        };
        all.iter().filter_map(net).collect()
    }

    pub async fn set(&self, link: LinkMessage) {
        self.handle
            .link()
            .set(link)
            .execute()
            .await
            .expect("change a link");
    }

    /// A veth pair: `name` here, with a hardware address that ends in `mac`, and `peer` here too.
    pub async fn veth(&self, name: &str, peer: &str, mac: u8) {
        let pair = LinkVeth::new(name, peer)
            .address(hardware(mac).to_vec())
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .expect("make a veth pair");
    }

    pub async fn give(&self, device: &str, to: &OwnedFd) {
        self.set(
            LinkUnspec::new_with_name(device)
                .setns_by_fd(to.as_raw_fd())
                .build(),
        )
        .await;
    }
}

pub fn hardware(last: u8) -> [u8; 6] {
    [2, 0x55, 0, 0, 0, last]
}

/// The name an interface without a place has.
pub fn name(last: u8) -> String {
    format!("enx0255000000{last:02x}")
}

pub fn start(plan: Plan) -> uplink::Handle {
    let options = Options {
        resolv_conf: None,
        veth: true,
        ..Options::default()
    };
    Uplink::start(plan, options).expect("start")
}

/// Waits for a status.
pub async fn until(
    status: &mut watch::Receiver<Status>,
    what: &str,
    good: impl FnMut(&Status) -> bool,
) -> Status {
    let found = tokio::time::timeout(DEADLINE, status.wait_for(good)).await;
    let found = found
        .ok()
        .map(|found| found.expect("the task runs").clone());
    found.unwrap_or_else(|| panic!("{what}: not within {DEADLINE:?}: {:#?}", status.borrow()))
}

/// What the server does; may be changed at any time.
#[derive(Debug, Clone)]
pub struct Policy {
    pub address: Ipv4Addr,
    pub lease_s: u32,
    pub options: Vec<DhcpOption>,
    pub silent: bool,
    pub refuse: bool,
    /// Whether its end of the link is up.
    pub link: bool,
    /// A broken datagram is sent before every reply.
    pub noise: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(10, 77, 0, 9),
            lease_s: 3600,
            options: vec![
                DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
                DhcpOption::Router(vec![SERVER]),
                DhcpOption::DomainNameServer(vec![SERVER]),
                DhcpOption::DomainName("lab.example".into()),
                DhcpOption::InterfaceMtu(1400),
                DhcpOption::NtpServers(vec![SERVER]),
            ],
            silent: false,
            refuse: false,
            link: true,
            noise: false,
        }
    }
}

/// A DHCP server in a namespace of its own, at the other end of a veth pair.
pub struct Server {
    pub policy: Arc<Mutex<Policy>>,
    /// What clients asked, in order.
    pub heard: mpsc::UnboundedReceiver<(MessageType, Message)>,
    pub namespace: OwnedFd,
    ready: Option<std::sync::mpsc::Sender<()>>,
}

impl Server {
    /// The namespace; [`Self::serve`] begins when the device was given to it.
    pub fn new(policy: Policy, device: &str) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let (send, namespace) = std::sync::mpsc::channel();
        let (ready, go) = std::sync::mpsc::channel::<()>();
        let policy = Arc::new(Mutex::new(policy));
        let (shared, device) = (policy.clone(), device.to_owned());
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let file = File::open("/proc/thread-self/ns/net").expect("the namespace");
            send.send(OwnedFd::from(file)).expect("the test waits");
            if go.recv().is_err() {
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(run(&device, &shared, &tell));
        });
        let namespace = namespace.recv().expect("a namespace");
        Self {
            policy,
            heard,
            namespace,
            ready: Some(ready),
        }
    }

    pub fn serve(&mut self) {
        self.ready
            .take()
            .expect("once")
            .send(())
            .expect("the server waits");
    }

    pub fn change(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy.lock().expect("no panic"));
    }

    /// The next request of a kind.
    pub async fn hears(&mut self, kind: MessageType) -> Message {
        let next = async {
            loop {
                let (is, message) = self.heard.recv().await.expect("the server runs");
                if is == kind {
                    return message;
                }
            }
        };
        tokio::time::timeout(DEADLINE, next)
            .await
            .expect("a request in time")
    }
}

async fn run(
    device: &str,
    policy: &Mutex<Policy>,
    tell: &mpsc::UnboundedSender<(MessageType, Message)>,
) {
    let kernel = Kernel::open();
    kernel
        .set(LinkUnspec::new_with_name(device).up().build())
        .await;
    let index = kernel.links().await[device].header.index;
    kernel
        .handle
        .address()
        .add(index, SERVER.into(), 24)
        .execute()
        .await
        .expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_broadcast(true).expect("broadcast");
    socket
        .bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 67)).into())
        .expect("port 67");
    socket
        .bind_device(Some(device.as_bytes()))
        .expect("the device");
    socket.set_nonblocking(true).expect("non-blocking");
    let socket = tokio::net::UdpSocket::from_std(socket.into()).expect("a socket");
    let mut buffer = [0; 2048];
    let mut up = true;
    while !tell.is_closed() {
        let wanted = policy.lock().expect("no panic").link;
        if wanted != std::mem::replace(&mut up, wanted) {
            let link = LinkUnspec::new_with_index(index);
            kernel
                .set(if wanted { link.up() } else { link.down() }.build())
                .await;
        }
        let received =
            tokio::time::timeout(Duration::from_millis(50), socket.recv_from(&mut buffer));
        let Ok(Ok((length, from))) = received.await else {
            continue;
        };
        let Ok(request) = Message::decode(&mut Decoder::new(&buffer[..length])) else {
            continue;
        };
        let kind = request.opts().msg_type().expect("a type");
        let policy = policy.lock().expect("no panic").clone();
        if !policy.silent {
            let bytes = reply(&policy, kind, &request);
            let unicast = !request.ciaddr().is_unspecified();
            let to = if unicast {
                from
            } else {
                SocketAddr::from((Ipv4Addr::BROADCAST, 68))
            };
            if policy.noise {
                for junk in [&bytes[..100], &[0xff; 300], &[]] {
                    socket.send_to(junk, to).await.expect("send");
                }
            }
            socket.send_to(&bytes, to).await.expect("send");
        }
        let _ = tell.send((kind, request));
    }
}

fn reply(policy: &Policy, kind: MessageType, request: &Message) -> Vec<u8> {
    let kind = match kind {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if policy.refuse => MessageType::Nak,
        _ => MessageType::Ack,
    };
    // A server that gives another address does not confirm the old one.
    let asked = match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => *address,
        _ => request.ciaddr(),
    };
    let kind = if kind == MessageType::Ack && asked != policy.address {
        MessageType::Nak
    } else {
        kind
    };
    let mut message = request.clone();
    message.set_opcode(Opcode::BootReply).opts_mut().clear();
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    if kind != MessageType::Nak {
        options.insert(DhcpOption::AddressLeaseTime(policy.lease_s));
        for option in &policy.options {
            options.insert(option.clone());
        }
        message.set_yiaddr(policy.address);
    }
    let mut bytes = Vec::new();
    message
        .encode(&mut Encoder::new(&mut bytes))
        .expect("encode");
    bytes
}
