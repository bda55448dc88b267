//! VPCs, vswitches and network interfaces.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use types::{InstanceId, InterfaceId, MacAddress, SecurityGroupId, Timestamp, VpcId, VswitchId};

/// A VPC: a private network with address space of its own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Vpc {
    /// `vpc-…`
    pub id: VpcId,
    /// A name for people.
    pub name: Option<String>,
    /// Its addresses: in 10/8, 172.16/12 or 192.168/16.
    pub cidr: Ipv4Net,
    /// Whether it is where instances go whose request names no vswitch.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A vswitch: a part of a VPC's addresses, /16 to /29.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Vswitch {
    /// `vsw-…`
    pub id: VswitchId,
    /// The VPC it is of.
    pub vpc: VpcId,
    /// A name for people.
    pub name: Option<String>,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Whether it is where instances of its VPC go whose request names no vswitch.
    pub is_default: bool,
    /// How many addresses are free; counted when it is read.
    #[serde(skip)]
    pub available_addresses: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where an interface is in its life, as ECS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum InterfaceState {
    /// Of no instance.
    Available,
    /// Of an instance.
    InUse,
    /// Being deleted.
    Deleting,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NetworkInterface {
    /// `eni-…`
    pub id: InterfaceId,
    /// The VPC it is in.
    pub vpc: VpcId,
    /// The vswitch it is on.
    pub vswitch: VswitchId,
    /// Where it is in its life.
    pub state: InterfaceState,
    /// The instance it is of.
    pub instance: Option<InstanceId>,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub private_ip: Ipv4Addr,
    /// The groups that decide about its traffic.
    pub security_groups: Vec<SecurityGroupId>,
    /// When it was made.
    pub created_at: Timestamp,
}
