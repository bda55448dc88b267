//! Following machines: their events, their end, their consoles.

use super::{Folder, Run, Shared};
use control::ports::{MachineEvent, MachineEventKind, MachineExit};
use std::{io, path::Path, sync::Arc, time::Duration};
use types::InstanceId;
use vmm::{
    client::{Events, connect},
    console::ConsoleReader,
    protocol::{Event, ExitReason},
};

/// The task that follows one machine to its end.
pub struct Watch {
    pub shared: Arc<Shared>,
    pub instance: InstanceId,
    pub run: Run,
    pub process: Arc<jail::Process>,
    pub events: Events,
    pub folder: Folder,
}

impl Watch {
    /// Passes on what happens; when the process has ended, cleans up after it and says how it ended.
    pub async fn run(mut self) {
        let mut reason = None;
        while let Some(event) = self.events.next().await {
            match event {
                Event::FirstOutput { monotonic_ns } => {
                    self.tell(MachineEventKind::FirstOutput {
                        at_ns: monotonic_ns,
                    })
                    .await;
                }
                Event::GuestReset { cause } => {
                    tracing::info!(instance = %self.instance, ?cause, "the guest reset its machine");
                }
                Event::Exited { reason: last } => reason = Some(last),
                Event::Started { .. } | Event::ConsoleOutput { .. } => {}
            }
        }
        let ended = vmm::launch::wait(&self.process).await;
        self.shared.keep_use(self.instance, self.run);
        self.shared.groups.remove(self.run.uid).await;
        let killed = self
            .shared
            .running()
            .remove(&self.instance)
            .is_some_and(|machine| machine.killed);
        let reason = reason.or_else(|| self.folder.last_words());
        self.folder.settle();
        let exit = match (reason, ended) {
            _ if killed => MachineExit::Killed,
            (Some(reason), _) => exit_of(&reason),
            (None, Ok(jail::Exit::Signal(signal))) => MachineExit::Signal(signal),
            (None, Ok(other)) => {
                MachineExit::Failed(format!("the vmm ended without a word ({other:?})"))
            }
            (None, Err(error)) => MachineExit::Failed(format!(
                "the vmm is gone, and how it ended is not known: {error}"
            )),
        };
        report(&self.shared, self.instance, self.run.number, exit).await;
    }

    async fn tell(&self, kind: MachineEventKind) {
        let event = MachineEvent {
            instance: self.instance,
            run: self.run.number,
            kind,
        };
        // When the control plane has closed, nobody wants to know.
        let _ = self.shared.events.send(event).await;
    }
}

/// Says that a machine is gone.
pub async fn report(shared: &Shared, instance: InstanceId, run: u64, exit: MachineExit) {
    let kind = MachineEventKind::Exited(exit);
    let _ = shared
        .events
        .send(MachineEvent {
            instance,
            run,
            kind,
        })
        .await;
}

/// The port's word for a vmm's last one.
pub fn exit_of(reason: &ExitReason) -> MachineExit {
    match reason {
        ExitReason::PoweredOff => MachineExit::PowerOff,
        ExitReason::Shutdown => MachineExit::Killed,
        ExitReason::TripleFault => MachineExit::Crash,
        ExitReason::GuestFailed { .. }
        | ExitReason::StartFailed { .. }
        | ExitReason::Failed { .. } => MachineExit::Failed(reason.to_string()),
    }
}

/// How soon a console is looked at again whose vmm does not tell: it is just ending, or as many follow it as it serves.
const UNTOLD: Duration = Duration::from_millis(50);

/// Waits until there is console output behind `offset`, the machine is gone, or `limit` is over.
///
/// Never over at once without output: whoever asks again and again would keep its thread from everything else, the
/// start of the machine included.
pub async fn console_output(
    socket: &Path,
    console: &ConsoleReader,
    offset: u64,
    limit: Duration,
) -> io::Result<()> {
    let follow = async {
        if let Ok((client, mut events)) = connect(socket).await
            && client.subscribe(true).await.is_ok()
        {
            // What came before the subscription is not announced again.
            while console.total()? <= offset {
                match events.next().await {
                    None | Some(Event::Exited { .. }) => break,
                    Some(_) => {}
                }
            }
        }
        if console.total()? <= offset {
            tokio::time::sleep(UNTOLD).await;
        }
        Ok(())
    };
    tokio::time::timeout(limit, follow).await.unwrap_or(Ok(()))
}
