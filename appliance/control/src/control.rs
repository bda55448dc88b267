//! The handle of the control plane, and its start and end.

use crate::{
    ControlError, Result, Settings,
    core::{Core, blocking},
    ports::Ports,
    reconcile::{self, Disks, Instances, Networks},
    records::SCHEMA,
};
use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::ImageId;

/// How often is looked whether machines are gone while the host goes down.
const LOOK: Duration = Duration::from_millis(50);

/// The program that runs: what knows how to go back from the schema it writes.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long the end waits for what is under way.
const SHUT_DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The control plane of this host. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    core: Arc<Core>,
    pub(crate) instances: Arc<Instances>,
    pub(crate) networks: Arc<Networks>,
    pub(crate) disks: Disks,
    /// Images one request is working on.
    pub(crate) uploads: Mutex<HashSet<ImageId>>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Control {
    /// Opens the store and goes on as [`open_on`](Self::open_on).
    ///
    /// # Errors
    /// When another daemon holds the state folder; and as for `open_on`.
    pub async fn open(settings: Settings, ports: Ports) -> Result<Self> {
        let folder = settings.state_folder.clone();
        let store =
            blocking(move || Store::open(&folder, &SCHEMA, Path::new(THIS_PROGRAM))).await??;
        Self::open_on(store, settings, ports).await
    }

    /// Adopts the machines that still run, removes what nobody owns, and starts the reconcilers. For callers whose ports
    /// may only be made by the one who holds the state folder.
    ///
    /// # Errors
    /// When the store cannot be read, or the machines cannot be listed.
    pub async fn open_on(store: Store, settings: Settings, ports: Ports) -> Result<Self> {
        let core = Arc::new(blocking(move || Core::open(store, settings, ports)).await??);
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let networks = Arc::new(Networks::new(core.clone()));
        let disks = Disks::new(core.clone());
        let instances = Arc::new(Instances::new(
            core.clone(),
            networks.clone(),
            tasks.clone(),
            end.clone(),
        ));
        let mut events = core.ports.machines.events();
        reconcile::adopt(&core, &networks, &instances, &mut events).await?;
        reconcile::spawn(&core, &networks, &instances, &disks, events, &tasks, &end);
        let uploads = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                core,
                instances,
                networks,
                disks,
                uploads,
                tasks,
                end,
            }),
        })
    }

    /// Stops the reconcilers once they have ended what they are at. Instances go on running: the next daemon adopts them.
    /// The state folder is free when the last clone of this handle is gone.
    ///
    /// # Errors
    /// When something is still under way after 30 seconds.
    pub async fn shut_down(&self) -> Result<()> {
        self.inner.end.cancel();
        self.inner.tasks.close();
        let ended = tokio::time::timeout(SHUT_DOWN_TIMEOUT, self.inner.tasks.wait()).await;
        self.inner.core.ports.machines.close().await;
        ended.map_err(|error| {
            ControlError::internal(
                "Something was still under way when the daemon shut down.",
                error,
            )
        })
    }

    /// Stops what runs because the host goes down: as [`shut_down`](Self::shut_down), then every machine by its power button, and
    /// by force what still runs after `grace`. What is intended does not change: with
    /// [`Settings::restart_vanished`] the next daemon starts them again.
    ///
    /// # Errors
    /// As for `shut_down`; machines are stopped all the same.
    pub async fn shut_down_host(&self, grace: Duration) -> Result<()> {
        let ended = self.shut_down().await;
        let machines = &self.inner.core.ports.machines;
        for instance in machines.running() {
            if let Err(error) = machines.power_button(instance).await {
                tracing::warn!(%instance, error = error.chain(), "its power button cannot be pressed");
            }
        }
        let deadline = tokio::time::Instant::now() + grace;
        while !machines.running().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        for instance in machines.running() {
            tracing::warn!(%instance, "did not power off in time and is stopped by force");
            if let Err(error) = machines.kill(instance).await {
                tracing::error!(%instance, error = error.chain(), "cannot be stopped");
            }
        }
        ended
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }
}
