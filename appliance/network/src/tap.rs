//! Opens taps.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// `TUNSETIFF` and `TUNSETVNETHDRSZ` of linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54CA;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54D8;
/// `struct virtio_net_hdr_v1` (virtio 1.2 §5.1.6).
static HEADER_BYTES: libc::c_int = 12;

/// What opening a tap came to.
pub(crate) enum Opened {
    /// It is ours now, new or left behind by a process that is no more.
    Tap(OwnedFd),
    /// Another process holds it.
    Busy,
    /// A device of another kind has the name.
    OtherKind,
}

/// Opens /dev/net/tun; the tap will be in the network namespace of the calling thread.
pub(crate) fn open_control() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open("/dev/net/tun")
}

/// Makes the open control file the tap `name` (1–15 bytes): Ethernet frames after a 12-byte virtio-net header,
/// non-blocking, one queue, gone when the last descriptor of it closes.
pub(crate) fn attach(control: File, name: &str) -> io::Result<Opened> {
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("a device name has 1–15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call and whose name ends with a NUL.
    if unsafe { libc::ioctl(control.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EBUSY) => Ok(Opened::Busy),
            Some(libc::EINVAL) => Ok(Opened::OtherKind),
            _ => Err(error),
        };
    }
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    if unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            TUNSETVNETHDRSZ,
            &raw const HEADER_BYTES,
        )
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(Opened::Tap(control.into()))
}
