//! Steps from the network as it is to the network as it shall be.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::found::Route;
use crate::plan::Bond;

/// One step; repeating it does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Rename {
        index: u32,
        from: String,
        to: String,
    },
    Remove {
        index: u32,
        name: String,
    },
    AddBond {
        bond: Bond,
        alias: String,
    },
    AddVlan {
        name: String,
        id: u16,
        parent: u32,
        alias: String,
    },
    Join {
        index: u32,
        name: String,
        bond: u32,
    },
    Leave {
        index: u32,
        name: String,
    },
    Mtu {
        index: u32,
        name: String,
        mtu: u32,
    },
    Up {
        index: u32,
        name: String,
    },
    AcceptRa {
        name: String,
        accept: bool,
    },
    /// Also gives an address that is there another life.
    AddAddress {
        index: u32,
        name: String,
        net: IpNet,
        valid: Option<u32>,
    },
    RemoveAddress {
        index: u32,
        name: String,
        net: IpNet,
    },
    AddRoute {
        name: String,
        route: Route,
        onlink: bool,
    },
    RemoveRoute {
        name: String,
        route: Route,
    },
}

impl Action {
    /// The interface it is about.
    pub(crate) fn interface(&self) -> &str {
        match self {
            Self::Rename { from: name, .. }
            | Self::Remove { name, .. }
            | Self::AddVlan { name, .. }
            | Self::Join { name, .. }
            | Self::Leave { name, .. }
            | Self::Mtu { name, .. }
            | Self::Up { name, .. }
            | Self::AcceptRa { name, .. }
            | Self::AddAddress { name, .. }
            | Self::RemoveAddress { name, .. }
            | Self::AddRoute { name, .. }
            | Self::RemoveRoute { name, .. } => name,
            Self::AddBond { bond, .. } => &bond.name,
        }
    }

    /// The kernel module without which it is not supported.
    pub(crate) fn module(&self) -> Option<&'static str> {
        match self {
            Self::AddBond { .. } => Some("bonding"),
            Self::AddVlan { .. } => Some("8021q"),
            _ => None,
        }
    }

    /// Whether doing it again later is the same step, although the seconds left differ.
    pub(crate) fn is_again(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::AddAddress { index, net, .. },
                Self::AddAddress {
                    index: other_index,
                    net: other_net,
                    ..
                },
            ) => index == other_index && net == other_net,
            _ => self == other,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { to, .. } => write!(f, "rename it to {to}"),
            Self::Remove { .. } => write!(f, "remove it"),
            Self::AddBond { .. } => write!(f, "make the bond"),
            Self::AddVlan { id, .. } => write!(f, "make the VLAN {id}"),
            Self::Join { .. } => write!(f, "put it into its bond"),
            Self::Leave { .. } => write!(f, "take it out of its bond"),
            Self::Mtu { mtu, .. } => write!(f, "set its MTU to {mtu}"),
            Self::Up { .. } => write!(f, "bring it up"),
            Self::AcceptRa { accept: true, .. } => write!(f, "accept router advertisements"),
            Self::AcceptRa { .. } => write!(f, "ignore router advertisements"),
            Self::AddAddress { net, .. } => write!(f, "give it the address {net}"),
            Self::RemoveAddress { net, .. } => write!(f, "take the address {net} away"),
            Self::AddRoute { route, .. } => {
                write!(f, "add the route to {}{}", route.to, Via(route.via))
            }
            Self::RemoveRoute { route, .. } => {
                write!(f, "remove the route to {}{}", route.to, Via(route.via))
            }
        }
    }
}

struct Via(Option<IpAddr>);

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |gateway| write!(f, " by {gateway}"))
    }
}
