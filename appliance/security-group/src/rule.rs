//! One rule: its parts, their texts on the wire, and what may be combined.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use types::SecurityGroupId;

/// Which way the traffic goes, seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the instance.
    Ingress,
    /// From the instance.
    Egress,
}

/// What a rule does with traffic it matches. Drop sorts first because it wins at equal priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulePolicy {
    /// Drop it without an answer.
    Drop,
    /// Let it through.
    Accept,
}

/// The protocol a rule is about (`IpProtocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The number in the IP header; `None` for [`Protocol::All`].
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::Icmp => Some(1),
            Self::Icmpv6 => Some(58),
            Self::Gre => Some(47),
            Self::All => None,
        }
    }

    /// Only TCP and UDP have ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    const fn name(self) -> &'static str {
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

/// Ports `first` to `last`, both included; 1–65535 for TCP and UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl PortRange {
    /// Every port: `1/65535`.
    pub const EVERY: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// Reads `PortRange` as ECS writes it: `22/22`, `1/65535`; `-1/-1` (no ports) is `None`.
    ///
    /// # Errors
    /// When the text has another form, a port is 0 or above 65535, or the first is above the last.
    pub fn parse(text: &str) -> Result<Option<Self>, RuleError> {
        let malformed = || RuleError::PortRange {
            text: text.chars().take(32).collect(),
        };
        if text == "-1/-1" {
            return Ok(None);
        }
        let (first, last) = text.split_once('/').ok_or_else(malformed)?;
        // `u16::from_str` would take a sign.
        let port = |t: &str| {
            t.parse::<u16>()
                .ok()
                .filter(|p| *p > 0 && t.bytes().all(|b| b.is_ascii_digit()))
        };
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Some(Self { first, last })),
            _ => Err(malformed()),
        }
    }

    /// The text ECS uses; `None` is `-1/-1`.
    #[must_use]
    pub fn text(range: Option<Self>) -> String {
        range.map_or_else(|| "-1/-1".into(), |r| format!("{}/{}", r.first, r.last))
    }

    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// The other side of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Addresses of one family: `0.0.0.0/0` says nothing about IPv6.
    Cidr(IpNet),
    /// The members of a group.
    Group(SecurityGroupId),
}

/// What a rule says. Two rules that say the same are the same rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Which way.
    pub direction: Direction,
    /// 1 (looked at first) to 100. At equal priority, drop wins.
    pub priority: u8,
    /// Accept or drop.
    pub policy: RulePolicy,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports. Present exactly for TCP and UDP; `None` is `-1/-1`.
    pub ports: Option<PortRange>,
    /// Source ports, only for TCP and UDP; `None`: every one.
    pub source_ports: Option<PortRange>,
    /// The other side.
    pub peer: Peer,
}

impl RuleSpec {
    /// Checks what the types leave open, and returns the rule in its one normal form (no host bits in a CIDR), in which
    /// rules are compared.
    ///
    /// # Errors
    /// Names the part that is wrong and what it may be.
    pub fn validated(mut self) -> Result<Self, RuleError> {
        if !(1..=100).contains(&self.priority) {
            return Err(RuleError::Priority(self.priority));
        }
        for range in [self.ports, self.source_ports].into_iter().flatten() {
            if range.first == 0 || range.first > range.last {
                return Err(RuleError::PortRange {
                    text: PortRange::text(Some(range)),
                });
            }
            if !self.protocol.has_ports() {
                return Err(RuleError::PortsWithoutMeaning {
                    protocol: self.protocol,
                });
            }
        }
        if self.protocol.has_ports() && self.ports.is_none() {
            return Err(RuleError::PortsMissing {
                protocol: self.protocol,
            });
        }
        if self.source_ports == Some(PortRange::EVERY) {
            self.source_ports = None;
        }
        if let Peer::Cidr(net) = self.peer {
            let v4 = matches!(net, IpNet::V4(_));
            if (self.protocol == Protocol::Icmp && !v4) || (self.protocol == Protocol::Icmpv6 && v4)
            {
                return Err(RuleError::Family {
                    protocol: self.protocol,
                    net,
                });
            }
            self.peer = Peer::Cidr(net.trunc());
        }
        Ok(self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = RuleError;

    /// ECS takes any case.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let all = [
            Self::Tcp,
            Self::Udp,
            Self::Icmp,
            Self::Icmpv6,
            Self::Gre,
            Self::All,
        ];
        all.into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| RuleError::Protocol {
                text: text.chars().take(32).collect(),
            })
    }
}

impl fmt::Display for RulePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Drop {
            "drop"
        } else {
            "accept"
        })
    }
}

impl FromStr for RulePolicy {
    type Err = RuleError;

    /// ECS takes any case.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        [Self::Drop, Self::Accept]
            .into_iter()
            .find(|p| p.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| RuleError::Policy {
                text: text.chars().take(32).collect(),
            })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => net.fmt(f),
            Self::Group(id) => id.fmt(f),
        }
    }
}

impl FromStr for Peer {
    type Err = RuleError;

    /// A CIDR, a single address, or a group id.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.starts_with(SecurityGroupId::PREFIX)
            && let Ok(id) = text.parse()
        {
            return Ok(Self::Group(id));
        }
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
        net.map(Self::Cidr).map_err(|_| RuleError::Peer {
            text: text.chars().take(64).collect(),
        })
    }
}

/// A rule that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// `Priority` out of range.
    #[error("priority {0} is not within 1–100")]
    Priority(u8),
    /// `PortRange` malformed.
    #[error("port range `{text}` is not `first/last` with 1 ≤ first ≤ last ≤ 65535, nor `-1/-1`")]
    PortRange {
        /// What was given.
        text: String,
    },
    /// `-1/-1` for TCP or UDP.
    #[error("a {protocol} rule needs a port range; write `1/65535` for every port")]
    PortsMissing {
        /// Of the rule.
        protocol: Protocol,
    },
    /// Ports for a protocol without ports.
    #[error("a rule for {protocol} has no ports; its port range must be `-1/-1`")]
    PortsWithoutMeaning {
        /// Of the rule.
        protocol: Protocol,
    },
    /// ICMP for IPv6 addresses or the reverse.
    #[error("{protocol} does not go with {net}; icmp is for IPv4 and icmpv6 for IPv6 addresses")]
    Family {
        /// Of the rule.
        protocol: Protocol,
        /// Of the rule.
        net: IpNet,
    },
    /// `IpProtocol` unknown.
    #[error("protocol `{text}` is none of tcp, udp, icmp, icmpv6, gre, all")]
    Protocol {
        /// What was given.
        text: String,
    },
    /// `Policy` unknown.
    #[error("policy `{text}` is neither accept nor drop")]
    Policy {
        /// What was given.
        text: String,
    },
    /// Neither addresses nor a group.
    #[error(
        "`{text}` is neither an address range such as 10.0.0.0/8 or 2001:db8::/32 nor a security group id"
    )]
    Peer {
        /// What was given.
        text: String,
    },
}
