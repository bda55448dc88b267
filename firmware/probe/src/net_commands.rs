//! The network commands.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::net::Ipv4Addr;

use guest_rt::virtio::{self, Net};
use guest_rt::{println, time};
use script::NetCommand;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Cidr};

use crate::net::Network;
use crate::probe::{Outcome, Probe, elapsed_us};

const PING_DATA: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz012345";
const SECOND_US: u64 = 1_000_000;

impl Probe {
    pub fn net(&mut self, command: &NetCommand) -> Outcome {
        match command {
            NetCommand::Dhcp { timeout_us } => self.dhcp(*timeout_us),
            NetCommand::Ip {
                address,
                prefix,
                gateway,
            } => {
                let network = self.network()?;
                network.stop_dhcp();
                network.set_address(Ipv4Cidr::new(*address, *prefix), *gateway);
                Ok(())
            }
            NetCommand::Serve { tcp, udp } => {
                let network = self.network()?;
                tcp.iter().for_each(|port| network.serve_tcp(*port));
                match udp.iter().find(|port| !network.serve_udp(**port)) {
                    Some(port) => Err(format!("UDP port {port} is taken")),
                    None => Ok(()),
                }
            }
            NetCommand::Connect {
                to,
                timeout_us,
                echo,
            } => self.connect(*to, *timeout_us, *echo),
            NetCommand::Udp {
                to,
                timeout_us,
                bytes,
            } => self.udp(*to, *timeout_us, *bytes),
            NetCommand::Ping {
                address,
                count,
                timeout_us,
            } => self.ping(*address, *count, *timeout_us),
        }
    }

    /// The network, started at the first call.
    fn network(&mut self) -> Result<&mut Network, String> {
        if self.network.is_none() {
            let function = *self
                .virtio(virtio::TYPE_NET)
                .first()
                .ok_or("there is no network interface")?;
            let net =
                Net::new(&function).map_err(|error| format!("{}: {error}", function.location))?;
            let network = Network::new(net);
            println!("probe: net at={} mac={}", function.location, network.mac());
            self.network = Some(network);
        }
        self.network
            .as_mut()
            .ok_or_else(|| "there is no network interface".to_string())
    }

    /// The network, with an address.
    fn addressed(&mut self) -> Result<&mut Network, String> {
        let network = self.network()?;
        match network.interface.ipv4_addr() {
            Some(_) => Ok(network),
            None => Err("the interface has no address: use dhcp or ip first".to_string()),
        }
    }

    /// Waits on the network's sockets.
    fn wait_net<T>(
        &mut self,
        deadline: u64,
        mut ready: impl FnMut(&mut Network) -> Option<T>,
    ) -> Option<T> {
        self.wait(deadline, |probe| ready(probe.network.as_mut()?))
    }

    fn dhcp(&mut self, timeout_us: u64) -> Outcome {
        let start = time::tsc();
        self.network()?.start_dhcp();
        let lease = self
            .wait_net(time::after_us(timeout_us), |network| network.lease)
            .ok_or("no DHCP server gave an address in time")?;
        let router = lease
            .router
            .map_or("none".to_string(), |router| router.to_string());
        println!(
            "probe: dhcp address={} router={router} elapsed_us={}",
            lease.address,
            elapsed_us(start)
        );
        Ok(())
    }

    fn connect(&mut self, (address, port): (Ipv4Addr, u16), timeout_us: u64, echo: u64) -> Outcome {
        let network = self.addressed()?;
        let (handle, local) = (network.add_tcp(), network.free_port());
        let start = time::tsc();
        let socket = network.sockets.get_mut::<tcp::Socket>(handle);
        if let Err(error) = socket.connect(
            network.interface.context(),
            (IpAddress::Ipv4(address), port),
            local,
        ) {
            network.sockets.remove(handle);
            return Err(format!("connecting to {address}:{port}: {error}"));
        }
        let deadline = time::after_us(timeout_us);
        let result = self.wait_net(deadline, |network| {
            match network.sockets.get::<tcp::Socket>(handle).state() {
                tcp::State::Closed => Some("refused"),
                tcp::State::SynSent => None,
                _ => Some("reached"),
            }
        });
        let elapsed = elapsed_us(start);
        let result = result.unwrap_or("timed-out");
        let echoed = match (result, echo) {
            ("reached", 1..) => format!(" echoed={}", self.echo(handle, echo, deadline)),
            _ => String::new(),
        };
        println!(
            "probe: connect addr={address}:{port} result={result} elapsed_us={elapsed}{echoed}"
        );
        let network = self.network()?;
        if result == "reached" {
            network.close(handle);
        } else {
            network.sockets.remove(handle);
        }
        network.poll();
        Ok(())
    }

    /// Sends bytes and counts how many come back as they were.
    fn echo(&mut self, handle: SocketHandle, bytes: u64, deadline: u64) -> u64 {
        let (mut sent, mut received) = (0_u64, 0_u64);
        // 251 is prime, so that a lost or repeated packet shows.
        let byte = |at: u64| (at % 251) as u8;
        self.wait_net(deadline, |network| {
            let socket = network.sockets.get_mut::<tcp::Socket>(handle);
            if socket.can_send() && sent < bytes {
                let mut chunk = [0; 2048];
                let length = (bytes - sent).min(chunk.len() as u64) as usize;
                for (at, place) in (sent..).zip(&mut chunk) {
                    *place = byte(at);
                }
                sent += socket.send_slice(&chunk[..length]).unwrap_or(0) as u64;
            }
            let mut chunk = [0; 2048];
            while let Ok(length @ 1..) = socket.recv_slice(&mut chunk) {
                for place in &chunk[..length] {
                    if *place != byte(received) {
                        return Some(());
                    }
                    received += 1;
                }
            }
            let over = received >= bytes || !socket.is_active();
            if !over && sent < bytes && socket.can_send() {
                network.poll();
            }
            over.then_some(())
        });
        received
    }

    fn udp(&mut self, (address, port): (Ipv4Addr, u16), timeout_us: u64, bytes: u64) -> Outcome {
        let network = self.addressed()?;
        let (handle, local) = (network.add_udp(), network.free_port());
        let data = vec![0x5A; usize::try_from(bytes).unwrap_or(1)];
        let start = time::tsc();
        let socket = network.sockets.get_mut::<udp::Socket>(handle);
        let sent = socket.bind(local).is_ok()
            && socket
                .send_slice(&data, (IpAddress::Ipv4(address), port))
                .is_ok();
        let answer = self.wait_net(time::after_us(timeout_us), |network| {
            let (answer, from) = network.sockets.get_mut::<udp::Socket>(handle).recv().ok()?;
            (from.endpoint.port == port && answer == data).then_some(())
        });
        self.network()?.sockets.remove(handle);
        if !sent {
            return Err(format!("sending to {address}:{port} was not possible"));
        }
        let result = if answer.is_some() {
            "reached"
        } else {
            "timed-out"
        };
        println!(
            "probe: udp addr={address}:{port} result={result} elapsed_us={}",
            elapsed_us(start)
        );
        Ok(())
    }

    fn ping(&mut self, address: Ipv4Addr, count: u64, timeout_us: u64) -> Outcome {
        let network = self.addressed()?;
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let identifier = network.free_port();
        // A fresh socket can be bound.
        let _ = socket.bind(icmp::Endpoint::Ident(identifier));
        let handle = network.sockets.add(socket);
        for round in 0..count {
            let start = time::tsc();
            let number = (round & 0xFFFF) as u16;
            self.send_ping(handle, address, identifier, number)?;
            let answer = self.wait_net(time::after_us(timeout_us), |network| {
                let (packet, from) = network
                    .sockets
                    .get_mut::<icmp::Socket>(handle)
                    .recv()
                    .ok()?;
                is_answer(packet, number, from == IpAddress::Ipv4(address)).then_some(())
            });
            let result = if answer.is_some() {
                "reached"
            } else {
                "timed-out"
            };
            println!(
                "probe: ping addr={address} number={round} result={result} elapsed_us={}",
                elapsed_us(start)
            );
            let next = time::after_us(SECOND_US.saturating_sub(elapsed_us(start)));
            if round + 1 < count {
                self.wait::<()>(next, |_| None);
            }
        }
        self.network()?.sockets.remove(handle);
        Ok(())
    }

    fn send_ping(
        &mut self,
        handle: SocketHandle,
        address: Ipv4Addr,
        ident: u16,
        seq_no: u16,
    ) -> Outcome {
        let request = Icmpv4Repr::EchoRequest {
            ident,
            seq_no,
            data: &PING_DATA,
        };
        let socket = self.network()?.sockets.get_mut::<icmp::Socket>(handle);
        let place = socket
            .send(request.buffer_len(), IpAddress::Ipv4(address))
            .map_err(|error| format!("sending to {address}: {error}"))?;
        request.emit(
            &mut Icmpv4Packet::new_unchecked(place),
            &ChecksumCapabilities::default(),
        );
        Ok(())
    }
}

fn is_answer(packet: &[u8], number: u16, from_there: bool) -> bool {
    let Ok(packet) = Icmpv4Packet::new_checked(packet) else {
        return false;
    };
    let answer = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default());
    from_there
        && matches!(answer, Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) if seq_no == number && data == PING_DATA)
}
