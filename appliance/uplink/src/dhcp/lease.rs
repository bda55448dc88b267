//! What a DHCP server granted.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use ipnet::Ipv4Net;

/// More servers or routes than this in one reply are not used.
const MOST: usize = 16;
/// RFC 2131 §3.3: all ones is for ever.
const INFINITE: u32 = u32::MAX;
/// RFC 791: what every host must accept, so no smaller MTU is believed.
const SMALLEST_MTU: u16 = 576;

/// An address with what belongs to it (RFC 2132, RFC 3442).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address and its subnet.
    pub address: Ipv4Net,
    /// The server that granted it.
    pub server: Ipv4Addr,
    /// Routes with their gateways, the default route among them.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    /// The domain names are completed with.
    pub domain: Option<String>,
    /// The name the server has for this host.
    pub hostname: Option<String>,
    /// The link's MTU in bytes; 576 or more.
    pub mtu: Option<u16>,
    /// How long it holds, from the request on; `None` is for ever.
    pub duration: Option<Duration>,
    /// When to ask its server again (T1), from the request on.
    pub renew_after: Duration,
    /// When to ask any server (T2), from the request on.
    pub rebind_after: Duration,
}

impl Lease {
    /// From an offer or acknowledgement; says what is wrong with it otherwise.
    pub(crate) fn read(message: &Message) -> Result<Self, &'static str> {
        let address = message.yiaddr();
        if !is_host(address) {
            return Err("it gives no address that a host can have");
        }
        let options = message.opts();
        let Some(DhcpOption::ServerIdentifier(server)) = options.get(OptionCode::ServerIdentifier)
        else {
            return Err("it does not say which server it is from");
        };
        let Some(DhcpOption::AddressLeaseTime(seconds)) = options.get(OptionCode::AddressLeaseTime)
        else {
            return Err("it does not say how long the lease is");
        };
        if *seconds == 0 {
            return Err("its lease is over at once");
        }
        let prefix = match options.get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => ipnet::ip_mask_to_prefix((*mask).into())
                .ok()
                .filter(|p| *p > 0)
                .ok_or("its subnet mask has gaps or is empty")?,
            _ => class_prefix(address),
        };
        let (renew_after, rebind_after) = timers(message, *seconds);
        Ok(Self {
            address: Ipv4Net::new(address, prefix).map_err(|_| "its subnet mask is too long")?,
            server: *server,
            routes: routes(message),
            dns: hosts(message, OptionCode::DomainNameServer),
            ntp: hosts(message, OptionCode::NtpServers),
            domain: text(message, OptionCode::DomainName),
            hostname: text(message, OptionCode::Hostname),
            mtu: match options.get(OptionCode::InterfaceMtu) {
                Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= SMALLEST_MTU => Some(*mtu),
                _ => None,
            },
            duration: (*seconds != INFINITE).then(|| Duration::from_secs(u64::from(*seconds))),
            renew_after,
            rebind_after,
        })
    }

    /// The gateway of the default route.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let default = self.routes.iter().find(|(to, _)| to.prefix_len() == 0);
        default.map(|(_, gateway)| *gateway)
    }
}

/// RFC 2131 §4.4.5: a half and seven eighths, unless the server says otherwise and it makes sense.
fn timers(message: &Message, lease: u32) -> (Duration, Duration) {
    let given = |code| match message.opts().get(code) {
        Some(DhcpOption::Renewal(s) | DhcpOption::Rebinding(s)) => Some(*s),
        _ => None,
    };
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    match (given(OptionCode::Renewal), given(OptionCode::Rebinding)) {
        (Some(t1), Some(t2)) if 0 < t1 && t1 < t2 && t2 < lease => (seconds(t1), seconds(t2)),
        _ => (seconds(lease) / 2, seconds(lease) / 8 * 7),
    }
}

/// RFC 3442: where classless routes are given, the router option is not used.
fn routes(message: &Message) -> Vec<(Ipv4Net, Ipv4Addr)> {
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        message.opts().get(OptionCode::ClasslessStaticRoute)
    {
        let sound = routes
            .iter()
            .filter(|(_, gateway)| gateway.is_unspecified() || is_host(*gateway));
        return sound
            .map(|(to, gateway)| (to.trunc(), *gateway))
            .take(MOST)
            .collect();
    }
    let first = hosts(message, OptionCode::Router).into_iter().next();
    first.map(|r| (Ipv4Net::default(), r)).into_iter().collect()
}

fn hosts(message: &Message, code: OptionCode) -> Vec<Ipv4Addr> {
    let given = match message.opts().get(code) {
        Some(
            DhcpOption::Router(list)
            | DhcpOption::DomainNameServer(list)
            | DhcpOption::NtpServers(list),
        ) => list.as_slice(),
        _ => &[],
    };
    let sound = given.iter().copied().filter(|a| is_host(*a));
    sound.take(MOST).collect()
}

/// Names end up in files and on the console: letters, digits, `-` and `.` only.
fn text(message: &Message, code: OptionCode) -> Option<String> {
    let (DhcpOption::DomainName(text) | DhcpOption::Hostname(text)) = message.opts().get(code)?
    else {
        return None;
    };
    let text = text.trim_end_matches(['\0', '.']);
    let sound = (1..=253).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    sound.then(|| text.to_owned())
}

fn is_host(address: Ipv4Addr) -> bool {
    let reserved = address.octets()[0] >= 240;
    !(address.octets()[0] == 0 || address.is_loopback() || address.is_multicast() || reserved)
}

/// The natural mask of an address, for servers that give none (RFC 950).
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::message::tests::{ack, net};

    #[test]
    fn a_full_reply_is_read_whole() {
        let mut message = ack(1, "10.1.2.3");
        for option in [
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 254, 0)),
            DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 3, 254)]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::UNSPECIFIED]),
            DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 1, 2, 1)]),
            DhcpOption::DomainName("example.net.".into()),
            DhcpOption::Hostname("bad name\n".into()),
            DhcpOption::InterfaceMtu(9000),
        ] {
            message.opts_mut().insert(option);
        }
        let lease = Lease::read(&message).expect("sound");
        assert_eq!(lease.address, net("10.1.2.3/23"));
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 1, 3, 254)));
        assert_eq!(lease.dns, [Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!(lease.ntp, [Ipv4Addr::new(10, 1, 2, 1)]);
        assert_eq!(lease.domain.as_deref(), Some("example.net"));
        assert_eq!(lease.hostname, None, "a name with a line break is no name");
        assert_eq!(lease.mtu, Some(9000));
        assert_eq!(lease.duration, Some(Duration::from_secs(3600)));
        assert_eq!(lease.renew_after, Duration::from_secs(1800));
        assert_eq!(lease.rebind_after, Duration::from_secs(3150));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let mut message = ack(1, "10.1.2.3");
        let via = Ipv4Addr::new(10, 1, 2, 9);
        message
            .opts_mut()
            .insert(DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 2, 1)]));
        message
            .opts_mut()
            .insert(DhcpOption::ClasslessStaticRoute(vec![
                (net("0.0.0.0/0"), via),
                (net("169.254.169.254/32"), Ipv4Addr::UNSPECIFIED),
                (net("10.9.0.0/16"), Ipv4Addr::new(224, 0, 0, 1)),
            ]));
        let lease = Lease::read(&message).expect("sound");
        assert_eq!(
            lease.routes,
            [
                (net("0.0.0.0/0"), via),
                (net("169.254.169.254/32"), Ipv4Addr::UNSPECIFIED)
            ]
        );
    }

    #[test]
    fn timers_that_make_no_sense_are_replaced() {
        for (t1, t2, expected) in [
            (100, 200, (100, 200)),
            (200, 100, (1800, 3150)),
            (0, 100, (1800, 3150)),
            (100, 3600, (1800, 3150)),
        ] {
            let mut message = ack(1, "10.1.2.3");
            message.opts_mut().insert(DhcpOption::Renewal(t1));
            message.opts_mut().insert(DhcpOption::Rebinding(t2));
            let lease = Lease::read(&message).expect("sound");
            let got = (lease.renew_after.as_secs(), lease.rebind_after.as_secs());
            assert_eq!(got, expected, "T1 {t1}, T2 {t2}");
        }
    }

    #[test]
    fn infinite_leases_do_not_end() {
        let mut message = ack(1, "10.1.2.3");
        message
            .opts_mut()
            .insert(DhcpOption::AddressLeaseTime(INFINITE));
        assert_eq!(Lease::read(&message).expect("sound").duration, None);
    }

    #[test]
    fn replies_that_cannot_be_used_are_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(Lease::read(&ack(1, address)).is_err(), "{address}");
        }
        for missing in [OptionCode::ServerIdentifier, OptionCode::AddressLeaseTime] {
            let mut message = ack(1, "10.1.2.3");
            message.opts_mut().remove(missing);
            assert!(Lease::read(&message).is_err(), "without {missing:?}");
        }
        for wrong in [
            DhcpOption::AddressLeaseTime(0),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)),
            DhcpOption::SubnetMask(Ipv4Addr::UNSPECIFIED),
        ] {
            let mut message = ack(1, "10.1.2.3");
            message.opts_mut().insert(wrong.clone());
            assert!(Lease::read(&message).is_err(), "{wrong:?}");
        }
    }
}
