//! A ruleset as plain data: the part of nftables that security groups need, with its meaning. One `inet` table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use types::MacAddress;

use crate::PortRange;

/// Sets, maps and chains of one table. Equal rulesets mean the same; every list is in a defined order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// By name.
    pub sets: BTreeMap<String, Set>,
    /// By name: device → verdict.
    pub maps: BTreeMap<String, VerdictMap>,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
}

/// A named set, searched by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What an element is.
    pub key: SetKey,
    /// All of the kind of `key`.
    pub elements: BTreeSet<Element>,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKey {
    /// Device names.
    Device,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Device name and hardware address.
    DeviceMac,
    /// Device name, hardware address and IPv4 address.
    DeviceMacIpv4,
    /// Device name, hardware address and IPv6 address.
    DeviceMacIpv6,
}

/// One element of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A device name.
    Device(String),
    /// An address.
    Address(IpAddr),
    /// A device and a hardware address.
    DeviceMac(String, MacAddress),
    /// A device, a hardware address and an address: who may send what where.
    Source(String, MacAddress, IpAddr),
}

/// Device name → verdict; a device that is not in it has none.
pub type VerdictMap = BTreeMap<String, Verdict>;

/// A list of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it by themselves; `None`: only by a jump.
    pub base: Option<BaseChain>,
    /// Tried in this order.
    pub rules: Vec<Rule>,
}

/// How a chain hangs in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// On the way of a packet.
    pub hook: Hook,
    /// Lower comes first; conntrack is at −200.
    pub priority: i32,
    /// When no rule decides: `true` drops, `false` lets through.
    pub drops: bool,
}

/// Places on the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// As it arrives.
    Prerouting,
    /// To the host itself.
    Input,
    /// To another device.
    Forward,
    /// From the host itself.
    Output,
}

/// All `matches` hold → `verdict`, or the verdict `map` has for the device; otherwise the next rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then.
    pub verdict: Verdict,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// This chain's hook lets it pass.
    Accept,
    /// As [`Verdict::Accept`], and connection tracking leaves the packet alone: only in a chain that comes before it.
    AcceptUntracked,
    /// It vanishes.
    Drop,
    /// Back to after the jump; at the end of a base chain: its policy.
    Return,
    /// Go through that chain, come back at its end.
    Jump(String),
    /// The verdict that this map has for the device; none: the next rule.
    ByDevice {
        /// [`Field::InDevice`] or [`Field::OutDevice`].
        field: Field,
        /// Name of the map.
        map: String,
    },
}

/// Something of a packet that can be looked up in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The device it came by.
    InDevice,
    /// The device it leaves by.
    OutDevice,
    /// Its source address, of the family of the set.
    Source,
    /// Its destination address, of the family of the set.
    Destination,
    /// Device and hardware source address.
    InDeviceMac,
    /// Device, hardware source address and source address.
    InDeviceMacSource,
}

/// What connection tracking says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtState {
    /// Of a connection that has seen packets both ways, or of one that was accepted.
    Established,
    /// Belongs to a tracked connection, as an ICMP error does.
    Related,
    /// Belongs to nothing.
    Invalid,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Of connection tracking: one of these.
    CtState(Vec<CtState>),
    /// The field is in the named set (or is not, when `inverted`).
    InSet {
        /// What is looked up.
        field: Field,
        /// Where.
        set: String,
        /// Holds when it is not there.
        inverted: bool,
    },
    /// IPv4 (`false`) or IPv6 (`true`).
    Ipv6(bool),
    /// [`Field::Source`] or [`Field::Destination`] is in one of these ranges, which are of one family, not empty, sorted
    /// and disjoint.
    Address {
        /// Which address.
        field: Field,
        /// The ranges.
        nets: Vec<IpNet>,
    },
    /// The protocol number.
    Protocol(u8),
    /// The TCP or UDP destination port is in one of these ranges: not empty, sorted, disjoint. Comes after
    /// [`Match::Protocol`].
    DestinationPorts(Vec<PortRange>),
    /// The same for the source port.
    SourcePorts(Vec<PortRange>),
}
