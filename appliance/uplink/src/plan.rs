//! What the host's network shall be: plain data, whoever wrote it.

use std::net::IpAddr;

use ipnet::IpNet;

/// The host's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The name sent to DHCP servers.
    pub hostname: Option<String>,
    /// Rules for Ethernet interfaces; the first that matches counts. An interface without a rule is left down.
    pub ethernets: Vec<Ethernet>,
    /// Bonds of Ethernet interfaces.
    pub bonds: Vec<Bond>,
    /// VLANs on Ethernet interfaces or bonds.
    pub vlans: Vec<Vlan>,
    /// Name servers; they come before leased ones.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are completed with.
    pub search: Vec<String>,
}

impl Default for Plan {
    /// DHCP and IPv6 by router advertisements on every Ethernet interface.
    fn default() -> Self {
        Self {
            hostname: None,
            ethernets: vec![Ethernet {
                matches: Match::Any,
                name: None,
                settings: Settings::dynamic(),
            }],
            bonds: Vec::new(),
            vlans: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
        }
    }
}

impl Plan {
    /// The kernel modules that the plan's devices need, to be loaded before it is carried out.
    pub fn modules(&self) -> impl Iterator<Item = &'static str> {
        let bonding = (!self.bonds.is_empty()).then_some("bonding");
        let vlans = (!self.vlans.is_empty()).then_some("8021q");
        bonding.into_iter().chain(vlans)
    }
}

/// A rule for Ethernet interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// Which ones.
    pub matches: Match,
    /// The name the interface shall have; `None` for the one its place gives it. When several interfaces match, the first by place
    /// gets it.
    pub name: Option<String>,
    /// What it shall carry; nothing when it is a member of a bond.
    pub settings: Settings,
}

/// Which interfaces a rule is for. All but `Mac` match hardware only, never a software device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The one with this permanent hardware address.
    Mac([u8; 6]),
    /// The one in this place: `0000:03:00.0`, `pci-0000:03:00.0` or the name made from it, `enp3s0`.
    Path(String),
    /// Those of this kernel driver.
    Driver(String),
    /// Every one.
    Any,
}

/// What an interface carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// In bytes; `None` leaves it as it is.
    pub mtu: Option<u32>,
    /// Fixed addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Whether an IPv4 address is leased.
    pub dhcp4: bool,
    /// Whether IPv6 addresses and routes are taken from router advertisements (RFC 4862).
    pub accept_ra: bool,
    /// What its default routes cost; lower is better. `None`: in the order of names.
    pub metric: Option<u32>,
}

impl Settings {
    /// DHCP and router advertisements.
    #[must_use]
    pub fn dynamic() -> Self {
        Self {
            dhcp4: true,
            accept_ra: true,
            ..Self::default()
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// By which gateway; `None` when the destination is on the link.
    pub via: Option<IpAddr>,
    /// What it costs; `None` as the interface's.
    pub metric: Option<u32>,
}

/// Several Ethernet interfaces as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Its name.
    pub name: String,
    /// How its members share the work.
    pub mode: BondMode,
    /// Names of its members, as they are after renaming.
    pub members: Vec<String>,
    /// How often the members' links are looked at, in milliseconds; 0 is never.
    pub miimon_ms: u32,
    /// LACP packets every second instead of every 30 s; with [`BondMode::Lacp`] only.
    pub lacp_fast: bool,
    /// What it carries.
    pub settings: Settings,
}

/// How the members of a bond share the work (Linux `Documentation/networking/bonding.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BondMode {
    /// One works, the others stand by.
    ActiveBackup,
    /// Link aggregation, IEEE 802.1AX; the switch must be set to it. Flows are spread by addresses and ports.
    Lacp,
    /// In turn.
    BalanceRr,
    /// By a hash of addresses and ports.
    BalanceXor,
    /// All send everything.
    Broadcast,
    /// Sending by load.
    BalanceTlb,
    /// Sending and receiving by load.
    BalanceAlb,
}

/// A VLAN (IEEE 802.1Q).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// Its name.
    pub name: String,
    /// The interface or bond that carries it, by name.
    pub parent: String,
    /// 1–4094.
    pub id: u16,
    /// What it carries.
    pub settings: Settings,
}
