//! Disks.

use crate::model::DiskCategory;
use types::{ByteCount, DiskId, ImageId, InstanceId, Timestamp};

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskRole {
    /// Made from an image; the first disk its instance sees.
    System,
    /// Made empty.
    Data,
}

/// Where a disk is in its life, as ECS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
    /// The name ECS gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Disk {
    /// `d-…`; its body is the serial number the guest sees.
    pub id: DiskId,
    /// A name for people.
    pub name: Option<String>,
    /// System or data.
    pub role: DiskRole,
    /// What it is on.
    #[serde(default)]
    pub category: DiskCategory,
    /// Where it is in its life.
    pub state: DiskState,
    /// Its size: whole GiB.
    pub size: ByteCount,
    /// The image it starts as.
    pub image: Option<ImageId>,
    /// The instance it is of.
    pub instance: Option<InstanceId>,
    /// Whether it goes when its instance is released.
    pub delete_with_instance: bool,
    /// Whether its file is there. A disk of an instance gets it at the first start.
    #[serde(default)]
    pub allocated: bool,
    /// Whether the subscription of its instance pays for it: nothing is charged for it then.
    #[serde(default)]
    pub prepaid: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it became its instance's.
    pub attached_at: Option<Timestamp>,
}
