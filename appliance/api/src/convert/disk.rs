//! Disks.

use api_types::{Disk, DiskCategory, DiskRole, DiskState};
use control::model;
use types::ByteCount;

/// A disk as it goes over the wire.
pub fn to_wire(disk: &model::Disk) -> Disk {
    Disk {
        id: disk.id.to_string(),
        name: disk.name.clone(),
        state: match disk.state {
            model::DiskState::Creating => DiskState::Creating,
            model::DiskState::Available => DiskState::Available,
            model::DiskState::InUse => DiskState::InUse,
            model::DiskState::ReIniting => DiskState::ReIniting,
            model::DiskState::Detaching => DiskState::Detaching,
            model::DiskState::Deleting => DiskState::Deleting,
        },
        role: match disk.role {
            model::DiskRole::System => DiskRole::System,
            model::DiskRole::Data => DiskRole::Data,
        },
        category: category_to_wire(disk.category),
        size_gib: disk.size.bytes().div_ceil(ByteCount::GIB.bytes()),
        size_bytes: disk.size.bytes(),
        instance_id: disk.instance.map(|id| id.to_string()),
        image_id: disk.image.map(|id| id.to_string()),
        delete_with_instance: disk.delete_with_instance,
        created_at: disk.created_at.to_string(),
        attached_at: disk.attached_at.map(|at| at.to_string()),
    }
}

const fn category_to_wire(category: model::DiskCategory) -> DiskCategory {
    match category {
        model::DiskCategory::CloudEssd => DiskCategory::CloudEssd,
        model::DiskCategory::LocalSsdPro => DiskCategory::LocalSsdPro,
    }
}

/// What a new disk is to be on.
pub fn category(asked: Option<DiskCategory>) -> model::DiskCategory {
    match asked.unwrap_or_default() {
        DiskCategory::CloudEssd => model::DiskCategory::CloudEssd,
        DiskCategory::LocalSsdPro => model::DiskCategory::LocalSsdPro,
    }
}
