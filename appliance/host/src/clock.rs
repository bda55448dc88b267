//! The clock: never before the image was made, then as time servers say (RFC 5905, in its simple form).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsntp::SntpClient;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::Error;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A difference below this is left alone: the way to the server is not known better.
const TOLERANCE: Duration = Duration::from_millis(1);
/// A difference below this is worked off little by little, so that no second is missing or there twice.
const SLEW_BELOW: Duration = Duration::from_millis(500);

/// What is done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Nothing: it is too small.
    None,
    /// The clock runs a little faster or slower until it is gone: a second for each 2,000.
    Slew,
    /// The clock is set.
    Step,
}

impl Correction {
    /// For a difference in seconds.
    #[must_use]
    pub fn of(offset: f64) -> Self {
        let offset = offset.abs();
        if offset < TOLERANCE.as_secs_f64() {
            Self::None
        } else if offset < SLEW_BELOW.as_secs_f64() {
            Self::Slew
        } else {
            Self::Step
        }
    }
}

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

/// Asks one time server how far the clock is off: seconds, positive when it is behind. Blocks for up to three seconds.
///
/// # Errors
/// The server does not answer, or its answer makes no sense.
pub fn ask(server: &str) -> Result<f64, Error> {
    let mut client = SntpClient::new();
    client.set_timeout(TIMEOUT);
    let answer = client.synchronize(server).map_err(|error| {
        Error::new(
            format!("ask the time server {server}"),
            std::io::Error::other(error),
        )
    })?;
    Ok(answer.clock_offset().as_secs_f64())
}

/// Corrects the clock by that many seconds.
///
/// # Errors
/// The kernel refused, or there is no such time.
pub fn correct(offset: f64) -> Result<Correction, Error> {
    let correction = Correction::of(offset);
    match correction {
        Correction::None => {}
        Correction::Slew => slew(offset)?,
        Correction::Step => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64();
            let target = Duration::try_from_secs_f64(now + offset)
                .map_err(|error| Error::new("set the clock", std::io::Error::other(error)))?;
            set(target)?;
        }
    }
    Ok(correction)
}

#[allow(unsafe_code)]
fn slew(offset: f64) -> Result<(), Error> {
    // Less than a second, so that it fits.
    #[allow(clippy::cast_possible_truncation)]
    let microseconds = (offset * 1e6) as i64;
    let delta = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    // SAFETY: adjtime(3) reads the difference, which lives until it returns, and is asked for nothing back.
    let done = unsafe { libc::adjtime(&raw const delta, std::ptr::null_mut()) };
    if done == 0 {
        return Ok(());
    }
    Err(Error::new(
        "slow down or speed up the clock",
        std::io::Error::last_os_error(),
    ))
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
    fn a_server_is_asked_how_far_the_clock_is_off() {
        let (address, thread) = server();
        let offset = ask(&address).unwrap();
        assert!(offset.abs() < 0.1, "{offset}");
        thread.join().unwrap();
    }

    #[test]
    fn small_differences_are_worked_off_and_large_ones_set() {
        for (offset, correction) in [
            (0.0, Correction::None),
            (-0.000_9, Correction::None),
            (0.001, Correction::Slew),
            (-0.499, Correction::Slew),
            (0.5, Correction::Step),
            (-3600.0, Correction::Step),
        ] {
            assert_eq!(Correction::of(offset), correction, "{offset}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let error = ask("127.0.0.1:1").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
        assert!(!at_least(1).unwrap(), "the clock is past 1970");
    }
}
