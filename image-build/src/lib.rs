//! The builder of the host image: from a kernel package, the daemon and what it needs to a release that can be flashed, booted
//! from virtual media or the network, and streamed as an update.
//!
//! The same inputs give the same bytes: nothing here asks for the time, a host name, a random number or the order of a folder.
//! It downloads nothing and runs nothing; whoever calls it brings the files.
//!
//! ```text
//! Root (files of the image) ─▶ SquashFS in an initramfs ─▶ unified kernel image ─▶ ESP ─▶ disk image, ISO ─▶ release with its manifest
//! ```

#![forbid(unsafe_code)]

mod archive;
mod disk;
mod elf;
mod error;
mod esp;
mod iso;
mod kernel;
mod release;
mod root;
mod sbom;
mod squash;
mod uki;
mod variant;

pub use archive::Archive;
pub use disk::write_disk;
pub use elf::needed;
pub use error::BuildError;
pub use esp::{EspFile, make_esp};
pub use iso::write_iso;
pub use kernel::Kernel;
pub use release::{Built, Inputs, SignEfi, SigningKey, build};
pub use root::{Root, RootInputs};
pub use sbom::{Ingredient, sbom};
pub use uki::{UkiParts, make_uki};
pub use variant::VariantFile;
