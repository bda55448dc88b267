//! Images.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an image is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum ImageState {
    /// Waiting for its parts.
    Creating,
    /// Complete: instances can be made from it.
    Available,
    /// Its parts did not make an image; see `state_reason`. The parts can be sent again.
    CreateFailed,
    /// Being deleted.
    Deleting,
}

impl ImageState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Available => "Available",
            Self::CreateFailed => "CreateFailed",
            Self::Deleting => "Deleting",
        }
    }
}

/// What a part of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePartKind {
    /// A kernel: an ELF with a PVH entry, or a Linux bzImage.
    Kernel,
    /// An initial RAM disk for that kernel.
    Initrd,
    /// What the system disk starts as, raw.
    Disk,
}

impl ImagePartKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Initrd, Self::Disk];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Disk => "disk",
        }
    }
}

/// How an image is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootProtocol {
    /// An ELF kernel with a PVH entry note.
    Pvh,
    /// A Linux bzImage by the 64-bit boot protocol.
    Linux,
}

/// A part of an image that was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImagePart {
    /// What it is.
    pub kind: ImagePartKind,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

/// An image: what an instance boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// `m-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: ImageState,
    /// Why, when something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<crate::StateReason>,
    /// How it is booted; known once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_protocol: Option<BootProtocol>,
    /// Its parts.
    pub parts: Vec<ImagePart>,
    /// The kernel command line of every instance made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Begin an image. Then send its parts, then complete it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateImage {
    /// Its name.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// The kernel command line of every instance made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub cmdline: Option<String>,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
