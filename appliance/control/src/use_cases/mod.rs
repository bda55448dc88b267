//! What a user can ask for, one file per resource.

mod disks;
mod host;
mod images;
mod instances;
mod networks;
mod policies;
mod security_groups;

use crate::{ControlError, ErrorKind};

// Holds the place of a use case until its store and reconcilers are there.
pub(crate) fn unwired<T>() -> crate::Result<T> {
    Err(ControlError::new(
        ErrorKind::Internal,
        "InternalError",
        "This operation is not wired yet.",
    ))
}
