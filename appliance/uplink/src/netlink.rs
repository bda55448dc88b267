//! Reads the network from the kernel and carries out steps, by rtnetlink and sysctl.

mod read;
mod watch;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::packet_route::link::{
    BondLacpRate, BondMode as KernelMode, BondXmitHashPolicy, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkBond, LinkUnspec, LinkVlan, RouteMessageBuilder};
use tokio::task::AbortHandle;

use crate::Error;
use crate::action::Action;
use crate::found::Route;
use crate::plan::{Bond, BondMode};
pub(crate) use watch::Watcher;

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
        message = message.scope(RouteScope::Link);
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
