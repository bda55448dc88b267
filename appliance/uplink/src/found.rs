//! The host's network as the kernel has it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::place::Place;

/// All of it that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    /// Unicast routes of the main table that are static or from DHCP.
    pub(crate) routes: Vec<Route>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mac: [u8; 6],
    /// The hardware's own address: a member of a bond shows another as `mac`.
    pub(crate) permanent_mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    /// The index of the bond it is a member of.
    pub(crate) controller: Option<u32>,
    /// The index of the device below it.
    pub(crate) parent: Option<u32>,
    pub(crate) alias: Option<String>,
    /// The setting of that name; `None` where there is no IPv6.
    pub(crate) accept_ra: Option<u8>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Loopback,
    /// An Ethernet interface without software kind.
    Hardware,
    Veth,
    Bond,
    Vlan,
    Other,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) net: IpNet,
    /// Seconds that it still holds; `None` is for ever.
    pub(crate) valid: Option<u32>,
    /// Whether the kernel made it itself: link-local, or by a router advertisement.
    pub(crate) automatic: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) index: u32,
    pub(crate) to: IpNet,
    pub(crate) via: Option<IpAddr>,
    pub(crate) metric: u32,
    pub(crate) source: Option<IpAddr>,
    pub(crate) dhcp: bool,
}

impl Found {
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.index == index)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }
}
