//! Connections that the kernel follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::Error;
use crate::socket::Socket;
use crate::wire::{ACK, Attributes, DUMP, connection_message, find};

/// `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1;
const DELETE: u16 = 2;
/// `CTA_TUPLE_ORIG`, and in it `CTA_TUPLE_IP`.
const ORIGINAL: u16 = 1;
const ADDRESSES: u16 = 1;

/// Forgets the connections from and to an address in a namespace, so that a later owner of the address does not
/// inherit them; how many there were.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel lacks `nf_conntrack_netlink`.
pub fn forget_connections(namespace: impl AsFd, address: IpAddr) -> Result<usize, Error> {
    let socket = Socket::open(namespace.as_fd())?;
    let family = if address.is_ipv4() { 2 } else { 10 };
    let mut tuples = Vec::new();
    let request = connection_message(GET, DUMP, family, &Attributes::default());
    let listed = socket.dump(&request, |connection| {
        if let Some(tuple) = find(connection, ORIGINAL).filter(|tuple| concerns(tuple, address)) {
            tuples.push(tuple.to_vec());
        }
    })?;
    listed.map_err(|errno| lacking(errno, "list the followed connections"))?;
    for tuple in &tuples {
        let attributes = Attributes::default().bytes_nested(ORIGINAL, tuple);
        match socket.ask(&connection_message(DELETE, ACK, family, &attributes))? {
            // It ended by itself meanwhile.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(lacking(errno, "forget a followed connection")),
        }
    }
    Ok(tuples.len())
}

/// `CTA_IP_V4_SRC`, `…_DST`, `CTA_IP_V6_SRC`, `…_DST`.
fn concerns(tuple: &[u8], address: IpAddr) -> bool {
    let Some(addresses) = find(tuple, ADDRESSES) else {
        return false;
    };
    let v4 = |kind| {
        find(addresses, kind)
            .and_then(|b| <[u8; 4]>::try_from(b).ok())
            .map(Ipv4Addr::from)
    };
    let v6 = |kind| {
        find(addresses, kind)
            .and_then(|b| <[u8; 16]>::try_from(b).ok())
            .map(Ipv6Addr::from)
    };
    match address {
        IpAddr::V4(own) => [v4(1), v4(2)].contains(&Some(own)),
        IpAddr::V6(own) => [v6(3), v6(4)].contains(&Some(own)),
    }
}

fn lacking(errno: Errno, command: &str) -> Error {
    match errno {
        Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT => Error::KernelLacks {
            missing: "nf_conntrack_netlink",
            source: errno.into(),
        },
        _ => Error::Refused {
            command: command.to_owned(),
            source: errno.into(),
        },
    }
}
