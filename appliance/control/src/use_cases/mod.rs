//! What a user can ask for, one file per resource.

mod accounts;
mod admit;
mod bills;
mod budgets;
pub(crate) mod deployment_sets;
mod disks;
mod host;
pub(crate) mod images;
mod instances;
mod markets;
pub(crate) mod meters;
mod networks;
mod place;
mod policies;
mod policy_life;
mod policy_replay;
pub(crate) mod purchase;
pub(crate) mod quotes;
mod run_instances;
mod security_groups;
mod subscriptions;

pub(crate) use instances::{
    begin_release, begin_start, give_up_room, put as put_instance, start_again, take_room,
};

use crate::{
    ControlError, ErrorKind, Result,
    core::sentence,
    ports::{PortError, PortErrorKind},
};
use instance::admission::{check_description, check_name};

/// Whether a name and a description may be given.
fn check_names(name: Option<&str>, description: Option<&str>) -> Result<()> {
    name.map(check_name).transpose()?;
    description.map(check_description).transpose()?;
    Ok(())
}

/// The order every list has: by creation, then by id.
fn oldest_first<T, K: Ord>(records: &mut [T], key: impl Fn(&T) -> K) {
    records.sort_by_cached_key(key);
}

impl From<PortError> for ControlError {
    fn from(error: PortError) -> Self {
        let (kind, code) = match error.kind {
            PortErrorKind::NotFound => (ErrorKind::NotFound, "ResourceVanished"),
            PortErrorKind::Exhausted => (ErrorKind::NoStock, "OperationDenied.NoStock"),
            PortErrorKind::Unsupported => (ErrorKind::Internal, "HostUnsupported"),
            PortErrorKind::Invalid => (ErrorKind::InvalidInput, "InvalidParameter"),
            PortErrorKind::Failed => (ErrorKind::Internal, "InternalError"),
        };
        let this = Self::new(kind, code, sentence(&error.message));
        let this = match &error.next_step {
            Some(next_step) => this.with_next_step(next_step.clone()),
            None => this,
        };
        match error.source {
            Some(source) => this.with_shared_source(source),
            None => this,
        }
    }
}
