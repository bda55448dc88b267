//! Security groups and their rules.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which way the traffic goes, seen from the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the instance.
    Ingress,
    /// From the instance.
    Egress,
}

/// What a rule does with traffic it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RulePolicy {
    /// Let it through.
    #[default]
    Accept,
    /// Drop it without an answer.
    Drop,
}

/// The protocol a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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

impl Protocol {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Gre => "gre",
            Self::All => "all",
        }
    }
}

/// A rule of a group. Rules are ordered by priority; at equal priority, drop wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityGroupRule {
    /// `sgr-…`
    pub id: String,
    /// Which way.
    pub direction: Direction,
    /// Accept or drop.
    pub policy: RulePolicy,
    /// 1 (first) to 100.
    #[schema(minimum = 1, maximum = 100)]
    pub priority: u8,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports `FIRST/LAST`, such as `22/22` or `1/65535`; `-1/-1` where the protocol has none.
    pub port_range: String,
    /// Source ports `FIRST/LAST`; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port_range: Option<String>,
    /// The other side's addresses: `10.0.0.0/24`. This or `peer_group_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_cidr: Option<String>,
    /// The other side's security group. This or `peer_cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_group_id: Option<String>,
    /// Why this rule is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A rule to add or to take away. Rules are ordered by priority; at equal priority, drop wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// Which way.
    pub direction: Direction,
    /// Accept (the default) or drop.
    #[serde(default)]
    pub policy: RulePolicy,
    /// 1 (first) to 100; default 1.
    #[serde(default = "first")]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    pub priority: u8,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports `FIRST/LAST`, such as `22/22` or `1/65535`; `-1/-1` (the default) where the protocol has none.
    #[serde(default = "no_ports")]
    #[schema(default = "-1/-1")]
    pub port_range: String,
    /// Source ports `FIRST/LAST`; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port_range: Option<String>,
    /// The other side's addresses: `10.0.0.0/24`. This or `peer_group_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_cidr: Option<String>,
    /// The other side's security group. This or `peer_cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_group_id: Option<String>,
    /// Why this rule is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512)]
    pub description: Option<String>,
}

const fn first() -> u8 {
    1
}

fn no_ports() -> String {
    "-1/-1".into()
}

/// Whether members of a group reach each other without a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum InnerAccessPolicy {
    /// They do, whatever the rules say.
    #[default]
    Accept,
    /// Only as the rules say.
    Drop,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityGroup {
    /// `sg-…`
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The VPC it is of.
    pub vpc_id: String,
    /// Whether it is the group of instances whose request names none.
    pub is_default: bool,
    /// Whether members reach each other without a rule.
    pub inner_access_policy: InnerAccessPolicy,
    /// Its rules, oldest first; at most 200.
    pub rules: Vec<SecurityGroupRule>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Make a security group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSecurityGroup {
    /// The VPC it is of; absent: the default one, which is made when first needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// Whether members reach each other without a rule.
    #[serde(default)]
    pub inner_access_policy: InnerAccessPolicy,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Add rules to a security group; all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeRules {
    /// The rules. One that is already there is not added twice.
    #[schema(min_items = 1, max_items = 200)]
    pub rules: Vec<NewRule>,
}

/// Take rules from a security group, by what they say or by their ids; all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRules {
    /// What the rules say; their descriptions don't count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 200)]
    pub rules: Vec<NewRule>,
    /// The rules' ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 200)]
    pub rule_ids: Vec<String>,
}
