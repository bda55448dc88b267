//! A DHCP server for the one guest behind one tap (RFC 2131).

mod answer;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dhcproto::v4::Message;
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use std::os::fd::AsRawFd;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::namespace::Namespace;
use crate::{Error, InterfaceSpec};
use answer::{Answer, answer};

/// BOOTP's smallest message; some clients ignore shorter ones.
const SMALLEST: usize = 300;
/// A guest may ask this often at once, and this often per second in the long run; more is ignored.
const BURST: f64 = 20.0;
const PER_SECOND: f64 = 5.0;

/// Serves until dropped.
pub(crate) struct Server {
    task: AbortHandle,
}

impl Server {
    /// Starts serving on a device of a namespace. Must be called in a tokio runtime.
    pub(crate) fn start(
        namespace: &Namespace,
        device: &str,
        spec: &InterfaceSpec,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Device {
            step: "open the DHCP server's socket",
            device: device.to_owned(),
            name: namespace.name().to_owned(),
            source,
        };
        let socket = namespace.enter(|| open(device))?.map_err(failed)?;
        let socket = tokio::net::UdpSocket::from_std(socket).map_err(failed)?;
        let task = tokio::spawn(serve(socket, spec.clone())).abort_handle();
        Ok(Self { task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bound to the device before it is bound to the port, so that it never sees another guest's packets.
fn open(device: &str) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device))?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 67))?;
    Ok(socket.into())
}

async fn serve(socket: tokio::net::UdpSocket, spec: InterfaceSpec) {
    let mut buffer = [0_u8; 1500];
    let mut bucket = Bucket {
        tokens: BURST,
        filled: Instant::now(),
    };
    loop {
        let length = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => length,
            Err(error) => {
                // The device went down or away; the manager ends this task when it goes for good.
                warn!(interface = %spec.id, %error, "DHCP: cannot receive");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if !bucket.take(Instant::now()) {
            continue;
        }
        let request = match Message::decode(&mut Decoder::new(&buffer[..length])) {
            Ok(request) => request,
            Err(error) => {
                debug!(interface = %spec.id, %error, "DHCP: not a message");
                continue;
            }
        };
        let Some(Answer { message, to }) = answer(&spec, &request) else {
            continue;
        };
        let mut bytes = Vec::with_capacity(SMALLEST);
        if let Err(error) = message.encode(&mut Encoder::new(&mut bytes)) {
            warn!(interface = %spec.id, %error, "DHCP: the answer cannot be written");
            continue;
        }
        bytes.resize(bytes.len().max(SMALLEST), 0);
        if let Err(error) = socket.send_to(&bytes, SocketAddr::from((to, 68))).await {
            warn!(interface = %spec.id, %error, "DHCP: cannot send");
        }
    }
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.filled).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + more).min(BURST);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// Where a client without an address is reached.
const EVERYONE: Ipv4Addr = Ipv4Addr::BROADCAST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_asks_without_end_is_answered_now_and_then() {
        let start = Instant::now();
        let mut bucket = Bucket {
            tokens: BURST,
            filled: start,
        };
        let granted = |bucket: &mut Bucket, at: Duration| {
            (0..1000).filter(|_| bucket.take(start + at)).count()
        };
        assert_eq!(granted(&mut bucket, Duration::ZERO), 20);
        assert_eq!(granted(&mut bucket, Duration::from_secs(1)), 5);
        assert_eq!(granted(&mut bucket, Duration::from_secs(3600)), 20);
    }
}
