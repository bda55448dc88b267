//! How the host's network is, for the console and the API.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::IpNet;

use crate::dhcp::{Lease, Phase};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The interfaces of the plan, by name.
    pub interfaces: Vec<Interface>,
    /// Name servers in use, best first.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are completed with.
    pub search: Vec<String>,
    /// Time servers from leases.
    pub ntp: Vec<Ipv4Addr>,
    /// The name a DHCP server has for this host.
    pub hostname: Option<String>,
    /// What is wrong, each a sentence for a console. Empty when all is well.
    pub problems: Vec<String>,
    /// Whether the plan was carried out once; before that the rest says nothing.
    pub applied: bool,
}

/// An interface of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// In bytes.
    pub mtu: u32,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Its addresses, link-local ones left out.
    pub addresses: Vec<IpNet>,
    /// The IPv4 gateway, or else the IPv6 one, of its default route.
    pub gateway: Option<IpAddr>,
    /// What a DHCP server granted.
    pub lease: Option<Lease>,
}

/// How an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has an address, or is part of a bond and has carrier.
    Ready,
    /// No signal from the other end.
    NoCarrier,
    /// Nobody gave it an address yet.
    NoAddress {
        /// Where its DHCP client is; `None` without one.
        dhcp: Option<Phase>,
        /// How often the client asked without an answer.
        tries: u32,
        /// Why an address it had is gone.
        lost: Option<String>,
    },
    /// A step of setting it up failed.
    Failed {
        /// Which one and why.
        message: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::NoCarrier => write!(f, "no carrier; check the cable and the switch's port"),
            Self::NoAddress { dhcp, tries, lost } => {
                match dhcp {
                    None => write!(f, "no address; the configuration gives none")?,
                    Some(Phase::Selecting) if *tries > 1 => {
                        write!(f, "no answer from a DHCP server, asked {tries} times")?;
                    }
                    Some(Phase::Requesting) if *tries > 1 => {
                        write!(
                            f,
                            "the DHCP server offers an address but does not confirm it, asked {tries} times"
                        )?;
                    }
                    Some(_) => write!(f, "asking for an address by DHCP")?,
                }
                lost.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Self::Failed { message } => write!(f, "{message}"),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        if self.state != State::Ready || self.addresses.is_empty() {
            write!(f, "{}", self.state)?;
        }
        for (n, address) in self.addresses.iter().enumerate() {
            write!(
                f,
                "{}{address}",
                if n == 0 && self.state == State::Ready {
                    ""
                } else {
                    ", "
                }
            )?;
        }
        self.gateway
            .map_or(Ok(()), |gateway| write!(f, ", gateway {gateway}"))
    }
}

impl Status {
    /// Whether some interface has an address by which the host can be reached.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.interfaces
            .iter()
            .any(|i| i.state == State::Ready && !i.addresses.is_empty())
    }

    /// Addresses by which the host can be reached, those of the first interface first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ready = self.interfaces.iter().filter(|i| i.state == State::Ready);
        ready.flat_map(|i| i.addresses.iter().map(IpNet::addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, state: State, addresses: &[&str], gateway: Option<&str>) {
        let interface = Interface {
            name: "enp3s0".into(),
            mac: [2; 6],
            mtu: 1500,
            state,
            since: Instant::now(),
            addresses: addresses
                .iter()
                .map(|a| a.parse().expect("a network"))
                .collect(),
            gateway: gateway.map(|g| g.parse().expect("an address")),
            lease: None,
        };
        assert_eq!(interface.to_string(), format!("enp3s0: {expected}"));
    }

    #[test]
    fn every_state_reads_well_on_a_console() {
        let asking = |dhcp, tries, lost: Option<&str>| State::NoAddress {
            dhcp,
            tries,
            lost: lost.map(str::to_owned),
        };
        let addresses = ["192.0.2.5/24", "2001:db8::5/64"];
        check(
            "192.0.2.5/24, 2001:db8::5/64, gateway 192.0.2.1",
            State::Ready,
            &addresses,
            Some("192.0.2.1"),
        );
        check("ready", State::Ready, &[], None);
        check(
            "no carrier; check the cable and the switch's port",
            State::NoCarrier,
            &[],
            None,
        );
        check(
            "no carrier; check the cable and the switch's port, 192.0.2.5/24",
            State::NoCarrier,
            &addresses[..1],
            None,
        );
        check(
            "no address; the configuration gives none",
            asking(None, 0, None),
            &[],
            None,
        );
        check(
            "asking for an address by DHCP",
            asking(Some(Phase::Selecting), 1, None),
            &[],
            None,
        );
        check(
            "no answer from a DHCP server, asked 4 times (its lease expired)",
            asking(Some(Phase::Selecting), 4, Some("its lease expired")),
            &[],
            None,
        );
        check(
            "the DHCP server offers an address but does not confirm it, asked 2 times",
            asking(Some(Phase::Requesting), 2, None),
            &[],
            None,
        );
        check(
            "set its MTU to 9: refused",
            State::Failed {
                message: "set its MTU to 9: refused".into(),
            },
            &[],
            None,
        );
    }
}
