//! A packet socket on one interface, which hears DHCP replies only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

use super::frame::{self, CLIENT_PORT, SERVER_PORT};

/// Room for a frame of a link with jumbo frames.
const LARGEST_FRAME: usize = 9216;
const ETHERTYPE_IPV4: u16 = 0x0800;

/// A bound socket. Needs `CAP_NET_RAW`.
pub(super) struct PacketSocket {
    /// Only sent to and received from, which is the same for datagrams of every kind: the runtime has no type for packets.
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl PacketSocket {
    /// Must be called in a tokio runtime.
    pub(super) fn open(device: &str) -> io::Result<Self> {
        let protocol = i32::from(ETHERTYPE_IPV4.to_be());
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW.cloexec(),
            Some(Protocol::from(protocol)),
        )?;
        socket.attach_filter(&replies_only())?;
        bind(socket.as_raw_fd(), &link_address(device)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            buffer: vec![0; LARGEST_FRAME],
        })
    }

    pub(super) async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).await.map(|_| ())
    }

    /// The payload of the next sound datagram.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let length = self.socket.recv(&mut self.buffer).await?;
            if let Some(payload) = frame::payload(&self.buffer[..length]) {
                return Ok(payload.to_vec());
            }
        }
    }
}

/// Sends one datagram to a server from a leased address, by the kernel's routes and neighbours. The answer is heard by the
/// interface's packet socket.
pub(super) async fn unicast(
    device: &str,
    from: Ipv4Addr,
    to: Ipv4Addr,
    payload: &[u8],
) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(from, CLIENT_PORT).into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let to = SocketAddr::from((to, SERVER_PORT));
    socket.send_to(payload, to).await.map(|_| ())
}

/// The device's address for packet sockets, as the kernel lists it: the safe way to one.
fn link_address(device: &str) -> io::Result<LinkAddr> {
    let found = getifaddrs()?
        .filter(|i| i.interface_name == device)
        .find_map(|i| i.address.as_ref().and_then(|a| a.as_link_addr().copied()));
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Unfragmented UDP over IPv4 to port 68 (classic BPF over an Ethernet frame); everything else stays in the kernel.
fn replies_only() -> [SockFilter; 9] {
    let f = SockFilter::new;
    [
        f(0x30, 0, 0, 23),                     // A = IP protocol
        f(0x15, 0, 5, 17),                     // UDP, or drop
        f(0x28, 0, 0, 20),                     // A = flags and fragment offset
        f(0x45, 3, 0, 0x1fff),                 // a later fragment: drop
        f(0xb1, 0, 0, 14),                     // X = length of the IP header
        f(0x48, 0, 0, 16),                     // A = destination port
        f(0x15, 1, 0, u32::from(CLIENT_PORT)), // take, or drop
        f(0x06, 0, 0, 0),                      // drop
        f(0x06, 0, 0, u32::MAX),               // take all of it
    ]
}
