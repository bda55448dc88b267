//! Where new instances go: vswitch, groups and addresses.

use crate::{
    ControlError, ErrorKind, Result, addresses,
    commands::RunInstances,
    core::{Transaction, sentence},
    model::{NetworkInterface, SecurityGroup, Vpc, Vswitch},
    use_cases::{networks::default_vswitch, security_groups},
};
use instance::admission::MAX_SECURITY_GROUPS;
use std::{collections::BTreeSet, net::Ipv4Addr};
use types::{InterfaceId, MacAddress, SecurityGroupId};

/// Where they go, and what is taken there.
pub(crate) struct Place {
    pub(crate) vpc: Vpc,
    pub(crate) vswitch: Vswitch,
    pub(crate) groups: Vec<SecurityGroupId>,
    addresses: BTreeSet<Ipv4Addr>,
    macs: BTreeSet<MacAddress>,
}

/// Finds the vswitch and the groups a request names, or the defaults, and what is taken there.
pub(crate) fn find_place(
    transaction: &mut Transaction<'_>,
    command: &RunInstances,
) -> Result<Place> {
    let (vpc, vswitch) = match command.vswitch {
        None => default_vswitch(transaction)?,
        Some(id) => {
            let unknown =
                || ControlError::not_found("VSwitchId", "vswitch", &id).with_field("vswitch");
            let vswitch = transaction.get::<Vswitch>(&id)?.ok_or_else(unknown)?;
            let vpc = transaction.get::<Vpc>(&vswitch.vpc)?.ok_or_else(unknown)?;
            (vpc, vswitch)
        }
    };
    let mut groups = Vec::new();
    for (position, id) in command.security_groups.iter().enumerate() {
        let field = format!("security_groups[{position}]");
        let group = transaction
            .get::<SecurityGroup>(id)?
            .ok_or_else(|| security_groups::unknown(*id).with_field(&field))?;
        if group.vpc != vpc.id {
            let message = format!(
                "Security group {id} is of VPC {}, the vswitch of {}.",
                group.vpc, vpc.id
            );
            return Err(ControlError::invalid(field, message)
                .with_code("InvalidSecurityGroupId.VpcMismatch")
                .with_next_step("Name groups of the vswitch's VPC."));
        }
        if !groups.contains(id) {
            groups.push(*id);
        }
    }
    if groups.len() > MAX_SECURITY_GROUPS {
        let message = format!(
            "{} security groups: an instance is in at most {MAX_SECURITY_GROUPS}.",
            groups.len()
        );
        return Err(ControlError::invalid("security_groups", message));
    }
    if groups.is_empty() {
        groups.push(security_groups::default_group(transaction, vpc.id)?.id);
    }
    let interfaces = transaction.all::<NetworkInterface>();
    let addresses = interfaces
        .values()
        .filter(|interface| interface.vswitch == vswitch.id)
        .map(|interface| interface.private_ip)
        .collect();
    let macs = interfaces
        .values()
        .filter(|interface| interface.vpc == vpc.id)
        .map(|interface| interface.mac)
        .collect();
    Ok(Place {
        vpc,
        vswitch,
        groups,
        addresses,
        macs,
    })
}

impl Place {
    /// Takes an address: that one, or the lowest free one.
    pub(crate) fn take(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let cidr = self.vswitch.cidr;
        let address = match wanted {
            Some(address) => {
                if let Some(fault) = addresses::address_fault(address, cidr, &self.addresses) {
                    let code = if self.addresses.contains(&address) {
                        "InvalidPrivateIpAddress.Duplicated"
                    } else {
                        "InvalidPrivateIpAddress.Malformed"
                    };
                    return Err(
                        ControlError::invalid("private_ip", sentence(&fault)).with_code(code)
                    );
                }
                address
            }
            None => addresses::next_address(cidr, &self.addresses).ok_or_else(|| {
                let message = format!(
                    "The vswitch {} ({cidr}) has no address left.",
                    self.vswitch.id
                );
                ControlError::new(
                    ErrorKind::QuotaExceeded,
                    "InvalidVSwitchId.IpNotEnough",
                    message,
                )
                .with_next_step("Release instances on it, or name another vswitch.")
            })?,
        };
        self.addresses.insert(address);
        Ok(address)
    }

    /// Takes a hardware address for an interface.
    pub(crate) fn take_mac(&mut self, interface: InterfaceId) -> MacAddress {
        let mac = addresses::mac_of(interface, &self.macs);
        self.macs.insert(mac);
        mac
    }
}
