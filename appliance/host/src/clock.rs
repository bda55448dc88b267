//! The clock: never before the image was made, then as time servers say (RFC 5905, in its simple form).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsntp::SntpClient;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::Error;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A difference below this is left alone.
pub const TOLERANCE: Duration = Duration::from_millis(20);

/// Sets the clock forward to `floor` (seconds since 1970) if it is before; whether it was. A machine without a battery begins in
/// 1970, and certificates would not be valid yet.
///
/// # Errors
/// The kernel refused.
pub fn at_least(floor: u64) -> Result<bool, Error> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if now.as_secs() >= floor {
        return Ok(false);
    }
    set(Duration::from_secs(floor))?;
    Ok(true)
}

/// Asks one time server how far the clock is off and sets it when that is more than [`TOLERANCE`]. Returns the difference,
/// seconds, positive when the clock was behind. Blocks for up to three seconds.
///
/// # Errors
/// The server does not answer, its answer makes no sense, or the kernel refused.
pub fn synchronise(server: &str) -> Result<f64, Error> {
    let mut client = SntpClient::new();
    client.set_timeout(TIMEOUT);
    let answer = client.synchronize(server).map_err(|error| {
        Error::new(
            format!("ask the time server {server}"),
            std::io::Error::other(error),
        )
    })?;
    let offset = answer.clock_offset().as_secs_f64();
    if offset.abs() > TOLERANCE.as_secs_f64() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let target = Duration::try_from_secs_f64(now + offset).map_err(|error| {
            Error::new(
                format!("believe the time server {server}"),
                std::io::Error::other(error),
            )
        })?;
        set(target)?;
    }
    Ok(offset)
}

fn set(since_epoch: Duration) -> Result<(), Error> {
    let time = Timespec::try_from(since_epoch).map_err(|_| {
        Error::new(
            "set the clock",
            std::io::Error::from(std::io::ErrorKind::InvalidInput),
        )
    })?;
    clock_settime(ClockId::Realtime, time).map_err(Error::of("set the clock"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// A server that is right to a few milliseconds, for one request (RFC 5905 §7.3).
    fn server() -> (String, std::thread::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let answer = move || {
            let mut request = [0; 48];
            let (_, client) = socket.recv_from(&mut request).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let seconds = u32::try_from(now.as_secs() + 2_208_988_800).unwrap();
            let fraction =
                u32::try_from((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000).unwrap();
            let mut reply = [0; 48];
            // Version 4, mode 4 (server), stratum 1.
            (reply[0], reply[1]) = (0x24, 1);
            reply[24..32].copy_from_slice(&request[40..48]);
            for at in [16, 32, 40] {
                reply[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                reply[at + 4..at + 8].copy_from_slice(&fraction.to_be_bytes());
            }
            socket.send_to(&reply, client).unwrap();
        };
        (address, std::thread::spawn(answer))
    }

    #[test]
    fn a_clock_that_agrees_with_its_server_is_left_alone() {
        let (address, thread) = server();
        let offset = synchronise(&address).unwrap();
        assert!(offset.abs() < 0.02, "{offset}");
        thread.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let error = synchronise("127.0.0.1:1").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
        assert!(!at_least(1).unwrap(), "the clock is past 1970");
    }
}
