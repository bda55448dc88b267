//! The network of the host itself: its interfaces, bonds and VLANs with stable names, addresses given or leased.
//!
//! ```text
//! Plan ──▶ Uplink::start ─▶ read what is ─▶ decide (pure) ─▶ carry out ─▶ Status
//!                ▲                 ▲                             │
//!   reapply ─────┘                 └─ changes of the kernel, leases of DHCP clients, every minute
//! ```
//!
//! Interfaces that are plugged in later are found, named and set up like those that were there. What somebody else changes on an
//! interface of the plan is changed back. Software devices are left alone unless the plan names their hardware address;
//! other network namespaces are never entered, so the instances' networks are out of reach.
//!
//! It needs root (or `CAP_NET_ADMIN` and `CAP_NET_RAW`) and, where the plan has bonds or VLANs, the kernel modules `bonding` and
//! `8021q`, loaded by the caller. It knows nothing of the instances' networks and keeps nothing on disk but the list of
//! name servers.

#![forbid(unsafe_code)]

mod action;
mod dhcp;
mod error;
mod failures;
mod found;
mod from_config;
mod names;
mod netlink;
mod place;
pub mod plan;
mod reconcile;
mod resolver;
mod status;
mod uplink;

pub use dhcp::{Lease, Phase};
pub use error::Error;
pub use plan::Plan;
pub use resolver::render as render_resolv_conf;
pub use status::{Interface, State, Status};
pub use uplink::{Handle, Options, Uplink};
