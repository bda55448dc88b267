//! The task that runs a machine on an interface.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::machine::{Act, Held, Lost, Machine, Phase};
use super::message::{self, Identity};
use super::{frame, socket};
use socket::PacketSocket;

/// After an error of the socket, as when its interface goes down.
const PAUSE: Duration = Duration::from_millis(100);
/// No timer of the runtime is set further ahead.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// What a client tells its owner.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is in another phase, or has sent its message once more.
    Phase {
        phase: Phase,
        tries: u32,
    },
    Bind(Held),
    Unbind(Lost),
    /// It cannot go on; it tries again by itself.
    Broken(io::Error),
}

/// A running client; dropping it ends it. The address is left as it is and the lease is not given back, so that a host that
/// starts again has its address again.
#[derive(Debug)]
pub(crate) struct Client {
    link: watch::Sender<bool>,
    task: AbortHandle,
}

impl Client {
    /// Starts one for a device, which waits for [`link`](Self::link). Its times count from `start`; what it tells goes to `events`
    /// under its key. Must be called in a tokio runtime.
    pub(crate) fn start(
        device: &str,
        identity: Identity,
        remembered: Option<Ipv4Addr>,
        start: Instant,
        key: u32,
        events: mpsc::Sender<(u32, Event)>,
    ) -> Self {
        let (link, changes) = watch::channel(false);
        let runner = Runner {
            device: device.to_owned(),
            mac: identity.mac,
            machine: Machine::new(identity, remembered, rand::random()),
            start,
            key,
            events,
            told: (Phase::Down, 0),
        };
        let task = tokio::spawn(runner.run(changes)).abort_handle();
        Self { link, task }
    }

    /// Whether frames can pass.
    pub(crate) fn link(&self, up: bool) {
        self.link
            .send_if_modified(|link| std::mem::replace(link, up) != up);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    device: String,
    mac: [u8; 6],
    machine: Machine,
    start: Instant,
    key: u32,
    events: mpsc::Sender<(u32, Event)>,
    told: (Phase, u32),
}

impl Runner {
    async fn run(mut self, mut link: watch::Receiver<bool>) {
        loop {
            match PacketSocket::open(&self.device) {
                Ok(socket) => {
                    if self.serve(socket, &mut link).await.is_none() {
                        return;
                    }
                }
                Err(e) => {
                    if self
                        .events
                        .send((self.key, Event::Broken(e)))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
            sleep(PAUSE * 10).await;
        }
    }

    /// Until the socket is of no use (`Some`) or the owner is gone (`None`).
    async fn serve(
        &mut self,
        mut socket: PacketSocket,
        link: &mut watch::Receiver<bool>,
    ) -> Option<()> {
        loop {
            let deadline = self.start + self.machine.deadline().min(self.start.elapsed() + HORIZON);
            let acts = tokio::select! {
                changed = link.changed() => {
                    changed.ok()?;
                    if *link.borrow_and_update() {
                        self.machine.link_up(self.start.elapsed())
                    } else {
                        self.machine.link_down();
                        Vec::new()
                    }
                }
                received = socket.receive() => match received {
                    Ok(payload) => match message::decode(&payload) {
                        Some(message) => self.machine.receive(self.start.elapsed(), &message),
                        None => Vec::new(),
                    },
                    Err(e) => {
                        debug!(device = self.device, "hear DHCP replies: {e}");
                        sleep(PAUSE).await;
                        Vec::new()
                    }
                },
                () = sleep_until(deadline) => self.machine.tick(self.start.elapsed()),
            };
            for act in acts {
                self.perform(&socket, act).await?;
            }
            let state = (self.machine.phase(), self.machine.tries());
            if state != self.told {
                self.told = state;
                let (phase, tries) = state;
                self.tell(Event::Phase { phase, tries }).await?;
            }
        }
    }

    async fn perform(&self, socket: &PacketSocket, act: Act) -> Option<()> {
        let sent = match act {
            Act::Bind(held) => return self.tell(Event::Bind(held)).await,
            Act::Unbind(lost) => return self.tell(Event::Unbind(lost)).await,
            Act::Broadcast(message) => {
                let frame =
                    message::encode(&message).and_then(|bytes| frame::broadcast(self.mac, &bytes));
                match frame {
                    Some(frame) => socket.send(&frame).await,
                    None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
                }
            }
            Act::Unicast { from, to, message } => match message::encode(&message) {
                Some(bytes) => socket::unicast(&self.device, from, to, &bytes).await,
                None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            },
        };
        // It is sent again by its timer.
        if let Err(e) = sent {
            warn!(device = self.device, "send a DHCP request: {e}");
        }
        Some(())
    }

    async fn tell(&self, event: Event) -> Option<()> {
        self.events.send((self.key, event)).await.ok()
    }
}
