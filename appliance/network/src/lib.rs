//! The networks of one host: a network namespace per VPC, a routed tap per interface, addresses by DHCP.
//!
//! ```text
//! namespace ash-<vpc>      ip_forward, proxy_arp, rp_filter; nftables table "ashlar" (drops by default)
//!   tap t<interface>       gateway address /32 · route to the guest's /32 · permanent neighbour guest → MAC
//!     │                    DHCP server on a socket bound to this tap alone
//!     └ fd ─▶ vmm          the tap lives as long as the vmm holds it, so it outlives the daemon
//! ```
//!
//! The life of an interface:
//!
//! ```text
//! ensure_interface ─▶ prepared (down) ── apply_ruleset, activate ─▶ active (up, DHCP) ── remove_interface ─▶ gone
//! ```
//!
//! [`NetworkManager::activate`] refuses to bring an interface up before a ruleset is in force in its VPC. Everything can
//! be called again at any time, also by a restarted daemon: what is there is found and completed, not made anew.
//!
//! This crate decides nothing about packets (rulesets come from the caller) and keeps nothing on disk. It needs root,
//! `/dev/net/tun`, nf_tables and connection tracking; no tool.

// The one exception is the module that opens taps: no safe interface to TUNSETIFF exists.
#![deny(unsafe_code)]

mod dhcp;
mod error;
mod links;
mod manager;
mod namespace;
mod spec;
#[allow(
    unsafe_code,
    reason = "two ioctls of /dev/net/tun, which no library wraps safely"
)]
mod tap;

pub use error::Error;
pub use manager::{Found, FoundVpc, InterfaceFound, NetworkManager};
pub use spec::{InterfaceSpec, device_name, gateway_of};
