//! Images: what an instance boots.

use types::{ByteCount, ImageId, Sha256Digest, Timestamp};

/// How an image is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootProtocol {
    /// An ELF kernel with a PVH entry note (Xen's `XEN_ELFNOTE_PHYS32_ENTRY`).
    Pvh,
    /// A Linux bzImage by the 64-bit boot protocol.
    Linux,
}

/// Where an image is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ImageState {
    /// Waiting for its parts.
    Creating,
    /// Complete: instances can be made from it.
    Available,
    /// Its parts did not make an image; see `message`. The parts can be sent again.
    CreateFailed,
    /// Being deleted.
    Deleting,
}

/// What a part of an image is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
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

    /// `kernel`, `initrd` or `disk`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Disk => "disk",
        }
    }
}

/// A part that was received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImagePart {
    /// Its size.
    pub size: ByteCount,
    /// The digest of its content.
    pub sha256: Sha256Digest,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// `m-…`
    pub id: ImageId,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: ImageState,
    /// Why, when it is `CreateFailed`.
    pub message: Option<String>,
    /// How it is booted: found when it is completed.
    pub boot: Option<BootProtocol>,
    /// The kernel.
    pub kernel: Option<ImagePart>,
    /// The initial RAM disk.
    pub initrd: Option<ImagePart>,
    /// The system disk.
    pub disk: Option<ImagePart>,
    /// The least memory it can be booted with; zero until it is completed.
    #[serde(default)]
    pub min_memory: ByteCount,
    /// The beginning of the kernel command line of every instance made from it.
    pub cmdline: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Image {
    /// The part of that kind, if it was received.
    #[must_use]
    pub fn part(&self, kind: ImagePartKind) -> Option<&ImagePart> {
        match kind {
            ImagePartKind::Kernel => self.kernel.as_ref(),
            ImagePartKind::Initrd => self.initrd.as_ref(),
            ImagePartKind::Disk => self.disk.as_ref(),
        }
    }

    /// The parts received so far.
    pub fn parts(&self) -> impl Iterator<Item = (ImagePartKind, &ImagePart)> {
        ImagePartKind::ALL
            .into_iter()
            .filter_map(|kind| self.part(kind).map(|part| (kind, part)))
    }
}
