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
