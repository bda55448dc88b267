//! What a policy means for one packet, in the order in which ECS describes it. The compiler is tested against this.

use std::net::IpAddr;

use types::MacAddress;

use crate::policy::{connects_members, merged};
use crate::{Direction, GroupKind, Interface, Peer, Protocol, RulePolicy, RuleSpec, VpcPolicy};

/// What connection tracking knows of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first packet of a connection.
    New,
    /// Of a connection that was accepted.
    Established,
    /// An error message or helper connection of an accepted connection.
    Related,
    /// Fits no connection and cannot begin one.
    Invalid,
}

/// A packet that comes from a device of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The device it came in by.
    pub device: &'a str,
    /// Its hardware source address.
    pub source_mac: MacAddress,
    /// Its source.
    pub source: IpAddr,
    /// Its destination, of the same family.
    pub destination: IpAddr,
    /// The protocol number of its IP header.
    pub protocol: u8,
    /// TCP or UDP source port; 0 for other protocols.
    pub source_port: u16,
    /// TCP or UDP destination port; 0 for other protocols.
    pub destination_port: u16,
    /// Its connection.
    pub state: ConnectionState,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It reaches its destination.
    Accept,
    /// It vanishes.
    Drop,
}

/// Whether `packet` goes through between two interfaces of the VPC. The policy must pass [`VpcPolicy::check`].
#[must_use]
pub fn evaluate(policy: &VpcPolicy, packet: &Packet<'_>) -> Decision {
    let on_device = |i: &&Interface| i.device.as_deref() == Some(packet.device);
    let Some(sender) = policy.interfaces.iter().find(on_device) else {
        return Decision::Drop;
    };
    if sender.mac != packet.source_mac || !sender.addresses.contains(&packet.source) {
        return Decision::Drop;
    }
    let local = |i: &&Interface| i.device.is_some() && i.addresses.contains(&packet.destination);
    let Some(receiver) = policy.interfaces.iter().find(local) else {
        return Decision::Drop;
    };
    match packet.state {
        ConnectionState::Established | ConnectionState::Related => return Decision::Accept,
        ConnectionState::Invalid => return Decision::Drop,
        ConnectionState::New => {}
    }
    let smtp = packet.protocol == 6 && packet.destination_port == 25;
    if smtp && !sender.smtp_open {
        return Decision::Drop;
    }
    let leaves = allowed(
        policy,
        sender,
        Direction::Egress,
        packet.destination,
        packet,
    );
    let arrives = allowed(policy, receiver, Direction::Ingress, packet.source, packet);
    if leaves && arrives {
        Decision::Accept
    } else {
        Decision::Drop
    }
}

/// One side's word: the groups of `interface` about traffic with `other`.
fn allowed(
    policy: &VpcPolicy,
    interface: &Interface,
    direction: Direction,
    other: IpAddr,
    packet: &Packet<'_>,
) -> bool {
    let mut kind = GroupKind::Advanced;
    for group in policy.groups_of(interface) {
        kind = group.kind;
        if connects_members(group) && policy.members(group.id).contains(&other) {
            return true;
        }
    }
    for rule in merged(policy.groups_of(interface), direction) {
        if matches(policy, &rule, other, packet) {
            return rule.policy == RulePolicy::Accept;
        }
    }
    direction == Direction::Egress && kind == GroupKind::Basic
}

fn matches(policy: &VpcPolicy, rule: &RuleSpec, other: IpAddr, packet: &Packet<'_>) -> bool {
    let peer = match rule.peer {
        Peer::Cidr(net) => net.contains(&other),
        Peer::Group(id) => policy.members(id).contains(&other),
    };
    let protocol =
        rule.protocol == Protocol::All || rule.protocol.number() == Some(packet.protocol);
    let ports = rule
        .ports
        .is_none_or(|range| range.contains(packet.destination_port));
    let source_ports = rule
        .source_ports
        .is_none_or(|range| range.contains(packet.source_port));
    peer && protocol && ports && source_ports
}
