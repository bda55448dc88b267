//! A tap: frames with a virtio-net header in front.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::OFlags;

use super::guest_iov::GuestIov;

/// `TUNGETIFF`, `TUNSETOFFLOAD`, `TUNSETVNETHDRSZ` of linux/if_tun.h.
const TUNGETIFF: libc::c_ulong = 0x8004_54D2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54D0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54D8;
/// Offset and size of `struct ifreq`; its flags follow the 16-byte name.
const IFREQ_BYTES: usize = 40;
const IFREQ_FLAGS: usize = 16;

/// What one transfer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes, header included.
    Bytes(usize),
    /// Nothing to read now.
    Empty,
    /// The frame was refused, or the tap is down or gone.
    Refused,
}

/// An open tap in non-blocking mode whose header is that of virtio 1.2.
pub(crate) struct Tap(OwnedFd);

impl Tap {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut request = [0u8; IFREQ_BYTES];
        // SAFETY: TUNGETIFF writes one `struct ifreq`, 40 bytes, to the buffer; on other files it fails.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, request.as_mut_ptr()) })?;
        let flags = u16::from_le_bytes([request[IFREQ_FLAGS], request[IFREQ_FLAGS + 1]]);
        let needed = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if libc::c_int::from(flags) & needed != needed {
            return Err(io::Error::other(format!(
                "the interface has flags {flags:#06x}, needs {needed:#06x}"
            )));
        }
        let header = libc::c_int::try_from(virtio::net::HEADER_BYTES).unwrap_or(12);
        // SAFETY: TUNSETVNETHDRSZ reads one int from the address.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const header) })?;
        let mode = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, mode | OFlags::NONBLOCK)?;
        Ok(Tap(fd))
    }

    /// Tells the host's network stack what the guest can receive (`virtio::net::TUN_F_*`).
    pub(crate) fn set_offloads(&self, flags: u32) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                TUNSETOFFLOAD,
                libc::c_ulong::from(flags),
            )
        })
    }

    /// Reads one frame into guest memory.
    pub(crate) fn read(&self, into: &GuestIov) -> Moved {
        let runs = into.runs();
        let count = libc::c_int::try_from(runs.len()).unwrap_or(0);
        // SAFETY: the runs are guest memory that the device holding both keeps mapped; the kernel checks them
        // as it checks any user buffer, and the guest's own accesses to it are not ours.
        moved(unsafe { libc::readv(self.0.as_raw_fd(), runs.as_ptr(), count) })
    }

    /// Sends one frame from guest memory.
    pub(crate) fn write(&self, from: &GuestIov) -> Moved {
        let runs = from.runs();
        let count = libc::c_int::try_from(runs.len()).unwrap_or(0);
        // SAFETY: as for `read`.
        moved(unsafe { libc::writev(self.0.as_raw_fd(), runs.as_ptr(), count) })
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn moved(result: isize) -> Moved {
    match usize::try_from(result) {
        Ok(bytes) => Moved::Bytes(bytes),
        Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Moved::Empty,
        Err(_) => Moved::Refused,
    }
}
