//! A TPM 2.0 through the kernel's resource manager: keys sealed to what was measured at boot, and what was measured.
//!
//! ```text
//! seal:    SRK ─ create ─▶ sealed object (policy: these PCRs have these values) ─▶ Blob, kept by the caller
//! unseal:  SRK ─ load ◀─ Blob; policy session ─ PCRs as they are ─▶ secret, or PcrsChanged
//! ```
//!
//! The storage root key is made anew from the owner's seed at each use: nothing is stored in the TPM, and whoever clears it makes
//! all blobs worthless. A sealed object has no password, so failing to unseal it never counts towards the lock-out.
//!
//! **Which PCRs.** [`Pcrs::DEFAULT`] is PCR 7 alone: it holds the Secure Boot state and the certificates that loaded what was
//! booted (TCG PC Client Platform Firmware Profile §3.3.4), so it is the same for every image signed with the same key and another
//! once Secure Boot is off or the keys are others. PCR 11 is not part of it although systemd-stub measures the whole image there: it
//! changes with every update, and a secret sealed to it would be lost at the first one. PCRs 0–3 change with firmware updates.
//! Without Secure Boot PCR 7 says nothing about the image, so anybody who may start something on the machine can unseal.
//!
//! **What it does not protect from.** Secrets travel between processor and TPM in the clear: a discrete TPM's bus can be listened
//! to by somebody with the machine open in front of them.
//!
//! The commands follow the TPM 2.0 Library, Part 3 (rev. 1.59). They are written by hand: eleven commands with opaque structures take
//! less code than a library for all of them, and none of it is `unsafe`. This crate stores nothing and knows no disks.

#![forbid(unsafe_code)]

mod blob;
mod command;
mod error;
mod pcrs;
mod tpm;
mod transport;
mod wire;

pub use blob::Blob;
pub use error::Error;
pub use pcrs::{PCR_COUNT, Pcrs};
pub use tpm::{LARGEST_SECRET, Tpm};
pub use transport::{DEVICE, Device, LARGEST_MESSAGE, Transport};
