//! Word from the kernel that the network changed.

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::Error;

/// Tells that links, addresses or routes changed, whoever changed them.
pub(crate) struct Watcher {
    changes: mpsc::Receiver<()>,
    tasks: [AbortHandle; 2],
}

impl Watcher {
    /// Must be called in a tokio runtime.
    pub(crate) fn open() -> Result<Self, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
        ];
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| Error::Open { source })?;
        // One change that was not looked at yet says as much as many.
        let (tell, changes) = mpsc::channel(1);
        let forward = async move {
            while messages.next().await.is_some() {
                if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                    return;
                }
            }
        };
        let tasks = [
            tokio::spawn(connection).abort_handle(),
            tokio::spawn(forward).abort_handle(),
        ];
        Ok(Self { changes, tasks })
    }

    /// Waits for a change; for ever when the kernel tells no more.
    pub(crate) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
