//! What the server says to what: no sockets here.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use ipnet::Ipv4Net;
use tracing::{info, warn};

use super::EVERYONE;
use crate::InterfaceSpec;

/// A message and where it goes (port 68).
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) to: Ipv4Addr,
}

/// The answer to a message of the guest, if it deserves one. RFC 2131 §4.3: there is one lease, fixed, for one MAC.
pub(super) fn answer(spec: &InterfaceSpec, request: &Message) -> Option<Answer> {
    let for_us = request.opcode() == Opcode::BootRequest
        && request.htype() == HType::Eth
        && request.hlen() == 6
        && request.chaddr() == spec.mac.octets()
        && request.giaddr().is_unspecified();
    if !for_us {
        return None;
    }
    match message_type(request)? {
        MessageType::Discover => Some(grant(spec, request, MessageType::Offer)),
        MessageType::Request => {
            if server_id(request).is_some_and(|id| id != spec.gateway) {
                return None;
            }
            // §4.3.2: a client that selects or reboots names the address in an option, one that renews in ciaddr.
            let wanted = requested_address(request).unwrap_or(request.ciaddr());
            if wanted == spec.address {
                Some(grant(spec, request, MessageType::Ack))
            } else if wanted.is_unspecified() {
                None
            } else {
                info!(interface = %spec.id, %wanted, "DHCP: the guest asks for an address that is not its own");
                let mut message = reply(spec, request, MessageType::Nak);
                message.opts_mut().insert(DhcpOption::Message(
                    "this address belongs to another interface".into(),
                ));
                // §4.3.2: the client may be on a wrong idea of its network.
                Some(Answer {
                    message,
                    to: EVERYONE,
                })
            }
        }
        MessageType::Inform => {
            let mut message = reply(spec, request, MessageType::Ack);
            message.set_ciaddr(request.ciaddr());
            configuration(spec, &mut message);
            let to = if request.ciaddr() == spec.address {
                spec.address
            } else {
                EVERYONE
            };
            Some(Answer { message, to })
        }
        MessageType::Decline => {
            warn!(interface = %spec.id, address = %spec.address, "DHCP: the guest says that its address is in use");
            None
        }
        // Release: the address stays the interface's.
        _ => None,
    }
}

/// An OFFER or ACK with the lease.
fn grant(spec: &InterfaceSpec, request: &Message, kind: MessageType) -> Answer {
    let mut message = reply(spec, request, kind);
    message
        .set_yiaddr(spec.address)
        .set_ciaddr(request.ciaddr());
    let lease = spec.lease_seconds.max(60);
    let options = message.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(lease));
    options.insert(DhcpOption::Renewal(lease / 2));
    options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    configuration(spec, &mut message);
    // §4.1. The host knows the guest as a neighbour, so that it can be reached before it has its address.
    let to = if request.ciaddr() == spec.address || !request.flags().broadcast() {
        spec.address
    } else {
        EVERYONE
    };
    Answer { message, to }
}

fn reply(spec: &InterfaceSpec, request: &Message, kind: MessageType) -> Message {
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(
        request.xid(),
        unspecified,
        unspecified,
        unspecified,
        unspecified,
        request.chaddr(),
    );
    message
        .set_opcode(Opcode::BootReply)
        .set_flags(request.flags());
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message
        .opts_mut()
        .insert(DhcpOption::ServerIdentifier(spec.gateway));
    message
}

/// What does not depend on a lease.
fn configuration(spec: &InterfaceSpec, message: &mut Message) {
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(spec.subnet.netmask()));
    options.insert(DhcpOption::Router(vec![spec.gateway]));
    options.insert(DhcpOption::BroadcastAddr(spec.subnet.broadcast()));
    options.insert(DhcpOption::InterfaceMtu(spec.mtu));
    if !spec.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(
            spec.dns.iter().take(8).copied().collect(),
        ));
    }
    if let Some(hostname) = &spec.hostname {
        options.insert(DhcpOption::Hostname(hostname.clone()));
    }
    if !spec.routes.is_empty() {
        // RFC 3442: a client that knows this option ignores the router, so the default route is repeated here.
        let mut routes = vec![(Ipv4Net::default(), spec.gateway)];
        routes.extend(spec.routes.iter().take(16));
        options.insert(DhcpOption::ClasslessStaticRoute(routes));
    }
}

fn message_type(message: &Message) -> Option<MessageType> {
    match message.opts().get(OptionCode::MessageType) {
        Some(DhcpOption::MessageType(kind)) => Some(*kind),
        _ => None,
    }
}

fn server_id(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
        _ => None,
    }
}

fn requested_address(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{InterfaceId, MacAddress, VpcId};

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 5);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 253);
    const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    fn spec() -> InterfaceSpec {
        let subnet = "10.7.0.0/24".parse().expect("a subnet");
        let (id, vpc) = (InterfaceId::generate(1), VpcId::generate(1));
        let spec =
            InterfaceSpec::new(id, vpc, MacAddress::new(MAC), OWN, subnet).expect("a good spec");
        InterfaceSpec {
            lease_seconds: 8000,
            ..spec
        }
    }

    fn request(kind: MessageType, ciaddr: Ipv4Addr, options: &[DhcpOption]) -> Message {
        let mut message = Message::new_with_id(77, ciaddr, NOBODY, NOBODY, NOBODY, &MAC);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option.clone());
        }
        message
    }

    /// Kind, yiaddr and destination of the answer.
    fn check(message: &Message) -> Option<(MessageType, Ipv4Addr, Ipv4Addr)> {
        let answer = answer(&spec(), message)?;
        assert_eq!(answer.message.opcode(), Opcode::BootReply);
        assert_eq!(answer.message.xid(), 77);
        assert_eq!(answer.message.chaddr(), MAC);
        assert_eq!(server_id(&answer.message), Some(GATEWAY));
        Some((
            message_type(&answer.message)?,
            answer.message.yiaddr(),
            answer.to,
        ))
    }

    #[test]
    fn each_message_gets_its_answer() {
        use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        let wants = |address| DhcpOption::RequestedIpAddress(address);
        let of = |server| DhcpOption::ServerIdentifier(server);
        let other = Ipv4Addr::new(10, 7, 0, 6);
        for (what, message, expected) in [
            (
                "discover",
                request(Discover, NOBODY, &[]),
                Some((Offer, OWN, OWN)),
            ),
            (
                "discover, another address in mind",
                request(Discover, NOBODY, &[wants(other)]),
                Some((Offer, OWN, OWN)),
            ),
            (
                "select",
                request(Request, NOBODY, &[wants(OWN), of(GATEWAY)]),
                Some((Ack, OWN, OWN)),
            ),
            (
                "select another server",
                request(Request, NOBODY, &[wants(OWN), of(other)]),
                None,
            ),
            (
                "select a wrong address",
                request(Request, NOBODY, &[wants(other), of(GATEWAY)]),
                Some((Nak, NOBODY, EVERYONE)),
            ),
            (
                "reboot",
                request(Request, NOBODY, &[wants(OWN)]),
                Some((Ack, OWN, OWN)),
            ),
            (
                "reboot on a former network",
                request(Request, NOBODY, &[wants(other)]),
                Some((Nak, NOBODY, EVERYONE)),
            ),
            ("renew", request(Request, OWN, &[]), Some((Ack, OWN, OWN))),
            (
                "renew a wrong address",
                request(Request, other, &[]),
                Some((Nak, NOBODY, EVERYONE)),
            ),
            ("request nothing", request(Request, NOBODY, &[]), None),
            (
                "inform",
                request(Inform, OWN, &[]),
                Some((Ack, NOBODY, OWN)),
            ),
            (
                "inform from elsewhere",
                request(Inform, other, &[]),
                Some((Ack, NOBODY, EVERYONE)),
            ),
            ("decline", request(Decline, NOBODY, &[wants(OWN)]), None),
            ("release", request(Release, OWN, &[]), None),
            ("an answer", request(Offer, NOBODY, &[]), None),
        ] {
            assert_eq!(check(&message), expected, "{what}");
        }
    }

    #[test]
    fn others_get_no_answer() {
        let base = || request(MessageType::Discover, NOBODY, &[]);
        assert!(answer(&spec(), &base()).is_some());
        let spoilt: [fn(&mut Message); 4] = [
            |m| {
                m.set_chaddr(&[2, 0, 0, 0, 0, 6]);
            },
            |m| {
                m.set_giaddr([10, 7, 0, 9]);
            },
            |m| {
                m.set_opcode(Opcode::BootReply);
            },
            |m| {
                m.opts_mut().remove(OptionCode::MessageType);
            },
        ];
        for spoil in spoilt {
            let mut message = base();
            spoil(&mut message);
            assert!(answer(&spec(), &message).is_none(), "{message}");
        }
    }

    #[test]
    fn a_client_that_cannot_take_unicast_is_reached_by_broadcast() {
        let mut discover = request(MessageType::Discover, NOBODY, &[]);
        discover.set_flags(dhcproto::v4::Flags::default().set_broadcast());
        assert_eq!(check(&discover), Some((MessageType::Offer, OWN, EVERYONE)));
    }

    #[test]
    fn the_lease_tells_what_the_guest_needs() {
        let subnet: Ipv4Net = "100.64.0.0/10".parse().expect("a net");
        let full = InterfaceSpec {
            dns: vec![Ipv4Addr::new(100, 100, 2, 136)],
            hostname: Some("i-1".into()),
            routes: vec![(subnet, GATEWAY)],
            mtu: 1400,
            ..spec()
        };
        let message = answer(&full, &request(MessageType::Discover, NOBODY, &[]))
            .expect("an offer")
            .message;
        for expected in [
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![GATEWAY]),
            DhcpOption::BroadcastAddr(Ipv4Addr::new(10, 7, 0, 255)),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::AddressLeaseTime(8000),
            DhcpOption::Renewal(4000),
            DhcpOption::Rebinding(7000),
            DhcpOption::DomainNameServer(full.dns.clone()),
            DhcpOption::Hostname("i-1".into()),
            DhcpOption::ClasslessStaticRoute(vec![
                (Ipv4Net::default(), GATEWAY),
                (subnet, GATEWAY),
            ]),
        ] {
            let code = OptionCode::from(&expected);
            assert_eq!(message.opts().get(code), Some(&expected));
        }
        let inform = answer(&full, &request(MessageType::Inform, OWN, &[]))
            .expect("an answer")
            .message;
        assert_eq!(
            inform.opts().get(OptionCode::AddressLeaseTime),
            None,
            "RFC 2131 §4.3.5"
        );
        let plain = answer(&spec(), &request(MessageType::Discover, NOBODY, &[]))
            .expect("an offer")
            .message;
        for absent in [
            OptionCode::DomainNameServer,
            OptionCode::Hostname,
            OptionCode::ClasslessStaticRoute,
        ] {
            assert_eq!(plain.opts().get(absent), None);
        }
    }
}
