//! The networks of the host.

use super::PortResult;
use crate::model::SecurityGroup;
use async_trait::async_trait;
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, os::fd::OwnedFd};
use types::{InstanceId, InterfaceId, MacAddress, SecurityGroupId, VpcId};

/// A VPC as the network adapter needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSpec {
    /// The VPC.
    pub id: VpcId,
    /// Its addresses.
    pub cidr: Ipv4Net,
}

/// An interface as the network adapter needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// The interface.
    pub id: InterfaceId,
    /// Its VPC.
    pub vpc: VpcSpec,
    /// The instance it is of; its id is the guest's host name.
    pub instance: InstanceId,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
    /// The vswitch's addresses.
    pub subnet: Ipv4Net,
    /// The gateway's address in the vswitch.
    pub gateway: Ipv4Addr,
}

/// An interface's place in the security groups of its VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceMembership {
    /// The interface.
    pub id: InterfaceId,
    /// Its hardware address: it may send from no other.
    pub mac: MacAddress,
    /// Its address: it may send from no other.
    pub address: Ipv4Addr,
    /// Its groups, at most 5.
    pub groups: Vec<SecurityGroupId>,
}

/// Everything that decides about the traffic of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSecurity {
    /// The VPC.
    pub vpc: VpcId,
    /// Its groups.
    pub groups: Vec<SecurityGroup>,
    /// The interfaces that are on this host.
    pub interfaces: Vec<InterfaceMembership>,
}

/// What there is of a VPC on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentVpc {
    /// The VPC.
    pub id: VpcId,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceId>,
}

/// The networks of this host.
///
/// Order: an interface's VPC is made with it; `apply_security` comes after `ensure_interface` of all interfaces it
/// names; an interface passes no packet before rules about it were applied.
#[async_trait]
pub trait Networks: Send + Sync + 'static {
    /// Makes the VPC unless it is there.
    async fn ensure_vpc(&self, vpc: &VpcSpec) -> PortResult<()>;

    /// Removes the VPC with everything in it. Fine when it is not there.
    async fn remove_vpc(&self, vpc: VpcId) -> PortResult<()>;

    /// Makes the interface unless it is there, as it is to be, and opens its tap.
    async fn ensure_interface(&self, interface: &InterfaceSpec) -> PortResult<OwnedFd>;

    /// Takes up again, after a restart of the daemon, the interface of a machine that still runs and holds its tap: its
    /// address is served again. `NotFound` when the interface is gone.
    async fn resume_interface(&self, interface: &InterfaceSpec) -> PortResult<()>;

    /// Removes the interface. Fine when it, or its VPC, is not there.
    async fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> PortResult<()>;

    /// Makes these the rules of the VPC, all at once.
    async fn apply_security(&self, security: &VpcSecurity) -> PortResult<()>;

    /// What there is.
    async fn list(&self) -> PortResult<Vec<PresentVpc>>;
}
