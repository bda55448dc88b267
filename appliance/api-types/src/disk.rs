//! Disks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskRole {
    /// Made from the instance's image.
    System,
    /// Made empty.
    Data,
}

/// What kind of storage a disk is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskCategory {
    /// A disk of its own: it outlives its instance where that is wanted, and can be given to another one.
    #[default]
    CloudEssd,
    /// A solid-state disk of the host: it lives and dies with its instance, which it keeps on the host.
    LocalSsdPro,
}

impl DiskCategory {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudEssd => "cloud_essd",
            Self::LocalSsdPro => "local_ssd_pro",
        }
    }
}

/// Where a disk is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum DiskState {
    /// Being made.
    Creating,
    /// Ready, and of no instance.
    Available,
    /// Of an instance.
    #[serde(rename = "In_use")]
    InUse,
    /// Being made anew from its image.
    ReIniting,
    /// Being taken from its instance.
    Detaching,
    /// Being deleted.
    Deleting,
}

impl DiskState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Available => "Available",
            Self::InUse => "In_use",
            Self::ReIniting => "ReIniting",
            Self::Detaching => "Detaching",
            Self::Deleting => "Deleting",
        }
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// `d-…`
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is in its life.
    pub state: DiskState,
    /// System or data.
    pub role: DiskRole,
    /// What it is on.
    #[serde(default)]
    pub category: DiskCategory,
    /// Size, GiB, rounded up.
    pub size_gib: u64,
    /// Size, bytes: a system disk may be as small as its image.
    pub size_bytes: u64,
    /// The instance it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The image it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Whether it goes when its instance goes.
    pub delete_with_instance: bool,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it became its instance's (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub attached_at: Option<String>,
}

/// Make an empty data disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDisk {
    /// Size, GiB.
    #[schema(minimum = 1, maximum = 32768)]
    pub size_gib: u64,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
