//! Devices that appear later: the kernel tells of each (Linux, Documentation/driver-api/driver-model; netlink(7),
//! NETLINK_KOBJECT_UEVENT).

use std::thread;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::Error;

/// The largest message that is read, bytes.
const MAX_MESSAGE: usize = 8 << 10;
/// The kernel's own messages.
const KERNEL: u32 = 1;

/// Calls `added` with the alias of each device that is added from now on, from a thread of its own, until it returns false. Without
/// an alias where the kernel told more than was heard: any device may be new.
///
/// # Errors
/// The kernel does not tell.
pub fn listen(mut added: impl FnMut(Option<&str>) -> bool + Send + 'static) -> Result<(), Error> {
    use std::os::fd::AsRawFd as _;
    const DOING: &str = "listen for new devices";
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkKObjectUEvent;
    let events = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)
        .map_err(Error::of(DOING))?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, KERNEL)).map_err(Error::of(DOING))?;
    let listener = thread::Builder::new()
        .name("devices".into())
        .stack_size(64 << 10);
    let listen = move || {
        let mut message = vec![0; MAX_MESSAGE];
        loop {
            match recv(events.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(count) => {
                    if let Some(alias) = added_alias(&message[..count])
                        && !added(Some(alias))
                    {
                        return;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ENOBUFS) => {
                    if !added(None) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    listener.spawn(listen).map(drop).map_err(Error::of(DOING))
}

/// The alias in a message about a device that was added: `add@/devices/…`, then `NAME=value`, each ended by a zero.
fn added_alias(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    parts.next()?.strip_prefix("add@")?;
    parts.find_map(|part| part.strip_prefix("MODALIAS="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_are_added_and_ask_for_a_driver_are_told() {
        let message = b"add@/devices/pci/1\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=1\0";
        assert_eq!(added_alias(message), Some("pci:v1"));
        for other in [
            &b"remove@/devices/pci/1\0MODALIAS=pci:v1\0"[..],
            b"add@/devices/x\0ACTION=add\0",
            b"",
            b"\xff",
        ] {
            assert_eq!(added_alias(other), None);
        }
    }
}
