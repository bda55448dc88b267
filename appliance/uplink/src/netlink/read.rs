//! The network as the kernel tells it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::{Netlink, errno, list};
use crate::Error;
use crate::found::{Address, Found, Kind, Link, Route};
use crate::place::Place;

const FOREVER: u32 = u32::MAX;

impl Netlink {
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
    let v6 = header.address_family == AddressFamily::Inet6;
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
