//! Devices, addresses, routes and neighbours of one namespace, by rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::AbortHandle;

use crate::namespace::Namespace;
use crate::{Error, InterfaceSpec};

/// The host's hardware address on every tap: the same everywhere, so that guests never have to learn another.
const GATEWAY_MAC: [u8; 6] = [0xee, 0xff, 0xff, 0xff, 0xff, 0xff];

/// A netlink socket inside a namespace.
pub(crate) struct Links {
    namespace: String,
    handle: Handle,
    connection: AbortHandle,
}

/// A tap as it is.
pub(crate) struct FoundTap {
    pub(crate) device: String,
    pub(crate) alias: Option<String>,
}

impl Links {
    /// Must be called in a tokio runtime.
    pub(crate) fn open(namespace: &Namespace) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let opened = namespace.enter(|| {
            let _context = runtime.enter();
            rtnetlink::new_connection()
        })?;
        let (connection, handle, _) = opened.map_err(|source| Error::Namespace {
            step: "open a netlink socket",
            name: namespace.name().to_owned(),
            source,
        })?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self {
            namespace: namespace.name().to_owned(),
            handle,
            connection,
        })
    }

    /// The index of a device; `None` when there is none.
    pub(crate) async fn index(&self, device: &str) -> Result<Option<u32>, Error> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(device.to_owned())
            .execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|l| l.header.index)),
            Err(e) if is(&e, libc::ENODEV) => Ok(None),
            Err(e) => Err(self.failed("look for the device", device, e)),
        }
    }

    /// Everything but bringing it up.
    pub(crate) async fn prepare(
        &self,
        device: &str,
        index: u32,
        spec: &InterfaceSpec,
    ) -> Result<(), Error> {
        let link = LinkUnspec::new_with_index(index)
            .mtu(u32::from(spec.mtu))
            .address(GATEWAY_MAC.to_vec())
            .append_extra_attribute(LinkAttribute::IfAlias(spec.id.to_string()))
            .build();
        self.set("set MTU, hardware address and alias", device, link)
            .await?;
        let gateway = IpAddr::V4(spec.gateway);
        let added = self
            .handle
            .address()
            .add(index, gateway, 32)
            .replace()
            .execute()
            .await;
        added.map_err(|e| self.failed("give it the gateway's address", device, e))
    }

    /// Brings it up, with the way to its guest.
    pub(crate) async fn raise(
        &self,
        device: &str,
        index: u32,
        spec: &InterfaceSpec,
    ) -> Result<(), Error> {
        self.set(
            "bring it up",
            device,
            LinkUnspec::new_with_index(index).up().build(),
        )
        .await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(spec.address, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(spec.gateway)
            .build();
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(|e| self.failed("add the route to the guest", device, e))?;
        let neighbour = self
            .handle
            .neighbours()
            .add(index, IpAddr::V4(spec.address));
        let added = neighbour
            .link_layer_address(&spec.mac.octets())
            .replace()
            .execute()
            .await;
        added.map_err(|e| self.failed("add the guest as a neighbour", device, e))
    }

    /// The address behind a device, as its route says; `None` when there is no such device or route.
    pub(crate) async fn guest_address(&self, device: &str) -> Result<Option<Ipv4Addr>, Error> {
        let Some(index) = self.index(device).await? else {
            return Ok(None);
        };
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(all).execute();
        let mut found = None;
        while let Some(route) = routes
            .try_next()
            .await
            .map_err(|e| self.failed("list its routes", device, e))?
        {
            let (mut to, mut out) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
                    RouteAttribute::Oif(oif) => out = Some(*oif),
                    _ => {}
                }
            }
            let main = route.header.table == RouteHeader::RT_TABLE_MAIN;
            if main && out == Some(index) && route.header.destination_prefix_length == 32 {
                found = to.or(found);
            }
        }
        Ok(found)
    }

    /// Removes a device; `false` when there was none.
    pub(crate) async fn remove(&self, device: &str) -> Result<bool, Error> {
        let Some(index) = self.index(device).await? else {
            return Ok(false);
        };
        match self.handle.link().del(index).execute().await {
            Ok(()) => Ok(true),
            Err(e) if is(&e, libc::ENODEV) => Ok(false),
            Err(e) => Err(self.failed("remove the device", device, e)),
        }
    }

    /// All taps of the namespace.
    pub(crate) async fn taps(&self) -> Result<Vec<FoundTap>, Error> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| self.failed("list the devices", "*", e))?;
        Ok(links.iter().filter_map(found_tap).collect())
    }

    async fn set(&self, step: &'static str, device: &str, link: LinkMessage) -> Result<(), Error> {
        self.handle
            .link()
            .set(link)
            .execute()
            .await
            .map_err(|e| self.failed(step, device, e))
    }

    fn failed(&self, step: &'static str, device: &str, error: rtnetlink::Error) -> Error {
        let source = match &error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Error::Device {
            step,
            device: device.to_owned(),
            name: self.namespace.clone(),
            source,
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn found_tap(link: &LinkMessage) -> Option<FoundTap> {
    let (mut device, mut alias, mut tap) = (None, None, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device = Some(name.clone()),
            LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
            LinkAttribute::LinkInfo(info) => tap = info.contains(&LinkInfo::Kind(InfoKind::Tun)),
            _ => {}
        }
    }
    device
        .filter(|_| tap)
        .map(|device| FoundTap { device, alias })
}

fn is(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}
