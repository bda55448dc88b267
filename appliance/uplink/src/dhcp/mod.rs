//! A DHCP client for one interface (RFC 2131), as a pure machine and the task that runs it.
//!
//! ```text
//!            ┌───────────── NAK, no answer ◀──────────────┬──────────┐
//!            ▼                                            │          │
//! down ─▶ selecting ── offer ─▶ requesting ── ack ─▶ bound ─ T1 ─▶ renewing ─ T2 ─▶ rebinding ── expiry ─▶ selecting
//!   │        ▲                      │                 ▲               │                │
//!   │        └──── 4 × no answer ───┘                 └───── ack ─────┴──────ack───────┘
//!   └─ an address is remembered ─▶ rebooting ── ack ─▶ bound; NAK or no answer ─▶ selecting
//! ```
//!
//! A lease that is held stays configured while the link is down and while it is asked for again, until it expires or a
//! server refuses it. Duplicate address detection (RFC 5227) is left to the server.

mod client;
mod frame;
mod lease;
mod machine;
mod message;
mod socket;

pub(crate) use client::{Client, Event};
pub use lease::Lease;
pub use machine::Phase;
pub(crate) use machine::{Held, Lost};
pub(crate) use message::Identity;
