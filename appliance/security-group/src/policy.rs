//! Everything that decides about the traffic of one VPC on one host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use types::{InterfaceId, MacAddress, SecurityGroupId};

use crate::{Direction, Group, GroupKind, InnerAccessPolicy, RuleSpec};

/// Groups one interface may be in.
pub const MAX_GROUPS_PER_INTERFACE: usize = 5;
/// Rules of all groups of one interface together.
pub const MAX_RULES_PER_INTERFACE: usize = 1000;
/// Addresses of the members of one basic group.
pub const MAX_BASIC_GROUP_ADDRESSES: usize = 2000;
/// Addresses of the members of one advanced group.
pub const MAX_ADVANCED_GROUP_ADDRESSES: usize = 65_536;

/// A network interface of the VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// `eni-…`
    pub id: InterfaceId,
    /// The network device it is on this host, 1–15 characters; `None` for an interface of another host, which counts
    /// only as a member of its groups.
    pub device: Option<String>,
    /// The only hardware address it may send from.
    pub mac: MacAddress,
    /// The only addresses it may send from.
    pub addresses: Vec<IpAddr>,
    /// Its 1–5 groups, all of one kind.
    pub groups: Vec<SecurityGroupId>,
    /// Outbound TCP 25 is closed unless this is set.
    pub smtp_open: bool,
}

/// The groups and interfaces of one VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcPolicy {
    /// Its groups.
    pub groups: Vec<Group>,
    /// Its interfaces, those of other hosts included.
    pub interfaces: Vec<Interface>,
}

impl VpcPolicy {
    /// The group with this id.
    #[must_use]
    pub fn group(&self, id: SecurityGroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The addresses of the members of a group.
    #[must_use]
    pub fn members(&self, id: SecurityGroupId) -> BTreeSet<IpAddr> {
        let member = |i: &&Interface| i.groups.contains(&id);
        self.interfaces
            .iter()
            .filter(member)
            .flat_map(|i| i.addresses.iter().copied())
            .collect()
    }

    /// Checks what a compiler and an evaluator rely on.
    ///
    /// # Errors
    /// Names the interface or group and the limit or rule it breaks.
    pub fn check(&self) -> Result<(), PolicyError> {
        let mut groups = BTreeMap::new();
        for group in &self.groups {
            if groups.insert(group.id, group).is_some() {
                return Err(PolicyError::DuplicateGroup { group: group.id });
            }
        }
        let mut ids = BTreeSet::new();
        let mut devices = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut members: BTreeMap<SecurityGroupId, usize> = BTreeMap::new();
        for interface in &self.interfaces {
            let id = interface.id;
            if !ids.insert(id) {
                return Err(PolicyError::DuplicateInterface { interface: id });
            }
            if let Some(device) = &interface.device {
                let plain = device
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if device.is_empty() || device.len() > 15 || !plain {
                    return Err(PolicyError::Device {
                        interface: id,
                        device: device.clone(),
                    });
                }
                if !devices.insert(device) {
                    return Err(PolicyError::DuplicateDevice {
                        interface: id,
                        device: device.clone(),
                    });
                }
            }
            if let Some(twice) = interface.addresses.iter().find(|a| !addresses.insert(**a)) {
                return Err(PolicyError::DuplicateAddress {
                    interface: id,
                    address: *twice,
                });
            }
            check_groups(interface, &groups)?;
            for group in interface.groups.iter().collect::<BTreeSet<_>>() {
                *members.entry(*group).or_default() += interface.addresses.len();
            }
        }
        for (group, count) in members {
            let limit = match groups.get(&group).map(|g| g.kind) {
                Some(GroupKind::Advanced) => MAX_ADVANCED_GROUP_ADDRESSES,
                _ => MAX_BASIC_GROUP_ADDRESSES,
            };
            if count > limit {
                return Err(PolicyError::TooManyAddresses {
                    group,
                    count,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// The groups of an interface; unknown ones are left out ([`VpcPolicy::check`] refuses them).
    pub(crate) fn groups_of<'a>(
        &'a self,
        interface: &'a Interface,
    ) -> impl Iterator<Item = &'a Group> {
        interface.groups.iter().filter_map(|id| self.group(*id))
    }
}

/// The rules of some groups for one direction, merged and in the order in which they are looked at.
pub(crate) fn merged<'a>(
    groups: impl Iterator<Item = &'a Group>,
    direction: Direction,
) -> Vec<RuleSpec> {
    let mut rules: Vec<RuleSpec> = groups
        .flat_map(|g| g.rules().iter().copied())
        .filter(|r| r.direction == direction)
        .collect();
    // RulePolicy sorts drop first; the other fields only make the order, and so the ruleset, the same every time.
    rules.sort_by_key(|r| (r.priority, r.policy, *r));
    rules.dedup();
    rules
}

/// Whether members of the group reach each other without a rule.
pub(crate) fn connects_members(group: &Group) -> bool {
    group.kind == GroupKind::Basic && group.inner_access == InnerAccessPolicy::Accept
}

fn check_groups(
    interface: &Interface,
    groups: &BTreeMap<SecurityGroupId, &Group>,
) -> Result<(), PolicyError> {
    let id = interface.id;
    let count = interface.groups.len();
    if !(1..=MAX_GROUPS_PER_INTERFACE).contains(&count) {
        return Err(PolicyError::GroupCount {
            interface: id,
            count,
        });
    }
    let mut kinds = Vec::new();
    let mut rules = 0;
    for group in &interface.groups {
        let Some(group) = groups.get(group) else {
            return Err(PolicyError::UnknownGroup {
                interface: id,
                group: *group,
            });
        };
        kinds.push(group.kind);
        rules += group.rules().len();
    }
    if kinds.iter().any(|k| *k != kinds[0]) {
        return Err(PolicyError::MixedKinds { interface: id });
    }
    if rules > MAX_RULES_PER_INTERFACE {
        return Err(PolicyError::TooManyRules {
            interface: id,
            count: rules,
        });
    }
    Ok(())
}

/// A policy that cannot be put into force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named in each message")]
pub enum PolicyError {
    /// Two groups with one id.
    #[error("security group {group} is given twice")]
    DuplicateGroup { group: SecurityGroupId },
    /// Two interfaces with one id.
    #[error("interface {interface} is given twice")]
    DuplicateInterface { interface: InterfaceId },
    /// A device name that the kernel would refuse.
    #[error(
        "device name {device:?} of interface {interface} is not 1–15 letters, digits, `-`, `_` or `.`"
    )]
    Device {
        interface: InterfaceId,
        device: String,
    },
    /// Two interfaces on one device.
    #[error("device {device} of interface {interface} belongs to another interface too")]
    DuplicateDevice {
        interface: InterfaceId,
        device: String,
    },
    /// Two interfaces with one address.
    #[error("address {address} of interface {interface} is taken by another interface of the VPC")]
    DuplicateAddress {
        interface: InterfaceId,
        address: IpAddr,
    },
    /// No group, or more than five.
    #[error(
        "interface {interface} is in {count} security groups; 1–{MAX_GROUPS_PER_INTERFACE} are possible"
    )]
    GroupCount {
        interface: InterfaceId,
        count: usize,
    },
    /// A group that is not there.
    #[error("interface {interface} is in security group {group}, which does not exist in this VPC")]
    UnknownGroup {
        interface: InterfaceId,
        group: SecurityGroupId,
    },
    /// Basic and advanced groups.
    #[error(
        "interface {interface} is in basic and advanced security groups; all must be of one kind"
    )]
    MixedKinds { interface: InterfaceId },
    /// The limit on rules.
    #[error(
        "the groups of interface {interface} have {count} rules; the limit is {MAX_RULES_PER_INTERFACE}"
    )]
    TooManyRules {
        interface: InterfaceId,
        count: usize,
    },
    /// The limit on members.
    #[error("security group {group} has {count} member addresses; the limit is {limit}")]
    TooManyAddresses {
        group: SecurityGroupId,
        count: usize,
        limit: usize,
    },
}
