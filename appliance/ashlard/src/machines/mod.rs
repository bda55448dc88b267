//! The machines port over `vmm`: one process per machine, found again by its control socket.
//!
//! ```text
//! STATE/machines/<instance>/   console   ring file of the guest's serial output; outlives the machine
//!                              vmm.sock  control socket of the running vmm
//!                              run.json  which start of the instance the vmm is, its uid and its process
//!                              vmm.log   what the vmm itself had to say; empty unless something is wrong with it
//! ```

mod cpus;
mod folder;
mod groups;
mod processes;
mod translate;
mod watch;

pub use self::groups::VmmGroups;

use self::{
    folder::{Folder, Folders, ProcessId, Run},
    processes::{Processes, UIDS},
    translate::{client_failure, launch_failure, machine, not_running},
};
use async_trait::async_trait;
use bytes::Bytes;
use control::ports::{
    ConsoleOutput, Machine, MachineEvent, MachineSpec, Machines, PortError, PortErrorKind,
    PortResult,
};
use hypervisor::Kvm;
use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use types::InstanceId;
use vmm::{
    client::Client,
    console::ConsoleReader,
    launch::{AdoptError, LaunchSpec},
};

/// Events that may wait for the control plane.
const EVENTS: usize = 1024;
/// How long typed bytes wait for room in the guest's serial port.
const TYPING_PATIENCE: Duration = Duration::from_secs(5);
/// The guest reads its serial port at the speed it likes; this is how often room is looked for.
const TYPING_PAUSE: Duration = Duration::from_millis(5);

/// The machines of this host.
pub struct HostMachines {
    /// `None`: machines can be found and ended, but not started.
    processes: Option<Arc<Processes>>,
    folders: Folders,
    shared: Arc<Shared>,
    events: Mutex<Option<mpsc::Receiver<MachineEvent>>>,
}

/// What the tasks that watch machines share.
struct Shared {
    running: Mutex<BTreeMap<InstanceId, Running>>,
    /// Changes whenever a machine has come, or an instance's console went: whoever follows a console looks again.
    consoles: tokio::sync::watch::Sender<()>,
    events: mpsc::Sender<MachineEvent>,
    groups: Arc<VmmGroups>,
    /// What machines used that ended, until the next one of the instance is started.
    last_use: Mutex<BTreeMap<InstanceId, LastUse>>,
}

/// The CPU time of a machine that is gone.
#[derive(Clone, Copy)]
struct LastUse {
    run: u64,
    used: Duration,
}

/// A machine that is there.
struct Running {
    run: Run,
    process: Arc<jail::Process>,
    client: Client,
    /// Whether `kill` was asked for: its signal is then no accident.
    killed: bool,
    /// Closed when the machine is gone.
    gone: tokio::sync::watch::Receiver<()>,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_use(&self) -> MutexGuard<'_, BTreeMap<InstanceId, LastUse>> {
        self.last_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a machine used whose process has ended, while its group is still there.
    fn keep_use(&self, instance: InstanceId, run: Run) {
        if let Ok(used) = self.groups.used(run.uid) {
            let run = run.number;
            self.last_use().insert(instance, LastUse { run, used });
        }
    }
}

impl HostMachines {
    /// The machines whose folders are in `folder`, run by the KVM device at `kvm` in these control groups; without a device, machines
    /// can be found and ended only.
    ///
    /// # Errors
    /// When the device cannot be used, the folder not be made, or this program not be found again.
    pub fn new(kvm: Option<&Path>, folder: PathBuf, groups: VmmGroups) -> anyhow::Result<Self> {
        use anyhow::Context;
        let groups = Arc::new(groups);
        let processes = |path| -> anyhow::Result<_> {
            let kvm = Kvm::open(path)
                .map_err(anyhow::Error::from)
                .and_then(|kvm| Ok(kvm.as_fd().try_clone_to_owned()?))
                .context("cannot run instances on this machine")?;
            let executable = std::fs::File::open("/proc/self/exe")
                .context("cannot open this program to run vmms")?;
            Ok(Arc::new(Processes::new(
                executable.into(),
                kvm,
                Arc::clone(&groups),
            )))
        };
        let (sender, receiver) = mpsc::channel(EVENTS);
        Ok(Self {
            processes: kvm.map(processes).transpose()?,
            folders: Folders::new(folder)?,
            shared: Arc::new(Shared {
                running: Mutex::default(),
                consoles: tokio::sync::watch::Sender::new(()),
                events: sender,
                last_use: Mutex::default(),
                groups,
            }),
            events: Mutex::new(Some(receiver)),
        })
    }

    /// Tells of a user id whether a machine has it.
    fn has_machine(&self) -> impl Fn(u32) -> bool + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |uid| {
            let running = shared.running();
            running.values().any(|machine| machine.run.uid == uid)
        }
    }

    fn client(&self, instance: InstanceId) -> PortResult<Client> {
        self.shared
            .running()
            .get(&instance)
            .map(|machine| machine.client.clone())
            .ok_or_else(|| not_running(instance))
    }

    /// Watches a machine from now on.
    fn watch(
        &self,
        instance: InstanceId,
        run: Run,
        process: jail::Process,
        client: Client,
        events: vmm::client::Events,
        folder: Folder,
    ) -> u32 {
        let pid = u32::try_from(process.pid()).unwrap_or_default();
        let process = Arc::new(process);
        let (end, gone) = tokio::sync::watch::channel(());
        let machine = Running {
            run,
            process: Arc::clone(&process),
            client,
            killed: false,
            gone,
        };
        self.shared.running().insert(instance, machine);
        self.shared.last_use().remove(&instance);
        self.shared.consoles.send_replace(());
        let watch = watch::Watch {
            shared: Arc::clone(&self.shared),
            instance,
            run,
            process,
            events,
            folder,
        };
        tokio::spawn(async move {
            watch.run().await;
            drop(end);
        });
        pid
    }
}

#[async_trait]
impl Machines for HostMachines {
    async fn start(&self, spec: MachineSpec) -> PortResult<Machine> {
        let instance = spec.instance;
        if self.shared.running().contains_key(&instance) {
            return Err(PortError::new(
                PortErrorKind::Failed,
                format!("the machine of {instance} runs already"),
            ));
        }
        if self.shared.running().len() >= usize::try_from(UIDS).unwrap_or(usize::MAX) {
            return Err(PortError::new(
                PortErrorKind::Exhausted,
                format!("{UIDS} machines run, and there is no room for more"),
            ));
        }
        let processes = self.processes.as_ref().ok_or_else(|| {
            PortError::new(
                PortErrorKind::Unsupported,
                "there is no KVM device to start machines with",
            )
        })?;
        let process = processes.take(self.has_machine()).await;
        let process = process.map_err(|error| launch_failure(instance, error))?;
        let run = Run {
            number: spec.run,
            uid: process.uid,
            process: process.id,
        };
        let folder = self.folders.of(instance);
        let prepared = folder.prepare(run).map_err(|error| {
            PortError::new(
                PortErrorKind::Failed,
                format!(
                    "cannot prepare the machine of {instance} in {}",
                    folder.path().display()
                ),
            )
            .with_source(error)
        })?;
        if let Err(error) = self.shared.groups.limit(process.uid, &spec.cpu) {
            tracing::warn!(%instance, "its share of the CPUs is not in force: {error:#}");
        }
        let memory = vmm::memory::create(spec.memory.bytes()).map_err(|error| {
            PortError::new(
                PortErrorKind::Exhausted,
                format!("cannot make {} MiB of guest memory", spec.memory.mib()),
            )
            .with_source(error)
        })?;
        let machine = machine(spec, memory, prepared.console);
        let spec = LaunchSpec {
            socket: folder.socket(),
            stderr: Some(prepared.log),
            machine,
        };
        let launched = vmm::launch(process.prepared, spec).await;
        processes.fill_up(self.has_machine());
        let launched = launched.map_err(|error| {
            folder.settle();
            let groups = Arc::clone(&self.shared.groups);
            tokio::spawn(async move { groups.remove(run.uid).await });
            launch_failure(instance, error)
        })?;
        if !launched.missing_protections.is_empty() {
            tracing::debug!(%instance, missing = ?launched.missing_protections, "the vmm lacks protections that this kernel does not offer");
        }
        let pid = self.watch(
            instance,
            run,
            launched.process,
            launched.client,
            launched.events,
            folder,
        );
        Ok(Machine {
            instance,
            run: run.number,
            pid,
            first_output_ns: None,
        })
    }

    async fn adopt(&self) -> PortResult<Vec<Machine>> {
        let mut machines = Vec::new();
        let found = self.folders.list().map_err(|error| {
            PortError::new(PortErrorKind::Failed, "cannot look for running machines")
                .with_source(error)
        })?;
        for (instance, folder) in found {
            let known = self
                .shared
                .running()
                .get(&instance)
                .map(|machine| (machine.run, machine.client.clone(), machine.process.pid()));
            if let Some((run, client, pid)) = known {
                let first_output_ns = client
                    .status()
                    .await
                    .ok()
                    .and_then(|status| status.first_output_ns);
                let pid = u32::try_from(pid).unwrap_or_default();
                machines.push(Machine {
                    instance,
                    run: run.number,
                    pid,
                    first_output_ns,
                });
                continue;
            }
            let Some(run) = folder.run() else { continue };
            let named = run.process.map_or(Ok(None), ProcessId::find);
            let named = named.map_err(|error| {
                let what = format!("cannot look for the vmm of {instance}");
                PortError::new(PortErrorKind::Failed, what).with_source(error)
            })?;
            match vmm::adopt(&folder.socket(), named.as_ref()).await {
                Ok(adopted) => {
                    let first_output_ns = adopted.status.first_output_ns;
                    let pid = self.watch(
                        instance,
                        run,
                        adopted.process,
                        adopted.client,
                        adopted.events,
                        folder,
                    );
                    machines.push(Machine {
                        instance,
                        run: run.number,
                        pid,
                        first_output_ns,
                    });
                }
                Err(AdoptError::Gone { .. }) => {
                    let last_words = folder.last_words();
                    self.shared.keep_use(instance, run);
                    folder.settle();
                    // Without a word it has vanished: killed, or gone with the whole machine.
                    if let Some(reason) = last_words {
                        let exit = watch::exit_of(&reason);
                        watch::report(&self.shared, instance, run.number, exit).await;
                    }
                }
                Err(error) => {
                    return Err(PortError::new(PortErrorKind::Failed, format!("the vmm of {instance} runs but cannot be adopted"))
                        .with_source(error)
                        .with_next_step("see its process and its vmm.log; end the process, then start the daemon again"));
                }
            }
        }
        self.shared.groups.sweep();
        // Only now are all user ids known that machines have.
        if let Some(processes) = &self.processes {
            processes.fill_up(self.has_machine());
        }
        Ok(machines)
    }

    async fn power_button(&self, instance: InstanceId) -> PortResult<()> {
        let pressed = self.client(instance)?.press_power_button().await;
        pressed.map_err(|error| client_failure(instance, error))
    }

    async fn kill(&self, instance: InstanceId) -> PortResult<()> {
        let (process, mut gone) = match self.shared.running().get_mut(&instance) {
            Some(machine) => {
                machine.killed = true;
                (Arc::clone(&machine.process), machine.gone.clone())
            }
            None => return Ok(()),
        };
        process.kill().map_err(|error| {
            PortError::new(
                PortErrorKind::Failed,
                format!("cannot end the vmm of {instance}"),
            )
            .with_source(error)
        })?;
        // Only ever an error: its sender is dropped when the machine is gone.
        let _ = gone.changed().await;
        Ok(())
    }

    async fn console_input(&self, instance: InstanceId, data: Bytes) -> PortResult<()> {
        let client = self.client(instance)?;
        let deadline = Instant::now() + TYPING_PATIENCE;
        let mut rest = &data[..];
        loop {
            let taken = client
                .type_in(rest)
                .await
                .map_err(|error| client_failure(instance, error))?;
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PortError::new(
                    PortErrorKind::Exhausted,
                    format!(
                        "{instance} does not read its serial console: {} of {} bytes were typed",
                        data.len() - rest.len(),
                        data.len()
                    ),
                )
                .with_next_step("try again when the guest reads its console"));
            }
            tokio::time::sleep(TYPING_PAUSE).await;
        }
    }

    async fn console_output(
        &self,
        instance: InstanceId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> PortResult<ConsoleOutput> {
        let unreadable = |error: std::io::Error| {
            PortError::new(
                PortErrorKind::Failed,
                format!("cannot read the console of {instance}"),
            )
            .with_source(error)
        };
        let folder = self.folders.of(instance);
        // Before the look, so that a machine that comes just after it is noticed.
        let mut changes = self.shared.consoles.subscribe();
        let look = || -> PortResult<_> {
            let Some(console) = folder.console().map_err(unreadable)? else {
                return Ok((None, ConsoleOutput::default()));
            };
            let output = read(&console, offset, max).map_err(unreadable)?;
            Ok((Some(console), output))
        };
        let (console, output) = look()?;
        if !output.data.is_empty() || wait.is_zero() {
            return Ok(output);
        }
        let runs = self.shared.running().contains_key(&instance);
        match console {
            Some(console) if runs => {
                watch::console_output(&folder.socket(), &console, output.offset, wait)
                    .await
                    .map_err(unreadable)?;
            }
            _ => {
                // Fails only when this struct is gone.
                let _ = tokio::time::timeout(wait, changes.changed()).await;
            }
        }
        Ok(look()?.1)
    }

    async fn forget(&self, instance: InstanceId) -> PortResult<()> {
        let folder = self.folders.of(instance);
        let removed = folder.remove();
        self.shared.last_use().remove(&instance);
        self.shared.consoles.send_replace(());
        removed.map_err(|error| {
            PortError::new(
                PortErrorKind::Failed,
                format!("cannot remove {}", folder.path().display()),
            )
            .with_source(error)
        })
    }

    async fn close(&self) {
        if let Some(processes) = &self.processes {
            processes.close().await;
        }
    }

    fn running(&self) -> Vec<InstanceId> {
        self.shared.running().keys().copied().collect()
    }

    fn events(&self) -> mpsc::Receiver<MachineEvent> {
        let taken = self
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A second taker gets a channel that is closed already.
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

fn read(console: &ConsoleReader, offset: u64, max: usize) -> std::io::Result<ConsoleOutput> {
    let chunk = console.read(offset, max)?;
    Ok(ConsoleOutput {
        offset: chunk.offset,
        data: Bytes::from(chunk.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_console_without_a_machine_is_waited_for_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let machines = HostMachines::new(None, folder.path().into(), VmmGroups::none()).unwrap();
        let instance = InstanceId::generate(1);
        let wait = Duration::from_secs(5);
        let asked = tokio::time::Instant::now();
        let output = machines.console_output(instance, 0, 10, wait).await;
        assert_eq!((output.unwrap().data.len(), asked.elapsed()), (0, wait));

        let asked = tokio::time::Instant::now();
        let (output, forgotten) = tokio::join!(
            machines.console_output(instance, 0, 10, wait),
            machines.forget(instance)
        );
        forgotten.unwrap();
        assert_eq!(output.unwrap().data.len(), 0);
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }
}
