//! Security groups and their rules.

use ipnet::IpNet;
use types::{RuleId, SecurityGroupId, Timestamp, VpcId};

/// Which way the traffic goes, seen from the instance.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the instance.
    Ingress,
    /// From the instance.
    Egress,
}

/// What a rule does with traffic it matches.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RulePolicy {
    /// Let it through.
    Accept,
    /// Drop it without an answer.
    Drop,
}

/// The protocol a rule is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// GRE.
    Gre,
    /// Every protocol.
    All,
}

/// Ports `first` to `last`, both included.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// The other side of the traffic.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Addresses.
    Cidr(IpNet),
    /// The members of a group of the same VPC.
    Group(SecurityGroupId),
}

/// What a rule says. Two rules that say the same are the same rule.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct RuleSpec {
    /// Which way.
    pub direction: Direction,
    /// Accept or drop.
    pub policy: RulePolicy,
    /// 1 (first) to 100. At equal priority, drop wins.
    pub priority: u8,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports; `None`: every one (`-1/-1`). Only TCP and UDP have ports.
    pub ports: Option<PortRange>,
    /// Source ports; `None`: every one.
    pub source_ports: Option<PortRange>,
    /// The other side.
    pub peer: Peer,
}

/// A rule of a group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityGroupRule {
    /// `sgr-…`
    pub id: RuleId,
    /// What it says.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// Why it is there.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whether members of a group reach each other without a rule.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum InnerAccessPolicy {
    /// They do, whatever the rules say.
    #[default]
    Accept,
    /// Only as the rules say.
    Drop,
}

/// A security group (basic: inbound denied, outbound allowed, unless a rule says otherwise).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityGroup {
    /// `sg-…`
    pub id: SecurityGroupId,
    /// The VPC it is of.
    pub vpc: VpcId,
    /// A name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Whether its members reach each other without a rule.
    pub inner_access: InnerAccessPolicy,
    /// Whether it is the group of instances whose request names none.
    pub is_default: bool,
    /// Its rules, oldest first; at most 200.
    pub rules: Vec<SecurityGroupRule>,
    /// When it was made.
    pub created_at: Timestamp,
}
