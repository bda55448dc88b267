//! The network stack: one interface, polled by the probe's loop, with echo servers in the background.

use alloc::vec;
use alloc::vec::Vec;

use guest_rt::time;
use guest_rt::virtio::{Frame, Net, Receiver, Transmitter};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

/// Bytes of each direction of a TCP connection.
const TCP_BUFFER: usize = 32 << 10;
/// Connections a served TCP port takes at once.
const CONNECTIONS_PER_PORT: usize = 8;
const UDP_PACKETS: usize = 32;
const UDP_BUFFER: usize = 32 << 10;
/// A poll returns to the probe's loop after so many rounds.
const ROUNDS: usize = 16;

/// The virtio device as smoltcp wants it.
struct Card(Net);

/// A received frame.
struct Received<'a>(&'a mut Receiver, Frame);

/// Room for a frame.
struct Sending<'a>(&'a mut Transmitter);

impl Device for Card {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        if !self.0.transmitter.has_room() {
            return None;
        }
        let frame = self.0.receiver.take()?;
        Some((
            Received(&mut self.0.receiver, frame),
            Sending(&mut self.0.transmitter),
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        self.0
            .transmitter
            .has_room()
            .then_some(Sending(&mut self.0.transmitter))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = Net::FRAME;
        capabilities
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(self.0.bytes(self.1));
        self.0.recycle(self.1);
        result
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.send(length, fill)
    }
}

/// A guest is often there before its host's side of the network is: what was asked then is asked again this soon.
const DHCP_RETRY: Duration = Duration::from_millis(250);
const DHCP_REQUESTS: u16 = 8;

/// What DHCP gave.
#[derive(Clone, Copy)]
pub struct Lease {
    pub address: Ipv4Cidr,
    pub router: Option<Ipv4Address>,
}

/// The network.
pub struct Network {
    card: Card,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    pub lease: Option<Lease>,
    tcp_servers: Vec<(SocketHandle, u16)>,
    udp_servers: Vec<SocketHandle>,
    /// TCP sockets that are closing.
    closing: Vec<SocketHandle>,
    next_port: u16,
}

impl Network {
    pub fn new(net: Net) -> Self {
        let mut config = Config::new(EthernetAddress(net.mac()).into());
        config.random_seed = time::tsc();
        let mut card = Card(net);
        let interface = Interface::new(config, &mut card, now());
        Self {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            dhcp: None,
            lease: None,
            tcp_servers: Vec::new(),
            udp_servers: Vec::new(),
            closing: Vec::new(),
            // Differs from boot to boot, so that a peer's memory of an old connection does no harm.
            next_port: 49152 + (time::tsc() >> 8) as u16 % 16000,
        }
    }

    pub fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.card.0.mac())
    }

    /// Moves packets and echoes until there is nothing more to do. Returns whether any socket may have changed.
    pub fn poll(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..ROUNDS {
            let moved = self
                .interface
                .poll(now(), &mut self.card, &mut self.sockets);
            let busy = self.serve() | (moved == PollResult::SocketStateChanged);
            changed |= busy;
            if !busy {
                break;
            }
        }
        self.card.0.kick();
        changed
    }

    /// Counter value at which [`Self::poll`] must be called again without any interrupt.
    pub fn next_poll(&mut self) -> u64 {
        let now = now();
        match self.interface.poll_delay(now, &self.sockets) {
            Some(delay) => time::after_us(delay.total_micros()),
            None => u64::MAX,
        }
    }

    /// Asks for an interrupt at the next frame; false if there is one to take already.
    pub fn ask_interrupt(&mut self) -> bool {
        self.card.0.ask_interrupt()
    }

    /// Takes an address.
    pub fn set_address(&mut self, address: Ipv4Cidr, router: Option<Ipv4Address>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // One address always fits.
            let _ = addresses.push(IpCidr::Ipv4(address));
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            // So does one route.
            let _ = self.interface.routes_mut().add_default_ipv4_route(router);
        }
    }

    /// Starts to ask for an address, anew if it was asked before.
    pub fn start_dhcp(&mut self) {
        self.stop_dhcp();
        let mut socket = dhcpv4::Socket::new();
        let mut retries = dhcpv4::RetryConfig::default();
        retries.discover_timeout = DHCP_RETRY;
        retries.initial_request_timeout = DHCP_RETRY;
        retries.request_retries = DHCP_REQUESTS;
        socket.set_retry_config(retries);
        self.dhcp = Some(self.sockets.add(socket));
    }

    /// Asks no more.
    pub fn stop_dhcp(&mut self) {
        self.lease = None;
        if let Some(handle) = self.dhcp.take() {
            self.sockets.remove(handle);
        }
    }

    /// Echoes on a TCP port.
    pub fn serve_tcp(&mut self, port: u16) {
        for _ in 0..CONNECTIONS_PER_PORT {
            let handle = self.add_tcp();
            self.tcp_servers.push((handle, port));
        }
    }

    /// Echoes on a UDP port. False if it is taken.
    pub fn serve_udp(&mut self, port: u16) -> bool {
        let handle = self.add_udp();
        let bound = self
            .sockets
            .get_mut::<udp::Socket>(handle)
            .bind(port)
            .is_ok();
        if bound {
            self.udp_servers.push(handle);
        } else {
            self.sockets.remove(handle);
        }
        bound
    }

    pub fn add_tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.sockets.add(socket)
    }

    pub fn add_udp(&mut self) -> SocketHandle {
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; UDP_PACKETS],
                vec![0; UDP_BUFFER],
            )
        };
        self.sockets.add(udp::Socket::new(buffer(), buffer()))
    }

    /// A local port that was not used for a while.
    pub fn free_port(&mut self) -> u16 {
        self.next_port = if self.next_port == u16::MAX {
            49152
        } else {
            self.next_port + 1
        };
        self.next_port
    }

    /// Ends a TCP connection in the background.
    pub fn close(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket>(handle).close();
        self.closing.push(handle);
    }

    /// What the sockets have to do that smoltcp does not. Returns whether anything was done.
    fn serve(&mut self) -> bool {
        let mut done = self.follow_dhcp();
        for (handle, port) in &self.tcp_servers {
            done |= echo_tcp(self.sockets.get_mut(*handle), *port);
        }
        for handle in &self.udp_servers {
            done |= echo_udp(self.sockets.get_mut(*handle));
        }
        let sockets = &mut self.sockets;
        self.closing.retain(|handle| {
            let state = sockets.get::<tcp::Socket>(*handle).state();
            let over = matches!(state, tcp::State::Closed | tcp::State::TimeWait);
            if over {
                sockets.remove(*handle);
            }
            !over
        });
        done
    }

    fn follow_dhcp(&mut self) -> bool {
        let Some(handle) = self.dhcp else {
            return false;
        };
        let lease = match self.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            None => return false,
            Some(dhcpv4::Event::Configured(config)) => Some(Lease {
                address: config.address,
                router: config.router,
            }),
            Some(dhcpv4::Event::Deconfigured) => None,
        };
        match lease {
            Some(lease) => self.set_address(lease.address, lease.router),
            None => self
                .interface
                .update_ip_addrs(|addresses| addresses.clear()),
        }
        self.lease = lease;
        true
    }
}

fn echo_tcp(socket: &mut tcp::Socket, port: u16) -> bool {
    if !socket.is_open() {
        // A closed socket can always listen.
        return socket.listen(port).is_ok();
    }
    let mut done = false;
    while socket.can_recv() && socket.can_send() {
        let mut chunk = [0; 2048];
        let room = (socket.send_capacity() - socket.send_queue()).min(chunk.len());
        let Ok(length) = socket.recv_slice(&mut chunk[..room]) else {
            break;
        };
        if length == 0 || socket.send_slice(&chunk[..length]).is_err() {
            break;
        }
        done = true;
    }
    if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
        socket.close();
        done = true;
    }
    done
}

fn echo_udp(socket: &mut udp::Socket) -> bool {
    let mut done = false;
    while socket.can_recv() && socket.can_send() {
        let mut packet = [0; 1500];
        if let Ok((length, from)) = socket.recv_slice(&mut packet) {
            // Nobody hears of a datagram that finds no room.
            let _ = socket.send_slice(&packet[..length], from);
        }
        done = true;
    }
    done
}

fn now() -> Instant {
    Instant::from_micros(i64::try_from(time::now_us()).unwrap_or(i64::MAX))
}
