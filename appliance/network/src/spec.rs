//! What an interface should be, and the names and addresses that follow from it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use types::{InterfaceId, MacAddress, VpcId};

use crate::Error;

/// Everything about one interface. Changing anything but `dns`, `hostname` and `lease_seconds` needs a new interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// `eni-…`
    pub id: InterfaceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The guest's hardware address.
    pub mac: MacAddress,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The subnet (vswitch) the guest believes to be on: /29 or larger.
    pub subnet: Ipv4Net,
    /// The host's address on that subnet; usually [`gateway_of`] it.
    pub gateway: Ipv4Addr,
    /// 576–65521 bytes.
    pub mtu: u16,
    /// Told to the guest, if there is one.
    pub hostname: Option<String>,
    /// Name servers told to the guest, at most 8.
    pub dns: Vec<Ipv4Addr>,
    /// Routes beside the one by the gateway: destination and next hop; at most 16.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// How long an address may be used without asking again, 60 or more.
    pub lease_seconds: u32,
}

impl InterfaceSpec {
    /// An interface of the usual kind: MTU 1500, a lease of a day, no names.
    ///
    /// # Errors
    /// As [`gateway_of`].
    pub fn new(
        id: InterfaceId,
        vpc: VpcId,
        mac: MacAddress,
        address: Ipv4Addr,
        subnet: Ipv4Net,
    ) -> Result<Self, Error> {
        let gateway = gateway_of(subnet)?;
        let (hostname, dns, routes) = (None, Vec::new(), Vec::new());
        Ok(Self {
            id,
            vpc,
            mac,
            address,
            subnet,
            gateway,
            mtu: 1500,
            hostname,
            dns,
            routes,
            lease_seconds: 86_400,
        })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        gateway_of(self.subnet)?;
        let edges = [self.subnet.network(), self.subnet.broadcast()];
        for address in [self.address, self.gateway] {
            if !self.subnet.contains(&address) || edges.contains(&address) {
                return Err(Error::Address {
                    address,
                    subnet: self.subnet,
                });
            }
        }
        if self.address == self.gateway {
            return Err(Error::Address {
                address: self.address,
                subnet: self.subnet,
            });
        }
        if !(576..=65_521).contains(&self.mtu) {
            return Err(Error::Mtu { mtu: self.mtu });
        }
        Ok(())
    }
}

/// The gateway of a subnet as ECS places it: the last address but two (x.x.x.253 in a /24).
///
/// # Errors
/// When the mask is longer than /29.
pub fn gateway_of(subnet: Ipv4Net) -> Result<Ipv4Addr, Error> {
    if subnet.prefix_len() > 29 {
        return Err(Error::SubnetTooSmall { subnet });
    }
    Ok(Ipv4Addr::from(u32::from(subnet.broadcast()) - 2))
}

/// The name of an interface's tap: `t` and the first 14 of the 17 characters of its id. The whole id is the device's
/// alias.
#[must_use]
pub fn device_name(interface: InterfaceId) -> String {
    format!("t{}", &interface.body()[..14])
}
