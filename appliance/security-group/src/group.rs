//! A security group: its kind and its rules.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use types::SecurityGroupId;

use crate::{Direction, Peer, PortRange, Protocol, RuleError, RulePolicy, RuleSpec};

/// Rules one group may have, both directions together.
pub const MAX_RULES_PER_GROUP: usize = 200;

/// Basic or advanced (`SecurityGroupType` normal or enterprise).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Inbound denied, outbound allowed unless a rule says otherwise; members reach each other.
    #[default]
    Basic,
    /// Both ways denied unless a rule says otherwise; members isolated; rules cannot name groups.
    Advanced,
}

/// Whether members of a basic group reach each other without a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InnerAccessPolicy {
    /// They do, whatever the rules say.
    #[default]
    Accept,
    /// Only as the rules say.
    Drop,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `sg-…`
    pub id: SecurityGroupId,
    /// Basic or advanced.
    pub kind: GroupKind,
    /// Without meaning in an advanced group, whose members are always isolated.
    pub inner_access: InnerAccessPolicy,
    rules: Vec<RuleSpec>,
}

/// What adding or removing a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleChange {
    /// The group is another one now.
    Changed,
    /// It was so already: the request succeeds without an effect.
    Unchanged,
}

impl Group {
    /// A group without rules.
    #[must_use]
    pub fn new(id: SecurityGroupId, kind: GroupKind) -> Self {
        Self {
            id,
            kind,
            inner_access: InnerAccessPolicy::default(),
            rules: Vec::new(),
        }
    }

    /// The group that instances get whose request names none: basic; ICMP, and TCP 22 and 3389 from anywhere, at priority
    /// 100.
    #[must_use]
    pub fn default_group(id: SecurityGroupId) -> Self {
        let (v4, v6) = (IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default()));
        let rule = |protocol, port: Option<u16>, net| RuleSpec {
            direction: Direction::Ingress,
            priority: 100,
            policy: RulePolicy::Accept,
            protocol,
            ports: port.map(|p| PortRange { first: p, last: p }),
            source_ports: None,
            peer: Peer::Cidr(net),
        };
        let rules = vec![
            rule(Protocol::Icmp, None, v4),
            rule(Protocol::Icmpv6, None, v6),
            rule(Protocol::Tcp, Some(22), v4),
            rule(Protocol::Tcp, Some(22), v6),
            rule(Protocol::Tcp, Some(3389), v4),
            rule(Protocol::Tcp, Some(3389), v6),
        ];
        Self {
            rules,
            ..Self::new(id, GroupKind::Basic)
        }
    }

    /// Its rules, oldest first.
    #[must_use]
    pub fn rules(&self) -> &[RuleSpec] {
        &self.rules
    }

    /// Adds a rule (`AuthorizeSecurityGroup`, `…Egress`). One that is there already changes nothing.
    ///
    /// # Errors
    /// When the rule cannot be, does not go with the kind of the group, or there is no room for it.
    pub fn authorize(&mut self, rule: RuleSpec) -> Result<RuleChange, GroupError> {
        let rule = rule.validated().map_err(|source| GroupError::Rule {
            group: self.id,
            source,
        })?;
        if self.kind == GroupKind::Advanced && matches!(rule.peer, Peer::Group(_)) {
            return Err(GroupError::GroupPeerInAdvanced { group: self.id });
        }
        if self.rules.contains(&rule) {
            return Ok(RuleChange::Unchanged);
        }
        if self.rules.len() >= MAX_RULES_PER_GROUP {
            return Err(GroupError::TooManyRules { group: self.id });
        }
        self.rules.push(rule);
        Ok(RuleChange::Changed)
    }

    /// Removes a rule (`RevokeSecurityGroup`, `…Egress`). One that is not there changes nothing.
    ///
    /// # Errors
    /// When the rule cannot be.
    pub fn revoke(&mut self, rule: RuleSpec) -> Result<RuleChange, GroupError> {
        let rule = rule.validated().map_err(|source| GroupError::Rule {
            group: self.id,
            source,
        })?;
        let before = self.rules.len();
        self.rules.retain(|held| *held != rule);
        Ok(if self.rules.len() == before {
            RuleChange::Unchanged
        } else {
            RuleChange::Changed
        })
    }
}

/// A change to a group that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The rule itself is wrong.
    #[error("a rule of security group {group} is malformed")]
    Rule {
        /// The group.
        group: SecurityGroupId,
        /// What is wrong.
        #[source]
        source: RuleError,
    },
    /// A rule that names a group, for an advanced group.
    #[error(
        "security group {group} is an advanced group: its rules name address ranges, not groups"
    )]
    GroupPeerInAdvanced {
        /// The group.
        group: SecurityGroupId,
    },
    /// The limit on rules.
    #[error(
        "security group {group} has {MAX_RULES_PER_GROUP} rules, the limit; remove one or use a second group"
    )]
    TooManyRules {
        /// The group.
        group: SecurityGroupId,
    },
}
