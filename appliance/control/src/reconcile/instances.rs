//! The actors of all instances: one task each.

use crate::{
    core::{Core, lock},
    ports::MachineEvent,
    reconcile::{Found, Networks, actor::Actor},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::InstanceId;

/// Events an actor may leave lying while it is at something. A run of a machine has two.
const INBOX: usize = 64;

struct Handle {
    wake: Arc<Notify>,
    inbox: mpsc::Sender<MachineEvent>,
}

pub(crate) struct Instances {
    core: Arc<Core>,
    networks: Arc<Networks>,
    tasks: TaskTracker,
    end: CancellationToken,
    actors: Mutex<HashMap<InstanceId, Handle>>,
    stopped: Notify,
    commerce: Notify,
}

impl Instances {
    pub(crate) fn new(
        core: Arc<Core>,
        networks: Arc<Networks>,
        tasks: TaskTracker,
        end: CancellationToken,
    ) -> Self {
        Self {
            core,
            networks,
            tasks,
            end,
            actors: Mutex::default(),
            stopped: Notify::new(),
            commerce: Notify::new(),
        }
    }

    /// Told when an instance has stopped.
    pub(crate) fn stopped(&self) -> &Notify {
        &self.stopped
    }

    /// Told when something about leases, subscriptions or accounts has changed.
    pub(crate) fn commerce(&self) -> &Notify {
        &self.commerce
    }

    /// Has an instance looked after now, because what is intended for it changed.
    pub(crate) fn look_after(self: &Arc<Self>, id: InstanceId) {
        if let Some(handle) = lock(&self.actors).get(&id) {
            handle.wake.notify_one();
            return;
        }
        self.adopt(id, Found::Nothing);
    }

    /// Begins to look after an instance that has, or has not, a machine.
    pub(crate) fn adopt(self: &Arc<Self>, id: InstanceId, found: Found) {
        let mut actors = lock(&self.actors);
        if let Some(handle) = actors.get(&id) {
            handle.wake.notify_one();
            return;
        }
        let wake = Arc::new(Notify::new());
        let (sender, inbox) = mpsc::channel(INBOX);
        actors.insert(
            id,
            Handle {
                wake: wake.clone(),
                inbox: sender,
            },
        );
        let actor = Actor::new(
            self.core.clone(),
            self.networks.clone(),
            self.clone(),
            id,
            found,
            inbox,
            wake,
        );
        self.tasks.spawn(actor.run(self.end.clone()));
    }

    /// Passes an event on to whom it concerns.
    pub(crate) fn tell(&self, event: MachineEvent) {
        let sent = lock(&self.actors)
            .get(&event.instance)
            .map(|handle| handle.inbox.try_send(event));
        if let Some(Err(error)) = sent {
            tracing::error!("an event of a machine is lost: {error}");
        }
    }

    /// Whether somebody looks after the instance.
    pub(crate) fn knows(&self, id: InstanceId) -> bool {
        lock(&self.actors).contains_key(&id)
    }

    /// The instance is gone, and its actor with it.
    pub(crate) fn gone(&self, id: InstanceId) {
        lock(&self.actors).remove(&id);
    }
}
