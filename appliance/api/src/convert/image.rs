//! Images.

use api_types::{BootProtocol, Image, ImagePart, ImagePartKind, ImageState, StateReason};
use control::model;

/// An image as it goes over the wire.
pub fn to_wire(image: &model::Image) -> Image {
    Image {
        id: image.id.to_string(),
        name: image.name.clone(),
        description: image.description.clone(),
        state: state(image.state),
        state_reason: image.message.as_ref().map(|message| StateReason {
            code: state(image.state).as_str().into(),
            message: message.clone(),
        }),
        boot_protocol: image.boot.map(|boot| match boot {
            model::BootProtocol::Pvh => BootProtocol::Pvh,
            model::BootProtocol::Linux => BootProtocol::Linux,
        }),
        parts: image
            .parts()
            .map(|(kind, part)| part_to_wire(kind, part))
            .collect(),
        cmdline: (!image.cmdline.is_empty()).then(|| image.cmdline.clone()),
        created_at: image.created_at.to_string(),
    }
}

/// An image's state as it goes over the wire.
pub fn state(state: model::ImageState) -> ImageState {
    match state {
        model::ImageState::Creating => ImageState::Creating,
        model::ImageState::Available => ImageState::Available,
        model::ImageState::CreateFailed => ImageState::CreateFailed,
        model::ImageState::Deleting => ImageState::Deleting,
    }
}

/// A part as it goes over the wire.
pub fn part_to_wire(kind: model::ImagePartKind, part: &model::ImagePart) -> ImagePart {
    ImagePart {
        kind: match kind {
            model::ImagePartKind::Kernel => ImagePartKind::Kernel,
            model::ImagePartKind::Initrd => ImagePartKind::Initrd,
            model::ImagePartKind::Disk => ImagePartKind::Disk,
        },
        size_bytes: part.size.bytes(),
        sha256: part.sha256.to_string(),
    }
}
