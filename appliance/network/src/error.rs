//! What can go wrong with a network, and with which one.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// An operation on a network that failed. Repeating it later is always safe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The prefix of a manager's namespaces cannot be one.
    #[error("{prefix:?} is not a prefix of 1–16 lower-case letters, digits or `-`")]
    Prefix {
        /// What was given.
        prefix: String,
    },
    /// The name of a namespace is taken by something that is no network namespace.
    #[error(
        "{path} is not a network namespace; remove it, it has a name that belongs to this host's VPCs"
    )]
    NameTaken {
        /// The file.
        path: String,
    },
    /// The namespace vanished, or was never made.
    #[error("the network namespace {name} is gone; make the VPC again")]
    NamespaceGone {
        /// Its name.
        name: String,
    },
    /// A step with a namespace failed.
    #[error("{step} (network namespace {name})")]
    Namespace {
        /// What was being done.
        step: &'static str,
        /// The namespace's name.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Taps cannot be made on this host.
    #[error("/dev/net/tun cannot be opened; load the kernel module `tun` and run as root")]
    NoTun {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The name of a tap is taken by a device of another kind.
    #[error("the device {device} in network namespace {name} is not a tap of this host; remove it")]
    DeviceTaken {
        /// The device.
        device: String,
        /// The namespace's name.
        name: String,
    },
    /// A step with a tap failed.
    #[error("{step} (device {device} in network namespace {name})")]
    Device {
        /// What was being done.
        step: &'static str,
        /// The device.
        device: String,
        /// The namespace's name.
        name: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A subnet without room for the reserved addresses and a guest.
    #[error("subnet {subnet} is too small: its mask must be /29 or shorter")]
    SubnetTooSmall {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// An address that a guest cannot have.
    #[error("address {address} is not one of the guests' in subnet {subnet}")]
    Address {
        /// The address.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// An MTU that IPv4 or a tap cannot have.
    #[error("MTU {mtu} is not within 576–65521")]
    Mtu {
        /// What was given.
        mtu: u16,
    },
    /// An interface was to be activated that was not prepared.
    #[error("interface {interface} was not prepared in network namespace {name}; ensure it first")]
    NotPrepared {
        /// The interface.
        interface: String,
        /// The namespace's name.
        name: String,
    },
    /// An interface was to be activated before a ruleset was in force.
    #[error(
        "no ruleset is in force in network namespace {name}; apply one before activating an interface"
    )]
    NoRuleset {
        /// The namespace's name.
        name: String,
    },
    /// The packet filter could not be changed.
    #[error("change the packet filter of network namespace {name}")]
    Filter {
        /// The namespace's name.
        name: String,
        /// What went wrong.
        #[source]
        source: nft::Error,
    },
}
