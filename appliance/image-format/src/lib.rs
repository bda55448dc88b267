//! What a host image is: where things are on its disk, how its two slots are named and chosen, the signed manifest of a
//! release, and what a unified kernel image says of itself.
//!
//! Pure: bytes in, values out. Who builds images, who flashes them and who updates a host agree here; this crate opens nothing
//! and decides nothing about when.

#![forbid(unsafe_code)]

pub mod layout;
mod manifest;
mod release;
mod signature;
mod slot;
mod uki;

pub use manifest::{
    Artifact, ArtifactKind, MANIFEST_SCHEMA, MAX_MANIFEST_BYTES, Manifest, ManifestError,
};
pub use release::{Release, ReleaseError, Variant};
pub use signature::{SignatureError, TrustedKeys};
pub use slot::{Counter, LoaderDefault, Slot, SlotFile, SlotState, chosen};
pub use uki::{MAX_HEADER_BYTES, Section, Uki, UkiError};
