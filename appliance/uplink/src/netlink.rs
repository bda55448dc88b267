//! Reads the network from the kernel and carries out steps, by rtnetlink and sysctl.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{
    BondLacpRate, BondMode as KernelMode, BondXmitHashPolicy, InfoKind, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, LinkBond, LinkUnspec, LinkVlan, MulticastGroup, RouteMessageBuilder};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::Error;
use crate::action::Action;
use crate::found::{Address, Found, Kind, Link, Route};
use crate::place::Place;
use crate::plan::{Bond, BondMode};

const FOREVER: u32 = u32::MAX;

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    handle: Handle,
    connection: AbortHandle,
    sysfs: PathBuf,
    procfs: PathBuf,
}

impl Netlink {
    /// Must be called in a tokio runtime.
    pub(crate) fn open(sysfs: &Path, procfs: &Path) -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| Error::Open { source })?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self {
            handle,
            connection,
            sysfs: sysfs.to_owned(),
            procfs: procfs.to_owned(),
        })
    }

    pub(crate) async fn read(&self) -> Result<Found, Error> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| list("links", &e))?;
        let addresses: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| list("addresses", &e))?;
        let mut routes = Vec::new();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for family in [v4, v6] {
            match self
                .handle
                .route()
                .get(family)
                .execute()
                .try_collect::<Vec<_>>()
                .await
            {
                Ok(found) => routes.extend(found),
                // A kernel without IPv6 has no routes of it.
                Err(e) if [libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&errno(&e)) => {}
                Err(e) => return Err(list("routes", &e)),
            }
        }
        Ok(Found {
            links: links.iter().filter_map(|l| self.link(l)).collect(),
            addresses: addresses.iter().filter_map(address).collect(),
            routes: routes.iter().filter_map(route).collect(),
        })
    }

    fn link(&self, message: &LinkMessage) -> Option<Link> {
        let header = &message.header;
        let ether = header.link_layer_type == LinkLayerType::Ether;
        let (mut name, mut mac, mut permanent, mut alias) = (None, None, None, None);
        let (mut mtu, mut controller, mut parent, mut kind) = (0, None, None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
                LinkAttribute::PermAddress(bytes) => {
                    permanent = <[u8; 6]>::try_from(bytes.as_slice()).ok()
                }
                LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                LinkAttribute::Controller(index) => controller = Some(*index).filter(|i| *i != 0),
                LinkAttribute::Link(index) => parent = Some(*index).filter(|i| *i != 0),
                LinkAttribute::LinkInfo(info) => {
                    kind = info.iter().find_map(|i| match i {
                        LinkInfo::Kind(kind) => Some(kind.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let kind = match kind {
            _ if header.flags.contains(LinkFlags::Loopback) => Kind::Loopback,
            Some(InfoKind::Veth) => Kind::Veth,
            Some(InfoKind::Bond) => Kind::Bond,
            Some(InfoKind::Vlan) => Kind::Vlan,
            None if ether => Kind::Hardware,
            _ => Kind::Other,
        };
        let name = name?;
        let mac = mac.unwrap_or_default();
        let real = kind != Kind::Loopback && kind != Kind::Other;
        Some(Link {
            index: header.index,
            kind,
            mac,
            permanent_mac: permanent.unwrap_or(mac),
            mtu,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            controller,
            parent,
            alias,
            accept_ra: real.then(|| self.accept_ra(&name)).flatten(),
            place: if kind == Kind::Hardware {
                Place::read(&self.sysfs, &name)
            } else {
                Place::default()
            },
            name,
        })
    }

    fn accept_ra(&self, device: &str) -> Option<u8> {
        fs::read_to_string(self.accept_ra_file(device))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn accept_ra_file(&self, device: &str) -> PathBuf {
        self.procfs
            .join("sys/net/ipv6/conf")
            .join(device)
            .join("accept_ra")
    }

    /// Carries out one step.
    pub(crate) async fn execute(&self, action: &Action) -> Result<(), Error> {
        self.try_execute(action).await.map_err(|source| {
            let (step, interface) = (action.to_string(), action.interface().to_owned());
            let unknown = source.raw_os_error() == Some(libc::EOPNOTSUPP);
            match action.module().filter(|_| unknown) {
                Some(module) => Error::NoModule {
                    step,
                    interface,
                    module,
                },
                None => Error::Step {
                    step,
                    interface,
                    source,
                },
            }
        })
    }

    async fn try_execute(&self, action: &Action) -> io::Result<()> {
        match action {
            Action::Rename { index, to, .. } => {
                self.set(LinkUnspec::new_with_index(*index).down().build())
                    .await?;
                self.set(LinkUnspec::new_with_index(*index).name(to.clone()).build())
                    .await
            }
            Action::Remove { index, .. } => {
                gone(self.handle.link().del(*index).execute().await, libc::ENODEV)
            }
            Action::AddBond { bond, alias } => {
                self.add_link(bond_message(bond), &bond.name, alias).await
            }
            Action::AddVlan {
                name,
                id,
                parent,
                alias,
            } => {
                self.add_link(LinkVlan::new(name, *parent, *id).build(), name, alias)
                    .await
            }
            // A bond takes only what is down (bonding.rst, "Configuring Bonding Manually").
            Action::Join { index, bond, .. } => {
                self.set(LinkUnspec::new_with_index(*index).down().build())
                    .await?;
                self.set(LinkUnspec::new_with_index(*index).controller(*bond).build())
                    .await
            }
            Action::Leave { index, .. } => {
                self.set(LinkUnspec::new_with_index(*index).nocontroller().build())
                    .await
            }
            Action::Mtu { index, mtu, .. } => {
                self.set(LinkUnspec::new_with_index(*index).mtu(*mtu).build())
                    .await
            }
            Action::Up { index, .. } => {
                self.set(LinkUnspec::new_with_index(*index).up().build())
                    .await
            }
            Action::AcceptRa { name, accept } => {
                fs::write(self.accept_ra_file(name), if *accept { "2" } else { "0" })
            }
            Action::AddAddress {
                index, net, valid, ..
            } => {
                let mut add = self
                    .handle
                    .address()
                    .add(*index, net.addr(), net.prefix_len())
                    .replace();
                if let Some(seconds) = valid {
                    let mut life = CacheInfo::default();
                    (life.ifa_valid, life.ifa_preferred) = (*seconds, *seconds);
                    add.message_mut()
                        .attributes
                        .push(AddressAttribute::CacheInfo(life));
                }
                add.execute().await.map_err(|e| io_error(&e))
            }
            Action::RemoveAddress { index, net, .. } => {
                let add = &mut self
                    .handle
                    .address()
                    .add(*index, net.addr(), net.prefix_len());
                let removed = self
                    .handle
                    .address()
                    .del(add.message_mut().clone())
                    .execute()
                    .await;
                gone(removed, libc::EADDRNOTAVAIL)
            }
            Action::AddRoute { route, onlink, .. } => {
                let message = route_message(route, *onlink)?;
                self.handle
                    .route()
                    .add(message)
                    .execute()
                    .await
                    .map_err(|e| io_error(&e))
            }
            Action::RemoveRoute { route, .. } => {
                let removed = self
                    .handle
                    .route()
                    .del(route_message(route, false)?)
                    .execute()
                    .await;
                gone(removed, libc::ESRCH)
            }
        }
    }

    async fn set(&self, link: LinkMessage) -> io::Result<()> {
        self.handle
            .link()
            .set(link)
            .execute()
            .await
            .map_err(|e| io_error(&e))
    }

    /// Adds a device and marks it as made here. Without the mark it would be made anew the next time.
    async fn add_link(&self, link: LinkMessage, name: &str, alias: &str) -> io::Result<()> {
        self.handle
            .link()
            .add(link)
            .execute()
            .await
            .map_err(|e| io_error(&e))?;
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        self.set(
            LinkUnspec::new_with_name(name)
                .append_extra_attribute(alias)
                .build(),
        )
        .await
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Tells that links, addresses or routes changed, whoever changed them.
pub(crate) struct Watcher {
    changes: mpsc::Receiver<()>,
    tasks: [AbortHandle; 2],
}

impl Watcher {
    /// Must be called in a tokio runtime.
    pub(crate) fn open() -> Result<Self, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
        ];
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| Error::Open { source })?;
        // One change that was not looked at yet says as much as many.
        let (tell, changes) = mpsc::channel(1);
        let forward = async move {
            while messages.next().await.is_some() {
                if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                    return;
                }
            }
        };
        let tasks = [
            tokio::spawn(connection).abort_handle(),
            tokio::spawn(forward).abort_handle(),
        ];
        Ok(Self { changes, tasks })
    }

    /// Waits for a change; for ever when the kernel tells no more.
    pub(crate) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn bond_message(bond: &Bond) -> LinkMessage {
    let mode = match bond.mode {
        BondMode::ActiveBackup => KernelMode::ActiveBackup,
        BondMode::Lacp => KernelMode::Ieee8023Ad,
        BondMode::BalanceRr => KernelMode::BalanceRr,
        BondMode::BalanceXor => KernelMode::BalanceXor,
        BondMode::Broadcast => KernelMode::Broadcast,
        BondMode::BalanceTlb => KernelMode::BalanceTlb,
        BondMode::BalanceAlb => KernelMode::BalanceAlb,
    };
    let mut link = LinkBond::new(&bond.name).mode(mode).miimon(bond.miimon_ms);
    if matches!(bond.mode, BondMode::Lacp | BondMode::BalanceXor) {
        link = link.xmit_hash_policy(BondXmitHashPolicy::Layer34);
    }
    if bond.mode == BondMode::Lacp {
        let rate = if bond.lacp_fast {
            BondLacpRate::Fast
        } else {
            BondLacpRate::Slow
        };
        link = link.ad_lacp_rate(rate);
    }
    link.build()
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut address, mut local, mut valid, mut automatic) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::CacheInfo(life) => {
                valid = Some(life.ifa_valid).filter(|v| *v != FOREVER)
            }
            AddressAttribute::Protocol(
                AddressProtocol::RouterAnnouncement
                | AddressProtocol::LinkLocal
                | AddressProtocol::Loopback,
            ) => automatic = true,
            _ => {}
        }
    }
    let ip = local.or(address)?;
    // Kernels before 5.18 do not tell who made an address: what is IPv6 and ends came from a router.
    let v6 = match ip {
        IpAddr::V6(ip) => ip.is_unicast_link_local() || valid.is_some(),
        IpAddr::V4(_) => false,
    };
    Some(Address {
        index: message.header.index,
        net: IpNet::new(ip, message.header.prefix_len).ok()?,
        valid,
        automatic: automatic || v6,
    })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let dhcp = header.protocol == RouteProtocol::Dhcp;
    let ours = dhcp || header.protocol == RouteProtocol::Static;
    if !ours || header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let mut found: HashMap<&str, IpAddr> = HashMap::new();
    let (mut index, mut metric) = (None, 0);
    for attribute in &message.attributes {
        let (key, address) = match attribute {
            RouteAttribute::Destination(a) => ("to", a),
            RouteAttribute::Gateway(a) => ("via", a),
            RouteAttribute::PrefSource(a) => ("source", a),
            RouteAttribute::Oif(oif) => {
                index = Some(*oif);
                continue;
            }
            RouteAttribute::Priority(cost) => {
                metric = *cost;
                continue;
            }
            _ => continue,
        };
        found.extend(ip(address).map(|ip| (key, ip)));
    }
    let v6 = header.address_family == rtnetlink::packet_route::AddressFamily::Inet6;
    let unspecified = if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let to = found.get("to").copied().unwrap_or(unspecified);
    Some(Route {
        index: index?,
        to: IpNet::new(to, header.destination_prefix_length).ok()?,
        via: found.get("via").copied(),
        metric,
        source: found.get("source").copied(),
        dhcp,
    })
}

fn route_message(route: &Route, onlink: bool) -> io::Result<RouteMessage> {
    let invalid = |_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "IPv4 and IPv6 are mixed in one route",
        )
    };
    let protocol = if route.dhcp {
        RouteProtocol::Dhcp
    } else {
        RouteProtocol::Static
    };
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .map_err(invalid)?
        .output_interface(route.index)
        .protocol(protocol)
        .priority(route.metric);
    if let Some(gateway) = route.via {
        message = message.gateway(gateway).map_err(invalid)?;
    } else if route.to.addr().is_ipv4() {
        message = message.scope(rtnetlink::packet_route::route::RouteScope::Link);
    }
    if let Some(source) = route.source {
        message = message.pref_source(source).map_err(invalid)?;
    }
    Ok(if onlink { message.onlink() } else { message }.build())
}

fn list(what: &'static str, error: &rtnetlink::Error) -> Error {
    Error::List {
        what,
        source: io_error(error),
    }
}

fn io_error(error: &rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn errno(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => -message.raw_code(),
        _ => 0,
    }
}

/// What is not there need not be removed.
fn gone(result: Result<(), rtnetlink::Error>, missing: i32) -> io::Result<()> {
    match result {
        Err(e) if errno(&e) != missing => Err(io_error(&e)),
        _ => Ok(()),
    }
}
